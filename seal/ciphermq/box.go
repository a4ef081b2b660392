package ciphermq

import (
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/nacl/box"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// Sizes of CipherMQ's generations G3 to G6.
const (
	boxKeyBytes     = 32
	boxContentBytes = 32                                        // the content key in the box
	boxNonceBytes   = 12                                        // of the content
	sealedBoxBytes  = 32 + secretbox.Overhead + boxContentBytes // ephemeral key, tag, content key
)

type boxPublic struct{ key *ecdh.PublicKey }

type boxPrivate struct {
	redacted
	key *ecdh.PrivateKey
}

func generateBox() (seal.LegacyPrivateKey, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate X25519 key: %w", err)
	}
	return boxPrivate{key: key}, nil
}

func newBoxPublic(raw []byte) (seal.LegacyPublicKey, error) {
	key, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("an X25519 public key has %d bytes, this one has %d", boxKeyBytes, len(raw))
	}
	// A point of low order makes every shared secret the same, known one.
	probe, err := generateBox()
	if err != nil {
		return nil, err
	}
	if _, err := probe.(boxPrivate).key.ECDH(key); err != nil {
		return nil, errors.New("nothing can be sealed for this X25519 key")
	}
	return boxPublic{key}, nil
}

func newBoxPrivate(raw []byte) (seal.LegacyPrivateKey, error) {
	key, err := ecdh.X25519().NewPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("an X25519 private key has %d bytes, this one has %d", boxKeyBytes, len(raw))
	}
	return boxPrivate{key: key}, nil
}

func (k boxPublic) Bytes() []byte                 { return k.key.Bytes() }
func (k boxPublic) Bits() int                     { return 255 }
func (k boxPublic) Suites() []seal.Suite          { return slices.Clone(boxSuites) }
func (k boxPublic) Family() string                { return "ciphermq-x25519" }
func (k boxPublic) Warning() string               { return "" }
func (k boxPublic) PEM() *pem.Block               { return nil }
func (k boxPrivate) Bytes() []byte                { return k.key.Bytes() }
func (k boxPrivate) PEM() *pem.Block              { return nil }
func (k boxPrivate) Public() seal.LegacyPublicKey { return boxPublic{k.key.PublicKey()} }

// Seal takes from random the content key, the ephemeral key and the nonce. Receiver, time
// and routing key are beside the ciphertext; nothing protects them.
func (k boxPublic) Seal(s seal.Suite, receiver string, c seal.Content, at time.Time, random io.Reader) ([]byte, error) {
	if len(c.Body) == 0 {
		return nil, errEmpty(s)
	}
	// The name of a CipherMQ receiver is one word in a line.
	if err := sealmq.CheckName("receiver", receiver); err != nil {
		return nil, err
	}
	var contentKey [boxContentBytes]byte
	var nonce [boxNonceBytes]byte
	if _, err := io.ReadFull(random, contentKey[:]); err != nil {
		return nil, fmt.Errorf("draw a content key: %w", err)
	}
	wrap := sealBoxA
	if s == G6 {
		wrap = sealBoxB
	}
	wrapped, err := wrap(contentKey[:], k.key, random)
	if err != nil {
		return nil, fmt.Errorf("wrap the content key: %w", err)
	}
	if _, err := io.ReadFull(random, nonce[:]); err != nil {
		return nil, fmt.Errorf("draw a nonce: %w", err)
	}
	aead, err := boxContentCipher(contentKey[:], s == G3)
	if err != nil {
		return nil, err
	}
	env := Envelope{MessageID: c.ID, Receiver: receiver, EncSessionKey: wrapped, Nonce: nonce[:],
		Ciphertext: aead.Seal(nil, nonce[:], c.Body, nil), SentTime: forms[s].sentTime(at)}
	if s == G3 || s == G4 {
		split := len(env.Ciphertext) - tagBytes
		env.Ciphertext, env.Tag = env.Ciphertext[:split], env.Ciphertext[split:]
	}
	if s == G4 {
		env.RoutingKey = c.RoutingKey
	}
	return env.print(s), nil
}

func boxContentCipher(key []byte, useAES bool) (cipher.AEAD, error) {
	if !useAES {
		return chacha20poly1305.New(key)
	}
	return contentCipher(key, boxNonceBytes)
}

// Open opens all of G3 to G6. Nothing in an envelope tells the two kinds of box apart,
// nor G3 from G4, so each is tried; a wrong guess fails its tag.
func (k boxPrivate) Open(body []byte) ([]byte, error) {
	e, err := Parse(body)
	switch {
	case err != nil:
		return nil, err
	case len(e.EncSessionKey) != sealedBoxBytes:
		return nil, refuse(seal.ErrWrongKey, "enc_session_key has %d bytes and is no sealed box for an X25519 key, which has %d", len(e.EncSessionKey), sealedBoxBytes)
	case len(e.Nonce) != boxNonceBytes:
		return nil, malformed("nonce is missing or not of %d bytes", boxNonceBytes)
	case e.Tag != nil && len(e.Tag) != tagBytes:
		return nil, malformed("tag is not of %d bytes", tagBytes)
	case len(e.Ciphertext)+len(e.Tag) <= tagBytes:
		return nil, malformed("ciphertext is missing or empty")
	}
	contentKey, err := openBoxA(e.EncSessionKey, k.key)
	if err != nil {
		contentKey, err = openBoxB(e.EncSessionKey, k.key)
	}
	if err != nil || len(contentKey) != boxContentBytes {
		return nil, refuse(seal.ErrWrongKey, "the content key does not unwrap")
	}
	sealed := make([]byte, 0, len(e.Ciphertext)+len(e.Tag))
	sealed = append(append(sealed, e.Ciphertext...), e.Tag...)
	tries := []bool{false}
	if e.Tag != nil {
		tries = []bool{true, false}
	}
	for _, useAES := range tries {
		aead, err := boxContentCipher(contentKey, useAES)
		if err != nil {
			return nil, fmt.Errorf("content cipher: %w", err)
		}
		if plaintext, err := aead.Open(nil, e.Nonce, sealed, nil); err == nil {
			return plaintext, nil
		}
	}
	return nil, refuse(seal.ErrChanged, "the tag does not fit")
}

// Sealed boxes of type A are libsodium's crypto_box_seal.

func sealBoxA(text []byte, to *ecdh.PublicKey, random io.Reader) ([]byte, error) {
	return box.SealAnonymous(nil, text, (*[32]byte)(to.Bytes()), random)
}

var errBox = errors.New("the sealed box does not open")

func openBoxA(sealed []byte, key *ecdh.PrivateKey) ([]byte, error) {
	// libsodium refuses ephemeral keys of low order; the library used here does not.
	if _, _, err := sharedPoint(sealed, key); err != nil {
		return nil, err
	}
	text, ok := box.OpenAnonymous(nil, sealed, (*[32]byte)(key.PublicKey().Bytes()), (*[32]byte)(key.Bytes()))
	if !ok {
		return nil, errBox
	}
	return text, nil
}

// Sealed boxes of type B are those of CipherMQ's version 1.5. They look the same and differ in the
// nonce, the first 24 bytes of a BLAKE2b-512, and in the key, the raw shared point.

func sealBoxB(text []byte, to *ecdh.PublicKey, random io.Reader) ([]byte, error) {
	var seed [32]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return nil, err
	}
	ephemeral, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		return nil, err
	}
	shared, err := ephemeral.ECDH(to)
	if err != nil {
		return nil, err
	}
	e := ephemeral.PublicKey().Bytes()
	nonce := boxNonceB(e, to.Bytes())
	return secretbox.Seal(e, text, &nonce, (*[32]byte)(shared)), nil
}

func openBoxB(sealed []byte, key *ecdh.PrivateKey) ([]byte, error) {
	e, shared, err := sharedPoint(sealed, key)
	if err != nil {
		return nil, err
	}
	nonce := boxNonceB(e, key.PublicKey().Bytes())
	text, ok := secretbox.Open(nil, sealed[len(e):], &nonce, (*[32]byte)(shared))
	if !ok {
		return nil, errBox
	}
	return text, nil
}

func boxNonceB(e, r []byte) (nonce [24]byte) {
	sum := blake2b.Sum512(append(append(make([]byte, 0, 64), e...), r...))
	copy(nonce[:], sum[:])
	return nonce
}

func sharedPoint(sealed []byte, key *ecdh.PrivateKey) (e, shared []byte, err error) {
	if len(sealed) < boxKeyBytes {
		return nil, nil, errBox
	}
	e = sealed[:boxKeyBytes]
	point, err := ecdh.X25519().NewPublicKey(e)
	if err != nil {
		return nil, nil, errBox
	}
	if shared, err = key.ECDH(point); err != nil {
		return nil, nil, errBox
	}
	return e, shared, nil
}
