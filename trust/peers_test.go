package trust_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// TestPeersOfARemovedRoot: who comes from an authority that is not accepted any more is
// refused, and those who want to know of changes hear of it.
func TestPeersOfARemovedRoot(t *testing.T) {
	ours, theirs := testca.New(t), testca.New(t)
	chain := func(c *testca.CA) []*x509.Certificate { return []*x509.Certificate{c.Leaf("alice", "").Leaf, c.Root()} }
	file := filepath.Join(t.TempDir(), "ca.crt")
	accept := func(list ...*testca.CA) {
		t.Helper()
		var text []byte
		for _, c := range list {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Root().Raw})...)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	accept(ours, theirs)
	list, err := trust.OpenRevocations(trust.ListConfig{Roots: file})
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	defer list.OnChange(func() { changes++ })()
	peers, a, b := list.Peers(), chain(ours), chain(theirs)
	if err := errors.Join(peers.Check(a), peers.Check(b)); err != nil {
		t.Fatal(err)
	}
	accept(ours)
	list.Refresh()
	if peers.Check(a) != nil || peers.Check(b) == nil || errors.Is(peers.Check(b), mtls.ErrRevoked) || changes != 1 {
		t.Errorf("ours %v, theirs %v, %d changes", peers.Check(a), peers.Check(b), changes)
	}
	if list.Check(b) != nil {
		t.Error("the list itself revokes it, as if it were stolen")
	}
	if err := os.WriteFile(file, []byte("half of a certifi"), 0o600); err != nil {
		t.Fatal(err)
	}
	list.Refresh()
	if peers.Check(a) != nil || peers.Check(b) == nil || len(list.Problems()) != 1 || changes != 1 {
		t.Errorf("with a damaged file: ours %v, theirs %v, problems %q", peers.Check(a), peers.Check(b), list.Problems())
	}
	accept(ours, theirs)
	list.Refresh()
	if peers.Check(b) != nil || len(list.Problems()) != 0 || changes != 2 {
		t.Errorf("accepted again: %v, problems %q", peers.Check(b), list.Problems())
	}
	if _, err := trust.OpenRevocations(trust.ListConfig{Roots: file + ".missing"}); err == nil {
		t.Error("a missing file accepts everybody")
	}
}

// TestPeersOfAStaleFeed: a list that cannot be refreshed for too long lets nobody in, also
// after a restart, and again when it is fresh.
func TestPeersOfAStaleFeed(t *testing.T) {
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	file := filepath.Join(t.TempDir(), "feed.json")
	open := func() *trust.RevocationList {
		t.Helper()
		l, err := trust.OpenRevocations(trust.ListConfig{FeedFile: file, StaleClose: 7 * 24 * time.Hour, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	ca := testca.New(t)
	alice := []*x509.Certificate{ca.Leaf("alice", "").Leaf, ca.Root()}
	list := open()
	changes := 0
	defer list.OnChange(func() { changes++ })()
	feed := trust.Feed{Version: 3, Full: true, Entries: []trust.Entry{{Version: 3, Scope: trust.ScopeName, Name: "bob"}}}
	if _, err := list.Apply(feed); err != nil {
		t.Fatal(err)
	}
	at := func(age time.Duration, closed bool, lists ...*trust.RevocationList) {
		t.Helper()
		for _, l := range lists {
			if err := l.Peers().Check(alice); errors.Is(err, mtls.ErrStale) != closed || (err != nil) != closed || l.Check(alice) != nil || l.Age() != age {
				t.Errorf("after %v: %v, itself %v, age %v", age, err, l.Check(alice), l.Age())
			}
		}
	}
	now = now.Add(7*24*time.Hour - time.Second)
	at(7*24*time.Hour-time.Second, false, list, open())
	now = now.Add(time.Second)
	list.Refresh()
	at(7*24*time.Hour, true, list, open())
	if before := changes; before != 2 {
		t.Errorf("%d changes: open connections stay", before)
	}
	if _, err := list.Apply(trust.Feed{Version: 3, Since: 3, Entries: []trust.Entry{}}); err != nil {
		t.Fatal(err)
	}
	at(0, false, list, open())
	if changes != 3 {
		t.Errorf("%d changes", changes)
	}
	// A clock that was wrong does not keep a list fresh.
	now = now.Add(-24 * time.Hour)
	again := open()
	now = now.Add(7 * 24 * time.Hour)
	at(7*24*time.Hour, true, again)
}

// TestOwnAuthorityChangesWhileRunning: an administrator of an authority that was added is one at
// once, and of one that was removed no more, also if the file keeps its time and size.
func TestOwnAuthorityChangesWhileRunning(t *testing.T) {
	first, second := testca.New(t), testca.New(t)
	file := filepath.Join(t.TempDir(), "root.crt")
	const size = 4096
	past := time.Now().Add(-time.Hour)
	replace := func(text []byte) {
		t.Helper()
		text = append(text, bytes.Repeat([]byte("\n"), size-len(text))...)
		if err := errors.Join(os.WriteFile(file+".new", text, 0o600), os.Chtimes(file+".new", past, past), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := trust.OpenRevocations(trust.ListConfig{OwnRoots: file})
	if err != nil {
		t.Fatal(err)
	}
	changes := 0
	defer list.OnChange(func() { changes++ })()
	identifier := list.Identifier()
	for i, step := range []struct {
		roots         []byte // nil leaves the file as it is
		first, second sealmq.Role
		problems      int
	}{
		{nil, sealmq.RoleClient, sealmq.RoleClient, 0},
		{first.RootPEM(), sealmq.RoleAdmin, sealmq.RoleClient, 0},
		{append(first.RootPEM(), second.RootPEM()...), sealmq.RoleAdmin, sealmq.RoleAdmin, 0},
		{second.RootPEM(), sealmq.RoleClient, sealmq.RoleAdmin, 0},
		{[]byte("half of a certifi"), sealmq.RoleClient, sealmq.RoleAdmin, 1},
		{first.RootPEM(), sealmq.RoleAdmin, sealmq.RoleClient, 0},
	} {
		if step.roots != nil {
			replace(step.roots)
		}
		list.Refresh()
		for ca, want := range map[*testca.CA]sealmq.Role{first: step.first, second: step.second} {
			leaf := ca.Leaf("admin", sealmq.RoleAdmin).Leaf
			id, err := identifier.Identify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, ca.Root()}}})
			if err != nil || id.Role != want || list.OwnIssuer(id.Issuer) != (want == sealmq.RoleAdmin) {
				t.Errorf("step %d: role %q, own %t, %v, want %q", i, id.Role, list.OwnIssuer(id.Issuer), err, want)
			}
		}
		if len(list.Problems()) != step.problems {
			t.Errorf("step %d: problems %q", i, list.Problems())
		}
	}
	if changes != 4 {
		t.Errorf("%d changes, want 4", changes)
	}
}
