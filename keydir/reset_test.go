package keydir

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// wasReset demands the refusal of a pinned key that was reset, and that it says this.
func wasReset(t *testing.T, d *Directory, name string, suite seal.Suite, says ...string) {
	t.Helper()
	key, err := d.Find(t.Context(), name, suite)
	if key != nil || !errors.Is(err, ErrReset) || !errors.Is(err, ErrPinned) || errors.Is(err, ErrRollback) {
		t.Fatalf("key %v, error %v, want that it was reset", key, err)
	}
	var e *Error
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
	w := newTown(t)
	o, other := w.office(), w.other
	pins, careful := NewPins(), NewPins()
	first, second := generate(t, small), generate(t, small)
	find := func(p *Pins, change ...func(*Config)) *Directory {
		return w.directory(o.as("bob"), append(change, with(p))...)
	}
	o.publish("carol", generate(t, small))
	o.publish("alice", first)
	finds(t, find(pins), "alice", "", first, nil)
	finds(t, find(careful, strict), "alice", "", first, nil)
	if e, err := o.publishWith(other, "alice", second); !errors.Is(err, sealmq.ErrDenied) {
		t.Fatalf("%v, %v", e, err)
	}
	if records := o.reset("alice", ""); fmt.Sprint(records) != "[2]" {
		t.Errorf("records %v", records)
	}
	for range 2 {
		wasReset(t, find(pins), "alice", "", "record 2 ", "pinned is "+first.Digits(), "no key since")
		wasReset(t, find(pins), "alice", small)
		finds(t, find(NewPins()), "alice", "", nil, sealmq.ErrNoKey)
		told := ""
		given := find(pins, func(c *Config) { c.Notice = func(s string) { told += s } })
		if err := given.CheckKey(t.Context(), "alice", first); err != nil || !strings.Contains(told, ErrReset.Error()) {
			t.Errorf("%q, %v", told, err)
		}
	}
	e, err := o.publishWith(other, "alice", second)
	if err != nil || e.Serial != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, p := range []*Pins{pins, careful} {
		wasReset(t, find(p), "alice", "", "record 2 ", "pinned is "+first.Digits(), "shows "+second.Digits())
	}
	var notices []string
	stranger := find(NewPins(), func(c *Config) { c.Notice = func(s string) { notices = append(notices, s) } })
	finds(t, stranger, "alice", "", second, nil)
	if len(notices) != 2 || !strings.Contains(notices[0], "reset the key before this one (record 2 ") {
		t.Errorf("notices %q", notices)
	}
	a, err := stranger.Audit(t.Context(), "alice")
	if err != nil || len(a.Records) != 3 || !a.Records[1].Reset || a.Records[1].Serial != 1 || !a.Records[1].Proven ||
		a.Records[1].Hash != a.Records[0].Hash || a.Records[2].Reset || a.Records[2].Issuer == a.Records[0].Issuer {
		t.Errorf("%+v, %v", a, err)
	}
	// A key that came another way is compared with what is pinned, and the reset is said.
	told := ""
	if err := find(pins, func(c *Config) { c.Notice = func(s string) { told += s } }).CheckKey(t.Context(), "alice", first); err != nil || !strings.Contains(told, second.Digits()) {
		t.Errorf("%q, %v", told, err)
	}
	// Later entries change nothing for a client that has not decided.
	third := generate(t, small)
	if _, err := o.publishWith(other, "alice", third); err != nil {
		t.Fatal(err)
	}
	finds(t, stranger, "alice", "", third, nil)
	wasReset(t, find(pins), "alice", "", "record 2 ", "shows "+third.Digits())
	if _, err := pins.Forget(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	finds(t, find(pins), "alice", "", third, nil)
}

// The same authority: the owner goes on with the next number, and nobody takes that for an
// ordinary next entry, however many entries came since.
func TestResetIsNeverTakenForANextEntry(t *testing.T) {
	w := newTown(t)
	o := w.office()
	pins, far := NewPins(), NewPins()
	keys := []*seal.PublicKey{generate(t, small), generate(t, small), generate(t, small), generate(t, small)}
	o.publish("alice", keys[0])
	finds(t, w.directory(o.as("bob"), with(far)), "alice", "", keys[0], nil)
	o.publish("alice", keys[1])
	finds(t, w.directory(o.as("bob"), with(pins)), "alice", "", keys[1], nil)
	o.reset("alice", small)
	if e := o.publish("alice", keys[2]); e.Serial != 3 {
		t.Errorf("entry %d", e.Serial)
	}
	for range 2 {
		wasReset(t, w.directory(o.as("bob"), with(pins)), "alice", "", "record 2 ")
		wasReset(t, w.directory(o.as("bob"), with(far)), "alice", "", "record 2 ")
		// A log that is too long to be read is asked for the reset alone.
		wasReset(t, w.directory(o.as("bob"), with(far), func(c *Config) { c.MaxLogRead = 1 }), "alice", "", "record 2 ")
		o.publish("alice", keys[3])
	}
	// A client that has decided is not asked again.
	finds(t, w.directory(o.as("carol"), with(pins)), "alice", "", nil, ErrReset)
	if _, err := pins.Forget(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	finds(t, w.directory(o.as("bob"), with(pins)), "alice", "", keys[3], nil)
	o.publish("alice", keys[0])
	o.publish("alice", keys[1])
	finds(t, w.directory(o.as("bob"), with(pins)), "alice", "", keys[1], nil)
}

// The owner has pinned the own key too, gets the error about the reset and publishes again.
func TestOwnerAfterAReset(t *testing.T) {
	w := newTown(t)
	o, other := w.office(), w.other
	pins := NewPins()
	var notices []string
	own := func(c *Config) {
		c.Pins, c.Notice = pins, func(s string) { notices = append(notices, s) }
	}
	first, second, third := generate(t, small), generate(t, small), generate(t, small)
	if _, err := o.publishWith(w.ca, "alice", first, own); err != nil {
		t.Fatal(err)
	}
	o.reset("alice", "")
	wasReset(t, w.directory(o.as("alice"), own), "alice", "")
	notices = nil
	e, err := o.publishWith(other, "alice", second, own)
	if err != nil || e.Serial != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if text := strings.Join(notices, "\n"); !strings.Contains(text, "was reset by an administrator of the broker (record 1 ") || !strings.Contains(text, "in place of the one that was reset") {
		t.Errorf("notices %q", notices)
	}
	finds(t, w.directory(o.as("alice"), own), "alice", "", second, nil)
	if e, err = o.publishWith(other, "alice", third, own); err != nil || e.Serial != 3 {
		t.Errorf("%+v, %v", e, err)
	}
	// Somebody else was faster after the next one: the owner must look first.
	o.reset("alice", "")
	if _, err := o.publishWith(w.ca, "alice", first); err != nil {
		t.Fatal(err)
	}
	if _, err := o.publishWith(other, "alice", second, own); !errors.Is(err, ErrReset) {
		t.Errorf("error %v", err)
	}
	if keys, err := pins.Keys(); err != nil || keys["alice"][string(small)].Fingerprint != third.Fingerprint() {
		t.Errorf("pinned %+v, %v", keys, err)
	}
}

// One suite of several, and bare keys.
func TestResetOfOneSuiteAndOfBareKeys(t *testing.T) {
	w := newTown(t)
	o := w.office()
	pins := NewPins()
	allow := func(c *Config) { c.Pins, c.AllowUnproven = pins, true }
	x25519, hybrid, bare, next := generate(t, small), generate(t, seal.HPKEHybrid), generate(t, ciphermq.G5), generate(t, ciphermq.G5)
	o.publish("alice", x25519)
	o.publish("alice", hybrid)
	o.register("alice", bare)
	bob := w.directory(o.as("bob"), allow)
	for suite, key := range map[seal.Suite]*seal.PublicKey{"": hybrid, small: x25519, ciphermq.G5: bare} {
		finds(t, bob, "alice", suite, key, nil)
	}
	o.reset("alice", seal.HPKEHybrid)
	wasReset(t, bob, "alice", "", "record 3 ", "shows "+x25519.Digits()+" for "+string(small))
	finds(t, bob, "alice", small, x25519, nil)
	finds(t, w.directory(o.as("carol")), "alice", "", x25519, nil) // nothing is hidden from a stranger
	o.reset("alice", keylog.Unproven)
	wasReset(t, bob, "alice", ciphermq.G5, "record 4 ", "a bare key", "no key since")
	o.register("alice", next)
	wasReset(t, bob, "alice", ciphermq.G5, "shows "+next.Digits())
	o.reset("alice", "")
	wasReset(t, bob, "alice", "", "no key since")
	if _, err := bob.Audit(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// A log can have records that no honest broker accepts. No client, with or without a pin, takes
// the key that it leads to.
func TestForgedResets(t *testing.T) {
	w := newTown(t)
	other := w.other
	issuer, foreign := w.identity(w.ca, "alice").Issuer, w.identity(w.other, "alice").Issuer
	for _, tc := range []struct {
		name             string
		forge            func(f *forger, first []byte)
		pinned, stranger error
		reset            bool // a client that pinned the first key gets the error about the reset
	}{
		{"an honest one", func(f *forger, first []byte) {
			e, _ := f.entry(other, 2, [32]byte(f.reset(first).Record()))
			f.add(e, foreign)
		}, ErrPinned, nil, true},
		{"another authority's entry without a reset", func(f *forger, _ []byte) {
			e, _ := f.entry(other, 2, [32]byte{7})
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"an entry that does not name the reset", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 2, hashOf(t, first))
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"an entry that names a reset which is not there", func(f *forger, first []byte) {
			leaf := keylog.Leaf{Reset: true, Proven: true, Owner: "alice", Suite: string(small), Serial: 1, Hash: hashOf(t, first)}
			e, _ := f.entry(other, 2, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"a first entry after a reset", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 1, [32]byte{})
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"the same entry again after a reset", func(f *forger, first []byte) {
			f.reset(first)
			f.add(first, issuer)
		}, nil, ErrLog, false}, // a client that pinned it still has its pin
		{"a reset of another entry", func(f *forger, first []byte) {
			leaf := f.reset(first, func(l *keylog.Leaf) { l.Hash[3] ^= 1 })
			e, _ := f.entry(other, 2, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"a reset of a later entry", func(f *forger, first []byte) {
			leaf := f.reset(first, func(l *keylog.Leaf) { l.Serial = 5 })
			e, _ := f.entry(other, 6, [32]byte(leaf.Record()))
			f.add(e, foreign)
		}, ErrLog, ErrLog, false},
		{"two resets", func(f *forger, first []byte) {
			f.reset(first)
			e, _ := f.entry(other, 2, [32]byte(f.reset(first, func(l *keylog.Leaf) { l.Serial = 2 }).Record()))
			f.add(e, foreign)
		}, ErrPinned, ErrLog, false},
		{"a reset of a bare key that nobody has registered", func(f *forger, first []byte) {
			f.reset(first, func(l *keylog.Leaf) { l.Proven, l.Suite, l.Serial = false, "", 0 })
		}, nil, ErrLog, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := w.forger()
			first, key := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer)
			bob := w.directory(f)
			finds(t, bob, "alice", "", key, nil)
			tc.forge(f, first)
			shown, err := seal.ParseKeyEntry(f.found.Entry, ciphermq.Suites{})
			if err != nil {
				t.Fatal(err)
			}
			finds(t, bob, "alice", "", key, tc.pinned)
			if _, err := bob.Find(t.Context(), "alice", ""); errors.Is(err, ErrReset) != tc.reset {
				t.Errorf("error %v, want one about a reset: %v", err, tc.reset)
			}
			carol := w.directory(f)
			if _, err := carol.Audit(t.Context(), "alice"); tc.name != "an entry that does not name the reset" && !errors.Is(err, tc.stranger) {
				t.Errorf("the log is read with %v", err)
			}
			finds(t, carol, "alice", "", shown.PublicKey(), tc.stranger)
		})
	}
}

// A broker that says that it has reset a key, and has not, is found out at once.
func TestResetThatTheLogDoesNotShow(t *testing.T) {
	w := newTown(t)
	o := w.office()
	o.publish("alice", generate(t, small))
	o.reset("alice", "")
	for _, says := range []string{"", "0", "1 2", "4", "1 1"} {
		c := o.admin()
		c.lie = func(line, reply string, err error) (string, error) {
			if strings.HasPrefix(line, "reset_key ") {
				return "Key reset " + says, nil
			}
			return reply, err
		}
		if list, err := w.directory(c).Reset(t.Context(), "alice", ""); !errors.Is(err, ErrLog) || hintOf(err) == "" {
			t.Errorf("%s: %+v, %v", says, list, err)
		}
	}
	if _, err := w.directory(o.admin()).Reset(t.Context(), "alice", ""); !errors.Is(err, sealmq.ErrNoKey) {
		t.Errorf("%v", err)
	}
}
