// Package seal makes and opens end-to-end envelopes: a message is sealed for its
// receivers' keys before it leaves the sender, and everything in between carries
// ciphertext.
//
// A suite is one way of doing that. The suites HPKEHybrid (the default) and HPKEX25519
// hide the text, prove the sender, and bind the message id, the sender, the receivers, the
// exchange, the routing key, the time and a sequence number. A Sealer makes such envelopes,
// and an Opener opens and checks them. An Opener remembers nothing: package receive tells a
// repeated message from a new one. Suites of other programs are Legacy suites, and known
// only where they are passed in.
//
// The format is specified in docs/sealing.md. This package promises that it opens what that
// page describes and nothing else, that it returns no text before every check has passed,
// and that neither an error nor a log line contains plaintext or key material.
//
// It does not read or write files, does not talk to a broker, and does not decide whom to
// trust: a Verifier does.
package seal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Suite names a way of sealing. The names appear on command lines, in files and in
// envelopes, and do not change.
type Suite string

// The suites that say who sent a message and which one it is.
const (
	// HPKEHybrid is the default. Its epochs are opened by HPKE (RFC 9180) with the key
	// encapsulation MLKEM768-X25519, also known as X-Wing: an attacker has to
	// break both ML-KEM, which resists quantum computers as far as is known,
	// and X25519. It adds about 1.1 KiB to each message.
	HPKEHybrid Suite = "hpke-mlkem768x25519-aes256gcm"
	// HPKEX25519 is the same with DHKEM(X25519, HKDF-SHA256) alone, for constrained
	// clients: messages that are recorded today can be read with a quantum computer
	// one day.
	HPKEX25519 Suite = "hpke-x25519-aes256gcm"
)

// DefaultSuite is what a new key should belong to.
const DefaultSuite = HPKEHybrid

// Suites lists the names of all suites, the default first, and then those of the legacy ones.
func Suites(legacy ...Legacy) []Suite {
	list := []Suite{HPKEHybrid, HPKEX25519}
	for _, l := range legacy {
		list = append(list, l.Suites()...)
	}
	return list
}

// Proves reports whether messages of the suite say who sent them.
func (s Suite) Proves() bool { return s == HPKEHybrid || s == HPKEX25519 }

func errUnknownSuite(s Suite, legacy []Legacy) error {
	var known []string
	for _, s := range Suites(legacy...) {
		known = append(known, string(s))
	}
	return fmt.Errorf("no suite is named %q; there is %s", string(s), strings.Join(known, ", "))
}

// publicAlg is a kemPublic or a LegacyPublicKey.
type publicAlg interface {
	Bytes() []byte
	Bits() int
}

// privateAlg is a kemPrivate or a LegacyPrivateKey.
type privateAlg interface{ Bytes() []byte }

// algOf makes a key of a suite, which is ours or a legacy one.
func algOf[A any](s Suite, legacy []Legacy, ours func(*kem) (A, error), theirs func(Legacy) (A, error)) (alg A, err error) {
	if k := kemOf(s); k != nil {
		return ours(k)
	}
	if l := legacyOf(s, legacy); l != nil {
		return theirs(l)
	}
	return alg, errUnknownSuite(s, legacy)
}

// keyOf is what the two halves of a key have in common.
type keyOf struct {
	suite   Suite
	created time.Time
}

// Suite is the suite that the key belongs to.
func (k *keyOf) Suite() Suite { return k.suite }

// Created is when the key was made, or zero if its file does not say.
func (k *keyOf) Created() time.Time { return k.created }

// PublicKey is what senders need of a receiver. It is safe for concurrent use.
type PublicKey struct {
	keyOf
	alg publicAlg
}

// NewPublicKey makes a key of its bytes: 1216 for HPKEHybrid, 32 for HPKEX25519.
func NewPublicKey(name Suite, raw []byte, legacy ...Legacy) (*PublicKey, error) {
	alg, err := algOf(name, legacy,
		func(k *kem) (publicAlg, error) { return k.public(raw) },
		func(l Legacy) (publicAlg, error) { return l.PublicKey(name, raw) })
	if err != nil {
		return nil, err
	}
	return &PublicKey{keyOf{suite: name}, alg}, nil
}

// Bytes is the key in the form that NewPublicKey reads.
func (k *PublicKey) Bytes() []byte { return k.alg.Bytes() }

// Bits is the size of the key as its kind counts it. It says something about strength
// only between keys of one suite.
func (k *PublicKey) Bits() int { return k.alg.Bits() }

// Warning is a sentence for a person who is about to rely on the key, or "".
func (k *PublicKey) Warning() string {
	if l, ok := k.alg.(LegacyPublicKey); ok {
		return l.Warning()
	}
	return ""
}

// WithSuite is the same key for another suite, where the two have their keys in common, as
// some of CipherMQ's have. Which of them a receiver reads is nowhere in its key.
func (k *PublicKey) WithSuite(name Suite) (*PublicKey, error) {
	suites := []Suite{k.suite}
	if l, ok := k.alg.(LegacyPublicKey); ok {
		suites = l.Suites()
	}
	if !slices.Contains(suites, name) {
		return nil, fmt.Errorf("a key of suite %s cannot be used with %s", k.suite, name)
	}
	return &PublicKey{keyOf{name, k.created}, k.alg}, nil
}

// String is the suite and the fingerprint.
func (k *PublicKey) String() string { return string(k.suite) + " " + k.Fingerprint() }

// PrivateKey opens what was sealed for its public half. It is safe for concurrent use.
// It prints as "[redacted]".
type PrivateKey struct {
	redacted
	keyOf
	alg privateAlg
}

// NewPrivateKey makes a key of its bytes, which are 32 for the suites of this package.
func NewPrivateKey(name Suite, raw []byte, legacy ...Legacy) (*PrivateKey, error) {
	alg, err := algOf(name, legacy,
		func(k *kem) (privateAlg, error) { return k.private(raw) },
		func(l Legacy) (privateAlg, error) { return l.PrivateKey(name, raw) })
	if err != nil {
		return nil, err
	}
	return &PrivateKey{keyOf: keyOf{suite: name}, alg: alg}, nil
}

// Generate makes a key of the suite. bits is the key's size where a legacy suite leaves a
// choice; 0 is the suite's default.
func Generate(name Suite, bits int, legacy ...Legacy) (*PrivateKey, error) {
	alg, err := algOf(name, legacy,
		func(k *kem) (privateAlg, error) { return k.generate(bits) },
		func(l Legacy) (privateAlg, error) { return l.Generate(name, bits) })
	if err != nil {
		return nil, err
	}
	return &PrivateKey{keyOf: keyOf{name, time.Now().UTC().Truncate(time.Second)}, alg: alg}, nil
}

// Public is the half that senders need.
func (k *PrivateKey) Public() *PublicKey {
	var alg publicAlg
	switch key := k.alg.(type) {
	case kemPrivate:
		alg = key.public()
	case LegacyPrivateKey:
		alg = key.Public()
	}
	return &PublicKey{k.keyOf, alg}
}

// redacted keeps what embeds it out of everything that fmt prints, whatever the verb, and
// out of logs and JSON.
type redacted struct{}

func (redacted) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

func (redacted) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func (redacted) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// NewID makes a message id: a random UUID (version 4), as CipherMQ's clients do.
func NewID() string {
	var u [16]byte
	rand.Read(u[:]) // never fails: the runtime stops the program instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
