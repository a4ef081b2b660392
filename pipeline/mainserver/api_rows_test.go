package mainserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline/records"
)

// TestRevocationDoesNotWaitForTheDatabase: an act whose write hangs does not keep a revocation
// waiting, and the rows say revoked although the earlier act writes last.
func TestRevocationDoesNotWaitForTheDatabase(t *testing.T) {
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/api/v1/certificates", `{"client_id":"acme-01","replace":true}`, 201},
		{"POST", "/api/v1/certificates/FINGERPRINT/renew", `{}`, 201},
		{"PATCH", "/api/v1/clients/acme-01", `{"domain":"shop.example"}`, 200},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			s := newServer(t, nil)
			first := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
			path := strings.Replace(tc.path, "FINGERPRINT", first.str("fingerprint"), 1)
			reached, released := make(chan struct{}), make(chan struct{})
			s.writes.onNext(func() { close(reached); <-released })
			act, revoked := make(chan answer, 1), make(chan answer, 1)
			admin := s.as(sealmq.RoleAdmin)
			go func() { act <- s.ask(admin, tc.method, path, tc.body) }()
			<-reached
			go func() { revoked <- s.ask(admin, "POST", "/api/v1/clients/acme-01/revoke", `{"reason":"lost"}`) }()
			select {
			case a := <-revoked:
				if a.StatusCode != 200 || !s.revoked.RevokesName("acme-01") {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
				close(released)
			case <-time.After(time.Minute):
				t.Error("the revocation waits for the database")
				close(released)
				<-revoked
			}
			if a := <-act; a.StatusCode != tc.status {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			s.row("acme-01", records.Revoked, "revoked")
		})
	}
}

// TestLetInAgainWhileRevoking: a name that is let in again before its revocation is in the
// database ends up active there.
func TestLetInAgainWhileRevoking(t *testing.T) {
	s := newServer(t, nil)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.writes.onNext(func() {
		s.issue("acme-01", sealmq.RoleClient)
		s.revoked.Refresh()
	})
	s.want(200, "POST", "/api/v1/clients/acme-01/revoke", `{}`)
	history, err := s.authority.HistoryOf("acme-01")
	s.must(err)
	c, err := s.store.Client(t.Context(), "acme-01")
	if err != nil || c.Status != records.Active || len(history) != 2 || c.Fingerprint != history[1].Fingerprint {
		t.Errorf("%+v, error %v", c, err)
	}
}

// TestRowsOfACallerWhoHasGone: the rows are written although the administrator disconnects right
// after the act.
func TestRowsOfACallerWhoHasGone(t *testing.T) {
	s := newServer(t, nil)
	cert := s.issue("admin-test", sealmq.RoleAdmin)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(s.authority.Root())
	for _, der := range cert.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		s.must(err)
		between.AddCert(c)
	}
	chains, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	s.must(err)
	ask := func(path, body string, want int) {
		t.Helper()
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		s.writes.onNext(leave)
		r := httptest.NewRequestWithContext(ctx, "POST", path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: chains[0], VerifiedChains: chains}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != want || ctx.Err() == nil {
			t.Errorf("%s: %d %s; gone: %v", path, w.Code, w.Body, ctx.Err() != nil)
		}
	}
	ask("/api/v1/certificates", `{"client_id":"acme-01"}`, 201)
	s.row("acme-01", records.Active, "active")
	ask("/api/v1/clients/acme-01/revoke", `{}`, 200)
	s.row("acme-01", records.Revoked, "revoked")
}

// row checks a client's row, and that of the certificate that it got last.
func (s *server) row(name string, client records.ClientStatus, certificate string) {
	s.Helper()
	history, err := s.authority.HistoryOf(name)
	s.must(err)
	fingerprint := history[len(history)-1].Fingerprint
	c, err := s.store.Client(s.Context(), name)
	if err != nil || c.Status != client || c.Fingerprint != fingerprint || (client == records.Revoked) == c.RevokedAt.IsZero() {
		s.Errorf("the client is %+v, error %v; want %s", c, err, client)
	}
	list, err := s.store.Certificates(s.Context(), name, 0, 10)
	if err != nil || len(list) == 0 || list[0].Fingerprint != fingerprint || list[0].Status != certificate {
		s.Errorf("the certificates are %+v, error %v; want %s", list, err, certificate)
	}
}

// TestRevokedByFingerprint: a client stays active when one of its certificates is revoked.
func TestRevokedByFingerprint(t *testing.T) {
	s := newServer(t, nil)
	old := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","replace":true}`)
	s.want(200, "POST", "/revoke_cert", toJSON(map[string]string{"client_id": "acme-01", "fingerprint": old.str("fingerprint")}))
	s.row("acme-01", records.Active, "active")
}
