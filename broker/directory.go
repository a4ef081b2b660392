package broker

import (
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// DirectoryConfig switches the proven key directory on: entries that their owners have
// signed, and a log of everything that was ever put into the directory.
type DirectoryConfig struct {
	// Signer signs the log's checkpoints. It must stay the same for the life of the store:
	// with another one clients must take the log for another one.
	Signer *keylog.Signer
	// Verifier says whose the certificates of an entry are.
	Verifier seal.Verifier
}

// slot is a place for a key: that of an owner and a suite, or, with an empty suite, that
// of a client's bare key.
type slot struct{ owner, suite string }

// PutKeyEntry stores the caller's next entry of a suite. It must be well formed, be
// signed with a certificate of the caller's own name and authority, and follow the
// current one. done gets the entry's place in the log. The entry that is there already is a
// success that changes nothing.
func (b *Broker) PutKeyEntry(id Caller, suite string, entry []byte, done func(index int64, err error)) {
	d := b.directory
	if d == nil {
		done(0, errNoDirectory)
		return
	}
	e, err := b.checkEntry(id, suite, entry)
	if err != nil {
		done(0, err)
		return
	}
	at := slot{e.Owner, string(e.Suite())}
	leaf := keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: id.Issuer, Suite: at.suite, Serial: e.Serial, Hash: e.Hash()}
	b.lock()
	defer b.unlock()
	index, there, err := d.room(at, leaf, e.Previous, b.keys.Load().len(), b.limits)
	if err == nil && !there {
		err = b.keyRates.take(id, b.clock.Now())
	}
	if there || err != nil {
		done(index, err)
		return
	}
	next := &logged{leaf: leaf, data: append([]byte(nil), entry...)}
	batch, record := d.begin(at, next, func(index int64, err error) {
		if err == nil {
			b.log.Info("key entry stored", "client", at.owner, "suite", at.suite, "serial", leaf.Serial)
			b.audit(id.ID, string(actPutEntry), at.owner, nil)
		}
		done(index, err)
	})
	b.define(append(batch, defineEntry(at, next)), record)
}

// checkEntry reports whether an entry is the caller's own.
func (b *Broker) checkEntry(id Caller, suite string, entry []byte) (*seal.KeyEntry, error) {
	bad := func(err error) error {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the key entry is refused: " + err.Error()}
	}
	if len(entry) > seal.MaxKeyEntryBytes {
		return nil, &sealmq.Error{Code: sealmq.BadArgument,
			Message: "the key entry is longer than " + strconv.Itoa(seal.MaxKeyEntryBytes) + " bytes"}
	}
	e, err := seal.ParseKeyEntry(entry)
	if err != nil {
		return nil, bad(err)
	}
	if string(e.Suite()) != suite {
		return nil, &sealmq.Error{Code: sealmq.BadArgument, Message: "the key entry is of another suite than the command says"}
	}
	if err := checkClient(e.Owner); err != nil {
		return nil, err
	}
	if err := b.allow(id, actPutEntry, e.Owner); err != nil {
		return nil, err
	}
	if e.Owner != id.ID { // nobody signs for others, administrators included
		return nil, denied(actPutEntry, e.Owner)
	}
	signer, err := e.Verify(b.directory.verifier, id.ID, b.clock.Now())
	if err != nil {
		return nil, bad(err)
	}
	if signer.Issuer != id.Issuer {
		return nil, &sealmq.Error{Code: sealmq.Denied,
			Message: "not allowed to put a key entry that is signed with a certificate of another authority than the connection's"}
	}
	return e, nil
}

// FindKey returns the key of a client with the proof that it stands in the log: the entry
// of the suite that is named, or of the best suite that there is if none is. A bare key is
// found if there is no entry, and none or a suite that such keys are for was named. Code
// NoKey if there is nothing.
func (b *Broker) FindKey(id Caller, client, suite string) (keylog.Found, error) {
	if err := b.allow(id, actReadKey, client); err != nil {
		return keylog.Found{}, err
	}
	if b.directory == nil {
		return keylog.Found{}, errNoDirectory
	}
	return b.directory.find(client, suite)
}

// KeyLog returns up to n leaves of the log from a place on, at most keylog.MaxPage, with
// the newest checkpoint.
func (b *Broker) KeyLog(id Caller, from int64, n int) (keylog.Page, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return keylog.Page{}, err
	}
	if b.directory == nil {
		return keylog.Page{}, errNoDirectory
	}
	return b.directory.page(from, n)
}

// KeyProof proves that the log as it was with to leaves continues what it was with from.
func (b *Broker) KeyProof(id Caller, from, to int64) (keylog.Consistency, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return keylog.Consistency{}, err
	}
	if b.directory == nil {
		return keylog.Consistency{}, errNoDirectory
	}
	return b.directory.consistency(from, to)
}

var errNoDirectory = &sealmq.Error{Code: sealmq.Unsupported, Message: "this broker keeps no proven key directory"}

func errNoKey(client, suite string) error {
	message := "no key of '" + client + "' is known"
	if suite != "" {
		message = "no key of '" + client + "' is known for suite " + suite
	}
	return &sealmq.Error{Code: sealmq.NoKey, Message: message}
}

// entryDefinition is what is stored of the current entry of an owner and suite. What can be
// read from the entry stands beside it, because reading it means checking a signature.
type entryDefinition struct {
	Version int    `json:"v"`
	Entry   []byte `json:"entry"`
	Issuer  string `json:"issuer"`
	Serial  uint64 `json:"serial"`
	Hash    []byte `json:"hash"`
}

type leafDefinition struct {
	Version int    `json:"v"`
	Leaf    string `json:"leaf"`
}

func defineEntry(at slot, l *logged) engine.Definition {
	return engine.Definition{Key: entryPrefix + at.suite + " " + at.owner,
		Value: encode(entryDefinition{definitionVersion, l.data, l.leaf.Issuer, l.leaf.Serial, l.leaf.Hash[:]})}
}

// leafKey orders leaves by their sequence number, which may have gaps: a leaf whose
// definition the engine refused is none.
func leafKey(sequence uint64) string {
	s := strconv.FormatUint(sequence, 16)
	return leafPrefix + strings.Repeat("0", 16-len(s)) + s
}

func readEntry(rest string, d engine.Definition) (slot, *logged, error) {
	var v entryDefinition
	if err := decode(d, &v); err != nil {
		return slot{}, nil, err
	}
	suite, owner, ok := strings.Cut(rest, " ")
	if !ok || len(v.Hash) != 32 {
		return slot{}, nil, errDamaged(d, "no such entry is possible")
	}
	leaf := keylog.Leaf{Proven: true, Owner: owner, Issuer: v.Issuer, Suite: suite, Serial: v.Serial, Hash: [32]byte(v.Hash)}
	return slot{owner, suite}, &logged{leaf: leaf, data: v.Entry, index: unlogged}, nil
}

func readLeaf(rest string, d engine.Definition) (storedLeaf, error) {
	var v leafDefinition
	if err := decode(d, &v); err != nil {
		return storedLeaf{}, err
	}
	sequence, err := strconv.ParseUint(rest, 16, 64)
	if err != nil || leafKey(sequence) != d.Key {
		return storedLeaf{}, errDamaged(d, "its number cannot be read")
	}
	leaf, err := keylog.ParseLeaf(v.Leaf)
	if err != nil {
		return storedLeaf{}, errDamaged(d, err.Error())
	}
	return storedLeaf{sequence, leaf}, nil
}
