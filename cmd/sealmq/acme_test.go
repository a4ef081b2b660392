package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// acmeServer is an authority that speaks ACME (RFC 8555), as much of it as an order needs. It looks
// at TLS-ALPN-01 at the address of the portal, and does not check signatures of requests.
type acmeServer struct {
	*testing.T
	*httptest.Server
	portal string // host:port

	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	host   string // of the order
	status string // of the challenge
	cert   []byte
	orders int
	agreed bool
}

func newACMEServer(t *testing.T, portal string) *acmeServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &acmeServer{T: t, portal: portal, key: key}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ACME"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err == nil {
		a.root, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Server = httptest.NewTLSServer(a)
	t.Cleanup(a.Server.Close)
	return a
}

// ServeHTTP answers every step of an order.
func (a *acmeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Replay-Nonce", "nonce")
	w.Header().Set("Location", a.URL+"/order")
	var signed struct{ Payload string }
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	_ = json.Unmarshal(body, &signed)
	payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	var in struct {
		TermsOfServiceAgreed bool
		Identifiers          []struct{ Value string }
		CSR                  string
	}
	_ = json.Unmarshal(payload, &in)
	challenge := map[string]any{"type": "tls-alpn-01", "url": a.URL + "/challenge", "token": "token", "status": a.status}
	order := map[string]any{"status": map[bool]string{false: "pending", true: "ready"}[a.status == "valid"], "identifiers": []any{map[string]string{"type": "dns", "value": a.host}},
		"authorizations": []string{a.URL + "/authorization"}, "finalize": a.URL + "/finalize"}
	code, answer := http.StatusOK, any(nil)
	switch r.URL.Path {
	case "/directory":
		answer = map[string]any{"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/new", "meta": map[string]string{"termsOfService": a.URL + "/terms"}}
	case "/nonce":
		return
	case "/account":
		a.agreed = in.TermsOfServiceAgreed
		code, answer = http.StatusCreated, map[string]string{"status": "valid"}
	case "/new":
		a.orders++
		a.status, a.cert, a.host = "pending", nil, in.Identifiers[0].Value
		order["status"], order["identifiers"] = "pending", in.Identifiers
		code, answer = http.StatusCreated, order
	case "/authorization":
		answer = map[string]any{"status": a.status, "identifier": map[string]string{"type": "dns", "value": a.host}, "challenges": []any{challenge}}
	case "/challenge":
		if a.status = "invalid"; a.proven() {
			a.status = "valid"
		}
		answer = challenge
	case "/finalize":
		a.cert = a.sign(in.CSR)
		fallthrough
	case "/order":
		if a.cert != nil {
			order["status"], order["certificate"] = "valid", a.URL+"/certificate"
		}
		answer = order
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(a.cert)
		return
	default:
		code = http.StatusNotFound
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

// proven reports whether the portal answers the challenge.
func (a *acmeServer) proven() bool {
	c, err := tls.Dial("tcp", a.portal, &tls.Config{ServerName: a.host, NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true}) //nolint:gosec // the challenge's certificate signs itself
	if err != nil {
		a.Logf("challenge: %v", err)
		return false
	}
	defer c.Close()
	s := c.ConnectionState()
	leaf := s.PeerCertificates[0]
	for _, e := range leaf.Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.31" && e.Critical && s.NegotiatedProtocol == acme.ALPNProto && leaf.VerifyHostname(a.host) == nil {
			return true
		}
	}
	return false
}

func (a *acmeServer) sign(text string) []byte {
	der, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		a.Error(err)
		return nil
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		a.Error(err)
		return nil
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(12 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	if der, err = x509.CreateCertificate(rand.Reader, template, a.root, csr.PublicKey, a.key); err != nil {
		a.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestACME: a node gets the portal's certificate for a name, keeps it over a restart, and shows its
// own certificate under every other name.
func TestACME(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a node")
	}
	t.Parallel()
	w := newRolesWorld(t, pipelineproc.Config{})
	const host = "portal.example.org"
	server := newACMEServer(t, w.Addr(pipelineproc.Portal))
	authority := filepath.Join(w.dir, "acme-ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Set("SEALMQ_PORTAL_ACME_HOSTS="+host, "SEALMQ_PORTAL_ACME_DIRECTORY="+server.URL+"/directory", "SEALMQ_PORTAL_ACME_EMAIL=anna@example.org", "SEALMQ_PORTAL_ACME_AGREE=yes", "SEALMQ_PORTAL_ACME_CA="+authority)
	shows := func(name string) *x509.Certificate {
		c, err := tls.Dial("tcp", w.Addr(pipelineproc.Portal), &tls.Config{ServerName: name, NextProtos: []string{"h2"}, InsecureSkipVerify: true}) //nolint:gosec // it is looked at
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	for range 2 {
		w.start(pipelineproc.All)
		w.until("the portal shows the certificate", func() bool { return shows(host).CheckSignatureFrom(server.root) == nil })
		if c := shows("localhost"); c.CheckSignatureFrom(server.root) == nil || c.VerifyHostname("localhost") != nil {
			t.Errorf("under another name: %v", c.Subject)
		}
		w.Kill(pipelineproc.All)
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if server.orders != 1 || !server.agreed {
		t.Errorf("%d orders, agreed %v", server.orders, server.agreed)
	}
	folder := filepath.Join(w.data, "acme")
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) < 2 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, name := range append([]string{"."}, names(entries)...) {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
}

func names(entries []os.DirEntry) (list []string) {
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestACMERefused: while there is no certificate the health says so, and a stranger's names and
// challenges lead to no order.
func TestACMERefused(t *testing.T) {
	server := newACMEServer(t, "127.0.0.1:1")
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	c := PortalConfig{ACMEHosts: "portal.example.org", ACMEDirectory: server.URL + "/directory", ACMEAgree: "yes", ACMECA: authority}
	a, err := openACME(&c, t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	own := &tls.Config{NextProtos: []string{"h2"}}
	own.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return own, nil }
	conf := a.wrap(own)
	for _, hello := range []*tls.ClientHelloInfo{{ServerName: "portal.example.org"}, {ServerName: "stranger.example.org"}, {}} {
		if next, err := conf.GetConfigForClient(hello); err != nil || next != own {
			t.Errorf("%s: another configuration than the portal's own, %v", hello.ServerName, err)
		}
	}
	hello := &tls.ClientHelloInfo{ServerName: "stranger.example.org", SupportedProtos: []string{acme.ALPNProto}}
	next, err := conf.GetConfigForClient(hello)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err := next.GetCertificate(hello); err == nil {
		t.Errorf("a challenge that nobody has made is answered with %v", cert)
	}
	if server.orders != 0 {
		t.Errorf("strangers made %d orders", server.orders)
	}
	if err := a.get("portal.example.org"); err == nil {
		t.Error("a certificate without a proof")
	}
	if f := a.health(t.Context()); f.Reason == "" || !strings.Contains(f.Reason, "portal.example.org has no certificate") || a.first() != nil {
		t.Errorf("%+v", f)
	}
	if text := string(log.Bytes()); !strings.Contains(text, "goes on with the one that it has") {
		t.Errorf("the log says %s", text)
	}
}

func TestACMESettings(t *testing.T) {
	good := PortalConfig{ACMEHosts: "portal.example.org, Mq.example.org", ACMEDirectory: "https://acme.example/directory", ACMEAgree: "yes"}
	for _, c := range []struct {
		says   string
		change func(*PortalConfig)
	}{
		{"", func(*PortalConfig) {}},
		{"", func(c *PortalConfig) { *c = PortalConfig{} }},
		{"is not a host name", func(c *PortalConfig) { c.ACMEHosts = "192.0.2.1" }},
		{"is not a host name", func(c *PortalConfig) { c.ACMEHosts = "*.example.org" }},
		{"is not a host name", func(c *PortalConfig) { c.ACMEHosts = "localhost" }},
		{"20 are the most", func(c *PortalConfig) { c.ACMEHosts = strings.Repeat("a.example ", 21) }},
		{"portal.acme_directory", func(c *PortalConfig) { c.ACMEDirectory = "http://acme.example" }},
		{"portal.acme_agree", func(c *PortalConfig) { c.ACMEAgree = "no" }},
		{"cannot be combined", func(c *PortalConfig) { c.Cert = "a.crt" }},
	} {
		conf := good
		c.change(&conf)
		if got := fmt.Sprint(conf.checkACME()); (c.says == "") != (got == "[]") || !strings.Contains(got, c.says) {
			t.Errorf("%+v: %s, want %q", conf, got, c.says)
		}
	}
}
