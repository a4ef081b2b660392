package mtls

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxFileBytes bounds certificate, key and CA files.
const MaxFileBytes = 4 << 20

// ParseCertificates returns all certificates of a PEM file in their order, at least
// one. Text between the blocks is ignored, as openssl writes it, but what has the marks of a block
// must be one: a damaged certificate is not left out in silence.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	blocks := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
		default:
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block of type CERTIFICATE")
	}
	if marks := max(bytes.Count(data, []byte("-----BEGIN ")), bytes.Count(data, []byte("-----END "))); marks > blocks {
		return nil, fmt.Errorf("%d of %d PEM blocks are damaged", marks-blocks, marks)
	}
	return certs, nil
}

// ParseAuthorities is ParseCertificates for a file of accepted authorities. A certificate
// that is no authority is an error: in a pool it would vouch for itself, and its owner
// would always be accepted. An X.509 v1 certificate cannot say what it is, and passes.
func ParseAuthorities(data []byte) ([]*x509.Certificate, error) {
	certs, err := ParseCertificates(data)
	for _, c := range certs {
		if c.Version == 3 && !(c.BasicConstraintsValid && c.IsCA) {
			return nil, fmt.Errorf("%s (serial %s) is not the certificate of an authority", c.Subject, Serial(c))
		}
	}
	return certs, err
}

// errEncryptedKey has a hint for the operator.
type errEncryptedKey struct{}

func (errEncryptedKey) Error() string { return "the private key is protected by a passphrase" }
func (errEncryptedKey) Hint() string {
	return "decrypt it into a file that only its owner can read, for example with: openssl pkey -in KEY -out PLAIN"
}

// ParsePrivateKey returns the first private key of a PEM file: PKCS#8, PKCS#1 or SEC1.
// The error never contains key material.
func ParsePrivateKey(data []byte) (crypto.Signer, error) {
	keys, err := parsePrivateKeys(data, 1)
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// ParseKeyOf is ParsePrivateKey for the key of a certificate. While a certificate is renewed
// its file has the next key too, so that certificate and key fit each other at every moment.
func ParseKeyOf(cert *x509.Certificate, data []byte) (crypto.Signer, error) {
	keys, err := ParsePrivateKeys(data)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if CheckPair(cert, key) == nil {
			return key, nil
		}
	}
	return keys[0], CheckPair(cert, keys[0])
}

// maxKeys is how many keys a file has while a certificate is renewed.
const maxKeys = 2

// ParsePrivateKeys returns the keys of a PEM file, at least one and at most two.
func ParsePrivateKeys(data []byte) ([]crypto.Signer, error) { return parsePrivateKeys(data, maxKeys) }

func parsePrivateKeys(data []byte, most int) (keys []crypto.Signer, err error) {
	for block, rest := pem.Decode(data); block != nil && len(keys) < most; block, rest = pem.Decode(rest) {
		var key any
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			return nil, errEncryptedKey{}
		case block.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("private key (%s): malformed", block.Type)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("private key (%s): %T cannot sign", block.Type, key)
		}
		keys = append(keys, signer)
	}
	if len(keys) == 0 {
		return nil, errors.New("no PEM block with a private key")
	}
	return keys, nil
}

// EncodeKey is the PEM form of a private key: PKCS#8, not encrypted.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodeCertificates is the PEM form of certificates, in their order.
func EncodeCertificates(certs ...*x509.Certificate) (data []byte) {
	for _, c := range certs {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return data
}

// Pool is a pool of certificates, empty without any.
func Pool(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// CheckPair reports whether cert was made for key.
func CheckPair(cert *x509.Certificate, key crypto.Signer) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return errors.New("the private key does not belong to the certificate")
	}
	return nil
}
