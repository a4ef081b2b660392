package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/server"
)

// TestPebble: the portal gets its certificate from a foreign authority, which is in the path, or
// the variable PEBBLE names it. While that is away, log and health say so, and a certificate that
// is there is used further.
func TestPebble(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a node and an authority")
	}
	t.Parallel()
	pebble := tool(t, "pebble", "PEBBLE")
	w := newRolesWorld(t, pipelineproc.Config{})
	_, portal, _ := net.SplitHostPort(w.Addr(pipelineproc.Portal))
	var addrs [3]string
	for i := range addrs {
		port, err := server.Port()
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	directory, management, dns := addrs[0], addrs[1], addrs[2]
	cert, key := filepath.Join(w.dir, "pebble.crt"), filepath.Join(w.dir, "pebble.key")
	writeSelfSigned(t, cert, key)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": directory, "managementListenAddress": management, "certificate": cert, "privateKey": key,
		"httpPort": 1, "tlsPort": json.Number(portal), "profiles": map[string]any{"default": map[string]any{"description": "usual", "validityPeriod": 7776000}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	names := exec.Command(filepath.Join(filepath.Dir(pebble), "pebble-challtestsrv"), "-dnsserver", dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "")
	startServer(t, names, func(ctx context.Context) error {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", dns)
		}}
		_, err := resolver.LookupHost(ctx, "portal.example.org")
		return err
	})
	program := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // it has no secret
	t.Cleanup(program.CloseIdleConnections)
	get := func(address string) (string, error) {
		resp, err := program.Get(address)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return string(data), err
	}

	const host, away = "portal.example.org", "portal.example.org has no certificate from portal.acme_directory"
	w.Set("SEALMQ_PORTAL_ACME_HOSTS="+host, "SEALMQ_PORTAL_ACME_DIRECTORY=https://"+directory+"/dir", "SEALMQ_PORTAL_ACME_AGREE=yes", "SEALMQ_PORTAL_ACME_CA="+cert)
	shows := func() *x509.Certificate {
		c, err := tls.Dial("tcp", w.Addr(pipelineproc.Portal), &tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec // it is looked at
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	healthSays := func(what string) bool {
		text, err := get(w.URL(pipelineproc.Portal) + "/health")
		return err == nil && strings.Contains(text, what)
	}

	w.start(pipelineproc.All)
	w.until("health says that there is no certificate", func() bool { return healthSays(away) })
	w.until("the log says why", func() bool {
		return strings.Contains(string(w.logs[pipelineproc.All].Bytes()), "goes on with the one that it has, and asks again")
	})
	if c := shows(); c.VerifyHostname(host) == nil {
		t.Errorf("without an authority the portal shows %v", c.DNSNames)
	}
	w.Kill(pipelineproc.All)

	authority := exec.Command(pebble, "-config", file, "-dnsserver", dns)
	authority.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	process := startServer(t, authority, func(context.Context) error { _, err := get("https://" + directory + "/dir"); return err })
	root, err := get("https://" + management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	between, err := get("https://" + management + "/intermediates/0")
	if err != nil {
		t.Fatal(err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(root)) || !intermediates.AppendCertsFromPEM([]byte(between)) {
		t.Fatalf("the authority's certificates: %s %s", root, between)
	}
	w.start(pipelineproc.All)
	var first *x509.Certificate
	w.until("the portal shows the authority's certificate", func() bool {
		first = shows()
		_, err := first.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates})
		return err == nil
	})
	w.until("health is content", func() bool { return !healthSays(away) })
	w.Kill(pipelineproc.All)
	process.Kill()

	w.start(pipelineproc.All) // nobody could answer an order
	w.until("the portal shows the same certificate again", func() bool { return shows().Equal(first) })
	w.until("health is content", func() bool { return !healthSays(away) })
}

// startServer starts a program for the length of a test.
func startServer(t *testing.T, cmd *exec.Cmd, ping func(context.Context) error) *server.Process {
	t.Helper()
	p, err := server.Start(cmd, nil, filepath.Join(t.TempDir(), "log"), time.Minute, ping)
	if p != nil {
		t.Cleanup(p.Kill)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// writeSelfSigned writes the key of a server on loopback, and its certificate.
func writeSelfSigned(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
