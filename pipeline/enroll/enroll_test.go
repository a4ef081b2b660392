package enroll_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// mainServer is the main server as a machine sees it: it signs every request, and the same
// request for a token alike.
type mainServer struct {
	*testing.T
	*httptest.Server
	authority *ca.Authority

	mu     sync.Mutex
	issued map[string][]byte // by key
	calls  int
	refuse int // the status of all answers, if not 0
	life   time.Duration
}

func newMain(t *testing.T) *mainServer {
	t.Helper()
	dir := t.TempDir()
	result, err := ca.Setup(dir, []string{"127.0.0.1"}, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := &mainServer{T: t, authority: result.Authority, issued: make(map[string][]byte), life: time.Hour}
	p := result.Authority.Paths()
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: p.Cert(ca.ServerName), Key: p.Key(ca.ServerName), CA: p.CA}, mtls.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/ca.crt", func(w http.ResponseWriter, _ *http.Request) {
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: m.authority.Root().Raw})
	})
	mux.HandleFunc("POST /api/v1/enrolment", func(w http.ResponseWriter, r *http.Request) { m.sign(w, r, "acme-01") })
	mux.HandleFunc("POST /api/v1/enrolment/renew", func(w http.ResponseWriter, r *http.Request) {
		m.sign(w, r, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	mux.HandleFunc("POST /api/v1/enrolment/renew-expired", func(w http.ResponseWriter, r *http.Request) { m.sign(w, r, "acme-01") })
	m.Server = httptest.NewUnstartedServer(mux)
	m.Server.TLS = conf
	m.Server.StartTLS()
	t.Cleanup(m.Server.Close)
	return m
}

func (m *mainServer) sign(w http.ResponseWriter, r *http.Request, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	var body struct {
		Csr string `json:"csr"`
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	if m.refuse != 0 || err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(max(m.refuse, 400))
		_ = json.NewEncoder(w).Encode(mainapi.Problem{Status: m.refuse, Detail: "The token was used already", Code: "authorization_error"})
		return
	}
	csr, err := ca.ParseCSR([]byte(body.Csr))
	if err != nil {
		m.Error(err)
		return
	}
	key := ca.KeyHash(csr.Public)
	if m.issued[key] == nil {
		c, err := m.authority.Issue(ca.Request{Name: name, CSR: []byte(body.Csr), Valid: m.life})
		if err != nil {
			m.Error(err)
			return
		}
		m.issued[key] = c.CertPEM
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(mainapi.IssuedCertificate{ClientID: name, Certificate: string(m.issued[key])})
}

func (m *mainServer) token() pipeline.EnrolmentToken {
	return pipeline.EnrolmentToken{Version: 1, ID: "0123456789abcdef", Secret: "s", Server: m.URL, Root: mtls.Fingerprint(m.authority.Root()), Name: "acme-01", Role: "client"}
}

func filesIn(dir string, fs durable.FS) enroll.Files {
	in := func(name string) string { return filepath.Join(dir, name) }
	return enroll.Files{Files: mtls.Files{Cert: in("acme-01.crt"), Key: in("acme-01.key"), CA: in("ca.crt")}, FS: fs}
}

// checkPair fails if there is a certificate without the key that fits it.
func checkPair(t *testing.T, f enroll.Files) (*x509.Certificate, bool) {
	t.Helper()
	data, err := durable.ReadFile(f.FS, f.Cert, mtls.MaxFileBytes)
	if durable.IsNotExist(err) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	certs, err := mtls.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := durable.ReadFile(f.FS, f.Key, mtls.MaxFileBytes)
	if err != nil {
		t.Fatalf("a certificate without a key: %v", err)
	}
	if _, err := mtls.ParseKeyOf(certs[0], keys); err != nil {
		t.Fatal(err)
	}
	return certs[0], true
}

func TestEnroll(t *testing.T) {
	m := newMain(t)
	f := filesIn(t.TempDir(), durable.OS())
	r, err := enroll.Enroll(t.Context(), enroll.Request{Token: m.token(), Files: f})
	if err != nil || r.Skew.Abs() > 2*time.Second {
		t.Fatalf("%+v %v", r, err)
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		t.Error(err)
	}
	if server, err := f.Server(); server != m.URL || err != nil {
		t.Errorf("%q %v", server, err)
	}
	first, _ := checkPair(t, f)
	if _, err := enroll.Enroll(t.Context(), enroll.Request{Token: m.token(), Files: f}); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("again: %v", err)
	}
	if _, err := enroll.Enroll(t.Context(), enroll.Request{Token: m.token(), Files: f, Replace: true}); err != nil {
		t.Fatal(err)
	}
	if second, _ := checkPair(t, f); ca.KeyHash(second.PublicKey) == ca.KeyHash(first.PublicKey) {
		t.Error("the same key after --replace")
	}
}

func TestEnrollRefuses(t *testing.T) {
	m, other := newMain(t), newMain(t)
	for _, c := range []struct {
		what, says string
		change     func(*enroll.Request)
	}{
		{"another authority", "has the fingerprint", func(r *enroll.Request) { r.Token.Root = mtls.Fingerprint(other.authority.Root()) }},
		{"another server", "has the fingerprint", func(r *enroll.Request) { r.Server = other.URL }},
		{"nobody", "cannot be reached", func(r *enroll.Request) { r.Server = "https://127.0.0.1:1" }},
		{"no address", "https://host:port", func(r *enroll.Request) { r.Server = "http://x" }},
		{"a clock that is years ahead", "whose clock differs", func(r *enroll.Request) { r.Now = func() time.Time { return time.Now().AddDate(3, 0, 0) } }},
		{"another role", "sent a certificate of", func(r *enroll.Request) { r.Token.Role = "proxy" }},
	} {
		r := enroll.Request{Token: m.token(), Files: filesIn(t.TempDir(), durable.OS())}
		c.change(&r)
		_, err := enroll.Enroll(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
		if _, there := checkPair(t, r.Files); there {
			t.Errorf("%s: there is a certificate", c.what)
		}
	}
	f := filesIn(t.TempDir(), durable.OS())
	if err := durable.WriteFile(f.FS, f.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.authority.Root().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := enroll.Enroll(t.Context(), enroll.Request{Token: m.token(), Files: f}); err == nil || !strings.Contains(err.Error(), "another authority") {
		t.Errorf("beside another authority: %v", err)
	}
	m.refuse = 403
	_, err := enroll.Enroll(t.Context(), enroll.Request{Token: m.token(), Files: filesIn(t.TempDir(), durable.OS())})
	if refused, ok := errors.AsType[*enroll.RefusedError](err); !ok || refused.Status != 403 || !strings.Contains(err.Error(), "used already") {
		t.Errorf("%v", err)
	}
}

// TestEnrollSurvivesCrashes: whenever it dies, a repeat with the same token succeeds, for the
// same key once a certificate was issued.
func TestEnrollSurvivesCrashes(t *testing.T) {
	eachCrash(t, func(ctx context.Context, m *mainServer, f enroll.Files) error {
		_, err := enroll.Enroll(ctx, enroll.Request{Token: m.token(), Files: f})
		if err != nil && strings.Contains(err.Error(), "is there already") {
			return nil
		}
		return err
	}, nil)
}

// eachCrash lets something be interrupted before each change of the files, and repeats it. The
// certificate never is without its key.
func eachCrash(t *testing.T, do func(context.Context, *mainServer, enroll.Files) error, before func(*mainServer, enroll.Files)) {
	m := newMain(t)
	for _, mode := range faultfs.CrashModes {
		for n := 1; ; n++ {
			fs := faultfs.New()
			f := filesIn("/data", fs)
			if before != nil {
				before(m, f)
			}
			fs.PowerOffAt(n)
			if do(t.Context(), m, f) == nil {
				if n < 5 {
					t.Fatalf("only %d changes", n-1)
				}
				break
			}
			f.FS = fs.Crash(mode, uint64(n))
			checkPair(t, f)
			if err := do(t.Context(), m, f); err != nil {
				t.Fatalf("%v, before change %d: %v", mode, n, err)
			}
			if _, there := checkPair(t, f); !there {
				t.Fatalf("%v, before change %d: no certificate", mode, n)
			}
		}
	}
}
