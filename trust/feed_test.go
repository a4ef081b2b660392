package trust_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// source is an installation with an authority: its ledger, and a file of names.
type source struct {
	t          testing.TB
	dir, names string
	list       *trust.RevocationList
}

func newSource(t testing.TB) *source {
	s := &source{t: t, dir: t.TempDir()}
	s.names = filepath.Join(s.dir, "revoked.pem")
	s.open()
	return s
}

func (s *source) ledger() *trust.Ledger {
	s.t.Helper()
	l, err := trust.OpenLedger(durable.OS(), filepath.Join(s.dir, "ledger"), filepath.Join(s.dir, "copy"))
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *source) open() {
	s.t.Helper()
	var err error
	s.list, err = trust.OpenRevocations(trust.ListConfig{
		Files:     []trust.ListFile{{Path: filepath.Join(s.dir, "ledger"), MayBeMissing: true, Ledger: true}, {Path: s.names, MayBeMissing: true}},
		NoteLists: func(digest string) error { return s.ledger().NoteLists(digest) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *source) revoke(entries ...trust.Entry) {
	s.t.Helper()
	if _, err := s.ledger().Append(entries...); err != nil {
		s.t.Fatal(err)
	}
	s.list.Refresh()
}

func fed(t testing.TB, file string) *trust.RevocationList {
	t.Helper()
	l, err := trust.OpenRevocations(trust.ListConfig{FeedFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func certificateEntry(c *x509.Certificate) trust.Entry {
	return trust.Entry{Scope: trust.ScopeCertificate, Name: c.Subject.CommonName, Serial: mtls.Serial(c), Fingerprint: mtls.Fingerprint(c), Code: trust.KeyCompromise, Reason: "stolen"}
}

func TestFeed(t *testing.T) {
	ca := testca.New(t)
	chain := func(name string) []*x509.Certificate {
		return []*x509.Certificate{ca.Leaf(name, "").Leaf, ca.Root()}
	}
	main, file := newSource(t), filepath.Join(t.TempDir(), "feed", "revocations.json")
	proxy := fed(t, file)
	if !proxy.Refreshed().IsZero() {
		t.Error("it was never filled")
	}
	changes := 0
	defer proxy.OnChange(func() { changes++ })()
	// pull asks as a proxy does, over the wire.
	pull := func(wantChange bool, wantEntries int, full bool) {
		t.Helper()
		wire, err := json.Marshal(main.list.Since(proxy.Version(), ""))
		if err != nil {
			t.Fatal(err)
		}
		var f trust.Feed
		if err := json.Unmarshal(wire, &f); err != nil {
			t.Fatal(err)
		}
		before := changes
		changed, err := proxy.Apply(f)
		if err != nil || changed != wantChange || (changes > before) != wantChange || len(f.Entries) != wantEntries || f.Full != full {
			t.Errorf("changed %v, told %d times, %v; feed %+v", changed, changes-before, err, f)
		}
	}
	pull(false, 0, true)
	main.revoke(certificateEntry(chain("alice")[0]))
	pull(true, 1, true)
	main.revoke(trust.Entry{Scope: trust.ScopeName, Name: "bob"}, certificateEntry(chain("carol")[0]))
	pull(true, 2, false)
	pull(false, 0, false)
	for name, want := range map[string]bool{"alice": true, "bob": true, "carol": true, "dave": false} {
		if got := proxy.Check(chain(name)) != nil; got != want {
			t.Errorf("%s: revoked %v", name, got)
		}
	}
	// A line in the file of names has a number too.
	testca.WriteFile(t, main.names, []byte("dave \r\n"))
	main.list.Refresh()
	pull(true, 4, true)
	if proxy.Check(chain("dave")) == nil {
		t.Error("dave is in the file of names")
	}
	pull(false, 0, false)
	testca.WriteFile(t, main.names, []byte("# nobody\n"))
	main.list.Refresh()
	pull(true, 3, true)

	// A restart without the main server.
	again := fed(t, file)
	if again.Check(chain("carol")) == nil || again.Version() != proxy.Version() || again.Refreshed().IsZero() || again.Len() != proxy.Len() {
		t.Errorf("version %d, refreshed %v, %d entries", again.Version(), again.Refreshed(), again.Len())
	}
	main.open()
	if main.list.Version() != proxy.Version() {
		t.Errorf("a restart changed the version from %d to %d", proxy.Version(), main.list.Version())
	}
	pull(false, 0, false)
}

// TestFeedOfARestoredAuthority: an older state takes nothing back and is reported.
func TestFeedOfARestoredAuthority(t *testing.T) {
	ca := testca.New(t)
	alice := []*x509.Certificate{ca.Leaf("alice", "").Leaf, ca.Root()}
	proxy := fed(t, filepath.Join(t.TempDir(), "feed.json"))
	if _, err := proxy.Apply(trust.Feed{Version: 3, Full: true, Entries: []trust.Entry{
		{Version: 1, Scope: trust.ScopeName, Name: "bob"}, {Version: 3, Scope: trust.ScopeName, Name: "alice"},
	}}); err != nil {
		t.Fatal(err)
	}
	_, err := proxy.Apply(trust.Feed{Version: 2, Full: true, Entries: []trust.Entry{{Version: 1, Scope: trust.ScopeName, Name: "bob"}}})
	var gap *trust.GapError
	if !errors.As(err, &gap) || gap.Seen != 3 || gap.Got != 2 || len(gap.Missing) != 1 || gap.Missing[0].Name != "alice" {
		t.Errorf("%v: %+v", err, gap)
	}
	if proxy.Check(alice) == nil || proxy.Version() != 3 {
		t.Error("the older state is in force")
	}
	for what, f := range map[string]trust.Feed{
		"a part of what is not known": {Version: 9, Since: 8, Entries: []trust.Entry{{Version: 9, Scope: trust.ScopeName, Name: "x"}}},
		"an entry that says nothing":  {Version: 9, Full: true, Entries: []trust.Entry{{}}},
	} {
		if _, err := proxy.Apply(f); err == nil || proxy.Version() != 3 {
			t.Errorf("%s: taken", what)
		}
	}
}

// TestFeedOfAnotherMainServer: of several main servers any may answer. Their numbers differ; what
// one of them revokes is in force, and nothing is taken back that was revoked.
func TestFeedOfAnotherMainServer(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }
	name := func(version uint64, name string, at time.Time) trust.Entry {
		return trust.Entry{Version: version, Scope: trust.ScopeName, Name: name, RevokedAt: at}
	}
	readmitted := name(2, "carol", day(3))
	readmitted.IssuedBefore = day(3)
	first := trust.Feed{Version: 9, Full: true, Origin: "a", Entries: []trust.Entry{name(8, "alice", day(1)), name(9, "carol", day(2))}}
	for what, tc := range map[string]struct {
		feed           trust.Feed
		revoked, valid string
		missing        int
		version        uint64
	}{
		"the same":         {trust.Feed{Version: 3, Full: true, Entries: []trust.Entry{name(1, "alice", day(1)), name(3, "carol", day(2))}}, "alice carol", "dave", 0, 3},
		"more":             {trust.Feed{Version: 4, Full: true, Entries: []trust.Entry{name(1, "alice", day(1)), name(2, "carol", day(2)), name(4, "dave", day(3))}}, "alice carol dave", "", 0, 4},
		"other":            {trust.Feed{Version: 4, Full: true, Entries: []trust.Entry{name(4, "dave", day(3))}}, "alice carol dave", "erin", 2, 9},
		"a later word":     {trust.Feed{Version: 2, Full: true, Entries: []trust.Entry{name(1, "alice", day(1)), readmitted}}, "alice", "carol", 0, 2},
		"an earlier word":  {trust.Feed{Version: 2, Full: true, Entries: []trust.Entry{name(1, "alice", day(1)), name(2, "carol", day(1))}}, "alice carol", "", 0, 2},
		"higher, but less": {trust.Feed{Version: 10, Full: true, Entries: []trust.Entry{name(1, "alice", day(1))}}, "alice", "carol", 0, 10},
	} {
		list := fed(t, "")
		if _, err := list.Apply(first); err != nil {
			t.Fatal(err)
		}
		_, err := list.Apply(tc.feed)
		gap, _ := errors.AsType[*trust.GapError](err)
		if (gap == nil) != (tc.missing == 0) || gap != nil && len(gap.Missing) != tc.missing || list.Version() != tc.version {
			t.Errorf("%s: version %d, %v", what, list.Version(), err)
		}
		for _, n := range strings.Fields(tc.revoked) {
			if !list.RevokesName(n) {
				t.Errorf("%s: %s is not revoked", what, n)
			}
		}
		for _, n := range strings.Fields(tc.valid) {
			if list.RevokesName(n) {
				t.Errorf("%s: %s is revoked", what, n)
			}
		}
	}
	main := newSource(t)
	main.revoke(name(0, "alice", day(1)))
	origin := main.list.Since(0, "").Origin
	if f := main.list.Since(1, origin); f.Full || origin == "" {
		t.Errorf("its own number is answered with everything: %+v", f)
	}
	if f := main.list.Since(1, "of another"); !f.Full || len(f.Entries) != 1 {
		t.Errorf("a number of another list is answered with %+v", f)
	}
}

func TestDamagedFeedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "feed.json")
	for _, text := range []string{"", "{", `{"version":1,"entries":[{}]}`} {
		testca.WriteFile(t, file, []byte(text))
		_, err := trust.OpenRevocations(trust.ListConfig{FeedFile: file})
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	fed(t, file)
}
