package httpkit_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

// revoked is a list of certificates that a test changes.
type revoked struct {
	mu   sync.Mutex
	list []string
	err  error // for everybody
}

// fail makes it not known, or decided, for everybody.
func (r *revoked) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *revoked) add(c *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, mtls.Fingerprint(c))
}

func (r *revoked) Check(chain []*x509.Certificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.list, mtls.Fingerprint(chain[0])) {
		return mtls.ErrRevoked
	}
	return r.err
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is a listener and its authority.
type world struct {
	t        *testing.T
	ca       *testca.CA
	list     *revoked
	log      *lockedBuffer
	registry *prometheus.Registry
	router   *httpkit.Router
	server   *httpkit.Server
	url      string

	mu   sync.Mutex
	late time.Duration // of the router's clock
	seen []string
}

func newWorld(t *testing.T, limits httpkit.Limits, routes func(*httpkit.Router)) *world {
	t.Helper()
	w := &world{t: t, ca: testca.New(t), list: &revoked{}, log: &lockedBuffer{}, registry: prometheus.NewRegistry()}
	identifier := mtls.NewIdentifier(w.ca.Root())
	identifier.Revocation = w.list
	w.router = httpkit.NewRouter(httpkit.Config{
		Component:  "proxy",
		Identifier: identifier,
		Authenticate: func(r *http.Request) (httpkit.Caller, error) {
			if r.Header.Get("X-API-Key") == "good" {
				return httpkit.Caller{Identity: sealmq.Identity{ID: "keyed"}, Source: httpkit.ByAPIKey}, nil
			}
			return httpkit.Caller{}, httpkit.ErrNoIdentity
		},
		CertificateSeen: func(result string) { w.mu.Lock(); defer w.mu.Unlock(); w.seen = append(w.seen, result) },
		Registry:        w.registry,
		Log:             slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:             func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.late) },
		MaxBodies:       1 << 20,
	})
	routes(w.router)
	f := w.ca.Files()
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{Revocation: w.list, AnswerRevoked: true})
	if err != nil {
		t.Fatal(err)
	}
	if w.server, err = httpkit.Listen("127.0.0.1:0", conf, w.router, limits); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.server.Serve() }()
	t.Cleanup(func() {
		w.server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.url = "https://" + w.server.Addr().String()
	return w
}

func (w *world) client(conf *tls.Config, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: http2}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answer struct {
	*http.Response
	body string
}

func (a answer) json(t *testing.T) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%q: %v", a.body, err)
	}
	return m
}

func (w *world) ask(c *http.Client, method, path, body string, header ...string) answer {
	w.t.Helper()
	a, err := w.try(c, method, path, body, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *world) try(c *http.Client, method, path, body string, header ...string) (answer, error) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, w.url+path, reader)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

// whoami answers with the caller.
func whoami(w http.ResponseWriter, r *http.Request) {
	c, ok := httpkit.CallerOf(r.Context())
	fmt.Fprintf(w, "%s %s %v", c.ID, c.Source, ok)
}

func basic(rt *httpkit.Router) {
	rt.Handle("GET /who", httpkit.Options{}, http.HandlerFunc(whoami))
	rt.Handle("GET /maybe", httpkit.Options{Access: httpkit.Optional}, http.HandlerFunc(whoami))
	rt.Handle("GET /health", httpkit.Options{Access: httpkit.Public}, http.HandlerFunc(whoami))
	rt.Handle("GET /workers", httpkit.Options{Roles: []sealmq.Role{sealmq.RoleWorker}}, http.HandlerFunc(whoami))
	rt.Handle("POST /echo", httpkit.Options{Style: httpkit.Plain, MaxBody: 100, Endpoint: "/api/v1/echo"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := httpkit.ReadBody(r, nil)
		if err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		w.Write(b)
	}))
}

func TestWhoIsLetIn(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	foreign := testca.New(t)
	for _, http2 := range []bool{false, true} {
		for _, tc := range []struct {
			name   string
			conf   *tls.Config
			path   string
			status int // 0: no connection
			body   string
		}{
			{"a client", w.ca.ClientTLS("alice"), "/who", 200, "alice certificate true"},
			{"without extensions", w.ca.V1Client("old"), "/who", 200, "old certificate true"},
			{"nobody", w.ca.WithoutCertificate(), "/who", 401, ""},
			{"nobody, optional", w.ca.WithoutCertificate(), "/maybe", 200, "  false"},
			{"nobody, public", w.ca.WithoutCertificate(), "/health", 200, "  false"},
			{"expired", shows(w.ca.ExpiredClient("bob")), "/health", 0, ""},
			{"of another authority", shows(foreign.ClientTLS("alice")), "/health", 0, ""},
			{"a worker", w.ca.RoleTLS("worker-1", sealmq.RoleWorker), "/workers", 200, "worker-1 certificate true"},
			{"a worker by name only", w.ca.ClientTLS("worker-2"), "/workers", 403, ""},
		} {
			tc.conf.RootCAs = w.ca.Pool()
			a, err := w.try(w.client(tc.conf, http2), "GET", tc.path, "")
			if tc.status == 0 {
				if err == nil {
					t.Errorf("%s: %d", tc.name, a.StatusCode)
				}
				continue
			}
			if err != nil || a.StatusCode != tc.status || tc.status == 200 && a.body != tc.body {
				t.Errorf("%s: %+v, %v", tc.name, a, err)
			}
		}
	}
	a := w.ask(w.client(w.ca.WithoutCertificate(), false), "GET", "/who", "", "X-API-Key", "good")
	if a.StatusCode != 200 || a.body != "keyed api_key true" {
		t.Errorf("with a key: %d %q", a.StatusCode, a.body)
	}
	// A certificate that was shown is the answer; nothing else is looked at.
	a = w.ask(w.client(w.ca.ClientTLS("alice"), false), "GET", "/who", "", "X-API-Key", "good")
	if a.body != "alice certificate true" {
		t.Errorf("with both: %q", a.body)
	}
}

// shows makes a client show its certificate, whatever authorities the server names.
func shows(c *tls.Config) *tls.Config {
	cert := c.Certificates[0]
	c.Certificates = nil
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return c
}

// TestRevocationActsOnOpenConnections: each request is answered 403 from then on, on old
// connections and on new ones, and the connection ends.
func TestRevocationActsOnOpenConnections(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	for _, http2 := range []bool{false, true} {
		name := fmt.Sprintf("eve-%v", http2)
		c := w.client(w.ca.ClientTLS(name), http2)
		if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 200 || a.ProtoMajor == 2 != http2 {
			t.Fatalf("before: %d %s", a.StatusCode, a.Proto)
		}
		w.list.add(w.ca.Leaf(name, sealmq.RoleClient).Leaf)
		a := w.ask(c, "GET", "/who", "")
		if a.StatusCode != 403 || a.json(t)["detail"] != httpkit.TextRevoked || !http2 && !a.Close {
			t.Errorf("revoked, %s: %d %s, close %v", a.Proto, a.StatusCode, a.body, a.Close)
		}
		if eventually(func() bool { return w.server.Connections() == 0 }) != nil {
			t.Errorf("%s: the connection stays open", a.Proto)
		}
		if a := w.ask(c, "GET", "/who", "", "X-API-Key", "good"); a.StatusCode != 403 {
			t.Errorf("revoked, new connection: %d", a.StatusCode)
		}
		if a := w.ask(c, "GET", "/nowhere", ""); a.StatusCode != 403 {
			t.Errorf("revoked, unknown path: %d", a.StatusCode)
		}
		if a := w.ask(c, "GET", "/health", ""); a.StatusCode != 200 {
			t.Errorf("revoked, health: %d", a.StatusCode)
		}
		c.CloseIdleConnections()
		eventually(func() bool { return w.server.Connections() == 0 })
	}
}

// eventually waits for a condition.
func eventually(ok func() bool) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if ok() {
			return nil
		}
		<-time.After(5 * time.Millisecond)
	}
	return fmt.Errorf("it did not come")
}

func TestCertificateExpiresOnAnOpenConnection(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.ClientTLS("alice"), false)
	w.ask(c, "GET", "/who", "")
	w.mu.Lock()
	w.late = 13 * time.Hour
	w.mu.Unlock()
	if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 401 || !a.Close {
		t.Errorf("%d, close %v", a.StatusCode, a.Close)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := []string{"valid", "expired"}; !slices.Equal(w.seen, want) {
		t.Errorf("seen %v, want %v", w.seen, want)
	}
}
