package mainserver_test

import (
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
