package mainserver_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

// TestSyncClients: what commands do to a name reaches the database.
func TestSyncClients(t *testing.T) {
	s := newServer(t, nil)
	s.issue("acme-01", sealmq.RoleClient)
	s.register("acme-01", "m-1")
	s.register("acme-02", "m-1")
	sync := func(want int, status records.ClientStatus) {
		t.Helper()
		s.revoked.Refresh()
		n, err := mainserver.SyncClients(t.Context(), s.store, s.authority, s.revoked)
		if err != nil || n != want {
			t.Errorf("%d clients were changed, want %d; error %v", n, want, err)
		}
		c, err := s.store.Client(t.Context(), "acme-01")
		if err != nil || c.Status != status || (status == records.Revoked) == c.RevokedAt.IsZero() {
			t.Errorf("%+v, error %v", c, err)
		}
	}
	sync(1, records.Active) // it has heard of the certificate
	_, err := s.authority.Revoke(ca.Revocation{Name: "acme-01"})
	s.must(err)
	sync(1, records.Revoked)
	sync(0, records.Revoked)
	s.issue("acme-01", sealmq.RoleClient)
	sync(1, records.Active)
	sync(0, records.Active)
}

// TestStateOfClients: one whose certificates are all revoked or expired is not active, however
// they were revoked, and is found under what is shown.
func TestStateOfClients(t *testing.T) {
	s := newServer(t, nil)
	shown := func(want string) {
		t.Helper()
		if got := s.want(200, "GET", "/api/v1/clients/acme-01", "").str("status"); got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
		for _, state := range []string{"active", "revoked", "expired"} {
			if n := len(s.want(200, "GET", "/api/v1/clients?status="+state, "").items()); (n == 1) != (state == want) {
				t.Errorf("%d are found as %s", n, state)
			}
		}
	}
	first := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","validity_days":30}`).str("fingerprint")
	second := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","validity_days":10,"replace":true}`).str("fingerprint")
	shown("active")
	s.want(200, "POST", "/api/v1/certificates/"+second+"/revoke", `{}`)
	shown("active")
	_, err := s.authority.Revoke(ca.Revocation{Name: "acme-01", Fingerprint: first}) // by a command
	s.must(err)
	s.revoked.Refresh()
	_, err = mainserver.SyncClients(t.Context(), s.store, s.authority, s.revoked)
	s.must(err)
	shown("revoked")
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","validity_days":30}`)
	shown("active")
	s.pass(31 * 24 * time.Hour)
	shown("expired")
}

// TestSyncClientsWithoutCertificates: a client with an API key, or of a reverse proxy, may send
// again once the line that revoked its name is gone, and so may one whose certificate has expired.
func TestSyncClientsWithoutCertificates(t *testing.T) {
	s := newServer(t, nil)
	s.register("meter-1", "m-1")
	file := s.authority.Paths().Revoked
	s.must(os.MkdirAll(filepath.Dir(file), 0o700))
	for _, tc := range []struct {
		list   string
		status records.ClientStatus
	}{{"meter-1\n", records.Revoked}, {"# nobody\n", records.Active}} {
		s.must(os.WriteFile(file, []byte(tc.list), 0o600))
		s.revoked.Refresh()
		_, err := mainserver.SyncClients(t.Context(), s.store, s.authority, s.revoked)
		c, errClient := s.store.Client(t.Context(), "meter-1")
		if err != nil || errClient != nil || c.Status != tc.status || (tc.status == records.Revoked) == c.RevokedAt.IsZero() {
			t.Errorf("%s: %+v, errors %v, %v", tc.list, c, err, errClient)
		}
	}
	s.register("meter-1", "m-2")
}

// TestSyncCertificates: what the API did while the database was away reaches it later.
func TestSyncCertificates(t *testing.T) {
	var service *mainserver.Service
	s := newServer(t, func(_ *server, c *mainserver.HandlerConfig) { service = c.Service })
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-03"}`)
	s.issue("by-command", sealmq.RoleClient)
	for _, name := range []string{"acme-02", "acme-04"} {
		_, err := s.authority.Issue(ca.Request{Name: name, Source: ca.SourceAPI, Domain: "shop"})
		s.must(err)
	}
	for name, source := range map[string]ca.Source{"enrolled": ca.SourceToken, "renewed": ca.SourceRenewal, "signed": ca.SourceCSR} {
		_, err := s.authority.Issue(ca.Request{Name: name, Source: source})
		s.must(err)
	}
	for _, name := range []string{"acme-03", "acme-04"} {
		_, err := s.authority.Revoke(ca.Revocation{Name: name, Reason: "lost"})
		s.must(err)
	}
	s.revoked.Refresh()
	for _, want := range []int{5, 0} {
		if n, err := mainserver.SyncCertificates(t.Context(), s.store, s.authority, s.revoked); err != nil || n != want {
			t.Errorf("%d rows were changed, want %d; error %v", n, want, err)
		}
	}
	list, err := s.store.Certificates(t.Context(), "", 0, 10)
	s.must(err)
	got := make(map[string]string)
	for _, c := range list {
		got[c.Client] = c.Status
	}
	if want := map[string]string{"acme-01": "active", "acme-02": "active", "acme-03": "revoked", "acme-04": "revoked", "enrolled": "active", "renewed": "active"}; !maps.Equal(got, want) {
		t.Errorf("the rows are %v, want %v", got, want)
	}
	for _, name := range []string{"enrolled", "renewed"} {
		if c, err := s.store.Client(t.Context(), name); err != nil || c.Status != records.Active {
			t.Errorf("%+v, error %v", c, err)
		}
	}
	if c, err := s.store.Client(t.Context(), "acme-04"); err != nil || c.Status != records.Revoked || c.Domain != "shop" {
		t.Errorf("%+v, error %v", c, err)
	}

	s.as(sealmq.RoleAdmin)
	s.must(s.store.Close())
	s.want(200, "POST", "/api/v1/clients/acme-01/revoke", `{"reason":"lost"}`)
	select {
	case <-service.RowsMissing():
	default:
		t.Error("nobody is told that the database does not know of a revocation")
	}
}
