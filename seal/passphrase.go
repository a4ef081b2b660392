package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/scrypt"
)

// Bounds of the work that a passphrase costs. The memory is 1 KiB << log2 N.
const (
	defaultScryptLogN = 17 // 128 MiB and about half a second
	minScryptLogN     = 10
	maxScryptLogN     = 20
	scryptR           = 8
	scryptP           = 1
	scryptSaltBytes   = 16

	maxKeyFileBytes = 1 << 20
)

// ErrPassphrase says that a passphrase is wrong, or that the file was changed; the two
// cannot be told apart.
var ErrPassphrase = errors.New("the passphrase is wrong, or the key file was changed")

// An encrypted key file is one PEM block around the whole file:
//
//	0   1  version, 1
//	1   1  log2 of scrypt's N; r is 8, p is 1
//	2  16  salt
//	18     AES-256-GCM of the file under scrypt(passphrase, salt, 32 bytes), with a nonce
//	       of 12 zero bytes and bytes 0 to 17 as additional data
//
// The salt is random, so each key encrypts one file and the nonce never repeats.
const (
	encryptedVersion = 1
	encryptedHead    = 2 + scryptSaltBytes
)

// EncryptKeyFile protects the content of a key file, or of any other text, with a
// passphrase.
func EncryptKeyFile(data, passphrase []byte) ([]byte, error) {
	return encryptKeyFile(data, passphrase, defaultScryptLogN)
}

func encryptKeyFile(data, passphrase []byte, logN byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	if len(data) > maxKeyFileBytes {
		return nil, fmt.Errorf("a key file has at most %d bytes", maxKeyFileBytes)
	}
	head := make([]byte, encryptedHead, encryptedHead+len(data)+tagBytes)
	head[0], head[1] = encryptedVersion, logN
	rand.Read(head[2:])
	aead, err := passphraseCipher(head, passphrase)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: aead.Seal(head, zeroNonce[:], data, head)}), nil
}

func passphraseCipher(head, passphrase []byte) (cipher.AEAD, error) {
	key, err := scrypt.Key(passphrase, head[2:encryptedHead], 1<<head[1], scryptR, scryptP, 32)
	if err != nil {
		return nil, fmt.Errorf("derive a key from the passphrase: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// IsEncryptedKeyFile reports whether data needs DecryptKeyFile before it can be read.
func IsEncryptedKeyFile(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && block.Type == pemEncrypted
}

// DecryptKeyFile takes off what EncryptKeyFile put on. The error wraps ErrPassphrase if
// the passphrase is wrong.
func DecryptKeyFile(data, passphrase []byte) ([]byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemEncrypted {
		return nil, errors.New("the key file is not one that a passphrase protects")
	}
	p := block.Bytes
	switch {
	case len(bytes.TrimSpace(rest)) > 0 || len(block.Headers) > 0 || len(p) > maxKeyFileBytes+encryptedHead+tagBytes:
		return nil, errors.New("the key file is damaged")
	case len(p) > 0 && p[0] != encryptedVersion:
		return nil, fmt.Errorf("the key file is in a form of version %d, which is not known here; it may be of a later SealMQ", p[0])
	case len(p) < encryptedHead+tagBytes:
		return nil, errors.New("the key file is damaged")
	case p[1] < minScryptLogN || p[1] > maxScryptLogN:
		return nil, fmt.Errorf("the key file asks for scrypt with N = 2^%d; between 2^%d and 2^%d is accepted", p[1], minScryptLogN, maxScryptLogN)
	}
	aead, err := passphraseCipher(p[:encryptedHead], passphrase)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, zeroNonce[:], p[encryptedHead:], p[:encryptedHead])
	if err != nil {
		return nil, ErrPassphrase
	}
	return plain, nil
}
