package seal

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// LabelKeyEntry is the label of the signature under an entry of the key directory.
const LabelKeyEntry Label = "SealMQ v1 key entry"

// MaxKeyEntryBytes bounds an entry of the key directory.
const MaxKeyEntryBytes = 3*2 + maxEntryBody + maxSignature + MaxChainBytes

const maxEntryBody = 4096

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

	hash  [32]byte
	chain []*x509.Certificate
}

// NewKeyEntry signs an entry. An empty Owner means the signer's name, a zero Serial the
// first entry, a zero Created now.
func NewKeyEntry(signer *Signer, e KeyEntry) ([]byte, error) {
	if signer == nil || e.Key == nil {
		return nil, errors.New("an entry needs a signer and a key")
	}
	if e.Owner == "" {
		e.Owner = signer.name
	}
	if e.Owner != signer.name {
		return nil, refuse(ErrSender, "", "%s cannot sign an entry of %s", signer.name, e.Owner)
	}
	if e.Serial == 0 {
		e.Serial = 1
	}
	if e.Created.IsZero() {
		e.Created = time.Now()
	}
	body := e.appendBody(nil)
	sig, err := signer.Sign(LabelKeyEntry, body)
	if err != nil {
		return nil, err
	}
	entry := appendPrefixed(nil, body)
	entry = appendPrefixed(entry, sig)
	entry = appendPrefixed(entry, signer.chain)
	// What readers would refuse must not be signed.
	_, err = parseKeyEntry(entry, func(_ Suite, raw []byte) (*PublicKey, error) {
		return &PublicKey{suite: e.Key.suite, alg: e.Key.alg}, nil
	})
	if err != nil {
		return nil, err
	}
	return entry, nil
}

// appendBody encodes what is signed:
//
//	0    1  version, 1
//	1  2+n  owner
//	   2+n  suite, its name
//	     8  created, milliseconds since 1970
//	     8  serial
//	    32  SHA-256 of the body of the entry before, or zeros
//	   2+n  public key
func (e *KeyEntry) appendBody(dst []byte) []byte {
	dst = append(dst, formatVersion)
	dst = appendPrefixed(dst, e.Owner)
	dst = appendPrefixed(dst, e.Key.suite)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Created.UnixMilli()))
	dst = binary.BigEndian.AppendUint64(dst, e.Serial)
	dst = append(dst, e.Previous[:]...)
	return appendPrefixed(dst, e.Key.Bytes())
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
	r := reader{b}
	body, ok1 := r.prefixed()
	sig, ok2 := r.prefixed()
	encoded, ok3 := r.prefixed()
	switch {
	case !ok1 || !ok2 || !ok3:
		return nil, malformed("the key entry is cut")
	case len(r.p) > 0:
		return nil, malformed("something follows the key entry")
	case len(body) > maxEntryBody:
		return nil, malformed("the key entry has %d bytes, and %d are allowed", len(body), maxEntryBody)
	case len(sig) > maxSignature:
		return nil, malformed("the signature has %d bytes, and %d are allowed", len(sig), maxSignature)
	}
	e, err := parseEntryBody(body, newKey)
	if err != nil {
		return nil, err
	}
	if e.chain, err = ParseChain(encoded); err != nil {
		return nil, err
	}
	if err := maySign(e.chain[0]); err != nil {
		return nil, &Error{Kind: ErrSignature, Err: err}
	}
	if err := CheckSignature(e.chain[0], LabelKeyEntry, body, sig); err != nil {
		return nil, err
	}
	return e, nil
}

func parseEntryBody(body []byte, newKey func(Suite, []byte) (*PublicKey, error)) (*KeyEntry, error) {
	if len(body) > 0 && body[0] != formatVersion {
		return nil, refuse(ErrVersion, "install a newer SealMQ", "the key entry is of version %d, and version %d is known here", body[0], formatVersion)
	}
	r := reader{body}
	_, ok0 := r.uint8()
	owner, ok1 := r.prefixed()
	name, ok2 := r.prefixed()
	created, ok3 := r.uint64()
	serial, ok4 := r.uint64()
	previous, ok5 := r.take(32)
	raw, ok6 := r.prefixed()
	switch {
	case !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6:
		return nil, malformed("the key entry is cut")
	case len(r.p) > 0:
		return nil, malformed("something follows the key entry's body")
	case created > maxMillis:
		return nil, malformed("the key entry's time is after the year 9999")
	case serial == 0:
		return nil, malformed("the key entry has no serial")
	}
	e := &KeyEntry{Owner: string(owner), Created: time.UnixMilli(int64(created)).UTC(), Serial: serial,
		Previous: [32]byte(previous), hash: sha256.Sum256(body)}
	if err := checkText("owner", e.Owner); err != nil {
		return nil, &Error{Kind: ErrMalformed, Err: err}
	}
	if first := e.Previous == [32]byte{}; first != (serial == 1) {
		return nil, malformed("entry %d does not follow the one before it", serial)
	}
	key, err := newKey(Suite(name), raw)
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
	var kind error = ErrUntrusted
	hint := "ask for the key in another way, and compare fingerprints"
	for _, k := range []error{ErrUndecided, ErrRevoked, ErrExpired, ErrNotYetValid} {
		if errors.Is(err, k) {
			kind = k
			break
		}
	}
	detail := fmt.Sprintf("key entry %d of %s", e.Serial, e.Owner)
	switch kind {
	case ErrExpired, ErrNotYetValid:
		leaf := e.chain[0]
		return refuse(kind, fmt.Sprintf("ask %s to publish the key again with a certificate that is valid", e.Owner),
			"%s of %s, whose certificate is for %s to %s", detail, date(e.Created), date(leaf.NotBefore), date(leaf.NotAfter))
	case ErrRevoked:
		hint = fmt.Sprintf("ask %s to publish the key again with a certificate that is valid", e.Owner)
	case ErrUndecided:
		hint = "try again later"
	}
	return &Error{Kind: kind, Detail: detail, Hint: hint, Err: cause(err)}
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
