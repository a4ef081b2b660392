package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
)

// ErrEncryptedKey says that a key file is protected with a passphrase, which is not supported.
var ErrEncryptedKey = errors.New("the key is protected with a passphrase")

// ErrPrivateKey says that a private key stands where a public key belongs.
var ErrPrivateKey = errors.New("this is a private key; a sender needs the receiver's public key only")

// ErrPublicKey says that a public key stands where a private key belongs.
var ErrPublicKey = errors.New("this is a public key; a receiver needs its private key")

// ParsePrivateKey reads the first private key in PEM data: PKCS#8 ("PRIVATE KEY") or
// PKCS#1 ("RSA PRIVATE KEY"). RSA keys from 1024 bits are taken.
func ParsePrivateKey(data []byte) (*PrivateKey, error) {
	var public bool
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if encrypted(block) {
			return nil, ErrEncryptedKey
		}
		public = public || strings.HasSuffix(block.Type, "PUBLIC KEY")
		for _, s := range suites() {
			if key, err := s.parsePrivate(block); err != errNotMine {
				return key, err
			}
		}
	}
	if public {
		return nil, ErrPublicKey
	}
	return nil, errors.New("there is no private key of a known suite in PEM form")
}

// ParsePublicKey reads the first public key in PEM data: SubjectPublicKeyInfo
// ("PUBLIC KEY") or PKCS#1 ("RSA PUBLIC KEY"). RSA keys from 1024 bits are taken.
func ParsePublicKey(data []byte) (*PublicKey, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, ErrPrivateKey
		}
		for _, s := range suites() {
			if key, err := s.parsePublic(block); err != errNotMine {
				return key, err
			}
		}
	}
	return nil, errors.New("there is no public key of a known suite in PEM form")
}

func encrypted(b *pem.Block) bool {
	return b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != ""
}

// PEM is the key as SubjectPublicKeyInfo in PEM, which every version of CipherMQ's
// RSA clients reads.
func (k *PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.alg.spki()})
}

// Fingerprint names the key: "sha256:" and 64 hexadecimal digits over its
// SubjectPublicKeyInfo. Two people who compare it know that they have the same key.
func (k *PublicKey) Fingerprint() string {
	sum := sha256.Sum256(k.alg.spki())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PEM is the key as PKCS#8 in PEM, without a passphrase. Keep it in a file that only
// its owner can read.
func (k *PrivateKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k.alg.pkcs8()})
}
