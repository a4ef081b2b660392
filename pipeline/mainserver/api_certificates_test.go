package mainserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

// TestIssuedCertificateWorks: what is issued is good for a connection at once, and its key
// is shown this once.
func TestIssuedCertificateWorks(t *testing.T) {
	s := newServer(t, nil)
	a := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"proxy-2","role":"proxy","domain":"shop.example","validity_days":30,"sans":["proxy.example","10.0.0.1"]}`)
	cert, err := tls.X509KeyPair([]byte(a.str("certificate")), []byte(a.str("private_key")))
	s.must(err)
	if a.Header.Get("Cache-Control") != "no-store" || !slices.Contains(cert.Leaf.DNSNames, "proxy.example") || cert.Leaf.Subject.OrganizationalUnit[0] != "shop.example" ||
		cert.Leaf.NotAfter.After(time.Now().AddDate(0, 0, 31)) || a.str("ca_certificate") == "" || a.str("role") != "proxy" {
		t.Errorf("%s", a.body)
	}
	if k := s.ask(s.with(&cert), "GET", "/api/v1/internal/keys", ""); k.StatusCode != 200 {
		t.Errorf("the certificate is refused: %d %s", k.StatusCode, k.body)
	}
	shown := s.want(200, "GET", "/api/v1/certificates/"+a.str("fingerprint"), "")
	if shown.str("status") != "active" || shown.str("domain") != "shop.example" || strings.Contains(shown.body, "PRIVATE") {
		t.Errorf("%s", shown.body)
	}
	c, err := s.store.Client(t.Context(), "proxy-2")
	if err != nil || c.Fingerprint != a.str("fingerprint") || c.Domain != "shop.example" || c.Status != records.Active {
		t.Errorf("%+v, error %v", c, err)
	}
	renewed := s.want(201, "POST", "/api/v1/certificates/"+a.str("fingerprint")+"/renew", `{"revoke_old":true}`)
	next, err := tls.X509KeyPair([]byte(renewed.str("certificate")), []byte(renewed.str("private_key")))
	s.must(err)
	if !slices.Contains(next.Leaf.DNSNames, "proxy.example") || renewed.str("domain") != "shop.example" || renewed.str("role") != "proxy" {
		t.Errorf("the successor is another: %s", renewed.body)
	}
	if k := s.ask(s.with(&cert), "GET", "/api/v1/internal/keys", ""); k.StatusCode != 403 {
		t.Errorf("the old certificate after its renewal: %d", k.StatusCode)
	}
	if k := s.ask(s.with(&next), "GET", "/api/v1/internal/keys", ""); k.StatusCode != 200 {
		t.Errorf("the new certificate: %d %s", k.StatusCode, k.body)
	}
}

func TestSigningRequests(t *testing.T) {
	s := newServer(t, nil)
	key, err := ca.GenerateKey(ca.ECDSA)
	s.must(err)
	csr, err := ca.NewCSR("acme-01", key)
	s.must(err)
	a := s.want(201, "POST", "/api/v1/certificates", toJSON(map[string]any{"client_id": "acme-01", "csr": string(csr)}))
	if a.str("private_key") != "" || a.str("certificate") == "" {
		t.Errorf("%s", a.body)
	}
	s.want(422, "POST", "/api/v1/certificates", toJSON(map[string]any{"client_id": "acme-02", "csr": string(csr)}))
	s.want(422, "POST", "/api/v1/certificates", toJSON(map[string]any{"client_id": "acme-02", "csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"}))
	s.want(200, "POST", "/api/v1/clients/acme-01/revoke", `{}`)
	s.want(409, "POST", "/api/v1/certificates", toJSON(map[string]any{"client_id": "acme-01", "csr": string(csr)})) // a key that may be stolen
}

func TestIssuingIsRefused(t *testing.T) {
	s := newServer(t, nil)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	for _, tc := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"client_id":"acme-01"}`, 409, "replace"},
		{`{"client_id":"admin-3"}`, 422, "role"},
		{`{"client_id":"proxy"}`, 422, "role"},
		{`{"client_id":"x","role":"emperor"}`, 422, "role"},
		{`{"client_id":"x","sans":["host.example"]}`, 422, "sans"},
		{`{"client_id":"x","role":"proxy","sans":["-bad-"]}`, 422, "sans"},
		{`{"client_id":"x","validity_days":0}`, 422, "validity_days"},
		{`{"client_id":"x","validity_days":3651}`, 422, "validity_days"},
		{`{"client_id":"x","domain":"` + strings.Repeat("d", 65) + `"}`, 422, "domain"},
		{`{"client_id":"trailing "}`, 422, "client_id"},
		{`{"client_id":"../../etc"}`, 422, "client_id"},
		{`{"client_id":"a","client_id":"b"}`, 422, "twice"},
		{`{}`, 422, "client_id"},
		{`null`, 422, ""},
	} {
		if a := s.want(tc.status, "POST", "/api/v1/certificates", tc.body); !strings.Contains(a.body, tc.says) {
			t.Errorf("%s: %s", tc.body, a.body)
		}
	}
	for body, fields := range map[string][]string{
		`{"client_id":"proxy","sans":["host.example"],"csr":"x"}`: {"role", "sans", "csr"},
		`{"client_id":"../etc","validity_days":0,"domain":" "}`:   {"client_id", "validity_days", "domain"},
	} {
		a := s.want(422, "POST", "/api/v1/certificates", body)
		for _, f := range fields {
			if !strings.Contains(a.body, `["body","`+f+`"]`) {
				t.Errorf("%s does not name %s: %s", body, f, a.body)
			}
		}
	}
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"ACME-01"}`) // another name
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","replace":true}`)

	// The domain of a client's messages may be one that no certificate can have.
	s.register("acme-02", "m-1")
	s.want(200, "PATCH", "/api/v1/clients/acme-02", `{"domain":"`+strings.Repeat("d", 65)+`"}`)
	if a := s.want(422, "POST", "/api/v1/certificates", `{"client_id":"acme-02"}`); !strings.Contains(a.body, `"domain"`) {
		t.Errorf("%s", a.body)
	}
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-02","domain":"shop.example"}`)
}

// TestRevokedClientIsLetInAgain: the new certificate works, the old one stays revoked, and
// messages of the client are taken again.
func TestRevokedClientIsLetInAgain(t *testing.T) {
	s := newServer(t, nil)
	old := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"worker-2","role":"worker","domain":"shop"}`)
	s.want(200, "POST", "/api/v1/clients/worker-2/revoke", `{"reason":"lost"}`)
	if c, err := s.store.Client(t.Context(), "worker-2"); err != nil || c.Status != records.Revoked || c.Reason != "lost" {
		t.Errorf("%+v, error %v", c, err)
	}
	s.want(409, "POST", "/api/v1/clients/worker-2/revoke", `{}`)
	s.want(404, "POST", "/api/v1/clients/WORKER-2/revoke", `{}`)
	again := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"worker-2","role":"worker"}`)
	for _, tc := range []struct {
		a      answer
		status int
	}{{old, 403}, {again, 200}} {
		cert, err := tls.X509KeyPair([]byte(tc.a.str("certificate")), []byte(tc.a.str("private_key")))
		s.must(err)
		if k := s.ask(s.with(&cert), "GET", "/api/v1/internal/keys", ""); k.StatusCode != tc.status {
			t.Errorf("%d, want %d: %s", k.StatusCode, tc.status, k.body)
		}
	}
	c, err := s.store.Client(t.Context(), "worker-2")
	if err != nil || c.Status != records.Active || c.Domain != "shop" || !c.RevokedAt.IsZero() {
		t.Errorf("%+v, error %v", c, err)
	}
}

// TestWithoutTheKey: only issuing is refused.
func TestWithoutTheKey(t *testing.T) {
	s := newServer(t, func(s *server, c *mainserver.HandlerConfig) {
		_, err := s.authority.Issue(ca.Request{Name: "acme-01"})
		s.must(err)
		s.issue("early", sealmq.RoleClient)
		for _, role := range []sealmq.Role{sealmq.RoleAdmin, sealmq.RoleProxy, ""} {
			s.as(role)
		}
		key := s.authority.Paths().IntermediateKey
		s.must(os.Rename(key, key+".away"))
		c.Authority, err = ca.Open(s.dir, ca.Options{KeyElsewhere: true})
		s.must(err)
	})
	if a := s.want(503, "POST", "/api/v1/certificates", `{"client_id":"acme-02"}`); !strings.Contains(a.body, "key") {
		t.Errorf("%s", a.body)
	}
	if list := s.want(200, "GET", "/api/v1/certificates?client_id=acme-01", ""); len(list.items()) != 1 {
		t.Errorf("%s", list.body)
	}
	s.want(200, "POST", "/api/v1/clients/acme-01/revoke", `{}`)
	s.want(200, "GET", "/api/v1/ca.crt", "")
	s.register("acme-02", "m-1")
	if a := s.want(200, "GET", "/health", ""); a.str("status") != "degraded" {
		t.Errorf("%s", a.body)
	}
}

// TestNoCopyOfRevocations: health says it if a backup that is restored could take revocations back.
func TestNoCopyOfRevocations(t *testing.T) {
	s := newServer(t, nil)
	s.issue("acme-01", sealmq.RoleClient)
	s.want(200, "POST", "/api/v1/clients/acme-01/revoke", `{}`)
	copies, err := filepath.Glob(s.dir + ".revocations-*")
	if err != nil || len(copies) != 1 {
		t.Fatal(copies, err)
	}
	s.must(os.Remove(copies[0]))
	if a := s.want(200, "GET", "/health", ""); a.str("status") != "degraded" || !strings.Contains(a.body, mainserver.TextNoCopy) {
		t.Errorf("%s", a.body)
	}
}

func TestVerifyCertificate(t *testing.T) {
	s := newServer(t, nil)
	verify := func(text string) map[string]any {
		t.Helper()
		return s.want(200, "POST", "/api/v1/certificates/verify", toJSON(map[string]string{"certificate": text})).m
	}
	good := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	soon := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-02","validity_days":3}`)
	other, err := ca.Setup(t.TempDir(), nil, ca.Options{})
	s.must(err)
	foreign, err := other.Authority.Issue(ca.Request{Name: "acme-01"})
	s.must(err)
	if m := verify(good.str("certificate")); m["valid"] != true || m["expires_soon"] != false || m["fingerprint"] != good.str("fingerprint") {
		t.Errorf("good: %v", m)
	}
	if m := verify(soon.str("certificate")); m["valid"] != true || m["expires_soon"] != true {
		t.Errorf("soon: %v", m)
	}
	if m := verify(string(foreign.CertPEM)); m["valid"] != false || m["signature_valid"] != false || m["revoked"] != false {
		t.Errorf("foreign: %v", m)
	}
	if m := verify(good.str("ca_certificate")); m["valid"] != false || m["key_usage_ok"] != false {
		t.Errorf("an authority: %v", m)
	}
	s.want(200, "POST", "/api/v1/certificates/"+good.str("fingerprint")+"/revoke", `{}`)
	if m := verify(good.str("certificate")); m["valid"] != false || m["revoked"] != true || m["signature_valid"] != true {
		t.Errorf("revoked: %v", m)
	}
	s.want(422, "POST", "/api/v1/certificates/verify", `{"certificate":"<script>"}`)
	expiring := s.want(200, "GET", "/api/v1/certificates/expiring?days=3", "")
	if list := expiring.items(); len(list) != 1 || list[0]["client_id"] != "acme-02" {
		t.Errorf("%s", expiring.body)
	}
}

// TestForeignClientIsRevokedElsewhere: no entry of ours would hit its certificates.
func TestForeignClientIsRevokedElsewhere(t *testing.T) {
	s := newServer(t, nil)
	name := pipeline.ForeignClient("acme-01", mtls.Issuer(testca.New(t).Root()))
	s.register(name, "m-1")
	if a := s.want(409, "POST", "/api/v1/clients/"+name+"/revoke", `{}`); !strings.Contains(a.body, "another authority") {
		t.Errorf("%s", a.body)
	}
	if s.revoked.Len() != 0 {
		t.Error("something was revoked")
	}
}

func TestRevocationListsAndFeed(t *testing.T) {
	s := newServer(t, nil)
	a := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.want(200, "GET", "/api/v1/crl", "") // later ones must not be answered with this one
	before := s.ask(s.as(sealmq.RoleProxy), "GET", "/api/v1/internal/revocations?since=0", "")
	version := toJSON(before.m["version"])
	changed := make(chan answer, 1)
	proxy := s.as(sealmq.RoleProxy)
	go func() { changed <- s.ask(proxy, "GET", "/api/v1/internal/revocations?wait=30&since="+version, "") }()
	s.want(200, "POST", "/api/v1/certificates/"+a.str("fingerprint")+"/revoke", `{"reason":"keyCompromise"}`)
	got := <-changed
	if got.StatusCode != 200 || !strings.Contains(got.body, a.str("fingerprint")) || toJSON(got.m["version"]) == version {
		t.Errorf("%s", got.body)
	}
	if f := s.ask(proxy, "GET", "/api/v1/internal/revocations?since="+toJSON(got.m["version"]), ""); !strings.Contains(f.body, `"entries":[]`) {
		t.Errorf("%s", f.body)
	}
	for _, bad := range []string{"since=-1", "since=x", "wait=31", "since=99999999999999999999"} {
		if f := s.ask(proxy, "GET", "/api/v1/internal/revocations?"+bad, ""); f.StatusCode != 422 {
			t.Errorf("%s: %d", bad, f.StatusCode)
		}
	}
	for _, path := range []string{"/api/v1/crl", "/api/v1/ca.crt"} {
		block, _ := pem.Decode([]byte(s.ask(s.as(""), "GET", path, "").body))
		if block == nil {
			t.Errorf("%s: no PEM", path)
		}
	}
	der := s.ask(s.as(""), "GET", "/api/v1/crl", "", "Accept", "application/pkix-crl")
	list, err := x509.ParseRevocationList([]byte(der.body))
	if err != nil || len(list.RevokedCertificateEntries) != 1 || der.Header.Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("%v %v", err, der.Header)
	}
}

// TestPagesOfCertificates: pages have all, once, and in order.
func TestPagesOfCertificates(t *testing.T) {
	s := newServer(t, nil)
	for _, name := range []string{"c-1", "c-2", "c-3", "c-4", "c-5"} {
		s.issue(name, sealmq.RoleClient)
	}
	seen, cursor := make(map[string]bool), ""
	for range 20 {
		page := s.want(200, "GET", "/api/v1/certificates?limit=2&status=active&cursor="+cursor, "")
		for _, c := range page.items() {
			fp, _ := c["fingerprint"].(string)
			if seen[fp] {
				t.Errorf("%s comes twice", fp)
			}
			seen[fp] = true
		}
		if cursor = page.str("next_cursor"); cursor == "" {
			break
		}
	}
	if history, err := s.authority.History(); err != nil || len(seen) != len(history) {
		t.Errorf("%d of %d, error %v", len(seen), len(history), err)
	}
	s.want(422, "GET", "/api/v1/certificates?cursor=!!!", "")
}

// TestOtherRolesWantAConfirmation: an account gives the password before it issues or renews a
// certificate of a role other than client. A certificate of an administrator needs none.
func TestOtherRolesWantAConfirmation(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	c := anna.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	proxy := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"proxy-2","role":"proxy"}`)
	renewClient, renewProxy := "/api/v1/certificates/"+c.str("fingerprint")+"/renew", "/api/v1/certificates/"+proxy.str("fingerprint")+"/renew"
	for _, guarded := range []struct{ path, body string }{
		{"/api/v1/certificates", `{"client_id":"worker-2","role":"worker"}`},
		{"/api/v1/certificates", `{"client_id":"admin-2","role":"admin"}`},
		{renewProxy, `{}`},
	} {
		if a := anna.want(403, "POST", guarded.path, guarded.body); a.str("code") != "confirmation_required" {
			t.Errorf("%s", a.body)
		}
	}
	anna.want(422, "POST", "/api/v1/certificates", `{"client_id":"worker-2","role":"emperor"}`)
	anna.want(201, "POST", renewClient, `{}`)
	anna.want(204, "POST", "/api/v1/sessions/current/confirm", `{"password":"`+goodPassword+`"}`)
	anna.want(201, "POST", renewProxy, `{}`)
	issued := anna.want(201, "POST", "/api/v1/certificates", `{"client_id":"worker-2","role":"worker"}`)
	if a := s.want(200, "GET", "/api/v1/certificates/"+issued.str("fingerprint"), ""); a.str("issued_by") != "anna@example.com" {
		t.Errorf("%s", a.body)
	}
	s.pass(6 * time.Minute)
	anna.want(403, "POST", "/api/v1/certificates", `{"client_id":"worker-3","role":"worker"}`)
	for path, body := range map[string]string{"/api/v1/certificates": `{"client_id":"acme-02"}`, renewClient: `{}`, "/api/v1/clients/acme-01/revoke": `{}`} {
		s.account(accounts.Operator, "").want(403, "POST", path, body)
	}
}
