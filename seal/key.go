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

var errNoPrivateKey = errors.New("there is no private key of a known suite in PEM form")

// ParsePrivateKey reads the newest private key of a key file. ParseKeyring reads all of them.
func ParsePrivateKey(data []byte, legacy ...Legacy) (*PrivateKey, error) {
	r, err := ParseKeyring(data, legacy...)
	if err != nil {
		return nil, err
	}
	if k := r.Newest(); k != nil {
		return k, nil
	}
	return nil, errNoPrivateKey
}

// ParsePublicKey reads the first public key in PEM data: our own form, or one that a legacy
// suite reads.
func ParsePublicKey(data []byte, legacy ...Legacy) (*PublicKey, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") || block.Type == pemEncrypted {
			return nil, ErrPrivateKey
		}
		key, err := publicOf(block, legacy)
		if err == nil {
			return key, nil
		}
		if err != errNotMine {
			return nil, err
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
			if suite, alg, err := l.PrivatePEM(b); err != nil || suite != "" {
				return &PrivateKey{keyOf: keyOf{suite: suite}, alg: alg}, err
			}
		}
		return nil, errNotMine
	}
	h, err := parseKeyHeader(b, legacy)
	if err != nil {
		return nil, err
	}
	key, err := NewPrivateKey(h.Suite, b.Bytes, legacy...)
	if err != nil {
		return nil, err
	}
	key.created = h.Created
	return key, h.check(key.Public())
}

func publicOf(b *pem.Block, legacy []Legacy) (*PublicKey, error) {
	if b.Type != pemPublic {
		for _, l := range legacy {
			if suite, alg, err := l.PublicPEM(b); err != nil || suite != "" {
				return &PublicKey{keyOf{suite: suite}, alg}, err
			}
		}
		return nil, errNotMine
	}
	h, err := parseKeyHeader(b, legacy)
	if err != nil {
		return nil, err
	}
	key, err := NewPublicKey(h.Suite, b.Bytes, legacy...)
	if err != nil {
		return nil, err
	}
	key.created = h.Created
	return key, h.check(key)
}

// keyHeader is the header above the base64 of our own PEM blocks. The times are zero if
// they are not said; only retired keys have the second.
type keyHeader RetiredKey

func parseKeyHeader(b *pem.Block, legacy []Legacy) (h keyHeader, err error) {
	if v := b.Headers["Version"]; v != keyFileVersion {
		return h, fmt.Errorf("the key is in a form of version %q, which is not known here; it may be of a later SealMQ", v)
	}
	for name, value := range b.Headers {
		switch name {
		case "Version":
		case "Suite":
			h.Suite = Suite(value)
		case "Fingerprint":
			h.Fingerprint = value
		case "Created":
			h.Created, err = time.Parse(time.RFC3339, value)
		case "Retired":
			h.Retired, err = time.Parse(time.RFC3339, value)
		default:
			return h, fmt.Errorf("the key has a line %q, which is not known here", name)
		}
		if err != nil {
			return h, fmt.Errorf("the key's line %q is not a time", name)
		}
	}
	if !slices.Contains(Suites(legacy...), h.Suite) {
		return h, errUnknownSuite(h.Suite, legacy)
	}
	return h, nil
}

// check finds out whether the key is the one that its file says.
func (h keyHeader) check(k *PublicKey) error {
	if h.Fingerprint != k.Fingerprint() {
		return errors.New("the key is damaged: its fingerprint is another one than its file says")
	}
	return nil
}

func (h keyHeader) block(kind string, raw []byte) *pem.Block {
	b := &pem.Block{Type: kind, Bytes: raw, Headers: map[string]string{
		"Version": keyFileVersion, "Suite": string(h.Suite), "Fingerprint": h.Fingerprint}}
	for name, t := range map[string]time.Time{"Created": h.Created, "Retired": h.Retired} {
		if !t.IsZero() {
			b.Headers[name] = t.UTC().Format(time.RFC3339)
		}
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
	return keyHeader{Suite: k.suite, Fingerprint: k.Fingerprint(), Created: k.created}
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
func (k *PublicKey) Fingerprint() string { return fingerprint(k.sum()) }

func fingerprint(sum [32]byte) string { return "sha256:" + hex.EncodeToString(sum[:]) }

// sumOf is the other way round.
func sumOf(fingerprint string) (sum [32]byte, ok bool) {
	text, ok := strings.CutPrefix(fingerprint, "sha256:")
	raw, err := hex.DecodeString(text)
	copy(sum[:], raw)
	return sum, ok && err == nil && len(raw) == len(sum)
}

// Digits is the fingerprint in a form to be read out: eight groups of five decimal
// digits. All eight must agree.
func (k *PublicKey) Digits() string { return digitsOf(k.sum()) }

// ReadOut is the Digits of the key that has a fingerprint, or "" if it is no fingerprint.
func ReadOut(fingerprint string) string {
	if sum, ok := sumOf(fingerprint); ok {
		return digitsOf(sum)
	}
	return ""
}

func digitsOf(sum [32]byte) string {
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%05d", binary.BigEndian.Uint32(sum[4*i:])%100_000)
	}
	return strings.Join(groups, " ")
}
