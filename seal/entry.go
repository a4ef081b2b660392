package seal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// LabelKeyEntry is the label of the signature under an entry of the key directory.
const LabelKeyEntry Label = "SealMQ v1 key entry"

// MaxKeyEntryBytes bounds an entry of the key directory.
const MaxKeyEntryBytes = 3*2 + maxEntryBody + maxSignature + MaxChainBytes

const (
	maxEntryBody = 4096
	// entryVersion is that of entries that name their directory.
	entryVersion = 2
)

// KeyEntry is a public key with its owner's signature: what a key directory has to show
// before anybody seals for the key. The entries of one owner and suite form a chain: each
// names the one before it.
//
// An entry that ParseKeyEntry returned is signed by the owner of the certificate that it
// carries. Verify reports whether that owner is the one that the entry names.
type KeyEntry struct {
	// Owner is the name of whose key it is, as senders and receivers know it.
	Owner string
	// Key is the key; it belongs to a suite.
	Key *PublicKey
	// Created is the owner's time, in whole milliseconds.
	Created time.Time
	// Serial counts the owner's entries of this suite from one.
	Serial uint64
	// Previous is the Hash of the entry with the serial before, all zeros in the first.
	Previous [32]byte
	// Directory names the key directory that the entry is for, so that no other one can show
	// it. It is all zeros in entries of the first version, which name none.
	Directory [32]byte

	hash  [32]byte
	chain []*x509.Certificate
}

// NewKeyEntry signs an entry. An empty Owner means the signer's name, a zero Serial the
// first entry, a zero Created now.
func NewKeyEntry(signer *Signer, e KeyEntry) ([]byte, error) {
	if signer == nil || e.Key == nil {
		return nil, errors.New("an entry needs a signer and a key")
	}
	e.Owner = cmp.Or(e.Owner, signer.name)
	if e.Owner != signer.name {
		return nil, refuse(ErrSender, "", "%s cannot sign an entry of %s", signer.name, e.Owner)
	}
	e.Serial = cmp.Or(e.Serial, 1)
	if e.Created.IsZero() {
		e.Created = time.Now()
	}
	var f fields
	raw := e.Key.Bytes()
	e.body(&f, &e.Key.suite, &raw)
	sig, err := signer.Sign(LabelKeyEntry, f.p)
	if err != nil {
		return nil, err
	}
	entry := (&signed{f.p, sig, signer.chain}).append(nil)
	// What readers would refuse must not be signed.
	_, err = parseKeyEntry(entry, func(_ Suite, raw []byte) (*PublicKey, error) {
		return &PublicKey{e.Key.keyOf, e.Key.alg}, nil
	})
	if err != nil {
		return nil, err
	}
	return entry, nil
}

// body is what is signed:
//
//	0    1  version: 2, or 1 if it names no directory
//	1  2+n  owner
//	   2+n  suite, its name
//	     8  created, milliseconds since 1970
//	     8  serial
//	    32  SHA-256 of the body of the entry before, or zeros
//	   2+n  public key
//	    32  directory, from version 2 on
func (e *KeyEntry) body(f *fields, suite *Suite, key *[]byte) {
	version, created := byte(formatVersion), e.Created.UnixMilli()
	if e.Directory != [32]byte{} {
		version = entryVersion
	}
	integer(f, &version, 1)
	prefixed(f, &e.Owner)
	prefixed(f, suite)
	integer(f, &created, 8)
	integer(f, &e.Serial, 8)
	f.array(e.Previous[:])
	prefixed(f, key)
	if version == entryVersion {
		f.array(e.Directory[:])
	}
	e.Created = time.UnixMilli(created).UTC()
}

// ParseKeyEntry reads an entry and checks that the owner of its leaf certificate has
// signed it. It accounts for every byte. Whether the certificate is to be trusted, and
// whether it is Owner's, is not checked: Verify does that. The error wraps
// ErrMalformed, ErrVersion, ErrSuite or ErrSignature.
func ParseKeyEntry(b []byte, legacy ...Legacy) (*KeyEntry, error) {
	return parseKeyEntry(b, func(s Suite, raw []byte) (*PublicKey, error) {
		if !slices.Contains(Suites(legacy...), s) {
			return nil, refuse(ErrSuite, "install a newer SealMQ", "the key entry is of suite %.64q, which is not known here", s)
		}
		key, err := NewPublicKey(s, raw, legacy...)
		if err != nil {
			return nil, &Error{Kind: ErrMalformed, Err: err}
		}
		return key, nil
	})
}

func parseKeyEntry(b []byte, newKey func(Suite, []byte) (*PublicKey, error)) (*KeyEntry, error) {
	s, err := parseSigned(b, "the key entry")
	if err != nil {
		return nil, err
	}
	if len(s.content) > maxEntryBody {
		return nil, malformed("the key entry has %d bytes, and %d are allowed", len(s.content), maxEntryBody)
	}
	e, err := parseEntryBody(s.content, newKey)
	if err != nil {
		return nil, err
	}
	if e.chain, err = ParseChain(s.chain); err != nil {
		return nil, err
	}
	if err := maySign(e.chain[0]); err != nil {
		return nil, &Error{Kind: ErrSignature, Err: err}
	}
	if err := CheckSignature(e.chain[0], LabelKeyEntry, s.content, s.signature); err != nil {
		return nil, err
	}
	return e, nil
}

func parseEntryBody(body []byte, newKey func(Suite, []byte) (*PublicKey, error)) (*KeyEntry, error) {
	if len(body) > 0 && body[0] != formatVersion && body[0] != entryVersion {
		return nil, refuse(ErrVersion, "install a newer SealMQ", "the key entry is of version %d, and versions up to %d are known here", body[0], entryVersion)
	}
	f := fields{p: body, reading: true}
	e := &KeyEntry{hash: sha256.Sum256(body)}
	var suite Suite
	var raw []byte
	e.body(&f, &suite, &raw)
	if err := f.end("the key entry's body"); err != nil {
		return nil, err
	}
	switch first := e.Previous == [32]byte{}; {
	case uint64(e.Created.UnixMilli()) > maxMillis:
		return nil, malformed("the key entry's time is after the year 9999")
	case e.Serial == 0:
		return nil, malformed("the key entry has no serial")
	case body[0] == entryVersion && e.Directory == [32]byte{}:
		return nil, malformed("the key entry names no directory")
	case first != (e.Serial == 1):
		return nil, malformed("entry %d does not follow the one before it", e.Serial)
	}
	if err := checkText("owner", e.Owner); err != nil {
		return nil, &Error{Kind: ErrMalformed, Err: err}
	}
	key, err := newKey(suite, raw)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Bytes(), raw) {
		return nil, malformed("the public key is not spelled as it should be")
	}
	key.created = e.Created
	e.Key = key
	return e, nil
}

// Hash names the entry: the SHA-256 of what its owner signed.
func (e *KeyEntry) Hash() [32]byte { return e.hash }

// PublicKey is the key that the entry is about.
func (e *KeyEntry) PublicKey() *PublicKey { return e.Key }

// Suite is the suite of its key.
func (e *KeyEntry) Suite() Suite { return e.Key.suite }

// Verify reports whether the entry is want's: its certificates are trusted, were valid
// when it was made, are not revoked now, and give their owner this name. It returns
// whose the certificates are. now is the time of day; an entry from the future is
// refused. The error wraps what a Verifier's does, or ErrSender or ErrTime.
func (e *KeyEntry) Verify(v Verifier, want string, now time.Time) (Sender, error) {
	if e.Owner != want {
		return Sender{}, refuse(ErrSender, "", "the key entry is of %q, and %q was asked for", e.Owner, want)
	}
	if e.Created.After(now.Add(DefaultMaxSkew)) {
		return Sender{}, refuse(ErrTime, "check the clocks of this machine and of the key's owner",
			"the key entry of %s was made on %s, which is in the future", e.Owner, date(e.Created))
	}
	sender, err := v.Verify(e.chain, e.Created)
	if err != nil {
		return Sender{}, e.explain(err)
	}
	if sender.ID != e.Owner {
		return Sender{}, refuse(ErrSender, "", "the key entry of %q is signed with a certificate of %q", e.Owner, sender.ID)
	}
	return sender, nil
}

// explain says of a Verifier's error, which speaks of messages, what it means for a key.
func (e *KeyEntry) explain(err error) error {
	kind, hint := kindOf(err), "ask for the key in another way, and compare fingerprints"
	detail := fmt.Sprintf("key entry %d of %s", e.Serial, e.Owner)
	again := fmt.Sprintf("ask %s to publish the key again with a certificate that is valid", e.Owner)
	switch kind {
	case ErrExpired, ErrNotYetValid:
		leaf := e.chain[0]
		return refuse(kind, again, "%s of %s, whose certificate is for %s to %s", detail, date(e.Created), date(leaf.NotBefore), date(leaf.NotAfter))
	case ErrRevoked:
		hint = again
	case ErrUndecided:
		hint = "try again later"
	}
	return &Error{Kind: kind, Detail: detail, Remedy: hint, Err: cause(err)}
}

// cause leaves the kind out of an error whose kind is said already.
func cause(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Err != nil:
		return e.Err
	case e.Detail != "":
		return errors.New(e.Detail)
	}
	return nil
}
