package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// newTownOfTwo accepts certificates of two authorities.
func newTownOfTwo(t testing.TB) (w *town, other *testca.CA, n *testnode.Node) {
	t.Helper()
	w, other = newTown(t), testca.New(t)
	n = testnode.Start(t, testnode.Config{CA: w.ca, Accepts: other,
		Directory: &broker.DirectoryConfig{Signer: w.signer, Verifier: w.both(other)}})
	return w, other, n
}

func (w *town) both(other *testca.CA) seal.Verifier {
	roots := w.ca.Pool()
	roots.AddCert(other.Root())
	return &seal.X509Verifier{Roots: roots, Identify: w.ca.Identify}
}

func trusting(v seal.Verifier) func(*keydir.Config) {
	return func(c *keydir.Config) { c.Verifier = v }
}

// publishWith publishes with a certificate of an authority.
func (w *town) publishWith(ca, other *testca.CA, addr, name string, key *seal.PublicKey, change ...func(*keydir.Config)) (*seal.KeyEntry, error) {
	w.t.Helper()
	leaf := ca.Leaf(name, "")
	signer, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := client.Dial(w.t.Context(), client.Config{Addr: addr, TLS: w.ca.ClientWith(leaf)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	cfg := keydir.Config{Verifier: w.both(other), Scope: "town"}
	for _, f := range change {
		f(&cfg)
	}
	d, err := keydir.New(c, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Publish(w.t.Context(), signer, key)
}

func reset(t *testing.T, n *testnode.Node, name string, suite seal.Suite) []int64 {
	t.Helper()
	d, err := keydir.New(n.Dial(client.Config{}), keydir.Config{Verifier: &seal.X509Verifier{}})
	if err != nil {
		t.Fatal(err)
	}
	records, err := d.Reset(t.Context(), name, suite)
	if err != nil {
		t.Fatal(err)
	}
	var list []int64
	for _, r := range records {
		list = append(list, r.Index)
	}
	return list
}

// wasReset demands the refusal of a pinned key that was reset, and that it says this.
func wasReset(t *testing.T, d *keydir.Directory, name string, suite seal.Suite, says ...string) {
	t.Helper()
	key, err := d.Find(t.Context(), name, suite)
	if key != nil || !errors.Is(err, keydir.ErrReset) || !errors.Is(err, keydir.ErrPinned) || errors.Is(err, keydir.ErrRollback) {
		t.Fatalf("key %v, error %v, want that it was reset", key, err)
	}
	var e *keydir.Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint(), "sealmq key directory --forget "+name) {
		t.Errorf("%v is no help", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v does not say %q", err, s)
		}
	}
}

// The way out when an authority is replaced: those who have a pin are told, and decide.
func TestResetForAnotherAuthority(t *testing.T) {
	w, other, n := newTownOfTwo(t)
	trust := trusting(w.both(other))
	pins, strict := keydir.NewPins(), keydir.NewPins()
	first, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	find := func(p *keydir.Pins, change ...func(*keydir.Config)) *keydir.Directory {
		return w.directory(n.Addr, "bob", append([]func(*keydir.Config){with(p), trust}, change...)...)
	}
	w.publish(n.Addr, "carol", generate(t, seal.HPKEX25519))
	w.publish(n.Addr, "alice", first)
	finds(t, find(pins), "alice", "", first, nil)
	finds(t, find(strict, func(c *keydir.Config) { c.StrictPins = true }), "alice", "", first, nil)
	if e, err := w.publishWith(other, other, n.Addr, "alice", second); !errors.Is(err, sealmq.ErrDenied) {
		t.Fatalf("%v, %v", e, err)
	}
	if records := reset(t, n, "alice", ""); fmt.Sprint(records) != "[2]" {
		t.Errorf("records %v", records)
	}
	for range 2 {
		wasReset(t, find(pins), "alice", "", "record 2 ", "pinned is "+first.Digits(), "no key since")
		wasReset(t, find(pins), "alice", seal.HPKEX25519)
		finds(t, find(keydir.NewPins()), "alice", "", nil, sealmq.ErrNoKey)
		told := ""
		given := find(pins, func(c *keydir.Config) { c.Notice = func(s string) { told += s } })
		if err := given.CheckKey(t.Context(), "alice", first); err != nil || !strings.Contains(told, keydir.ErrReset.Error()) {
			t.Errorf("%q, %v", told, err)
		}
		n.Stop()
		n.Start()
	}
	e, err := w.publishWith(other, other, n.Addr, "alice", second)
	if err != nil || e.Serial != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, p := range []*keydir.Pins{pins, strict} {
		wasReset(t, find(p), "alice", "", "record 2 ", "pinned is "+first.Digits(), "shows "+second.Digits())
	}
	var notices []string
	stranger := find(keydir.NewPins(), func(c *keydir.Config) { c.Notice = func(s string) { notices = append(notices, s) } })
	finds(t, stranger, "alice", "", second, nil)
	if len(notices) != 2 || !strings.Contains(notices[0], "had reset the one before (record 2 ") {
		t.Errorf("notices %q", notices)
	}
	a, err := stranger.Audit(t.Context(), "alice")
	if err != nil || len(a.Records) != 3 || !a.Records[1].Reset || a.Records[1].Serial != 1 || !a.Records[1].Proven ||
		a.Records[1].Hash != a.Records[0].Hash || a.Records[2].Reset || a.Records[2].Issuer == a.Records[0].Issuer {
		t.Errorf("%+v, %v", a, err)
	}
	// A key that came another way is compared with what is pinned, and the reset is said.
	told := ""
	if err := find(pins, func(c *keydir.Config) { c.Notice = func(s string) { told += s } }).CheckKey(t.Context(), "alice", first); err != nil || !strings.Contains(told, second.Digits()) {
		t.Errorf("%q, %v", told, err)
	}
	// Later entries change nothing for who has not decided.
	third := generate(t, seal.HPKEX25519)
	if _, err := w.publishWith(other, other, n.Addr, "alice", third); err != nil {
		t.Fatal(err)
	}
	finds(t, stranger, "alice", "", third, nil)
	wasReset(t, find(pins), "alice", "", "record 2 ", "shows "+third.Digits())
	if _, err := pins.Forget(t.Context(), "town", "alice"); err != nil {
		t.Fatal(err)
	}
	finds(t, find(pins), "alice", "", third, nil)
}

// The same authority: the owner goes on with the next number, and nobody takes that for an
// ordinary next entry, however many entries came since.
func TestResetIsNeverTakenForANextEntry(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	pins, far := keydir.NewPins(), keydir.NewPins()
	keys := []*seal.PublicKey{generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)}
	w.publish(n.Addr, "alice", keys[0])
	finds(t, w.directory(n.Addr, "bob", with(far)), "alice", "", keys[0], nil)
	w.publish(n.Addr, "alice", keys[1])
	finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", keys[1], nil)
	reset(t, n, "alice", seal.HPKEX25519)
	if e := w.publish(n.Addr, "alice", keys[2]); e.Serial != 3 {
		t.Errorf("entry %d", e.Serial)
	}
	for range 2 {
		wasReset(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", "record 2 ")
		wasReset(t, w.directory(n.Addr, "bob", with(far)), "alice", "", "record 2 ")
		// A log that is too long to be read is asked for the reset alone.
		wasReset(t, w.directory(n.Addr, "bob", with(far), func(c *keydir.Config) { c.FirstLook = 1 }), "alice", "", "record 2 ")
		w.publish(n.Addr, "alice", keys[3])
	}
	// Who has decided once is not asked again.
	finds(t, w.directory(n.Addr, "carol", with(pins)), "alice", "", nil, keydir.ErrReset)
	if _, err := pins.Forget(t.Context(), "town", "alice"); err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", keys[3], nil)
	w.publish(n.Addr, "alice", keys[0])
	w.publish(n.Addr, "alice", keys[1])
	finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", keys[1], nil)
}

// The owner, who has pinned the own key, hears of the reset and publishes again.
func TestOwnerAfterAReset(t *testing.T) {
	w, other, n := newTownOfTwo(t)
	pins := keydir.NewPins()
	var notices []string
	own := func(c *keydir.Config) {
		c.Pins, c.Verifier, c.Notice = pins, w.both(other), func(s string) { notices = append(notices, s) }
	}
	first, second, third := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	if _, err := w.publishWith(w.ca, other, n.Addr, "alice", first, own); err != nil {
		t.Fatal(err)
	}
	reset(t, n, "alice", "")
	wasReset(t, w.directory(n.Addr, "alice", own), "alice", "")
	notices = nil
	e, err := w.publishWith(other, other, n.Addr, "alice", second, own)
	if err != nil || e.Serial != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if text := strings.Join(notices, "\n"); !strings.Contains(text, "was reset by an administrator of the broker (record 1 ") || !strings.Contains(text, "in place of the one that was reset") {
		t.Errorf("notices %q", notices)
	}
	finds(t, w.directory(n.Addr, "alice", own), "alice", "", second, nil)
	if e, err = w.publishWith(other, other, n.Addr, "alice", third, own); err != nil || e.Serial != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	// Somebody else was faster after the next one: the owner must look first.
	reset(t, n, "alice", "")
	if _, err := w.publishWith(w.ca, other, n.Addr, "alice", first); err != nil {
		t.Fatal(err)
	}
	if _, err := w.publishWith(other, other, n.Addr, "alice", second, own); !errors.Is(err, keydir.ErrReset) {
		t.Errorf("error %v", err)
	}
	if keys, err := pins.Keys("town"); err != nil || keys["alice"][string(seal.HPKEX25519)].Fingerprint != third.Fingerprint() {
		t.Errorf("pinned %+v, %v", keys, err)
	}
}

// One suite of several, and bare keys.
func TestResetOfOneSuiteAndOfBareKeys(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	pins := keydir.NewPins()
	allow := func(c *keydir.Config) { c.Pins, c.AllowUnproven = pins, true }
	small, hybrid, bare, next := generate(t, seal.HPKEX25519), generate(t, seal.HPKEHybrid), generate(t, seal.CipherMQG5), generate(t, seal.CipherMQG5)
	register := func(name string, key *seal.PublicKey) {
		t.Helper()
		if _, err := n.Dial(client.Config{}).Command(t.Context(), "register_key "+name+" "+b64(key)); err != nil {
			t.Fatal(err)
		}
	}
	w.publish(n.Addr, "alice", small)
	w.publish(n.Addr, "alice", hybrid)
	register("alice", bare)
	bob := w.directory(n.Addr, "bob", allow)
	for suite, key := range map[seal.Suite]*seal.PublicKey{"": hybrid, seal.HPKEX25519: small, seal.CipherMQG5: bare} {
		finds(t, bob, "alice", suite, key, nil)
	}
	reset(t, n, "alice", seal.HPKEHybrid)
	wasReset(t, bob, "alice", "", "record 3 ", "shows "+small.Digits()+" for "+string(seal.HPKEX25519))
	finds(t, bob, "alice", seal.HPKEX25519, small, nil)
	finds(t, w.directory(n.Addr, "carol"), "alice", "", small, nil) // nothing is hidden from a stranger
	reset(t, n, "alice", keylog.Unproven)
	wasReset(t, bob, "alice", seal.CipherMQG5, "record 4 ", "a bare key", "no key since")
	register("alice", next)
	wasReset(t, bob, "alice", seal.CipherMQG5, "shows "+next.Digits())
	reset(t, n, "alice", "")
	wasReset(t, bob, "alice", "", "no key since")
	if _, err := bob.Audit(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// A reset happens wholly or not at all, whenever the power is cut, and what anybody was
// shown is not taken back.
func TestResetSurvivesPowerCutsAtAnyOperation(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	key, hybrid := generate(t, seal.HPKEX25519), generate(t, seal.HPKEHybrid)
	w.publish(n.Addr, "alice", key)
	w.publish(n.Addr, "alice", hybrid)
	n.Stop()
	clean := n.FS
	for at, over := 1, false; !over; at++ {
		n.FS = clean.Snapshot()
		n.Start()
		pins := keydir.NewPins()
		finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", hybrid, nil)
		admin := n.Dial(client.Config{})
		n.FS.PowerOffAt(at)
		dd, _ := keydir.New(admin, keydir.Config{Verifier: &seal.X509Verifier{}})
		_, failed := dd.Reset(t.Context(), "alice", "")
		if failed == nil {
			over = true
			wasReset(t, w.directory(n.Addr, "bob", with(pins)), "alice", "")
		}
		admin.Close()
		n.Crash(uint64(at))
		bob := w.directory(n.Addr, "bob", with(pins))
		got, err := bob.Find(t.Context(), "alice", "")
		switch {
		case errors.Is(err, keydir.ErrReset):
			finds(t, bob, "alice", seal.HPKEX25519, nil, sealmq.ErrNoKey)
		case failed == nil || err != nil || got.Fingerprint() != hybrid.Fingerprint():
			t.Fatalf("cut at %d: reset %v, then %v, %v", at, failed, got, err)
		default:
			finds(t, bob, "alice", seal.HPKEX25519, key, nil)
			reset(t, n, "alice", "")
		}
		if e := w.publish(n.Addr, "alice", key); e.Serial != 2 {
			t.Errorf("cut at %d: entry %d", at, e.Serial)
		}
		if a, err := w.directory(n.Addr, "carol").Audit(t.Context(), "alice"); err != nil || a.Size != 5 {
			t.Errorf("cut at %d: %+v, %v", at, a, err)
		}
		n.Stop()
		if at > 50 {
			t.Fatal("a reset takes too many operations")
		}
	}
}

// A log can have in it what no honest broker takes. Neither a stranger nor who has a pin takes
// the key that it leads to.
func TestForgedResets(t *testing.T) {
	w := newTown(t)
	other := testca.New(t)
	v := w.both(other)
	issuer, foreign := issuerOf(t, w, w.ca), issuerOf(t, w, other)
	for _, tc := range []struct {
		name             string
		forge            func(f *forger, first []byte)
		pinned, stranger error
		reset            bool // who has pinned the first one is told that it was reset
	}{
		{"an honest one", func(f *forger, first []byte) {
			e, _ := f.entry(other, 2, [32]byte(f.reset(first).Record()))
			f.add(e, foreign)
		}, keydir.ErrPinned, nil, true},
		{"another authority's entry without a reset", func(f *forger, _ []byte) {
			e, _ := f.entry(other, 2, [32]byte{7})
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"an entry that does not name the reset", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 2, hashOf(t, first))
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"an entry that names a reset which is not there", func(f *forger, first []byte) {
			leaf := keylog.Leaf{Reset: true, Proven: true, Owner: "alice", Suite: string(seal.HPKEX25519), Serial: 1, Hash: hashOf(t, first)}
			e, _ := f.entry(other, 2, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"a first entry after a reset", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 1, [32]byte{})
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"the same entry again after a reset", func(f *forger, first []byte) {
			f.reset(first)
			f.add(first, issuer)
		}, nil, keydir.ErrLog, false}, // whoever has pinned it has it still
		{"a reset of another entry", func(f *forger, first []byte) {
			leaf := f.reset(first, func(l *keylog.Leaf) { l.Hash[3] ^= 1 })
			e, _ := f.entry(other, 2, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"a reset of a later entry", func(f *forger, first []byte) {
			leaf := f.reset(first, func(l *keylog.Leaf) { l.Serial = 5 })
			e, _ := f.entry(other, 6, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, keydir.ErrLog, keydir.ErrLog, false},
		{"two resets", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 2, [32]byte(f.reset(first, func(l *keylog.Leaf) { l.Serial = 2 }).Record()))
			f.add(e, foreign)
		}, keydir.ErrPinned, keydir.ErrLog, false},
		{"a reset of a bare key that nobody has registered", func(f *forger, first []byte) {
			f.reset(first, func(l *keylog.Leaf) { l.Proven, l.Suite, l.Serial = false, "", 0 })
		}, nil, keydir.ErrLog, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newForger(t, w)
			first, key := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer)
			bob := w.directory(f.addr, "bob", trusting(v))
			finds(t, bob, "alice", "", key, nil)
			tc.forge(f, first)
			shown, err := seal.ParseKeyEntry(f.found.Entry)
			if err != nil {
				t.Fatal(err)
			}
			finds(t, bob, "alice", "", key, tc.pinned)
			if _, err := bob.Find(t.Context(), "alice", ""); errors.Is(err, keydir.ErrReset) != tc.reset {
				t.Errorf("error %v, want one about a reset: %v", err, tc.reset)
			}
			carol := w.directory(f.addr, "carol", trusting(v))
			if _, err := carol.Audit(t.Context(), "alice"); tc.name != "an entry that does not name the reset" && !errors.Is(err, tc.stranger) {
				t.Errorf("the log is read with %v", err)
			}
			finds(t, carol, "alice", "", shown.PublicKey(), tc.stranger)
		})
	}
}
