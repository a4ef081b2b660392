package keydir

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// shown is a key as the directory shows it.
type shown struct {
	name  string
	asked seal.Suite
	found keylog.Found
	key   *seal.PublicKey
	entry *seal.KeyEntry // nil of a bare key
	leaf  keylog.Leaf    // what must be in the log
	// owner is whose the Verifier says that the entry is, or untrusted why it does not.
	owner     seal.Sender
	untrusted error
}

// readShown checks that an answer is well formed and about what was asked for.
func readShown(f keylog.Found, name string, suite seal.Suite) (*shown, error) {
	s := &shown{name: name, asked: suite, found: f}
	if f.Client != name {
		return nil, notProven("asked about %s, the broker answered about %.255q", name, f.Client)
	}
	if !f.Proven {
		return s, s.readBare()
	}
	e, err := seal.ParseKeyEntry(f.Entry, ciphermq.Suites{})
	if err != nil {
		return nil, fmt.Errorf("the entry that the directory shows: %w", err)
	}
	if e.Owner != name || suite != "" && e.Suite() != suite {
		return nil, notProven("asked about %s, the broker answered with an entry of %.255q for suite %s", name, e.Owner, e.Suite())
	}
	s.entry, s.key = e, e.PublicKey()
	s.leaf = keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: f.Issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
	return s, nil
}

// readBare takes a bare key for the suite of CipherMQ's that is asked for, else for
// ciphermq.G5.
func (s *shown) readBare() (err error) {
	if s.key, err = seal.NewPublicKey(cmp.Or(s.asked, ciphermq.G5), s.found.Key, ciphermq.Suites{}); err != nil {
		return notProven("the broker answered with something that is not a key: %v", err)
	}
	s.leaf = keylog.Leaf{Owner: s.name, Hash: sha256.Sum256(s.found.Key)}
	return nil
}

// trusted reports whether an entry is its owner's, and is in the log as that. A bare key
// is nobody's in particular.
func (s *shown) trusted() error {
	switch {
	case s.entry == nil:
		return nil
	case s.untrusted != nil:
		return s.untrusted
	case s.owner.Issuer != s.leaf.Issuer:
		return notProven("it has another authority beside the entry of %s", s.name)
	case !s.unbound() && s.entry.Directory != keylog.ID(s.found.LogKey):
		return &Error{Kind: ErrDirectory, Detail: fmt.Sprintf("%s has signed entry %d for the key directory of another broker", s.name, s.entry.Serial),
			Remedy: fmt.Sprintf("ask %s to publish the key at this broker too; if it was published here, the broker's log has another key than before, or the broker lies", s.name)}
	}
	return nil
}

// unbound reports whether an entry names no directory, as older versions made them: any
// broker could show it.
func (s *shown) unbound() bool { return s.entry != nil && s.entry.Directory == [32]byte{} }

// bareSlot replaces the suite of bare keys among pins: nothing says which of CipherMQ's
// later generations they are for.
const bareSlot = "ciphermq-x25519"

// slot is the name of the key's pin: its suite, or bareSlot.
func (s *shown) slot() string { return slotOf(s.leaf) }

func slotOf(l keylog.Leaf) string {
	if !l.Proven {
		return bareSlot
	}
	return l.Suite
}

func (s *shown) pin(now time.Time) Pin {
	p := Pin{Fingerprint: s.key.Fingerprint(), FirstSeen: now.UTC().Truncate(time.Second)}
	if s.entry != nil {
		p.Proven, p.Serial, p.Entry, p.Issuer = true, s.entry.Serial, s.entry.Hash(), s.leaf.Issuer
	}
	return p
}

// hides reports whether an entry of a suite should have been shown in place of the key.
func (s *shown) hides(suite seal.Suite) bool {
	switch {
	case s.asked != "":
		return s.entry == nil && suite == s.asked
	case s.entry == nil:
		return true
	}
	suites := seal.Suites(ciphermq.Suites{}) // the best one first
	better := slices.Index(suites, suite)
	return better >= 0 && better < slices.Index(suites, s.key.Suite())
}
