package ciphermq

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // CipherMQ's OAEP uses SHA-1; OAEP does not need collision resistance
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sealmq/sealmq/seal"
)

// Sizes of the suite RSA.
const (
	// DefaultRSABits is the size of a generated key.
	DefaultRSABits = 3072
	// MinRSABits is the smallest size that is generated. Smaller keys are read and
	// used, because CipherMQ's own key script makes 1048 bits; Go's library draws
	// its line at 1024.
	MinRSABits = 2048
	// MaxRSABits bounds what a key file can make a receiver compute.
	MaxRSABits = 8192

	leastRSABits    = 1024
	contentKeyBytes = 16
	nonceBytes      = 16 // as CipherMQ sends; any other length is accepted on opening
	tagBytes        = 16
)

type rsaPublic struct{ key *rsa.PublicKey }

type rsaPrivate struct {
	redacted
	key *rsa.PrivateKey
}

func generateRSA(bits int) (seal.LegacyPrivateKey, error) {
	bits = cmp.Or(bits, DefaultRSABits)
	if bits < MinRSABits || bits > MaxRSABits || bits%8 != 0 {
		return nil, fmt.Errorf("an RSA key is made with %d to %d bits, in steps of 8, not with %d", MinRSABits, MaxRSABits, bits)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("generate RSA key: %w", err)
	}
	return rsaPrivate{key: key}, nil
}

// Seal takes from random the content key and the nonce. OAEP draws its own.
func (k rsaPublic) Seal(_ seal.Suite, _ string, c seal.Content, _ time.Time, random io.Reader) ([]byte, error) {
	var drawn [contentKeyBytes + nonceBytes]byte
	if _, err := io.ReadFull(random, drawn[:]); err != nil {
		return nil, fmt.Errorf("draw a content key and a nonce: %w", err)
	}
	return k.sealWith(c.ID, c.Body, drawn[:contentKeyBytes], drawn[contentKeyBytes:])
}

func (k rsaPublic) sealWith(id string, plaintext, contentKey, nonce []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, errEmpty(RSA)
	}
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, k.key, contentKey, nil)
	if err != nil {
		return nil, fmt.Errorf("wrap the content key: %w", err)
	}
	gcm, err := contentCipher(contentKey, len(nonce))
	if err != nil {
		return nil, err
	}
	sealed := gcm.Seal(nil, nonce, plaintext, nil)
	split := len(sealed) - tagBytes
	env := Envelope{MessageID: id, EncSessionKey: wrapped, Nonce: nonce, Tag: sealed[split:], Ciphertext: sealed[:split]}
	return env.print(RSA), nil
}

// Open opens an envelope with a nonce of any length.
func (k rsaPrivate) Open(body []byte) ([]byte, error) {
	e, err := Parse(body)
	switch {
	case err != nil:
		return nil, err
	case len(e.EncSessionKey) == 0:
		return nil, malformed("enc_session_key is missing or empty")
	case len(e.Nonce) == 0:
		return nil, malformed("nonce is missing or empty")
	case len(e.Tag) != tagBytes:
		return nil, malformed("tag is missing or not of %d bytes", tagBytes)
	case len(e.Ciphertext) == 0:
		return nil, malformed("ciphertext is missing or empty")
	}
	if len(e.EncSessionKey) != k.key.Size() {
		return nil, refuse(seal.ErrWrongKey, "it is for a key of %d bits, this one has %d", 8*len(e.EncSessionKey), k.key.N.BitLen())
	}
	// One error for all that can go wrong inside OAEP, so that it tells nothing apart.
	contentKey, err := rsa.DecryptOAEP(sha1.New(), nil, k.key, e.EncSessionKey, nil)
	if err != nil || len(contentKey) != contentKeyBytes {
		return nil, refuse(seal.ErrWrongKey, "the content key does not unwrap")
	}
	gcm, err := contentCipher(contentKey, len(e.Nonce))
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 0, len(e.Ciphertext)+tagBytes)
	sealed = append(append(sealed, e.Ciphertext...), e.Tag...)
	plaintext, err := gcm.Open(sealed[:0], e.Nonce, sealed, nil)
	if err != nil {
		return nil, refuse(seal.ErrChanged, "the tag does not fit")
	}
	return plaintext, nil
}

func contentCipher(key []byte, nonceSize int) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, nonceSize)
}

func (k rsaPublic) Bits() int            { return k.key.N.BitLen() }
func (k rsaPublic) Suites() []seal.Suite { return []seal.Suite{RSA} }
func (k rsaPublic) Family() string       { return "" }

// PEM is what every version of CipherMQ reads.
func (k rsaPublic) PEM() *pem.Block { return &pem.Block{Type: "PUBLIC KEY", Bytes: k.Bytes()} }

func (k rsaPublic) Warning() string {
	if k.Bits() < MinRSABits {
		return fmt.Sprintf("%d bits are too few to rely on", k.Bits())
	}
	return ""
}

// Bytes is the SubjectPublicKeyInfo.
func (k rsaPublic) Bytes() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.key)
	if err != nil {
		panic("ciphermq: internal error: " + err.Error())
	}
	return der
}

func (k rsaPrivate) Public() seal.LegacyPublicKey { return rsaPublic{&k.key.PublicKey} }

func (k rsaPrivate) PEM() *pem.Block { return &pem.Block{Type: "PRIVATE KEY", Bytes: k.Bytes()} }

// Bytes is PKCS#8.
func (k rsaPrivate) Bytes() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		panic("ciphermq: internal error: " + err.Error())
	}
	return der
}

var errNotRSA = errors.New("the key is not an RSA key")

// parsePrivate reads PKCS#8 or PKCS#1.
func parsePrivate(der []byte) (seal.LegacyPrivateKey, error) {
	var parsed any
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	}
	if err != nil {
		return nil, errors.New("the private key is damaged or of an unknown kind")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errNotRSA
	}
	if err := checkRSASize(&key.PublicKey); err != nil {
		return nil, err
	}
	return rsaPrivate{key: key}, nil
}

// parsePublic reads a SubjectPublicKeyInfo or PKCS#1.
func parsePublic(der []byte) (seal.LegacyPublicKey, error) {
	var parsed any
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		parsed, err = x509.ParsePKCS1PublicKey(der)
	}
	if err != nil {
		return nil, errors.New("the public key is damaged or of an unknown kind")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errNotRSA
	}
	if err := checkRSASize(key); err != nil {
		return nil, err
	}
	return rsaPublic{key}, nil
}

func checkRSASize(k *rsa.PublicKey) error {
	if bits := k.N.BitLen(); bits < leastRSABits || bits > MaxRSABits {
		return fmt.Errorf("an RSA key of %d bits cannot be used; it must have %d to %d", bits, leastRSABits, MaxRSABits)
	}
	return nil
}
