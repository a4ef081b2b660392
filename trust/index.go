package trust

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// Certificate is what is needed to look a certificate up.
type Certificate struct {
	// Names are mtls.Names; Serial, Fingerprint and NotBefore are the certificate's.
	Names               []string
	Serial, Fingerprint string
	NotBefore           time.Time
	// Issuers are mtls.Issuer of the root and of the certificate that signed.
	Issuers []string
}

// index answers in constant time whether a certificate is revoked. It never changes.
type index struct {
	fingerprints map[string]*Entry
	serials      map[serialKey]*Entry
	names        map[string][]*Entry
	entries      int
}

// serialKey has an issuer or, if that is not known, a name.
type serialKey struct{ serial, issuer, name string }

// newIndex combines the entries of several sources. What one of them revokes is revoked.
func newIndex(sources ...[]Entry) *index {
	x := &index{fingerprints: make(map[string]*Entry), serials: make(map[serialKey]*Entry), names: make(map[string][]*Entry)}
	for _, entries := range sources {
		for _, e := range inForce(entries) {
			if x.insert(&e) {
				x.entries++
			}
		}
	}
	return x
}

// insert reports whether the entry says something new.
func (x *index) insert(e *Entry) (added bool) {
	if e.Scope == ScopeName {
		if slices.ContainsFunc(x.names[e.Name], func(old *Entry) bool { return e.sameRule(old) && !e.outweighs(old) }) {
			return false
		}
		x.names[e.Name] = append(x.names[e.Name], e)
		return true
	}
	if old := x.fingerprints[e.Fingerprint]; e.Fingerprint != "" && e.outweighs(old) {
		x.fingerprints[e.Fingerprint], added = e, old == nil
	}
	key := serialKey{serial: e.Serial, issuer: e.Issuer}
	if e.Issuer == "" {
		key.name = e.Name
	}
	if old := x.serials[key]; e.Serial != "" && (key.issuer != "" || key.name != "") && e.outweighs(old) {
		x.serials[key], added = e, added || old == nil
	}
	return added
}

// outweighs reports whether e says more against a certificate than old, which may be nil. What
// was superseded may still be believed for a time; every other reason is final.
func (e *Entry) outweighs(old *Entry) bool {
	return old == nil || old.Code == Superseded && e.Code != Superseded
}

func (e *Entry) sameRule(o *Entry) bool {
	return e.Issuer == o.Issuer && e.IssuedBefore.Equal(o.IssuedBefore)
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
	var worst *RevokedError
	root := mtls.Issuer(chain[len(chain)-1])
	for i, c := range chain[:max(1, len(chain)-1)] {
		one := Certificate{Serial: mtls.Serial(c), NotBefore: c.NotBefore, Issuers: []string{root}}
		if i+2 < len(chain) {
			one.Issuers = append(one.Issuers, mtls.Issuer(chain[i+1]))
		}
		if i == 0 { // an authority has no name that counts
			one.Names = mtls.Names(c)
		}
		if len(x.fingerprints) > 0 {
			one.Fingerprint = mtls.Fingerprint(c)
		}
		if e := x.find(one); e != nil && (worst == nil || e.outweighs(&worst.Entry)) {
			worst = &RevokedError{Entry: *e, serial: one.Serial, name: c.Subject.CommonName}
		}
	}
	if worst == nil {
		return nil
	}
	return worst
}

// RevokedError says that a certificate of a chain is revoked. It is an mtls.ErrRevoked.
type RevokedError struct {
	// Entry is the entry that revokes it; of several the one that says most against the chain.
	Entry Entry

	serial, name string
}

// Error names the certificate.
func (e *RevokedError) Error() string {
	return fmt.Sprintf("certificate %s of %q: %v", e.serial, e.name, mtls.ErrRevoked)
}

// Unwrap makes it an mtls.ErrRevoked.
func (e *RevokedError) Unwrap() error { return mtls.ErrRevoked }

// find returns the entry that revokes a certificate, or nil; of several the one that says most
// against it.
func (x *index) find(c Certificate) (found *Entry) {
	take := func(e *Entry) {
		if e != nil && e.outweighs(found) {
			found = e
		}
	}
	take(x.fingerprints[c.Fingerprint])
	for _, issuer := range c.Issuers {
		take(x.serials[serialKey{serial: c.Serial, issuer: issuer}])
	}
	for _, name := range c.Names {
		take(x.serials[serialKey{serial: c.Serial, name: name}])
		for _, e := range x.names[name] {
			if (e.Issuer == "" || slices.Contains(c.Issuers, e.Issuer)) && (e.IssuedBefore.IsZero() || c.NotBefore.Before(e.IssuedBefore)) {
				take(e)
			}
		}
	}
	return found
}

// revokesName reports whether every certificate of a name is revoked.
func (x *index) revokesName(name string) bool {
	return slices.ContainsFunc(x.names[name], func(e *Entry) bool { return e.revokesName(name) })
}

// revokesName reports whether e revokes every certificate of a name, future ones included.
func (e *Entry) revokesName(name string) bool {
	return e.Scope == ScopeName && e.Name == name && e.IssuedBefore.IsZero()
}

// equal reports whether both revoke the same.
func (x *index) equal(y *index) bool {
	same := func(*Entry, *Entry) bool { return true }
	return maps.EqualFunc(x.fingerprints, y.fingerprints, same) && maps.EqualFunc(x.serials, y.serials, same) &&
		maps.EqualFunc(x.names, y.names, func(a, b []*Entry) bool { return slices.EqualFunc(a, b, (*Entry).sameRule) })
}
