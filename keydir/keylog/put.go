package keylog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// KeyBytes is the length of a bare public key. CipherMQ's clients register and look up X25519
// keys, and do not prove that they hold the private key.
const KeyBytes = 32

// PutKey registers the bare key of a client. done is told whether it is another key than
// before. Only clients of the authority whose client registered the key may replace it, and
// administrators.
func (l *Log) PutKey(by sealmq.Identity, client string, key []byte, done func(changed bool, err error)) {
	client = strings.Clone(client)
	if err := l.checkBareKey(by, client, key); err != nil {
		done(false, err)
		return
	}
	next, at := bareKey(client, slices.Clone(key), by.Issuer), slot{client, ""}
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	s := l.at(at)
	known, logged, replaced := false, l.cfg.Signer == nil, s.holds()
	if s.latest != nil {
		if s.latest.next.leaf == next.leaf { // it is being stored: both callers wait for that
			s.latest.batch.done = append(s.latest.batch.done, func(err error) { done(false, err) })
			l.mu.Unlock()
			return
		}
	} else if s.current != nil && s.current.leaf == next.leaf {
		known, logged = true, logged || s.current.index != unlogged
	}
	err := l.bounded(s)
	if err == nil && !known && !s.mayRegister(by) {
		err = &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to replace the key of another authority's '" + client + "', unless an administrator has reset it"}
	}
	l.forget(at)
	l.mu.Unlock()
	if known && (logged || err != nil) {
		done(false, nil)
		return
	}
	if err == nil && !known && l.cfg.Signer != nil {
		err = l.rates.take(by, l.cfg.Now())
	}
	if err != nil {
		done(false, err)
		return
	}
	l.store([]*change{{at: at, next: next}}, []Definition{defineKey(client, key, by)}, func(err error) {
		if err == nil && !known {
			l.cfg.Log.Info("public key registered", "client", client, "by", by.ID, "replaced", replaced)
			l.cfg.Changed(by, WriteKey, client, nil)
		}
		done(err == nil && !known, err)
	})
}

// mayRegister reports whether a client may replace the bare key of a slot, or the one that is
// being stored.
func (s *slotState) mayRegister(by sealmq.Identity) bool {
	r := s.current
	if s.latest != nil {
		r = s.latest.next
	}
	return r == nil || r.leaf.Reset || r.registrar == "" || r.registrar == by.Issuer || by.Role == sealmq.RoleAdmin
}

func (l *Log) checkBareKey(by sealmq.Identity, client string, key []byte) error {
	if err := l.allow(by, WriteKey, client); err != nil {
		return err
	}
	if len(key) != KeyBytes {
		return &sealmq.Error{Code: sealmq.BadArgument,
			Message: "a public key has " + strconv.Itoa(KeyBytes) + " bytes, this one has " + strconv.Itoa(len(key))}
	}
	if _, err := seal.NewPublicKey(ciphermq.G5, key, ciphermq.Suites{}); err != nil {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the public key is refused: " + err.Error()}
	}
	return checkOwner(client)
}

// checkOwner refuses a name for new keys. A name that has keys already may be such a name.
func checkOwner(client string) error {
	why := ""
	switch {
	case Ambiguous(client):
		why = "ends in a blank and the name of a suite"
	case strings.ContainsFunc(client, func(r rune) bool { return !sealmq.Visible(r) }):
		why = "contains a character that cannot be seen or changes how others are read"
	default:
		return nil
	}
	return &sealmq.Error{Code: sealmq.BadName, Message: "no key can be stored for this client: its id " + why}
}

// Ambiguous reports whether the end of a client's name would be read as a suite, or as the
// word for a bare key, in a command that may name one behind it.
func Ambiguous(client string) bool {
	i := strings.LastIndexByte(client, ' ')
	end := client[i+1:]
	return i >= 0 && (end == Unproven || slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(end)))
}

// PutEntry stores the caller's next entry of a suite. It must be well formed, be signed with
// a certificate of the caller's own name and authority, and follow the current one, or its
// reset. Nobody signs for others, administrators included. done gets the entry's place in the
// log. The entry that is there already is a success that changes nothing.
func (l *Log) PutEntry(by sealmq.Identity, suite string, entry []byte, done func(index int64, err error)) {
	e, err := l.readEntry(by, suite, entry)
	if err != nil {
		done(0, err)
		return
	}
	leaf := Leaf{Proven: true, Owner: e.Owner, Issuer: by.Issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
	at, next := leaf.slot(), &record{leaf: leaf, data: slices.Clone(entry)}
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	s := l.at(at)
	if c := s.current; c != nil && c.leaf == leaf && c.index != unlogged {
		l.mu.Unlock()
		done(c.index, nil)
		return
	}
	err = s.mayFollow(leaf, e.Previous)
	if err == nil {
		err = l.bounded(s)
	}
	l.forget(at)
	l.mu.Unlock()
	if err == nil {
		err = l.rates.take(by, l.cfg.Now())
	}
	if err != nil {
		done(0, err)
		return
	}
	l.store([]*change{{at: at, next: next}}, []Definition{defineEntry(next)}, func(err error) {
		if err == nil {
			l.cfg.Log.Info("key entry stored", "client", at.owner, "suite", at.suite, "serial", leaf.Serial)
			l.cfg.Changed(by, PutEntry, at.owner, nil)
		}
		done(next.index, err)
	})
}

// readEntry reads an entry and demands that it is the caller's own.
func (l *Log) readEntry(by sealmq.Identity, suite string, entry []byte) (*seal.KeyEntry, error) {
	bad := func(message string) error { return &sealmq.Error{Code: sealmq.BadArgument, Message: message} }
	switch {
	case l.cfg.Verifier == nil:
		return nil, errNoDirectory
	case len(entry) > seal.MaxKeyEntryBytes:
		return nil, bad("the key entry is longer than " + strconv.Itoa(seal.MaxKeyEntryBytes) + " bytes")
	}
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	if err != nil {
		return nil, bad("the key entry is refused: " + err.Error())
	}
	if string(e.Suite()) != suite {
		return nil, bad("the key entry is of another suite than the command says")
	}
	if err := l.allow(by, PutEntry, e.Owner); err != nil {
		return nil, err
	}
	if err := checkOwner(e.Owner); err != nil {
		return nil, err
	}
	if e.Owner != by.ID {
		return nil, &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to put a key entry of '" + e.Owner + "'"}
	}
	if e.Directory != [32]byte{} && (l.cfg.Signer == nil || e.Directory != ID(l.cfg.Signer.Public())) {
		return nil, bad("the key entry is for another key directory")
	}
	signer, err := e.Verify(l.cfg.Verifier, by.ID, l.cfg.Now())
	if err != nil {
		return nil, bad("the key entry is refused: " + err.Error())
	}
	if signer.Issuer != by.Issuer {
		return nil, &sealmq.Error{Code: sealmq.Denied,
			Message: "not allowed to put a key entry that is signed with a certificate of another authority than the connection's"}
	}
	return e, nil
}

// mayFollow reports whether an entry that names a previous one may be put now.
func (s *slotState) mayFollow(leaf Leaf, previous [32]byte) error {
	mismatch := func(why string) error {
		return &sealmq.Error{Code: sealmq.Mismatch, Message: "the key entry does not follow the current one: " + why}
	}
	c, reset := s.current, s.reset
	switch {
	case s.busy > 0:
		return errBusy(leaf.Owner)
	case c == nil && reset == nil && leaf.Serial != 1:
		return mismatch("there is none before it")
	case c == nil && reset != nil && (leaf.Serial != reset.leaf.Serial+1 || previous != [32]byte(reset.leaf.Record())):
		return mismatch("the one before it was reset by an administrator, and it does not name that")
	case c == nil:
		return nil
	case c.leaf.Issuer != leaf.Issuer:
		return &sealmq.Error{Code: sealmq.Denied,
			Message: OtherAuthority(leaf.Owner)}
	case leaf.Serial != c.leaf.Serial+1:
		return mismatch(fmt.Sprintf("it has serial %d, and the current one has %d", leaf.Serial, c.leaf.Serial))
	case previous != c.leaf.Hash:
		return mismatch("it names another one before it")
	}
	return nil
}

// allow checks the name of a client, and asks whether the caller may. A client is named by
// the common name of its certificate, which may contain spaces, so this is looser than
// sealmq.CheckName.
func (l *Log) allow(by sealmq.Identity, act Action, client string) error {
	switch {
	case client == "":
		return &sealmq.Error{Code: sealmq.BadName, Message: "client id is empty"}
	case len(client) > sealmq.MaxNameBytes:
		return &sealmq.Error{Code: sealmq.BadName,
			Message: "client id is longer than " + strconv.Itoa(sealmq.MaxNameBytes) + " bytes"}
	}
	if err := sealmq.CheckLine("client id", client, sealmq.BadName); err != nil {
		return err
	}
	return l.cfg.Allow(by, act, client)
}
