package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrEncryptedKey says that a key file is protected with a passphrase. DecryptKeyFile
// takes it off those that this package wrote.
var ErrEncryptedKey = errors.New("the key is protected with a passphrase")

// ErrPrivateKey says that there is a private key instead of a public one.
var ErrPrivateKey = errors.New("this is a private key; a sender needs the receiver's public key only")

// ErrPublicKey says that there is a public key instead of a private one.
var ErrPublicKey = errors.New("this is a public key; a receiver needs its private key")

// Kinds of PEM blocks.
const (
	pemPrivate   = "SEALMQ PRIVATE KEY"
	pemPublic    = "SEALMQ PUBLIC KEY"
	pemRetired   = "SEALMQ RETIRED KEY"
	pemEncrypted = "SEALMQ ENCRYPTED KEY FILE"

	keyFileVersion = "1"
)

// errNotMine says that a PEM block is no key that is looked for.
var errNotMine = errors.New("a PEM block of another kind")

// ParsePrivateKey reads the first private key in PEM data: our own form, or one that a legacy
// suite reads. A file with several keys is a Keyring's.
func ParsePrivateKey(data []byte, legacy ...Legacy) (*PrivateKey, error) {
	var public bool
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if encrypted(block) {
			return nil, ErrEncryptedKey
		}
		public = public || strings.HasSuffix(block.Type, "PUBLIC KEY")
		if key, err := privateOf(block, legacy); err != errNotMine {
			return key, err
		}
	}
	if public {
		return nil, ErrPublicKey
	}
	return nil, errors.New("there is no private key of a known suite in PEM form")
}

// ParsePublicKey reads the first public key in PEM data: our own form, or one that a legacy
// suite reads.
func ParsePublicKey(data []byte, legacy ...Legacy) (*PublicKey, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") || block.Type == pemEncrypted {
			return nil, ErrPrivateKey
		}
		if key, err := publicOf(block, legacy); err != errNotMine {
			return key, err
		}
	}
	return nil, errors.New("there is no public key of a known suite in PEM form")
}

func encrypted(b *pem.Block) bool {
	return b.Type == pemEncrypted || b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != ""
}

func privateOf(b *pem.Block, legacy []Legacy) (*PrivateKey, error) {
	if b.Type != pemPrivate {
		for _, l := range legacy {
			suite, alg, err := l.PrivatePEM(b)
			if err != nil {
				return nil, err
			}
			if suite != "" {
				return &PrivateKey{suite: suite, alg: alg}, nil
			}
		}
		return nil, errNotMine
	}
	head, err := parseKeyHeader(b, legacy)
	if err != nil {
		return nil, err
	}
	key, err := NewPrivateKey(head.suite, b.Bytes, legacy...)
	if err != nil {
		return nil, err
	}
	key.created = head.created
	if err := head.check(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}

func publicOf(b *pem.Block, legacy []Legacy) (*PublicKey, error) {
	if b.Type != pemPublic {
		for _, l := range legacy {
			suite, alg, err := l.PublicPEM(b)
			if err != nil {
				return nil, err
			}
			if suite != "" {
				return &PublicKey{suite: suite, alg: alg}, nil
			}
		}
		return nil, errNotMine
	}
	head, err := parseKeyHeader(b, legacy)
	if err != nil {
		return nil, err
	}
	key, err := NewPublicKey(head.suite, b.Bytes, legacy...)
	if err != nil {
		return nil, err
	}
	key.created = head.created
	if err := head.check(key); err != nil {
		return nil, err
	}
	return key, nil
}

// keyHeader is the header above the base64 of our own PEM blocks.
type keyHeader struct {
	suite       Suite
	fingerprint string
	created     time.Time // zero if not said
	retired     time.Time // of retired keys only
}

func parseKeyHeader(b *pem.Block, legacy []Legacy) (h keyHeader, err error) {
	if v := b.Headers["Version"]; v != keyFileVersion {
		return h, fmt.Errorf("the key is in a form of version %q, which is not known here; it may be of a later SealMQ", v)
	}
	for name, value := range b.Headers {
		switch name {
		case "Version":
		case "Suite":
			h.suite = Suite(value)
		case "Fingerprint":
			h.fingerprint = value
		case "Created":
			h.created, err = time.Parse(time.RFC3339, value)
		case "Retired":
			h.retired, err = time.Parse(time.RFC3339, value)
		default:
			return h, fmt.Errorf("the key has a line %q, which is not known here", name)
		}
		if err != nil {
			return h, fmt.Errorf("the key's line %q is not a time", name)
		}
	}
	if !slices.Contains(Suites(legacy...), h.suite) {
		return h, errUnknownSuite(h.suite, legacy)
	}
	return h, nil
}

// check finds out whether the key is the one that its file says.
func (h keyHeader) check(k *PublicKey) error {
	if h.fingerprint != k.Fingerprint() {
		return errors.New("the key is damaged: its fingerprint is another one than its file says")
	}
	return nil
}

func (h keyHeader) block(kind string, raw []byte) *pem.Block {
	b := &pem.Block{Type: kind, Bytes: raw, Headers: map[string]string{
		"Version": keyFileVersion, "Suite": string(h.suite), "Fingerprint": h.fingerprint}}
	if !h.created.IsZero() {
		b.Headers["Created"] = h.created.UTC().Format(time.RFC3339)
	}
	if !h.retired.IsZero() {
		b.Headers["Retired"] = h.retired.UTC().Format(time.RFC3339)
	}
	return b
}

// PEM is the key in text form: our own, unless a legacy suite has one.
func (k *PublicKey) PEM() []byte {
	if l, ok := k.alg.(LegacyPublicKey); ok && l.PEM() != nil {
		return pem.EncodeToMemory(l.PEM())
	}
	return pem.EncodeToMemory(k.header().block(pemPublic, k.alg.Bytes()))
}

func (k *PublicKey) header() keyHeader {
	return keyHeader{suite: k.suite, fingerprint: k.Fingerprint(), created: k.created}
}

// PEM is the key in text form, without a passphrase: our own, unless a legacy suite has one.
// Keep it in a file that only its owner can read.
func (k *PrivateKey) PEM() []byte {
	if l, ok := k.alg.(LegacyPrivateKey); ok && l.PEM() != nil {
		return pem.EncodeToMemory(l.PEM())
	}
	return k.ownPEM()
}

func (k *PrivateKey) ownPEM() []byte {
	return pem.EncodeToMemory(k.Public().header().block(pemPrivate, k.alg.Bytes()))
}

// sum identifies a key. Two suites that share their keys share it.
func (k *PublicKey) sum() [32]byte {
	family := string(k.suite)
	if l, ok := k.alg.(LegacyPublicKey); ok {
		if family = l.Family(); family == "" {
			return sha256.Sum256(l.Bytes())
		}
	}
	p := append([]byte("SealMQ v1 public key\x00"), family...)
	p = append(append(p, 0), k.alg.Bytes()...)
	return sha256.Sum256(p)
}

// keyID is how an epoch names the key that it was sealed for.
type keyID [16]byte

func (k *PublicKey) id() keyID {
	sum := k.sum()
	return keyID(sum[:16])
}

// Fingerprint names the key: "sha256:" and 64 hexadecimal digits. Two people who compare
// it know that they have the same key.
func (k *PublicKey) Fingerprint() string {
	sum := k.sum()
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Digits is the fingerprint in a form to be read out: eight groups of five decimal
// digits. All eight must agree.
func (k *PublicKey) Digits() string { return digitsOf(k.sum()) }

// ReadOut is the Digits of the key that has a fingerprint, or "" if it is no fingerprint.
func ReadOut(fingerprint string) string {
	text, ok := strings.CutPrefix(fingerprint, "sha256:")
	sum, err := hex.DecodeString(text)
	if !ok || err != nil || len(sum) != sha256.Size {
		return ""
	}
	return digitsOf([32]byte(sum))
}

func digitsOf(sum [32]byte) string {
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%05d", binary.BigEndian.Uint32(sum[4*i:])%100_000)
	}
	return strings.Join(groups, " ")
}
