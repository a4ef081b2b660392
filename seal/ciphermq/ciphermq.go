// Package ciphermq has the suites of CipherMQ, bit for bit, for those who exchange messages
// with its clients. Who wants them passes Suites to package seal.
//
// They hide a text and detect a changed one, and nothing more. They do not say who sent a
// message: anybody who has the public key can seal. They do not bind the message id, the
// exchange or the routing key, so anybody who carries an envelope can give it another id or
// repeat it.
package ciphermq

import (
	"encoding/pem"
	"fmt"
	"io"
	"slices"

	"github.com/sealmq/sealmq/seal"
)

// The suites of CipherMQ's generations.
const (
	// RSA is generation G2 (versions 0.2.0 to 1.2.0): AES-128-GCM under a key that is
	// wrapped with RSAES-OAEP (SHA-1).
	RSA seal.Suite = "ciphermq-rsa"
	// G3 (version 1.3) is AES-256-GCM under a key in a libsodium sealed box.
	G3 seal.Suite = "ciphermq-g3"
	// G4 (version 1.4.0) is ChaCha20-Poly1305 with its tag apart, under a key in a
	// libsodium sealed box.
	G4 seal.Suite = "ciphermq-g4"
	// G5 (versions 1.4.1 and 1.4.2) is ChaCha20-Poly1305 under a key in a libsodium sealed
	// box.
	G5 seal.Suite = "ciphermq-g5"
	// G6 (version 1.5) is G5 with a sealed box of its own that libsodium does not open.
	G6 seal.Suite = "ciphermq-g6"
)

// boxSuites are G3 to G6, which have their keys in common.
var boxSuites = []seal.Suite{G3, G4, G5, G6}

// IsBox reports whether a suite is one of G3 to G6. Their keys are all the same: 32 bytes,
// which CipherMQ's clients register without proof.
func IsBox(s seal.Suite) bool { return slices.Contains(boxSuites, s) }

// Suites are all suites of CipherMQ, as package seal wants them.
type Suites struct{}

var _ seal.Legacy = Suites{}

// Suites lists the names, the oldest first.
func (Suites) Suites() []seal.Suite { return append([]seal.Suite{RSA}, boxSuites...) }

// Generate makes a key. bits is the size of one for RSA, 0 is DefaultRSABits; those of all
// other suites have one size.
func (Suites) Generate(s seal.Suite, bits int) (seal.LegacyPrivateKey, error) {
	switch {
	case s == RSA:
		return generateRSA(bits)
	case !IsBox(s):
		return nil, errUnknown(s)
	case bits != 0:
		return nil, fmt.Errorf("keys of suite %s have one size; leave the bits out", s)
	}
	return generateBox()
}

// PublicKey makes a key of its bytes: the SubjectPublicKeyInfo for RSA, 32 for all others.
func (Suites) PublicKey(s seal.Suite, raw []byte) (seal.LegacyPublicKey, error) {
	switch {
	case s == RSA:
		return parsePublic(raw)
	case IsBox(s):
		return newBoxPublic(raw)
	}
	return nil, errUnknown(s)
}

// PrivateKey makes a key of its bytes: PKCS#8 for RSA, 32 for all others.
func (Suites) PrivateKey(s seal.Suite, raw []byte) (seal.LegacyPrivateKey, error) {
	switch {
	case s == RSA:
		return parsePrivate(raw)
	case IsBox(s):
		return newBoxPrivate(raw)
	}
	return nil, errUnknown(s)
}

func errUnknown(s seal.Suite) error { return fmt.Errorf("%s is no suite of CipherMQ", s) }

// PublicPEM reads an RSA key as CipherMQ's key makers write it: SubjectPublicKeyInfo or
// PKCS#1.
func (Suites) PublicPEM(b *pem.Block) (seal.Suite, seal.LegacyPublicKey, error) {
	if b.Type != "PUBLIC KEY" && b.Type != "RSA PUBLIC KEY" {
		return "", nil, nil
	}
	key, err := parsePublic(b.Bytes)
	if err == errNotRSA {
		return "", nil, nil
	}
	return RSA, key, err
}

// PrivatePEM reads an RSA key as CipherMQ's key makers write it: PKCS#8 or PKCS#1.
func (Suites) PrivatePEM(b *pem.Block) (seal.Suite, seal.LegacyPrivateKey, error) {
	if b.Type != "PRIVATE KEY" && b.Type != "RSA PRIVATE KEY" {
		return "", nil, nil
	}
	key, err := parsePrivate(b.Bytes)
	if err == errNotRSA {
		return "", nil, nil
	}
	return RSA, key, err
}

// Inspect reads an envelope without a key. G3 and G4 look alike, and so do G5 and G6.
func (Suites) Inspect(body []byte) (*seal.Info, error) {
	e, err := Parse(body)
	if err != nil {
		return nil, err
	}
	info := &seal.Info{ID: e.MessageID, RoutingKey: e.RoutingKey}
	if e.Receiver != "" {
		info.Receivers = []string{e.Receiver}
	}
	split := len(e.Tag) == tagBytes && len(e.Ciphertext) > 0
	joined := e.Tag == nil && len(e.Ciphertext) > tagBytes
	box := len(e.EncSessionKey) == sealedBoxBytes && len(e.Nonce) == boxNonceBytes
	switch {
	case box && split:
		info.Suites = []seal.Suite{G3, G4}
	case box && joined:
		info.Suites = []seal.Suite{G5, G6}
	case len(e.EncSessionKey) >= leastRSABits/8 && len(e.Nonce) > 0 && split:
		info.Suites = []seal.Suite{RSA}
	default:
		return nil, malformed("its members fit none of CipherMQ's suites")
	}
	return info, nil
}

// redacted keeps a private key out of everything that fmt prints.
type redacted struct{}

func (redacted) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

func refuse(kind error, format string, args ...any) error {
	return &seal.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) error { return refuse(seal.ErrMalformed, format, args...) }
