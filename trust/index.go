package trust

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// index answers in constant time whether a certificate is revoked. It never changes.
type index struct {
	fingerprints map[string]bool
	serials      map[serialKey]bool
	names        map[string][]nameRule
	entries      int
}

// serialKey has an issuer or, if that is not known, a name.
type serialKey struct{ serial, issuer, name string }

type nameRule struct {
	issuer       string    // empty: every one
	issuedBefore time.Time // zero: whenever it was issued
}

// newIndex combines the entries of several sources. What one of them revokes is revoked.
func newIndex(sources ...[]Entry) *index {
	x := &index{fingerprints: make(map[string]bool), serials: make(map[serialKey]bool), names: make(map[string][]nameRule)}
	for _, entries := range sources {
		for _, e := range inForce(entries) {
			x.add(e)
		}
	}
	return x
}

func (x *index) add(e Entry) {
	if x.insert(e) {
		x.entries++
	}
}

// insert reports whether the entry says something new.
func (x *index) insert(e Entry) (added bool) {
	if e.Scope == ScopeName {
		rule := nameRule{e.Issuer, e.IssuedBefore}
		for _, r := range x.names[e.Name] {
			if r.issuer == rule.issuer && r.issuedBefore.Equal(rule.issuedBefore) {
				return false
			}
		}
		x.names[e.Name] = append(x.names[e.Name], rule)
		return true
	}
	if e.Fingerprint != "" && !x.fingerprints[e.Fingerprint] {
		x.fingerprints[e.Fingerprint], added = true, true
	}
	key := serialKey{serial: e.Serial, issuer: e.Issuer}
	if e.Issuer == "" {
		key.name = e.Name
	}
	if e.Serial != "" && (key.issuer != "" || key.name != "") && !x.serials[key] {
		x.serials[key], added = true, true
	}
	return added
}

// inForce leaves out what a later entry of the same source replaces: the last word about a
// name counts.
func inForce(entries []Entry) []Entry {
	last := make(map[serialKey]int)
	for i, e := range entries {
		if e.Scope == ScopeName {
			last[serialKey{name: e.Name, issuer: e.Issuer}] = i
		}
	}
	kept := make([]Entry, 0, len(entries))
	for i, e := range entries {
		if e.Scope != ScopeName || last[serialKey{name: e.Name, issuer: e.Issuer}] == i {
			kept = append(kept, e)
		}
	}
	return kept
}

// check is RevocationList.Check.
func (x *index) check(chain []*x509.Certificate) error {
	if x.entries == 0 || len(chain) == 0 {
		return nil
	}
	root := mtls.Issuer(chain[len(chain)-1])
	for i, c := range chain[:max(1, len(chain)-1)] {
		signer := root
		if i+2 < len(chain) {
			signer = mtls.Issuer(chain[i+1])
		}
		if x.has(c, signer, root) || i == 0 && x.hasName(c, signer, root) {
			return fmt.Errorf("certificate %s of %q: %w", mtls.Serial(c), c.Subject.CommonName, mtls.ErrRevoked)
		}
	}
	return nil
}

func (x *index) has(c *x509.Certificate, signer, root string) bool {
	if len(x.fingerprints) > 0 && x.fingerprints[mtls.Fingerprint(c)] {
		return true
	}
	if len(x.serials) == 0 {
		return false
	}
	serial := mtls.Serial(c)
	if x.serials[serialKey{serial: serial, issuer: root}] || signer != root && x.serials[serialKey{serial: serial, issuer: signer}] {
		return true
	}
	for _, name := range mtls.Names(c) {
		if x.serials[serialKey{serial: serial, name: name}] {
			return true
		}
	}
	return false
}

func (x *index) hasName(c *x509.Certificate, signer, root string) bool {
	if len(x.names) == 0 {
		return false
	}
	for _, name := range mtls.Names(c) {
		for _, r := range x.names[name] {
			if (r.issuer == "" || r.issuer == root || r.issuer == signer) && (r.issuedBefore.IsZero() || c.NotBefore.Before(r.issuedBefore)) {
				return true
			}
		}
	}
	return false
}

// revokesName returns the rule for every certificate of a name, if there is one.
func (x *index) revokesName(name string) bool {
	for _, r := range x.names[name] {
		if r.issuedBefore.IsZero() {
			return true
		}
	}
	return false
}

// equal reports whether both revoke the same.
func (x *index) equal(y *index) bool {
	return maps.Equal(x.fingerprints, y.fingerprints) && maps.Equal(x.serials, y.serials) &&
		maps.EqualFunc(x.names, y.names, func(a, b []nameRule) bool {
			return slices.EqualFunc(a, b, func(r, s nameRule) bool { return r.issuer == s.issuer && r.issuedBefore.Equal(s.issuedBefore) })
		})
}
