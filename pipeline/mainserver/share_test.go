package mainserver_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// copyAuthority is what another main server has after the data folder was copied to it.
func (s *server) copyAuthority() (*ca.Authority, *trust.RevocationList) {
	s.Helper()
	folder := filepath.Join(s.TempDir(), "copy")
	s.must(os.CopyFS(folder, os.DirFS(s.authority.Paths().Dir)))
	s.must(os.Chmod(filepath.Join(folder, "ca"), 0o700))
	for _, file := range []string{"root.key", "intermediate.key", "LOCK"} {
		if err := os.Chmod(filepath.Join(folder, "ca", file), 0o600); err != nil && !os.IsNotExist(err) {
			s.Fatal(err)
		}
	}
	other, err := ca.Open(folder, ca.Options{})
	s.must(err)
	list, err := other.Revocations(true, nil)
	s.must(err)
	return other, list
}

// TestSharing: two main servers of one database, with copies of one authority, take over what the
// other has revoked and let in again, and do not undo it in the database.
func TestSharing(t *testing.T) {
	s := newServer(t, nil)
	s.issue("acme-01", sealmq.RoleClient)
	s.register("acme-01", "m-1")
	_, err := s.authority.Revoke(ca.Revocation{Name: "before"})
	s.must(err)
	other, otherList := s.copyAuthority()
	here, there := mainserver.NewSharing(s.store, s.authority, s.revoked), mainserver.NewSharing(s.store, other, otherList)
	_, err = there.Sync(t.Context()) // it stores what it has
	s.must(err)

	both := func(what string, from *mainserver.Sharing, to *mainserver.Sharing, want int) {
		t.Helper()
		s.revoked.Refresh()
		otherList.Refresh()
		if n, err := from.Sync(t.Context()); err != nil || n != 0 {
			t.Errorf("%s: who did it takes over %d, error %v", what, n, err)
		}
		if n, err := to.Sync(t.Context()); err != nil || n != want {
			t.Errorf("%s: the other takes over %d, want %d, error %v", what, n, want, err)
		}
		for range 2 {
			for _, share := range []*mainserver.Sharing{from, to} {
				if n, err := share.Sync(t.Context()); err != nil || n != 0 {
					t.Errorf("%s: again it takes over %d, error %v", what, n, err)
				}
			}
		}
	}
	state := func(what string, revoked bool) {
		t.Helper()
		for name, list := range map[string]*trust.RevocationList{"here": s.revoked, "there": otherList} {
			authority := s.authority
			if name == "there" {
				authority = other
			}
			if list.RevokesName("acme-01") != revoked {
				t.Errorf("%s: %s: acme-01 is revoked: %v", what, name, !revoked)
			}
			if _, err := mainserver.SyncClients(t.Context(), s.store, authority, list); err != nil {
				t.Error(err)
			}
			c, err := s.store.Client(t.Context(), "acme-01")
			if err != nil || (c.Status == records.Revoked) != revoked {
				t.Errorf("%s: %s: the database says %+v, error %v", what, name, c.Status, err)
			}
		}
	}
	both("at first", here, there, 0)
	_, err = s.authority.Revoke(ca.Revocation{Name: "acme-01", Reason: "lost"})
	s.must(err)
	both("revoked here", here, there, 2) // its certificate and its name
	state("revoked here", true)
	_, err = other.Issue(ca.Request{Name: "acme-01"})
	s.must(err)
	both("let in there", there, here, 1)
	state("let in there", false)
	_, err = other.Revoke(ca.Revocation{Name: "acme-01"})
	s.must(err)
	both("revoked there", there, here, 2)
	state("revoked there", true)

	// Run does it by itself.
	go here.Run(t.Context(), slog.New(slog.DiscardHandler))
	go there.Run(t.Context(), slog.New(slog.DiscardHandler))
	done := make(chan struct{}, 1)
	defer otherList.OnChange(func() {
		if otherList.RevokesName("later") {
			select {
			case done <- struct{}{}:
			default:
			}
		}
	})()
	_, err = s.authority.Revoke(ca.Revocation{Name: "later"})
	s.must(err)
	s.revoked.Refresh()
	began := time.Now()
	select {
	case <-done:
		t.Logf("after %v", time.Since(began))
	case <-time.After(time.Minute):
		t.Error("the other main server never heard of it")
	}
}

// TestSharedRecord: what one main server of a database has issued is on record at the other, which
// lists, renews and revokes it; also what is older than both, and after a backup was restored.
func TestSharedRecord(t *testing.T) {
	var here *mainserver.Sharing
	s := newServer(t, func(s *server, cfg *mainserver.HandlerConfig) {
		here = mainserver.NewSharing(s.store, s.authority, s.revoked)
		cfg.Sharing = here
	})
	s.issue("before", sealmq.RoleClient)
	backup, err := os.ReadFile(s.authority.Paths().Issued)
	s.must(err)
	other, otherList := s.copyAuthority()
	there := mainserver.NewSharing(s.store, other, otherList)
	sync := func(list ...*mainserver.Sharing) {
		t.Helper()
		for _, share := range list {
			if _, err := share.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	same := func(what string, names ...string) {
		t.Helper()
		for where, authority := range map[string]*ca.Authority{"here": s.authority, "there": other} {
			history, err := authority.History()
			s.must(err)
			got := make(map[string]int)
			for _, c := range history {
				got[c.Name]++
			}
			for _, name := range names {
				if got[name] != 1 {
					t.Errorf("%s: %s: %d certificates of %s are on record", what, where, got[name], name)
				}
			}
		}
	}
	sync(here, there, here)
	same("at first", "before", ca.ServerName)

	// One that was issued there a moment ago is found here before anybody has synced.
	c, err := other.Issue(ca.Request{Name: "acme-01"})
	s.must(err)
	sync(there)
	path := "/api/v1/certificates/" + mtls.Fingerprint(c.Leaf)
	if a := s.want(http.StatusOK, "GET", path, ""); a.str("client_id") != "acme-01" || a.str("status") != "active" {
		t.Errorf("%s", a.body)
	}
	if list := s.want(http.StatusOK, "GET", "/api/v1/certificates?client_id=acme-01", "").items(); len(list) != 1 {
		t.Errorf("%v", list)
	}
	same("issued there", "before", "acme-01")
	s.want(http.StatusOK, "POST", path+"/revoke", `{"reason":"lost"}`)
	sync(here, there)
	history, err := other.HistoryOf("acme-01")
	s.must(err)
	if status, _ := other.StatusOf(history[0], otherList); status != ca.Revoked {
		t.Errorf("revoked here, it is %s there", status)
	}

	// An older record, from a backup, gets back what it lacks.
	paths := s.authority.Paths()
	s.must(os.WriteFile(paths.Issued, backup, 0o600))
	s.must(os.Remove(strings.TrimSuffix(paths.Issued, filepath.Ext(paths.Issued)) + ".count"))
	sync(here, here)
	same("after a restore", "before", "acme-01")
}
