package ca

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// Revocation asks for certificates to be revoked.
type Revocation struct {
	// Name is whose certificates: all of them, those of other accepted authorities and those
	// that are in no record included.
	Name string
	// Serial or Fingerprint, in the forms of package mtls, revoke one certificate instead.
	Serial, Fingerprint string
	// Reason is a reason of RFC 5280 or any other text, at most trust.MaxReasonBytes.
	Reason string
}

// ErrAlreadyRevoked says that there is nothing left to revoke.
var ErrAlreadyRevoked = errors.New("already revoked")

// Revoke revokes certificates and returns the new entries when they are on stable storage. A
// trust.RevocationList that reads this authority's files has them at its next look, or after
// its Refresh.
func (a *Authority) Revoke(r Revocation) ([]trust.Entry, error) {
	if len(r.Reason) > trust.MaxReasonBytes {
		return nil, fmt.Errorf("the reason has more than %d bytes", trust.MaxReasonBytes)
	}
	if r.Reason != "" {
		if err := sealmq.CheckLine("the reason", r.Reason, sealmq.BadArgument); err != nil {
			return nil, err
		}
	}
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return a.revoke(r)
}

// revoke is Revoke with the lock held.
func (a *Authority) revoke(r Revocation) ([]trust.Entry, error) {
	ledger, err := a.openLedger()
	if err != nil {
		return nil, err
	}
	now := a.options.Clock.Now().UTC().Truncate(time.Second)
	have := revokedIn(ledger.Entries())
	if trust.ParseReason(r.Reason) != trust.Superseded {
		// What was only superseded is still believed for a time: a key that turns out to be
		// stolen must be revokable again.
		have = revokedIn(slices.DeleteFunc(ledger.Entries(), func(e trust.Entry) bool { return e.Code == trust.Superseded }))
	}
	var entries []trust.Entry
	add := func(e trust.Entry) {
		e.RevokedAt, e.Reason, e.Code = now, r.Reason, trust.ParseReason(r.Reason)
		entries = append(entries, e)
	}
	for _, c := range a.history.of(r.Name) {
		one := r.Serial != "" || r.Fingerprint != ""
		if one && c.Serial != r.Serial && c.Fingerprint != r.Fingerprint || !one && now.After(c.NotAfter) {
			continue
		}
		if have.certificate(c) {
			continue
		}
		add(entryOf(c))
	}
	switch {
	case r.Serial == "" && r.Fingerprint == "":
		if !have.names[r.Name] {
			add(trust.Entry{Scope: trust.ScopeName, Name: r.Name})
		}
	case len(entries) == 0 && !have.serials[r.Serial] && !have.fingerprints[r.Fingerprint]:
		// It is in no record: another accepted authority issued it.
		add(trust.Entry{Scope: trust.ScopeCertificate, Name: r.Name, Serial: r.Serial, Fingerprint: r.Fingerprint})
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: %w", r.Name, ErrAlreadyRevoked)
	}
	return ledger.Append(entries...)
}

func entryOf(c Issued) trust.Entry {
	return trust.Entry{Scope: trust.ScopeCertificate, Name: c.Name, Serial: c.Serial, Issuer: c.Signer, Fingerprint: c.Fingerprint, ExpiresAt: c.NotAfter}
}

// revokedSet is what a ledger revokes.
type revokedSet struct {
	serials, fingerprints map[string]bool
	names                 map[string]bool      // revoked as a whole
	before                map[string]time.Time // what Entry.IssuedBefore says of a name
}

func revokedIn(entries []trust.Entry) revokedSet {
	s := revokedSet{make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]time.Time)}
	for _, e := range entries {
		if e.Scope == trust.ScopeName {
			s.names[e.Name] = e.IssuedBefore.IsZero()
			if e.IssuedBefore.After(s.before[e.Name]) {
				s.before[e.Name] = e.IssuedBefore
			}
			continue
		}
		if e.Serial != "" {
			s.serials[e.Serial] = true
		}
		if e.Fingerprint != "" {
			s.fingerprints[e.Fingerprint] = true
		}
	}
	return s
}

func (s revokedSet) certificate(c Issued) bool {
	return s.serials[c.Serial] || s.fingerprints[c.Fingerprint]
}

// Revocations opens the list of what the authority's own files revoke. It is as of now, and
// follows the files after that if its Watch runs or its Refresh is called. Its Since is the
// feed for other components, with numbers that only grow if noted is set.
func (a *Authority) Revocations(noted bool, log *slog.Logger) (*trust.RevocationList, error) {
	cfg := trust.ListConfig{FS: a.options.FS, Authorities: a.signers, Log: log}
	cfg.Files = []trust.ListFile{{Path: a.paths.Revocations, MayBeMissing: true, Ledger: true}}
	for _, f := range a.options.Lists {
		cfg.Files = append(cfg.Files, trust.ListFile{Path: f, MayBeMissing: true})
	}
	if noted {
		cfg.NoteLists = a.NoteLists
	}
	return trust.OpenRevocations(cfg)
}

// NoteLists is trust.ListConfig.NoteLists for this authority's ledger.
func (a *Authority) NoteLists(digest string) error {
	ledger, unlock, err := a.lockedLedger()
	if err != nil {
		return err
	}
	defer unlock()
	return ledger.NoteLists(digest)
}

// Entries returns what this authority has revoked itself, in the order in which it did.
func (a *Authority) Entries() ([]trust.Entry, error) {
	ledger, unlock, err := a.lockedLedger()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return ledger.Entries(), nil
}

// Adopt revokes what another copy of this authority has revoked, and returns how many entries
// were new. They get numbers of their own.
func (a *Authority) Adopt(entries []trust.Entry) (added int, err error) {
	ledger, unlock, err := a.lockedLedger()
	if err != nil {
		return 0, err
	}
	defer unlock()
	has := make(map[trust.Entry]bool)
	for _, e := range ledger.Entries() {
		has[e.Unnumbered()] = true
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e trust.Entry) bool { return has[e.Unnumbered()] })
	if len(entries) == 0 {
		return 0, nil
	}
	numbered, err := ledger.Append(entries...)
	return len(numbered), err
}

// Status is what a certificate is worth now.
type Status string

// The states. A revoked certificate stays revoked when it has expired.
const (
	Active  Status = "active"
	Revoked Status = "revoked"
	Expired Status = "expired"
)

// StatusOf looks a certificate up in a list. The entry is the one that revokes it.
func (a *Authority) StatusOf(c Issued, list *trust.RevocationList) (Status, trust.Entry) {
	e, revoked := list.Find(trust.Certificate{Names: []string{c.Name}, Serial: c.Serial, Fingerprint: c.Fingerprint,
		Issuers: []string{c.Signer, mtls.Issuer(a.root)}, NotBefore: c.NotBefore})
	switch {
	case revoked:
		return Revoked, e
	case a.options.Clock.Now().After(c.NotAfter):
		return Expired, e
	}
	return Active, e
}

// readmit lets a name have certificates again, if it was revoked as a whole: its old
// certificates stay revoked, one by one in the lists of names, and those that are in no
// record by the time from which new ones are valid. It returns that time; it is zero if the
// name never was revoked as a whole.
func (a *Authority) readmit(name string, allowed bool) (from time.Time, err error) {
	ledger, err := a.openLedger()
	if err != nil {
		return from, err
	}
	list, err := a.Revocations(false, nil)
	if err != nil {
		return from, err
	}
	have := revokedIn(ledger.Entries())
	from = have.before[name]
	if !list.RevokesName(name) {
		return from, nil
	}
	if !allowed {
		return from, fmt.Errorf("%q is revoked: %w", name, mtls.ErrRevoked)
	}
	now := a.options.Clock.Now().UTC().Truncate(time.Second)
	reason := "issued again"
	for _, e := range ledger.Entries() {
		if e.Scope == trust.ScopeName && e.Name == name && e.Reason != "" {
			reason = e.Reason
		}
	}
	from = now
	var old, entries []trust.Entry
	for _, c := range a.history.of(name) {
		if !c.NotBefore.Before(from) {
			from = c.NotBefore.Add(time.Second)
		}
		if now.After(c.NotAfter) {
			continue
		}
		e := entryOf(c)
		e.Reason, e.Code, e.RevokedAt = reason, trust.ParseReason(reason), now
		old = append(old, e)
		if !have.certificate(c) {
			entries = append(entries, e)
		}
	}
	entries = append(entries, trust.Entry{Scope: trust.ScopeName, Name: name, IssuedBefore: from, Reason: reason, Code: trust.ParseReason(reason), RevokedAt: now})
	if _, err := ledger.Append(entries...); err != nil {
		return from, err
	}
	for _, file := range a.options.Lists {
		if err := trust.ReplaceName(a.options.FS, file, name, old); err != nil {
			return from, fmt.Errorf("%q is revoked in %s, which cannot be changed: %w", name, file, err)
		}
	}
	return from, nil
}

// checkNewKey refuses a key whose certificate was revoked: a thief may have it.
func (a *Authority) checkNewKey(key string) error {
	ledger, err := a.openLedger()
	if err != nil {
		return err
	}
	have := revokedIn(ledger.Entries())
	i := slices.IndexFunc(a.history.list, func(c Issued) bool { return c.Key == key && have.certificate(c) })
	if i < 0 {
		return nil
	}
	return &hintError{fmt.Sprintf("this key was in certificate %s of %q, which is revoked", a.history.list[i].Serial, a.history.list[i].Name), "make a new key"}
}

// lockedLedger takes the lock and reads the ledger. The caller must unlock unless there is an error.
func (a *Authority) lockedLedger() (ledger *trust.Ledger, unlock func(), err error) {
	if unlock, err = a.lock(); err != nil {
		return nil, nil, err
	}
	if ledger, err = a.openLedger(); err != nil {
		unlock()
		return nil, nil, err
	}
	return ledger, unlock, nil
}

// openLedger reads the ledger; the lock must be held to append to it.
func (a *Authority) openLedger() (*trust.Ledger, error) {
	return trust.OpenLedger(a.options.FS, a.paths.Revocations, a.paths.revocationsCopy(a.root))
}

// CopyErr says what the copy of the revocations beside the data folder lacks, or nil if it has all.
func (a *Authority) CopyErr() error {
	beside := a.paths.revocationsCopy(a.root)
	if beside == "" {
		return nil
	}
	want, err := a.size(a.paths.Revocations)
	if err != nil {
		return err
	}
	has, err := a.size(beside) // after the other, because the copy is written first
	if err == nil && has < want {
		err = errors.New("it lacks revocations that the data folder has")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", beside, err)
	}
	return nil
}

// size is 0 for a file that does not exist.
func (a *Authority) size(name string) (int64, error) {
	f, err := a.options.FS.OpenFile(name, os.O_RDONLY, 0)
	if durable.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := f.Size()
	return n, errors.Join(err, f.Close())
}
