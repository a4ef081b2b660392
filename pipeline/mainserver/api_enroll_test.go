package mainserver_test

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

const tokenPath = "/api/v1/enrolment/tokens"

// newKey makes a key and a request for it.
func (s *server) newKey(name string) (crypto.Signer, string) {
	s.Helper()
	key, err := ca.GenerateKey("")
	s.must(err)
	csr, err := ca.NewCSR(name, key)
	s.must(err)
	return key, string(csr)
}

// token makes an enrolment token.
func (s *server) token(body string) answer {
	s.Helper()
	return s.want(201, "POST", tokenPath, body)
}

// enroll uses a token without a certificate.
func (s *server) enroll(token, csr string) answer {
	s.Helper()
	return s.ask(s.as(""), "POST", "/api/v1/enrolment", toJSON(map[string]string{"token": token, "csr": csr}))
}

// enrolled is a machine that has enrolled.
func (s *server) enrolled(name string, more string) (*tls.Certificate, answer) {
	s.Helper()
	a := s.token(`{"client_id":"` + name + `","server":"https://localhost:1"` + more + `}`)
	key, csr := s.newKey(name)
	a = s.enroll(a.str("token"), csr)
	if a.StatusCode != 201 {
		s.Fatalf("%d %s", a.StatusCode, a.body)
	}
	return s.pair(a, key), a
}

func (s *server) pair(a answer, key crypto.Signer) *tls.Certificate {
	s.Helper()
	certs, err := mtls.ParseCertificates([]byte(a.str("certificate")))
	s.must(err)
	c := &tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, cert := range certs {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

func withAddress(_ *server, cfg *mainserver.HandlerConfig) {
	cfg.Address = "https://mq.example.org:8000"
}

func TestEnrolment(t *testing.T) {
	s := newServer(t, withAddress)
	made := s.token(`{"client_id":"acme-9","role":"proxy","sans":["p.example.org"],"domain":"shop","lifetime":60}`)
	token, err := pipeline.ParseEnrolmentToken(made.str("token"))
	if err != nil || token.Root != mtls.Fingerprint(s.authority.Root()) || token.Server != "https://mq.example.org:8000" || token.Name != "acme-9" || token.Role != sealmq.RoleProxy {
		t.Fatalf("%+v %v", token, err)
	}
	key, csr := s.newKey("acme-9")
	first := s.enroll(made.str("token"), csr)
	if first.StatusCode != 201 {
		t.Fatalf("%d %s", first.StatusCode, first.body)
	}
	leaf := s.pair(first, key).Leaf
	name, role, err := mtls.Profile(leaf)
	if life := time.Until(leaf.NotAfter); err != nil || name != "acme-9" || role != sealmq.RoleProxy || leaf.Subject.OrganizationalUnit[0] != "shop" || leaf.DNSNames[0] != "p.example.org" || life > time.Minute || life < 40*time.Second {
		t.Errorf("%v %v %v %v %v", name, role, leaf.Subject, leaf.DNSNames, leaf.NotAfter)
	}
	if from, to := mtls.Life(leaf); to.Sub(from) != time.Minute {
		t.Errorf("from %v to %v", from, to)
	}
	if rows, err := s.store.Certificates(t.Context(), "acme-9", 0, 10); err != nil || len(rows) != 1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if again := s.enroll(made.str("token"), csr); again.StatusCode != 201 || again.str("certificate") != first.str("certificate") {
		t.Errorf("a repeat: %d %s", again.StatusCode, again.body)
	}
	_, other := s.newKey("acme-9")
	if a := s.enroll(made.str("token"), other); a.StatusCode != 403 || !strings.Contains(a.body, "used already") {
		t.Errorf("another key: %d %s", a.StatusCode, a.body)
	}
	list := s.want(200, "GET", tokenPath, "")
	if e := list.items()[0]; e["state"] != "used" || e["client_id"] != "acme-9" || strings.Contains(list.body, token.Secret) {
		t.Errorf("%s", list.body)
	}
	if n := len(s.want(200, "GET", "/api/v1/certificates?client_id=acme-9", "").items()); n != 1 {
		t.Errorf("%d certificates", n)
	}
	var events []any
	for _, e := range s.want(200, "GET", "/api/v1/audit?client_id=acme-9", "").items() {
		events = append(events, e["event_type"])
	}
	if got := fmt.Sprint(events); got != "[enrolment_failed certificate_enrolled enrolment_token_created]" {
		t.Error(got)
	}
	s.pass(2 * time.Hour)
	if a := s.enroll(made.str("token"), csr); a.StatusCode != 403 {
		t.Errorf("a repeat after the token's time: %d %s", a.StatusCode, a.body)
	}
}

// TestParallelEnrolments: many machines use one token at two main servers at the same moment, each
// of them twice. One key gets one certificate.
func TestParallelEnrolments(t *testing.T) {
	var cfg mainserver.HandlerConfig
	s := newServer(t, func(s *server, c *mainserver.HandlerConfig) { withAddress(s, c); cfg = *c })
	s.config.Registry = prometheus.NewRegistry()
	service, err := mainserver.New(s.config)
	s.must(err)
	cfg.Service = service
	second, err := mainserver.NewHandler(cfg)
	s.must(err)
	token := s.token(`{"client_id":"acme-9"}`).str("token")
	handlers := []http.Handler{s.handler, second}
	var wg sync.WaitGroup
	var mu sync.Mutex
	certs := make(map[string]int)
	ask := func(h http.Handler, csr string) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/enrolment", strings.NewReader(toJSON(map[string]string{"token": token, "csr": csr})))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		mu.Lock()
		defer mu.Unlock()
		var a struct{ Certificate string }
		switch {
		case w.Code == 201 && json.Unmarshal(w.Body.Bytes(), &a) == nil:
			certs[a.Certificate]++
		case w.Code == 503 && w.Header().Get("Retry-After") != "", w.Code == 403 && strings.Contains(w.Body.String(), "used already"),
			w.Code == 403 && strings.Contains(w.Body.String(), "too many failed"):
		default:
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	for range 6 {
		_, csr := s.newKey("acme-9")
		for _, h := range handlers {
			wg.Go(func() { ask(h, csr) })
		}
	}
	wg.Wait()
	if n := len(s.want(200, "GET", "/api/v1/certificates?client_id=acme-9", "").items()); len(certs) != 1 || n != 1 {
		t.Errorf("%d answers with certificates, %d certificates", len(certs), n)
	}
}

// TestEnrolmentInterrupted: what is left when the signing of a certificate does not succeed.
func TestEnrolmentInterrupted(t *testing.T) {
	s := newServer(t, withAddress)
	_, csr := s.newKey("acme-9")
	_, other := s.newKey("acme-9")
	keyOf := func(csr string) string {
		r, err := ca.ParseCSR([]byte(csr))
		s.must(err)
		return ca.KeyHash(r.Public)
	}

	// The key of a revoked certificate is not signed again. The token is still good for another.
	s.enroll(s.token(`{"client_id":"acme-9"}`).str("token"), csr)
	s.want(200, "POST", "/api/v1/clients/acme-9/revoke", "{}")
	made := s.token(`{"client_id":"acme-9"}`)
	if a := s.enroll(made.str("token"), csr); a.StatusCode != 409 || !strings.Contains(a.body, "make a new key") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.enroll(made.str("token"), other); a.StatusCode != 201 {
		t.Errorf("a new key: %d %s", a.StatusCode, a.body)
	}

	// A main server died while it signed. The same key gets its certificate a little later.
	made = s.token(`{"client_id":"acme-9","replace":true}`)
	_, csr = s.newKey("acme-9")
	s.must(s.store.ClaimEnrolment(t.Context(), made.str("id"), keyOf(csr), s.now()))
	if a := s.enroll(made.str("token"), csr); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "repeat") {
		t.Errorf("at once: %d %s", a.StatusCode, a.body)
	}
	s.pass(records.ClaimTime + time.Second)
	if a := s.enroll(made.str("token"), other); a.StatusCode != 403 || !strings.Contains(a.body, "used already") {
		t.Errorf("another key: %d %s", a.StatusCode, a.body)
	}
	if a := s.enroll(made.str("token"), csr); a.StatusCode != 201 {
		t.Errorf("later: %d %s", a.StatusCode, a.body)
	}

	// The token is taken back between the claim and its use.
	made = s.token(`{"client_id":"acme-8"}`)
	_, csr = s.newKey("acme-8")
	id := made.str("id")
	takeBack := func() { s.must(s.store.RevokeEnrolment(t.Context(), id, s.now())) }
	s.signing.Store(&takeBack)
	if a := s.enroll(made.str("token"), csr); a.StatusCode != 409 || !strings.Contains(a.body, "taken back") {
		t.Errorf("taken back meanwhile: %d %s", a.StatusCode, a.body)
	}
	if list := s.want(200, "GET", "/api/v1/certificates?client_id=acme-8", "").items(); len(list) != 1 || list[0]["status"] != "revoked" {
		t.Errorf("%v", list)
	}
}

func TestEnrolmentRefuses(t *testing.T) {
	s := newServer(t, withAddress)
	_, csr := s.newKey("acme-9")
	_, foreign := s.newKey("acme-8")
	change := func(text string, f func(*pipeline.EnrolmentToken)) string {
		token, err := pipeline.ParseEnrolmentToken(text)
		s.must(err)
		f(&token)
		return token.String()
	}
	for _, c := range []struct {
		what, csr, says string
		change          func(*pipeline.EnrolmentToken)
		before          func(id string)
		status          int
	}{
		{what: "a wrong secret", says: "no such", change: func(k *pipeline.EnrolmentToken) { k.Secret = strings.Repeat("0", 32) }, status: 403},
		{what: "an unknown token", says: "no such", change: func(k *pipeline.EnrolmentToken) { k.ID = strings.Repeat("0", 16) }, status: 403},
		{what: "another name in the token", says: "another name", change: func(k *pipeline.EnrolmentToken) { k.Name = "acme-8" }, status: 403},
		{what: "another name in the request", csr: foreign, says: "another name", status: 403},
		{what: "no request", csr: "x", says: "signing request", status: 422},
		{what: "taken back", says: "taken back", before: func(id string) { s.want(204, "DELETE", tokenPath+"/"+id, "") }, status: 403},
		{what: "expired", says: "expired", before: func(string) { s.pass(2 * time.Minute) }, status: 403},
	} {
		made := s.token(`{"client_id":"acme-9","expires_in":60,"replace":true}`)
		text := made.str("token")
		if c.change != nil {
			text = change(text, c.change)
		}
		if c.before != nil {
			c.before(made.str("id"))
		}
		request := c.csr
		if request == "" {
			request = csr
		}
		if a := s.enroll(text, request); a.StatusCode != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d %s", c.what, a.StatusCode, a.body)
		}
	}
	made := s.token(`{"client_id":"acme-9","replace":true}`).str("token")
	if a := s.enroll(made, ""); a.StatusCode != 422 || !strings.Contains(a.body, "signing request") {
		t.Errorf("an empty request: %d %s", a.StatusCode, a.body)
	}
	wrong := change(made, func(k *pipeline.EnrolmentToken) { k.Secret = strings.Repeat("0", 32) })
	for range 10 {
		s.enroll(wrong, csr)
	}
	if a := s.enroll(made, csr); a.StatusCode != 403 || !strings.Contains(a.body, "too many failed attempts") {
		t.Errorf("after ten wrong secrets: %d %s", a.StatusCode, a.body)
	}
	for _, body := range []string{`{"client_id":"proxy"}`, `{"client_id":"acme-9","sans":["x"]}`, `{"client_id":"acme-9","server":"http://x"}`, `{"client_id":"acme-9","lifetime":1}`, `{"client_id":"acme-9","expires_in":1}`} {
		s.want(422, "POST", tokenPath, body)
	}
	s.issue("acme-7", sealmq.RoleClient)
	s.want(409, "POST", tokenPath, `{"client_id":"acme-7"}`)
	s.want(201, "POST", tokenPath, `{"client_id":"acme-7","replace":true}`)
	s.want(404, "DELETE", tokenPath+"/"+strings.Repeat("0", 16), "")
}

func TestOwnRenewal(t *testing.T) {
	s := newServer(t, func(s *server, cfg *mainserver.HandlerConfig) { withAddress(s, cfg); cfg.RenewFor = 12 * time.Hour })
	cert, _ := s.enrolled("acme-9", `,"lifetime":86400`)
	renew := func(c *http.Client, csr string) answer {
		return s.ask(c, "POST", "/api/v1/enrolment/renew", toJSON(map[string]string{"csr": csr}))
	}
	for range 2 {
		key, csr := s.newKey("acme-9")
		a := renew(s.with(cert), csr)
		if a.StatusCode != 201 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		next := s.pair(a, key)
		from, to := mtls.Life(next.Leaf)
		if to.Sub(from) != 24*time.Hour || next.Leaf.SerialNumber.Cmp(cert.Leaf.SerialNumber) == 0 {
			t.Errorf("lives from %v to %v", from, to)
		}
		cert = next
	}
	_, csr := s.newKey("acme-9")
	_, foreign := s.newKey("acme-8")
	if a := renew(s.with(cert), foreign); a.StatusCode != 422 {
		t.Errorf("another name: %d %s", a.StatusCode, a.body)
	}
	if a := renew(s.with(cert), ""); a.StatusCode != 422 {
		t.Errorf("an empty request: %d %s", a.StatusCode, a.body)
	}
	if a := renew(s.as(""), csr); a.StatusCode != 401 {
		t.Errorf("nobody: %d", a.StatusCode)
	}
	for range 8 {
		renew(s.with(cert), csr)
	}
	if a := renew(s.with(cert), csr); a.StatusCode != 429 || a.Header.Get("Retry-After") == "" {
		t.Errorf("the eleventh within a lifetime: %d %s", a.StatusCode, a.body)
	}
	s.pass(13 * time.Hour)
	if a := renew(s.with(cert), csr); a.StatusCode != 409 || !strings.Contains(a.body, "administrator") {
		t.Errorf("after the bound: %d %s", a.StatusCode, a.body)
	}
	s.pass(-13 * time.Hour)
	c := s.with(cert)
	s.want(200, "POST", "/api/v1/clients/acme-9/revoke", `{}`)
	if a := renew(c, csr); a.StatusCode != 403 {
		t.Errorf("revoked: %d %s", a.StatusCode, a.body)
	}
}

func TestRenewalOfAnExpiredCertificate(t *testing.T) {
	s := newServer(t, withAddress)
	old, issued := s.enrolled("acme-9", `,"lifetime":3600`)
	fp := issued.str("fingerprint")
	s.want(409, "POST", "/api/v1/certificates/"+fp+"/renewal-consent", "{}") // it is valid
	s.pass(2 * time.Hour)
	key, csr := s.newKey("acme-9")
	oldKey, _ := old.PrivateKey.(crypto.Signer)
	ask := func(by crypto.Signer, csr string) answer {
		sum := sha256.Sum256([]byte(csr))
		proof, err := ca.NewCSR(hex.EncodeToString(sum[:]), by)
		s.must(err)
		return s.ask(s.as(""), "POST", "/api/v1/enrolment/renew-expired", toJSON(map[string]string{"fingerprint": fp, "csr": csr, "proof": string(proof)}))
	}
	if a := ask(oldKey, csr); a.StatusCode != 403 || !strings.Contains(a.body, "consent") {
		t.Errorf("without consent: %d %s", a.StatusCode, a.body)
	}
	s.want(201, "POST", "/api/v1/certificates/"+fp+"/renewal-consent", `{"expires_in":3600}`)
	if a := ask(key, csr); a.StatusCode != 403 || !strings.Contains(a.body, "proof") {
		t.Errorf("without the old key: %d %s", a.StatusCode, a.body)
	}
	first := ask(oldKey, csr)
	if first.StatusCode != 201 {
		t.Fatalf("%d %s", first.StatusCode, first.body)
	}
	if again := ask(oldKey, csr); again.str("certificate") != first.str("certificate") {
		t.Errorf("a repeat: %d %s", again.StatusCode, again.body)
	}
	_, other := s.newKey("acme-9")
	if a := ask(oldKey, other); a.StatusCode != 403 {
		t.Errorf("a second key: %d %s", a.StatusCode, a.body)
	}
	s.want(201, "POST", "/api/v1/certificates/"+fp+"/renewal-consent", "{}")
	s.want(200, "POST", "/api/v1/clients/acme-9/revoke", `{}`)
	if a := ask(oldKey, other); a.StatusCode != 409 || !strings.Contains(a.body, "revoked") {
		t.Errorf("revoked: %d %s", a.StatusCode, a.body)
	}
}
