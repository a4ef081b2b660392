package proxy_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/proxy"
	"github.com/sealmq/sealmq/seal"
)

// shows makes a client show its certificate, whatever authorities the server names.
func shows(c *tls.Config) *tls.Config {
	cert := c.Certificates[0]
	c.Certificates = nil
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return c
}

// TestWhoMaySubmit: the certificate says who it is, and nothing else does.
func TestWhoMaySubmit(t *testing.T) {
	w := newWorld(t, nil).ready()
	foreign := shows(testca.New(t).ClientTLS("acme-01"))
	foreign.RootCAs = w.ca.Pool()
	for _, http2 := range []bool{false, true} {
		for _, tc := range []struct {
			name   string
			conf   *tls.Config
			path   string
			header []string
			status int // 0: no connection
			id     string
		}{
			{"a client", w.ca.ClientTLS("acme-01"), "/submit", nil, 202, "acme-01"},
			{"a certificate without extensions", w.ca.V1Client("old-01"), "/submit", nil, 202, "old-01"},
			{"the proxy's own certificate", w.ca.RoleTLS("proxy", sealmq.RoleProxy), "/submit", nil, 202, "proxy"},
			{"a worker", w.ca.RoleTLS("worker-1", sealmq.RoleWorker), "/submit", nil, 202, "worker-1"},
			{"a monitor", w.ca.RoleTLS("monitor-1", sealmq.RoleMonitor), "/submit", nil, 403, ""},
			{"a reserved name without its role", w.ca.ClientTLS("admin-1"), "/submit", nil, 202, "admin-1"},
			{"another spelling is another client", w.ca.ClientTLS("ACME-01"), "/submit", nil, 202, "ACME-01"},
			{"no certificate", w.ca.WithoutCertificate(), "/submit", nil, 401, ""},
			{"no certificate, in the API", w.ca.WithoutCertificate(), "/api/v1/messages", nil, 401, ""},
			{"a claimed name", w.ca.WithoutCertificate(), "/submit", []string{"X-Client-Cert-CN", "acme-01", "X-Client-Cert-Fingerprint", "00"}, 401, ""},
			{"a claimed id", w.ca.WithoutCertificate(), "/submit?client_id=acme-01", []string{"X-Client-ID", "acme-01"}, 401, ""},
			{"a claimed subject", w.ca.WithoutCertificate(), "/submit", []string{"X-SSL-Client-Subject-DN", "/CN=acme-01"}, 401, ""},
			{"a claimed name beside a certificate", w.ca.ClientTLS("acme-01"), "/submit?client_id=admin", []string{"X-Client-Cert-CN", "admin", "X-Client-ID", "admin"}, 202, "acme-01"},
			{"a key that nobody has", w.ca.WithoutCertificate(), "/submit", []string{"X-API-Key", "test-api-key-123"}, 401, ""},
			{"expired", shows(w.ca.ExpiredClient("acme-01")), "/submit", nil, 0, ""},
			{"not valid yet", shows(w.ca.FutureClient("acme-01")), "/submit", nil, 0, ""},
			{"another authority", foreign, "/submit", nil, 0, ""},
		} {
			a, err := w.try(w.client(tc.conf, http2), "POST", tc.path, good, tc.header...)
			if tc.status == 0 {
				if err == nil {
					t.Errorf("%s: %d", tc.name, a.StatusCode)
				}
				continue
			}
			if err != nil || a.StatusCode != tc.status || tc.id != "" && a.m["client_id"] != tc.id {
				t.Errorf("%s: %s %v", tc.name, a.body, err)
			}
			if tc.status == 401 && tc.path != "/api/v1/messages" && (a.m["error"] != "authentication_error" || a.m["message"] != httpkit.TextNoIdentity) {
				t.Errorf("%s: %s", tc.name, a.body)
			}
		}
	}
	if w.count("proxy_messages_failed_total", "invalid_certificate") == 0 || w.count("proxy_certificate_validations_total", "missing") == 0 {
		t.Error("refusals are not counted")
	}
}

// TestTwoAuthoritiesWithOneName: a client is a name of one authority. Another authority's client of
// the same name has its own messages.
func TestTwoAuthoritiesWithOneName(t *testing.T) {
	w := newWorld(t, nil).ready()
	foreign := testca.New(t)
	w.listenWith(foreign.RootPEM())
	ofForeign := func(name string) *http.Client {
		conf := foreign.ClientTLS(name)
		conf.RootCAs = w.ca.Pool()
		return w.client(conf, true)
	}
	theirs := "acme-01@" + strings.TrimPrefix(mtls.Issuer(foreign.Root()), "sha256:")[:16]
	a := w.ask(w.as("acme-01"), "POST", "/submit", good, "Idempotency-Key", "k")
	b := w.ask(ofForeign("acme-01"), "POST", "/submit", good, "Idempotency-Key", "k")
	if a.StatusCode != 202 || b.StatusCode != 202 || a.m["client_id"] != "acme-01" || b.m["client_id"] != theirs || b.m["duplicate"] != nil || a.m["message_id"] == b.m["message_id"] {
		t.Errorf("%d %s\n%d %s", a.StatusCode, a.body, b.StatusCode, b.body)
	}
	w.eventually("the messages are not registered", func() bool { return len(w.main.rows()) == 2 })
	for _, tc := range []struct {
		c    *http.Client
		id   any
		want int
	}{{w.as("acme-01"), a.m["message_id"], 200}, {ofForeign("acme-01"), b.m["message_id"], 200}, {ofForeign("acme-01"), a.m["message_id"], 404}} {
		if got := w.ask(tc.c, "GET", fmt.Sprintf("/api/v1/messages/%v", tc.id), ""); got.StatusCode != tc.want {
			t.Errorf("%v: %d %s, want %d", tc.id, got.StatusCode, got.body, tc.want)
		}
	}
	// Nobody of our own authority can pass for it.
	if got := w.ask(w.as(theirs), "POST", "/submit", good); got.StatusCode != 202 || got.m["client_id"] == theirs {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if got := w.ask(ofForeign(strings.Repeat("x", sealmq.MaxNameBytes)), "POST", "/submit", good); got.StatusCode != 403 {
		t.Errorf("a name that is too long: %d %s", got.StatusCode, got.body)
	}
}

// TestRevokedClientIsCutOff: on the open connection, on the next one, over both protocols.
func TestRevokedClientIsCutOff(t *testing.T) {
	w := newWorld(t, nil).ready()
	for _, http2 := range []bool{false, true} {
		name := fmt.Sprintf("eve-%v", http2)
		c := w.client(w.ca.ClientTLS(name), http2)
		if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
			t.Fatalf("before: %d", a.StatusCode)
		}
		w.revoked.revoke(w.ca.Leaf(name, sealmq.RoleClient).Leaf)
		for _, path := range []string{"/submit", "/api/v1/messages", "/api/v1/messages/batch"} {
			a := w.ask(c, "POST", path, good)
			text := a.m["message"]
			if text == nil {
				text = a.m["detail"]
			}
			if a.StatusCode != 403 || text != "Client certificate has been revoked" {
				t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
			}
		}
		if a := w.ask(c, "POST", "/submit", good, "X-API-Key", "sesame"); a.StatusCode != 403 {
			t.Errorf("with a key: %d", a.StatusCode)
		}
		if a := w.ask(c, "GET", "/health", ""); a.StatusCode != 200 {
			t.Errorf("health: %d", a.StatusCode)
		}
	}
	if n := len(w.queue.stored()); n != 2 {
		t.Errorf("%d messages", n)
	}
	if n := w.count("proxy_messages_failed_total", "revoked"); n != 8 {
		t.Errorf("%v counted as revoked", n)
	}
}

// TestTrustedReverseProxy: its headers count if it comes from a network that is configured.
func TestTrustedReverseProxy(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}).ready()
	leaf := w.ca.Leaf("acme-09", sealmq.RoleClient).Leaf
	w.revoked.revokeName("acme-08")
	w.revoked.revoke(leaf)
	colons := strings.ToUpper(mtls.Fingerprint(leaf))
	colons = "SHA256:" + colons[:2] + ":" + colons[2:]
	c := w.client(w.ca.WithoutCertificate(), true)
	for _, tc := range []struct {
		name, fingerprint string
		status            int
	}{
		{"acme-01", strings.Repeat("00", 32), 202},
		{"proxy", "", 202},
		{"acme-08", "", 403},
		{"acme-09", colons, 403},
		{"acme-09", strings.Repeat("11", 32), 202},
		{"acme-01", "00", 401},
		{"acme-01", strings.Repeat("0", 63), 401},
		{"acme-01", strings.Repeat("00", 33), 401},
		{"acme-01", strings.Repeat("0g", 32), 401},
		{"acme-01", "sha1:" + strings.Repeat("00", 32), 401},
		{" ", "", 401},
		{"a\u200bb", "", 401},
		{pipeline.ForeignClient("acme-01", "sha256:"+strings.Repeat("a", 64)), "", 401}, // another authority's client
	} {
		a := w.ask(c, "POST", "/submit", good, "X-Client-Cert-CN", tc.name, "X-Client-Cert-Fingerprint", tc.fingerprint)
		if a.StatusCode != tc.status || tc.status == 202 && a.m["client_id"] != tc.name {
			t.Errorf("%q %q: %d %s", tc.name, tc.fingerprint, a.StatusCode, a.body)
		}
	}
	if a := w.ask(w.as("acme-02"), "POST", "/submit", good, "X-Client-Cert-CN", "acme-01"); a.m["client_id"] != "acme-02" {
		t.Errorf("a certificate beside the header: %s", a.body)
	}
	if n := w.count("proxy_certificate_validations_total", "untrusted"); n != 8 {
		t.Errorf("%v headers that name nobody are counted", n)
	}
	// A name that is there twice may come from the client itself.
	req, err := http.NewRequest("POST", w.url+"/submit", strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["X-Client-Cert-Cn"] = []string{"acme-01", "acme-02"}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 {
		t.Errorf("two names: %d", resp.StatusCode)
	}
}

// TestUntrustedReverseProxy: headers from a network that is not configured are ignored, and
// counted.
func TestUntrustedReverseProxy(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	}).ready()
	c := w.client(w.ca.WithoutCertificate(), true)
	if a := w.ask(c, "POST", "/submit", good, "X-Client-Cert-CN", "acme-01"); a.StatusCode != 401 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if n := w.count("proxy_certificate_validations_total", "unverified"); n != 1 {
		t.Errorf("%v counted", n)
	}
}

func TestAPIKeys(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	file := filepath.Join(t.TempDir(), "pipeline", "api-keys.json")
	change := func(f func([]proxy.APIKey) []proxy.APIKey) {
		t.Helper()
		if err := proxy.ChangeAPIKeys(durable.OS(), file, func(l []proxy.APIKey) ([]proxy.APIKey, error) { return f(l), nil }); err != nil {
			t.Fatal(err)
		}
	}
	add := func(client string, from ...string) (k proxy.APIKey, secret string) {
		k, secret = proxy.NewAPIKey(client, prefixes(from...), time.Now())
		change(func(l []proxy.APIKey) []proxy.APIKey { return append(l, k) })
		return k, secret
	}
	key, good1 := add("meter-1")
	_, far := add("meter-2", "192.0.2.0/24")
	_, near := add("meter-3", "192.0.2.0/24", "127.0.0.1/32")
	_, stolen := add("meter-4")
	var ahead atomic.Int64
	denied := make(chan string, 10)
	w := newWorld(t, func(_ *world, c *proxy.Config) {
		c.APIKeyFile, c.Now = file, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		c.Denied = func(_ *http.Request, _ string, c httpkit.Caller, e *httpkit.Error) { denied <- c.ID + ": " + e.Message }
	}).ready()
	w.revoked.revokeName("meter-4")
	c := w.client(w.ca.WithoutCertificate(), true)
	for _, tc := range []struct {
		name, key string
		status    int
		id        any
	}{{"good", good1, 202, "meter-1"}, {"another case", strings.ToUpper(good1), 401, nil}, {"from elsewhere", far, 401, nil}, {"from here", near, 202, "meter-3"}, {"revoked", stolen, 403, nil},
		{"the hash", key.Hash, 401, nil}, {"long", strings.Repeat("x", 300), 401, nil}} {
		a := w.ask(c, "POST", "/submit", good, "X-API-Key", tc.key)
		if a.StatusCode != tc.status || a.m["client_id"] != tc.id {
			t.Errorf("%s: %d %s", tc.name, a.StatusCode, a.body)
		}
	}
	if n := w.count("proxy_certificate_validations_total", "api_key"); n != 2 {
		t.Errorf("%v keys counted", n)
	}
	// A refusal tells operators whose key it was, if there is one.
	nobody := ": " + httpkit.TextNoIdentity
	for _, want := range []string{nobody, nobody, "meter-4: " + httpkit.TextRevoked, nobody, nobody} {
		if got := <-denied; got != want {
			t.Errorf("denied was %q, want %q", got, want)
		}
	}
	if n := w.count("proxy_certificate_validations_total", "revoked"); n != 1 {
		t.Errorf("%v revoked clients counted", n)
	}
	// The last use is written down once a minute.
	uses := func() map[string]time.Time {
		t.Helper()
		uses, err := proxy.APIKeyUses(durable.OS(), file)
		if err != nil {
			t.Fatal(err)
		}
		return uses
	}
	w.eventually("the uses are not written down", func() bool { return len(uses()) == 2 })
	first := uses()
	if len(first) != 2 || time.Since(first[key.ID]).Abs() > time.Minute {
		t.Errorf("used: %v", first)
	}
	for _, later := range []time.Duration{30 * time.Second, 2 * time.Minute} {
		noted := later > time.Minute
		ahead.Store(int64(later))
		before := uses()[key.ID]
		w.ask(c, "POST", "/submit", good, "X-API-Key", good1)
		if !noted {
			continue // the next one would show it
		}
		w.eventually("the later use is not written down", func() bool { return uses()[key.ID].Sub(before) >= later-time.Second })
	}
	stored, err := os.ReadFile(file)
	if log := w.log.String(); err != nil || strings.Contains(log, good1) || bytes.Contains(stored, []byte(good1)) {
		t.Errorf("the key is kept: %v\n%s\n%s", err, stored, log)
	}

	// A key that is taken back is refused, also on an open connection. A damaged file takes none
	// back and lets nobody in.
	change(func(l []proxy.APIKey) []proxy.APIKey {
		return slices.DeleteFunc(l, func(k proxy.APIKey) bool { return k.ID == key.ID })
	})
	w.eventually("the key is still good", func() bool { return w.ask(c, "POST", "/submit", good, "X-API-Key", good1).StatusCode == 401 })
	if err := os.WriteFile(file, []byte(`{"keys":[{"client_id":"meter-9","hash":"sesame"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually("the file is not looked at", func() bool {
		if a := w.ask(c, "POST", "/submit", good, "X-API-Key", near); a.StatusCode != 202 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		return strings.Contains(w.log.String(), "the last good keys stay")
	})
	if a := w.ask(c, "POST", "/submit", good, "X-API-Key", "sesame"); a.StatusCode != 401 || strings.Contains(w.log.String(), "sesame") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	cfg := minimal(w)
	cfg.APIKeyFile = file
	if _, err := proxy.New(cfg); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("started with it: %v", err)
	}
	for name, k := range map[string]proxy.APIKey{"clear": {ClientID: "m", Hash: "sesame"}, "no name": {Hash: key.Hash}, "a blank": {ClientID: "m ", Hash: key.Hash}} {
		err := proxy.ChangeAPIKeys(durable.OS(), filepath.Join(t.TempDir(), "f"), func([]proxy.APIKey) ([]proxy.APIKey, error) { return []proxy.APIKey{k}, nil })
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestProxyOfARevokedCertificate: it answers, says why, and takes nothing.
func TestProxyOfARevokedCertificate(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	w.revoked.revoke(w.own.Leaf)
	w.eventually("it still takes messages", func() bool { return w.ask(c, "POST", "/submit", good).StatusCode == 503 })
	if a := w.ask(c, "POST", "/submit", good); a.m["error"] != "service_unavailable" || !strings.Contains(a.body, "revoked") {
		t.Errorf("%s", a.body)
	}
	if a := w.ask(c, "POST", "/api/v1/messages/batch", `{"messages":[`+good+`]}`); a.StatusCode != 503 {
		t.Errorf("batch: %d", a.StatusCode)
	}
	w.eventually("health does not say it", func() bool {
		a := w.ask(c, "GET", "/health", "")
		return a.StatusCode == 503 && a.m["checks"].(map[string]any)["certificate"] == "revoked" && strings.Contains(a.body, "the proxy's certificate has been revoked")
	})
}

// TestCommandsOfTheDesignDocuments runs their openssl and curl commands as they are typed:
// certificates without any extension, made by an authority that openssl made.
func TestCommandsOfTheDesignDocuments(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openssl", "curl", "sh"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	sh := func(script string) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return string(out)
	}
	// A key of 4096 bits would take most of the test's time.
	sh(`openssl genrsa -out ca.key 2048
openssl req -x509 -new -nodes -key ca.key -sha256 -days 3650 -out ca.crt -subj "/CN=MainCA"
openssl genrsa -out proxy.key 2048
openssl req -new -key proxy.key -out proxy.csr -subj "/CN=proxy"
openssl x509 -req -in proxy.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out proxy.crt -days 365 -sha256`)
	imported, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := mtls.ReadAuthorities(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world, c *proxy.Config) {
		own := append(roots, w.ca.Root())
		c.Identifier, c.OwnIssuer = mtls.NewIdentifier(own...), issuedBy(own...)
		c.Identifier.Revocation = w.revoked
	}).ready()
	w.listenWith(imported)
	testca.WriteFile(t, filepath.Join(dir, "server_ca.crt"), w.ca.RootPEM())
	url := strings.Replace(w.url, "127.0.0.1", "localhost", 1)
	curl := `curl -sS -o answer -w '%{http_code}' -X POST ` + url + `/submit -H "Content-Type: application/json" ` +
		`-d '{"sender_number": "+4915200000000", "message_body": "Test message"}' --cacert server_ca.crt`
	if out := sh(curl + ` --cert proxy.crt --key proxy.key; echo; cat answer`); !strings.HasPrefix(out, "202\n") || !strings.Contains(out, `"client_id":"proxy"`) {
		t.Errorf("with the proxy's certificate: %s", out)
	}
	if out := sh(curl); out != "401" {
		t.Errorf("without a certificate: %s", out)
	}
	if out := sh(`curl -sS --cacert server_ca.crt --cert proxy.crt --key proxy.key ` + url + `/health`); !strings.Contains(out, `"status":"healthy"`) && !strings.Contains(out, `"status":"degraded"`) {
		t.Errorf("health: %s", out)
	}
	w.revoked.revokeName("proxy")
	if out := sh(curl + ` --cert proxy.crt --key proxy.key; echo; cat answer`); !strings.HasPrefix(out, "503\n") && !strings.HasPrefix(out, "403\n") {
		t.Errorf("revoked: %s", out)
	}
}

// TestRenewedCertificate: once the proxy has another certificate, it seals with that one, so that
// the old one can be revoked for any reason.
func TestRenewedCertificate(t *testing.T) {
	var own atomic.Pointer[tls.Certificate]
	var later atomic.Int64
	w := newWorld(t, func(w *world, c *proxy.Config) {
		own.Store(&w.own)
		c.Signer = func() (*seal.Signer, error) {
			return seal.NewSigner("proxy", own.Load().Certificate, own.Load().PrivateKey)
		}
		c.Certificate = func() []*x509.Certificate { return []*x509.Certificate{own.Load().Leaf, w.ca.Root()} }
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	}).ready()
	c := w.as("acme-01")
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	renewed := w.ca.Issue(w.ca.Template("proxy", sealmq.RoleProxy))
	own.Store(&renewed)
	w.revoked.revoke(w.own.Leaf)
	later.Store(int64(time.Second))
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	w.verifier.Revocation = w.revoked
	items := w.queue.stored()
	if _, _, err := pipeline.OpenItem(w.opener, &items[0]); !errors.Is(err, seal.ErrRevoked) {
		t.Errorf("the item before: %v", err)
	}
	w.open(items[1])
}
