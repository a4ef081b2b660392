package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sealmq/sealmq/mtls"
)

// MaxCSRBytes bounds a certificate signing request.
const MaxCSRBytes = 64 << 10

// RSA keys that are accepted from others.
const (
	minRSABits = mtls.MinRSABits
	maxRSABits = 8192
)

const pemRequest = "CERTIFICATE REQUEST"

// CSR is what is used of a certificate signing request: the public key, and the common name,
// which must be the name that a certificate is issued for.
type CSR struct {
	Public     crypto.PublicKey
	CommonName string // may be empty
}

// ParseCSR reads a request in PEM and checks that its sender has the private key. What the
// request asks for otherwise is ignored: the authority decides what it writes.
func ParseCSR(data []byte) (*CSR, error) {
	if len(data) > MaxCSRBytes {
		return nil, fmt.Errorf("the request has more than %d bytes", MaxCSRBytes)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemRequest && block.Type != "NEW "+pemRequest {
		return nil, errors.New("there is no PEM block of type CERTIFICATE REQUEST")
	}
	if next, _ := pem.Decode(rest); next != nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is something behind the request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request is malformed: %w", err)
	}
	if err := checkPublic(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its own key: %w", err)
	}
	return &CSR{csr.PublicKey, csr.Subject.CommonName}, nil
}

// checkPublic refuses keys that are weak, or that others may not be able to use.
func checkPublic(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("the key is on curve %s; P-256 and P-384 are accepted", k.Curve.Params().Name)
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); {
		case n < minRSABits || n > maxRSABits:
			return fmt.Errorf("the RSA key has %d bits; %d to %d are accepted", n, minRSABits, maxRSABits)
		case k.E < 65537 || k.E%2 == 0:
			return fmt.Errorf("the RSA key has the exponent %d; 65537 is usual", k.E)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a key of type %T is not accepted; use ECDSA (P-256 or P-384), RSA or Ed25519", public)
}

// NewCSR makes a request for a name, signed with the owner's key.
func NewCSR(name string, key crypto.Signer) ([]byte, error) {
	if err := checkID("name", name); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), nil
}
