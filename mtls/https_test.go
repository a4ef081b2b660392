package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

// httpsServer answers with the name of its client, or 401 to one without a certificate and
// 403 to one whose certificate is not accepted any more.
func httpsServer(t *testing.T, conf *tls.Config, identifier *mtls.Identifier) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		TLSConfig: conf,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.TLS.PeerCertificates) == 0 {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			id, err := identifier.Identify(*r.TLS)
			if err != nil {
				http.Error(w, "revoked", http.StatusForbidden)
				return
			}
			io.WriteString(w, id.ID)
		}),
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "https://" + l.Addr().String()
}

func httpsClient(t *testing.T, conf *tls.Config, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: http2}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func ask(t *testing.T, c *http.Client, url string) (status int, proto, body string, err error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Proto, string(b), err
}

func TestHTTPS(t *testing.T) {
	authority, stranger := testca.New(t), testca.New(t)
	list := &revoked{serials: make(map[string]bool)}
	identifier := mtls.NewIdentifier(authority.Root())
	identifier.Revocation = list
	f, now := authority.Files(), fakeclock.New(time.Now())
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{Revocation: list, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	url := httpsServer(t, conf, identifier)
	for _, http2 := range []bool{true, false} {
		proto := map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[http2]
		t.Run(proto, func(t *testing.T) {
			foreign := stranger.Leaf("alice", sealmq.RoleClient)
			for _, tc := range []struct {
				name   string
				conf   *tls.Config
				status int // 0: no connection
				body   string
			}{
				{"with a certificate", authority.ClientTLS("alice"), http.StatusOK, "alice"},
				{"without", authority.WithoutCertificate(), http.StatusUnauthorized, "who are you?\n"},
				{"of another authority", shows(authority.ClientWith(foreign), foreign), 0, ""},
				{"expired", shows(authority.ExpiredClient("bob"), authority.ExpiredClient("bob").Certificates[0]), 0, ""},
			} {
				status, got, body, err := ask(t, httpsClient(t, tc.conf, http2), url)
				if status != tc.status || body != tc.body || (err == nil) != (tc.status != 0) || err == nil && got != proto {
					t.Errorf("%s: %d %s %q, %v", tc.name, status, got, body, err)
				}
			}
			name := "eve over " + proto
			eve := httpsClient(t, authority.ClientTLS(name), http2)
			if status, _, body, err := ask(t, eve, url); status != http.StatusOK || body != name {
				t.Errorf("before: %d %q, %v", status, body, err)
			}
			list.add(authority.Leaf(name, sealmq.RoleClient).Leaf)
			if status, _, _, err := ask(t, eve, url); status != http.StatusForbidden {
				t.Errorf("revoked, on the open connection: %d, %v", status, err)
			}
			eve.CloseIdleConnections()
			if status, _, _, err := ask(t, eve, url); err == nil {
				t.Errorf("revoked, on a new connection: %d", status)
			}
		})
	}

	testca.WriteFile(t, f.CA, stranger.RootPEM())
	now.Advance(time.Second)
	if _, _, body, err := ask(t, httpsClient(t, authority.ClientWith(stranger.Leaf("alice", sealmq.RoleClient)), true), url); body != "alice" {
		t.Errorf("after the CA file has changed: %q, %v", body, err)
	}
}

// shows makes a client show its certificate, whatever authorities the server names.
func shows(c *tls.Config, cert tls.Certificate) *tls.Config {
	c.Certificates = nil
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return c
}

// TestBrowserConfig: a browser is not asked for a certificate.
func TestBrowserConfig(t *testing.T) {
	f := testca.New(t).Files()
	conf, err := mtls.BrowserConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{})
	if err != nil {
		t.Fatal(err)
	}
	address := httpsServer(t, conf, nil)
	roots, err := mtls.ReadCertificates(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := httpsClient(t, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				t.Error("the server asks for a certificate")
				return new(tls.Certificate), nil
			}}, true)
		if status, proto, _, err := ask(t, client, address); err != nil || status != http.StatusUnauthorized || proto != "HTTP/2.0" {
			t.Errorf("status %d over %s: %v", status, proto, err)
		}
	}
}
