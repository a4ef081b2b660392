// Package seal makes and opens end-to-end envelopes: a message is sealed for its
// receivers' keys before it leaves the sender, and whoever carries it carries
// ciphertext.
//
// A suite is one way of doing that. The suites HPKEHybrid (the default) and HPKEX25519
// hide the text, say who sent it, and bind the message id, the sender, the receivers,
// the exchange, the routing key, the time and a sequence number; a Sealer makes such
// envelopes, an Opener opens and checks them, and a Replay tells a repeated one from a
// new one. The suites whose names begin with "ciphermq-" are CipherMQ's own formats,
// bit for bit; they hide the text and detect a changed text, and nothing more.
//
// The format is written down in docs/sealing.md. This package promises that it opens
// what that page describes and nothing else, that it returns no text before every check
// has passed, and that neither an error nor a log line contains plaintext or key
// material.
//
// It does not read or write files, does not talk to a broker, and does not decide whom
// to trust: that is the Verifier's affair.
package seal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// Suite names a way of sealing. The names appear on command lines, in files and in
// envelopes, and do not change.
type Suite string

// The suites that say who sent a message and which one it is.
const (
	// HPKEHybrid is the default. Its epochs are opened by HPKE (RFC 9180) with the key
	// encapsulation MLKEM768-X25519, also known as X-Wing: who wants to read has to
	// break both ML-KEM, which stands against quantum computers as far as anyone knows,
	// and X25519. It adds about 1.1 KiB to each message.
	HPKEHybrid Suite = "hpke-mlkem768x25519-aes256gcm"
	// HPKEX25519 is the same with DHKEM(X25519, HKDF-SHA256) alone, for constrained
	// clients: messages that are recorded today can be read by whoever has a quantum
	// computer one day.
	HPKEX25519 Suite = "hpke-x25519-aes256gcm"
)

// The suites of CipherMQ. They do not say who sent a message: anybody who has the public
// key can seal. They do not bind the message id, the exchange or the routing key, so
// whoever carries an envelope can give it another id or repeat it.
const (
	// CipherMQRSA is generation G2 (versions 0.2.0 to 1.2.0): AES-128-GCM under a key
	// that is wrapped with RSAES-OAEP (SHA-1).
	CipherMQRSA Suite = "ciphermq-rsa"
	// CipherMQG3 is generation G3 (version 1.3): AES-256-GCM under a key in a
	// libsodium sealed box.
	CipherMQG3 Suite = "ciphermq-g3"
	// CipherMQG4 is generation G4 (version 1.4.0): ChaCha20-Poly1305 with its tag
	// apart, under a key in a libsodium sealed box.
	CipherMQG4 Suite = "ciphermq-g4"
	// CipherMQG5 is generation G5 (versions 1.4.1 and 1.4.2): ChaCha20-Poly1305 under a
	// key in a libsodium sealed box.
	CipherMQG5 Suite = "ciphermq-g5"
	// CipherMQG6 is generation G6 (version 1.5): as G5, with a sealed box of its own
	// that libsodium does not open.
	CipherMQG6 Suite = "ciphermq-g6"
)

// DefaultSuite is what a new key should belong to.
const DefaultSuite = HPKEHybrid

// boxFamily names the keys of G3 to G6, which are all the same.
const boxFamily = "ciphermq-x25519"

// suite is what the registry knows of a suite.
type suite struct {
	name     Suite
	code     byte   // in the epoch header; 0 for CipherMQ's
	family   string // what a fingerprint is made over: suites of one family share their keys
	generate func(bits int) (privateAlg, error)
	public   func(raw []byte) (publicAlg, error)
	private  func(raw []byte) (privateAlg, error)
}

// suites is the registry: a new suite is a line here and a file of its own.
var suites = []suite{
	{HPKEHybrid, 1, string(HPKEHybrid), hybridKEM.generate, hybridKEM.public, hybridKEM.private},
	{HPKEX25519, 2, string(HPKEX25519), x25519KEM.generate, x25519KEM.public, x25519KEM.private},
	{CipherMQRSA, 0, string(CipherMQRSA), generateRSA, parseSPKI, parsePKCS8},
	{CipherMQG3, 0, boxFamily, generateBox, newBoxPublic, newBoxPrivate},
	{CipherMQG4, 0, boxFamily, generateBox, newBoxPublic, newBoxPrivate},
	{CipherMQG5, 0, boxFamily, generateBox, newBoxPublic, newBoxPrivate},
	{CipherMQG6, 0, boxFamily, generateBox, newBoxPublic, newBoxPrivate},
}

func (s Suite) find() (*suite, error) {
	for i := range suites {
		if suites[i].name == s {
			return &suites[i], nil
		}
	}
	var known []string
	for _, s := range Suites() {
		known = append(known, string(s))
	}
	return nil, fmt.Errorf("no suite is named %q; there is %s", string(s), strings.Join(known, ", "))
}

// Proves reports whether messages of the suite say who sent them.
func (s Suite) Proves() bool { return s == HPKEHybrid || s == HPKEX25519 }

func (s Suite) family() string {
	found, err := s.find()
	if err != nil {
		return ""
	}
	return found.family
}

func (s Suite) code() byte {
	found, err := s.find()
	if err != nil {
		return 0
	}
	return found.code
}

// Suites lists the names of all suites, the default first.
func Suites() []Suite {
	var names []Suite
	for i := range suites {
		names = append(names, suites[i].name)
	}
	return names
}

type publicAlg interface {
	raw() []byte
	bits() int
}

type privateAlg interface {
	raw() []byte
	public() publicAlg
}

// ciphermqPrivate is a private key that needs nothing else to open an envelope.
type ciphermqPrivate interface {
	open(*Envelope) ([]byte, error)
}

// PublicKey is what senders need of a receiver. It is safe for concurrent use.
type PublicKey struct {
	suite   Suite
	alg     publicAlg
	created time.Time
}

// NewPublicKey makes a key of its bytes: 1216 for HPKEHybrid, 32 for the suites with
// X25519, the SubjectPublicKeyInfo for CipherMQRSA.
func NewPublicKey(name Suite, raw []byte) (*PublicKey, error) {
	s, err := name.find()
	if err != nil {
		return nil, err
	}
	alg, err := s.public(raw)
	if err != nil {
		return nil, err
	}
	return &PublicKey{suite: name, alg: alg}, nil
}

// Suite is the suite that the key belongs to.
func (k *PublicKey) Suite() Suite { return k.suite }

// Bytes is the key in the form that NewPublicKey reads.
func (k *PublicKey) Bytes() []byte { return k.alg.raw() }

// Bits is the size of the key as its kind counts it. It says something about strength
// only between keys of one suite.
func (k *PublicKey) Bits() int { return k.alg.bits() }

// Created is when the key was made, or zero if its file does not say.
func (k *PublicKey) Created() time.Time { return k.created }

// Warning is a sentence for whoever is about to rely on the key, or "".
func (k *PublicKey) Warning() string {
	if k.suite == CipherMQRSA && k.Bits() < MinRSABits {
		return fmt.Sprintf("%d bits are too few to rely on", k.Bits())
	}
	return ""
}

// WithSuite is the same key for another suite, where the two have their keys in common:
// CipherMQG3 to CipherMQG6. Which of them a receiver reads is nowhere in its key.
func (k *PublicKey) WithSuite(name Suite) (*PublicKey, error) {
	from, err := k.suite.find()
	if err != nil {
		return nil, err
	}
	to, err := name.find()
	if err != nil {
		return nil, err
	}
	if from.family != to.family {
		return nil, fmt.Errorf("a key of suite %s cannot be used with %s", k.suite, name)
	}
	return &PublicKey{suite: name, alg: k.alg, created: k.created}, nil
}

// String is the suite and the fingerprint.
func (k *PublicKey) String() string { return string(k.suite) + " " + k.Fingerprint() }

// Seal seals for a receiver whose key is of CipherMQRSA; all other suites need to know
// more, and a Sealer. It returns the envelope, a JSON object on one line, which is the
// body to publish under id. Sealing the same text twice gives different envelopes: who
// publishes again after a doubt must send the first envelope again, or it counts as
// another message.
func (k *PublicKey) Seal(id string, plaintext []byte) ([]byte, error) {
	if err := sealmq.CheckName("message id", id); err != nil {
		return nil, err
	}
	rsa, ok := k.alg.(rsaPublic)
	if !ok {
		return nil, refuse(ErrSuite, "make a Sealer, which knows sender and receiver", "%s needs more than a key and a text", k.suite)
	}
	return rsa.seal(id, plaintext)
}

// PrivateKey opens what was sealed for its public half. It is safe for concurrent use.
// It prints as "[redacted]".
type PrivateKey struct {
	redacted
	suite   Suite
	alg     privateAlg
	created time.Time
}

// NewPrivateKey makes a key of its bytes: 32 for every suite but CipherMQRSA, which takes
// PKCS#8.
func NewPrivateKey(name Suite, raw []byte) (*PrivateKey, error) {
	s, err := name.find()
	if err != nil {
		return nil, err
	}
	alg, err := s.private(raw)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{suite: name, alg: alg}, nil
}

// Generate makes a key of the suite. bits is the key's size where the suite leaves a
// choice, which is CipherMQRSA alone; 0 is the suite's default.
func Generate(name Suite, bits int) (*PrivateKey, error) {
	s, err := name.find()
	if err != nil {
		return nil, err
	}
	if bits != 0 && name != CipherMQRSA {
		return nil, fmt.Errorf("keys of suite %s have one size; leave the bits out", name)
	}
	alg, err := s.generate(bits)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{suite: name, alg: alg, created: time.Now().UTC().Truncate(time.Second)}, nil
}

// Suite is the suite that the key belongs to. A key of one of CipherMQG3 to CipherMQG6
// opens all four.
func (k *PrivateKey) Suite() Suite { return k.suite }

// Created is when the key was made, or zero if its file does not say.
func (k *PrivateKey) Created() time.Time { return k.created }

// Public is the half that senders need.
func (k *PrivateKey) Public() *PublicKey {
	return &PublicKey{suite: k.suite, alg: k.alg.public(), created: k.created}
}

// Open opens an envelope of CipherMQ's suites and returns the message id that it names
// with the plaintext. The error wraps ErrMalformed, ErrWrongKey or ErrChanged. All other
// suites need an Opener, which checks who sent the message.
//
// The caller must compare the id with the one that the broker delivered.
func (k *PrivateKey) Open(body []byte) (id string, plaintext []byte, err error) {
	opener, ok := k.alg.(interface {
		open(*Envelope) ([]byte, error)
	})
	if !ok {
		return "", nil, refuse(ErrSuite, "make an Opener, which checks the sender", "%s needs more than a key to be opened", k.suite)
	}
	env, err := Parse(body)
	if err != nil {
		return "", nil, err
	}
	plaintext, err = opener.open(env)
	if err != nil {
		return env.MessageID, nil, err
	}
	return env.MessageID, plaintext, nil
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
	var s [36]byte
	hex.Encode(s[0:8], u[0:4])
	s[8] = '-'
	hex.Encode(s[9:13], u[4:6])
	s[13] = '-'
	hex.Encode(s[14:18], u[6:8])
	s[18] = '-'
	hex.Encode(s[19:23], u[8:10])
	s[23] = '-'
	hex.Encode(s[24:36], u[10:16])
	return string(s[:])
}
