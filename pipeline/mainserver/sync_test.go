package mainserver_test

import (
	"os"
	"path/filepath"
	"testing"

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
	sync(0, records.Active)
	_, err := s.authority.Revoke(ca.Revocation{Name: "acme-01"})
	s.must(err)
	sync(1, records.Revoked)
	sync(0, records.Revoked)
	s.issue("acme-01", sealmq.RoleClient)
	sync(1, records.Active)
	sync(0, records.Active)
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
