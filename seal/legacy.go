package seal

import (
	"encoding/pem"
	"errors"
	"io"
	"slices"
	"time"
)

// Legacy is a set of suites of another program, for those who exchange messages with it.
// Package ciphermq has those of CipherMQ. They do not say who sent a message: anybody who
// has the public key can seal. This package knows them only where they are passed in.
type Legacy interface {
	// Suites lists their names.
	Suites() []Suite
	// Generate makes a key of a suite. bits is its size where there is a choice; 0 is the
	// default.
	Generate(s Suite, bits int) (LegacyPrivateKey, error)
	// PublicKey and PrivateKey make keys of their Bytes.
	PublicKey(s Suite, raw []byte) (LegacyPublicKey, error)
	PrivateKey(s Suite, raw []byte) (LegacyPrivateKey, error)
	// PublicPEM and PrivatePEM read a key in the form of the other program. The suite is
	// empty if the block is something else.
	PublicPEM(b *pem.Block) (Suite, LegacyPublicKey, error)
	PrivatePEM(b *pem.Block) (Suite, LegacyPrivateKey, error)
	// Inspect reads an envelope without a key, as the function does. The error wraps
	// ErrNotSealed if the body is no envelope of these suites.
	Inspect(body []byte) (*Info, error)
}

// LegacyPublicKey is what senders need of a receiver. It is safe for concurrent use.
type LegacyPublicKey interface {
	Bytes() []byte
	Bits() int
	// Suites are those that the key can be used with.
	Suites() []Suite
	// Family names the kind of key in fingerprints. If it is empty, the fingerprint is the
	// SHA-256 of Bytes.
	Family() string
	// PEM is the key in the form of the other program, nil if it has none.
	PEM() *pem.Block
	// Warning is a sentence for a person who is about to rely on the key, or "".
	Warning() string
	// Seal makes an envelope of a suite for a receiver, with randomness from random.
	Seal(s Suite, receiver string, c Content, at time.Time, random io.Reader) ([]byte, error)
}

// LegacyPrivateKey opens what was sealed for its public half. It is safe for concurrent use.
type LegacyPrivateKey interface {
	Bytes() []byte
	Public() LegacyPublicKey
	PEM() *pem.Block
	// Open opens an envelope that Inspect has read. The error wraps ErrMalformed,
	// ErrWrongKey or ErrChanged.
	Open(body []byte) (text []byte, err error)
}

// legacyOf finds the set that has a suite, or nil.
func legacyOf(s Suite, known []Legacy) Legacy {
	for _, l := range known {
		if slices.Contains(l.Suites(), s) {
			return l
		}
	}
	return nil
}

// inspectLegacy reads a body that names no suite of this package.
func inspectLegacy(body []byte, known []Legacy) (*Info, error) {
	for _, l := range known {
		if info, err := l.Inspect(body); !errors.Is(err, ErrNotSealed) {
			return info, err
		}
	}
	return nil, notSealed()
}

// openLegacy opens an envelope that names no suite of this package.
func (o *Opener) openLegacy(body []byte, want Expect) (*Message, error) {
	info, err := inspectLegacy(body, o.cfg.Legacy)
	if err != nil {
		return nil, err
	}
	if !want.AnyID && info.ID != want.ID {
		return nil, errOtherID(info.ID, want)
	}
	if len(info.Receivers) > 0 && !slices.Contains(info.Receivers, o.cfg.Name) {
		return nil, refuse(ErrReceiver, "", "it is for %q, and this is %q", clip(info.Receivers[0]), o.cfg.Name)
	}
	var refused error = refuse(ErrSuite, "to accept messages of anybody who knows the public key, name their suite, and have a key for it",
		"it is of suite %s, which does not say who sent it", info.Suites[0])
	for _, k := range o.keys.Load().legacy {
		alg := k.alg.(LegacyPrivateKey)
		fits := func(s Suite) bool { return slices.Contains(info.Suites, s) }
		if !o.accepts(k.suite) || !slices.ContainsFunc(alg.Public().Suites(), fits) {
			continue
		}
		text, err := alg.Open(body)
		if err == nil {
			if want.Exchange != "" || want.RoutingKey != "" {
				return nil, refuse(ErrRoute, "", "suite %s does not say where a message was sent", k.suite)
			}
			return &Message{Suite: k.suite, ID: info.ID, Text: text, Receivers: []string{o.cfg.Name}}, nil
		}
		// That a key is another one says least of all that can be said.
		if errors.Is(refused, ErrSuite) || errors.Is(refused, ErrWrongKey) {
			refused = err
		}
	}
	return nil, refused
}
