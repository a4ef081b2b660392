// Package seal makes and opens end-to-end envelopes: a message is sealed for its
// receiver's key before it leaves the sender, and the broker carries the result as an
// opaque JSON object.
//
// A suite is one way of doing that. This package promises that what a suite seals, the
// other implementations of the same suite open, bit for bit, and that an error never
// contains plaintext or key material. CipherMQRSA is generation G2 of CipherMQ; it
// hides the text and detects a changed text, and nothing more: see its comment.
//
// It does not read or write files, does not talk to a broker, and does not decide
// whom to trust.
package seal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/sealmq/sealmq"
)

// Suite names a way of sealing. The names appear on command lines and in files and
// do not change.
type Suite string

// CipherMQRSA is CipherMQ's generation G2 (versions 0.2.0 to 1.2.0): a random
// AES-128-GCM key per message, wrapped with RSAES-OAEP (SHA-1) for the receiver.
//
// It protects the secrecy of the text and detects a changed text. It does not say who
// sent it: anybody who has the public key can seal. It does not bind the message id,
// the exchange or the routing key, so whoever carries the envelope can give it another
// id or replay it. Who steals the private key reads everything ever sealed for it.
const CipherMQRSA Suite = "ciphermq-rsa"

// suite is what the registry knows of a suite. parsePrivate and parsePublic get a PEM
// block and report errNotMine for the blocks of other suites.
type suite struct {
	name         Suite
	generate     func(bits int) (*PrivateKey, error)
	parsePrivate func(*pem.Block) (*PrivateKey, error)
	parsePublic  func(*pem.Block) (*PublicKey, error)
}

// suites is the registry: a new suite is a line here and a file of its own.
func suites() []suite {
	return []suite{
		{CipherMQRSA, generateRSA, parseRSAPrivate, parseRSAPublic},
	}
}

var errNotMine = errors.New("a PEM block of another kind")

// Suites lists the names of all suites, the default first.
func Suites() []Suite {
	var names []Suite
	for _, s := range suites() {
		names = append(names, s.name)
	}
	return names
}

// Errors of opening, for errors.Is. What wraps them says more, never plaintext.
var (
	// ErrMalformed says that the bytes are no envelope of the key's suite.
	ErrMalformed = errors.New("malformed envelope")
	// ErrWrongKey says that the envelope was sealed for another key, or that the
	// wrapped content key was changed; the two cannot be told apart.
	ErrWrongKey = errors.New("the envelope was not sealed for this key")
	// ErrChanged says that the content does not belong to its tag: it was changed
	// on the way.
	ErrChanged = errors.New("the sealed content was changed")
)

// PublicKey seals for one receiver. It is safe for concurrent use.
type PublicKey struct {
	suite Suite
	alg   interface {
		seal(id string, plaintext []byte) ([]byte, error)
		spki() []byte
		bits() int
	}
}

// Seal returns the envelope of plaintext, a JSON object on one line, which is the body
// to publish under id. The id must be a valid message id (sealmq.CheckName); NewID
// makes one. Sealing the same text twice gives different envelopes: who publishes
// again after a doubt must send the first envelope again, or it counts as another message.
func (k *PublicKey) Seal(id string, plaintext []byte) ([]byte, error) {
	if err := sealmq.CheckName("message id", id); err != nil {
		return nil, err
	}
	return k.alg.seal(id, plaintext)
}

// Suite is the suite that the key belongs to.
func (k *PublicKey) Suite() Suite { return k.suite }

// Bits is the size of the key as its kind counts it.
func (k *PublicKey) Bits() int { return k.alg.bits() }

// PrivateKey opens what was sealed for its public half. It is safe for concurrent use.
// It prints as "[redacted]".
type PrivateKey struct {
	suite Suite
	alg   interface {
		open(*Envelope) ([]byte, error)
		pkcs8() []byte
		public() *PublicKey
	}
}

// Open opens a published body and returns the message id that the envelope names with
// the plaintext. The error wraps ErrMalformed, ErrWrongKey or ErrChanged.
//
// The caller must compare the id with the one that the broker delivered.
func (k *PrivateKey) Open(body []byte) (id string, plaintext []byte, err error) {
	env, err := Parse(body)
	if err != nil {
		return "", nil, err
	}
	plaintext, err = k.alg.open(env)
	if err != nil {
		return env.MessageID, nil, err
	}
	return env.MessageID, plaintext, nil
}

// Suite is the suite that the key belongs to.
func (k *PrivateKey) Suite() Suite { return k.suite }

// Public is the half that senders need.
func (k *PrivateKey) Public() *PublicKey { return k.alg.public() }

// Format keeps the key out of everything that fmt prints, whatever the verb.
func (PrivateKey) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// LogValue keeps the key out of logs.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Generate makes a key of the suite. bits is the key's size where the suite leaves a
// choice; 0 is the suite's default.
func Generate(name Suite, bits int) (*PrivateKey, error) {
	for _, s := range suites() {
		if s.name == name {
			return s.generate(bits)
		}
	}
	var known []string
	for _, s := range Suites() {
		known = append(known, string(s))
	}
	return nil, fmt.Errorf("no suite is named %q; there is %s", name, strings.Join(known, ", "))
}

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
