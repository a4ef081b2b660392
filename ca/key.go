package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"os"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// KeyType is an algorithm for new keys.
type KeyType string

// The key types.
const (
	// ECDSA is P-256. A handshake with it costs a tenth of one with P-384 or RSA.
	ECDSA KeyType = "ecdsa"
	// RSA is 3072 bits, for peers that support nothing else.
	RSA KeyType = "rsa"
)

const rsaBits = 3072

// KeyTypes are all of them.
var KeyTypes = []KeyType{ECDSA, RSA}

// GenerateKey makes a key. The empty type is ECDSA.
func GenerateKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case "", ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	}
	return nil, fmt.Errorf("unknown key type %q, known are ecdsa and rsa", string(t))
}

func keySum(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic("ca: internal error: a public key cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(der)
	return sum[:]
}

// keyID is a subject key identifier: the first 160 bits of the SHA-256 of the key
// (RFC 7093, method 1).
func keyID(public crypto.PublicKey) []byte { return keySum(public)[:20] }

// KeyHash tells public keys apart in the record, as in Issued.Key.
func KeyHash(public crypto.PublicKey) string { return hex.EncodeToString(keySum(public)) }

// newSerial returns 128 random bits.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) // never fails
	return new(big.Int).SetBytes(b)
}

// sign makes a certificate from the template, with a new serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	template.SerialNumber = newSerial()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// maker writes files and lists them.
type maker struct {
	fs   durable.FS
	made []string
}

func (m *maker) write(path string, data []byte, perm os.FileMode) error {
	if err := durable.WriteFile(m.fs, path, data, perm); err != nil {
		return err
	}
	m.made = append(m.made, path)
	return nil
}

// newKey makes a key and its file.
func (m *maker) newKey(path string, t KeyType) (crypto.Signer, error) {
	key, err := GenerateKey(t)
	if err != nil {
		return nil, err
	}
	data, err := mtls.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, m.write(path, data, 0o600)
}

// ensureContent writes a file unless it has that content already.
func (m *maker) ensureContent(path string, data []byte, perm os.FileMode) error {
	old, err := durable.ReadFile(m.fs, path, maxFileBytes)
	if err == nil && string(old) == string(data) {
		return nil
	}
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	return m.write(path, data, perm)
}

// keyTypeOf returns "" for any other type.
func keyTypeOf(public crypto.PublicKey) KeyType {
	switch public.(type) {
	case *ecdsa.PublicKey:
		return ECDSA
	case *rsa.PublicKey:
		return RSA
	}
	return ""
}
