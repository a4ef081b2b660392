package seal

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Label keeps a signature that was made for one kind of object from being taken for
// another's.
type Label string

// The labels of version 1.
const (
	LabelEpoch   Label = "SealMQ v1 epoch header"
	LabelMessage Label = "SealMQ v1 message"
)

// Scheme is how a signature is made, by its code point in TLS 1.3 (RFC 8446, section 4.2.3).
type Scheme uint16

// The schemes. The key in a certificate decides which one its owner uses.
const (
	ECDSAP256SHA256 Scheme = 0x0403
	ECDSAP384SHA384 Scheme = 0x0503
	RSAPSSSHA256    Scheme = 0x0804 // with a salt of 32 bytes
	Ed25519         Scheme = 0x0807
)

// Bounds of what an envelope carries about its signer.
const (
	MaxChain      = 4        // certificates
	MaxChainBytes = 16 << 10 // of them together
	maxSignature  = 1024     // bytes; RSA with 8192 bits
	minSignerRSA  = 2048
	maxSignerRSA  = 8192
)

func schemeOf(key crypto.PublicKey) (Scheme, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256SHA256, nil
		case elliptic.P384():
			return ECDSAP384SHA384, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minSignerRSA || bits > maxSignerRSA {
			return 0, fmt.Errorf("an RSA key that signs has %d to %d bits, not %d", minSignerRSA, maxSignerRSA, bits)
		}
		return RSAPSSSHA256, nil
	}
	return 0, errors.New("the certificate's key is of a kind that cannot sign here; ECDSA with P-256 or P-384, Ed25519 and RSA can")
}

// signedBytes is what a signature is made over: 64 spaces, so that no certificate or TLS
// handshake can be mistaken for it, the label, a zero byte, the content.
func signedBytes(label Label, content []byte) []byte {
	p := make([]byte, 0, 64+len(label)+1+len(content))
	p = append(p, bytes.Repeat([]byte{0x20}, 64)...)
	p = append(p, label...)
	p = append(p, 0)
	return append(p, content...)
}

// Signer signs as the owner of a certificate. It is safe for concurrent use and prints
// as "[redacted]".
type Signer struct {
	redacted
	name   string
	leaf   *x509.Certificate
	chain  []byte // as in an envelope
	sum    [32]byte
	key    crypto.Signer
	scheme Scheme
}

// NewSigner makes a Signer of a certificate chain, leaf first, in DER, and the leaf's
// private key. name is the identity that receivers derive from the chain. A root at the
// chain's end is left out: receivers have it, or do not trust it.
func NewSigner(name string, chain [][]byte, key crypto.PrivateKey) (*Signer, error) {
	if err := checkText("sender", name); err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("the sender has no certificate")
	}
	var certs []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the sender's certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if n := len(certs); n > 1 && bytes.Equal(certs[n-1].RawIssuer, certs[n-1].RawSubject) {
		certs = certs[:n-1]
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the sender's private key cannot sign")
	}
	leaf := certs[0]
	if pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(leaf.PublicKey) {
		return nil, errors.New("the private key does not belong to the sender's certificate")
	}
	scheme, err := schemeOf(leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := maySign(leaf); err != nil {
		return nil, err
	}
	encoded, err := encodeChain(certs)
	if err != nil {
		return nil, err
	}
	return &Signer{name: name, leaf: leaf, chain: encoded, sum: sha256.Sum256(encoded), key: signer, scheme: scheme}, nil
}

// Name is the identity that the Signer signs as.
func (s *Signer) Name() string { return s.name }

// Chain is the Signer's certificates as an envelope carries them, and their SHA-256. The
// slice must not be changed.
func (s *Signer) Chain() (chain []byte, sum [32]byte) { return s.chain, s.sum }

// NotAfter is when the certificate expires.
func (s *Signer) NotAfter() time.Time { return s.leaf.NotAfter }

// Sign signs content for what label says it is.
func (s *Signer) Sign(label Label, content []byte) ([]byte, error) {
	digest, opts := s.scheme.digest(label, content)
	sig, err := s.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, fmt.Errorf("sign as %s: %w", s.name, err)
	}
	return sig, nil
}

// pss has a salt of 32 bytes.
var pss = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// digest is what is handed to the key, and what to tell it. Ed25519 hashes by itself.
func (s Scheme) digest(label Label, content []byte) ([]byte, crypto.SignerOpts) {
	message := signedBytes(label, content)
	switch s {
	case Ed25519:
		return message, crypto.Hash(0)
	case ECDSAP384SHA384:
		sum := sha512.Sum384(message)
		return sum[:], crypto.SHA384
	}
	sum := sha256.Sum256(message)
	if s == RSAPSSSHA256 {
		return sum[:], pss
	}
	return sum[:], crypto.SHA256
}

// CheckSignature reports whether sig is a signature of content under label by the owner
// of the certificate. It does not ask whether the certificate is to be trusted. The
// error wraps ErrSignature.
func CheckSignature(cert *x509.Certificate, label Label, content, sig []byte) error {
	scheme, err := schemeOf(cert.PublicKey)
	if err != nil {
		return &Error{Kind: ErrSignature, Err: err}
	}
	digest, _ := scheme.digest(label, content)
	var ok bool
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, digest, sig)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, digest, sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(key, crypto.SHA256, digest, sig, pss) == nil
	}
	if !ok {
		return refuse(ErrSignature, "", "it is not the certificate owner's")
	}
	return nil
}

// maySign reports whether a certificate is one that signs messages at all.
func maySign(cert *x509.Certificate) error {
	switch {
	case cert.IsCA:
		return errors.New("the sender's certificate is an authority's")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("the sender's certificate is not for signing")
	}
	return nil
}

// encodeChain lays certificates out as an envelope carries them: for each, the length in
// two bytes and the DER.
func encodeChain(certs []*x509.Certificate) ([]byte, error) {
	if len(certs) > MaxChain {
		return nil, fmt.Errorf("the sender's chain has %d certificates, more than %d", len(certs), MaxChain)
	}
	var f fields
	for _, c := range certs {
		if len(f.p)+2+len(c.Raw) > MaxChainBytes {
			return nil, fmt.Errorf("the sender's chain has more than %d bytes", MaxChainBytes)
		}
		prefixed(&f, &c.Raw)
	}
	return f.p, nil
}

// ParseChain takes apart certificates as an envelope carries them: for each, leaf first,
// two bytes of length and the DER; one to MaxChain of them. It says nothing about whom to
// trust. The error wraps ErrMalformed.
func ParseChain(p []byte) ([]*x509.Certificate, error) {
	if len(p) > MaxChainBytes {
		return nil, malformed("the certificate chain has %d bytes, more than %d", len(p), MaxChainBytes)
	}
	var certs []*x509.Certificate
	for f := (fields{p: p, reading: true}); len(f.p) > 0; {
		var der []byte
		if prefixed(&f, &der); f.cut || len(certs) == MaxChain {
			return nil, malformed("the certificate chain is cut or too long")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed("certificate %d of the chain cannot be read", len(certs)+1)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, malformed("the certificate chain is empty")
	}
	return certs, nil
}
