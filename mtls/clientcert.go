package mtls

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// MinRSABits is the size of the smallest RSA key that a client may have.
const MinRSABits = 2048

// CheckClient refuses certificates that no client should show, although their chain is good.
// A certificate without extensions passes: it does not say what it is for.
func CheckClient(chains [][]*x509.Certificate) error {
	if len(chains) == 0 {
		return errors.New("peer has no verified certificate")
	}
	leaf := chains[0][0]
	// The CA file vouches for each of its certificates, and one of X.509 v1 cannot say that
	// it is an authority.
	alone := len(chains) == 1 && len(chains[0]) == 1
	switch {
	case leaf.BasicConstraintsValid && leaf.IsCA, alone:
		return errors.New("it is the certificate of an authority, not of a client")
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its key usage lacks digitalSignature, so it is not for clients")
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < MinRSABits {
		return fmt.Errorf("its RSA key has %d bits, fewer than %d", key.N.BitLen(), MinRSABits)
	}
	return nil
}

// bareCertificates warns about clients whose certificates have no extensions. It warns once
// for each certificate, up to a limit.
type bareCertificates struct {
	log *slog.Logger

	mu     sync.Mutex
	warned map[string]bool
}

// maxBareWarnings bounds what a listener remembers, and what it logs.
const maxBareWarnings = 1000

func (b *bareCertificates) warn(chain []*x509.Certificate) {
	leaf := chain[0]
	if len(leaf.Extensions) > 0 {
		return
	}
	serial := Serial(leaf)
	key := Fingerprint(leaf)
	b.mu.Lock()
	if b.warned == nil {
		b.warned = make(map[string]bool)
	}
	again := b.warned[key] || len(b.warned) >= maxBareWarnings
	if !again {
		b.warned[key] = true
	}
	b.mu.Unlock()
	if !again {
		b.log.Warn("a client's certificate has no extensions, so it does not say what it is for; it is accepted, and should be issued again",
			"subject", leaf.Subject.String(), "serial", serial, "issuer", Issuer(chain[len(chain)-1]))
	}
}

// ValidUntil is when the certificates of a verified peer expire: the chain that lasts longest
// counts, and in it the certificate that ends first. It is zero without a verified chain.
func ValidUntil(cs tls.ConnectionState) (end time.Time) {
	for _, chain := range cs.VerifiedChains {
		var first time.Time
		for _, c := range chain {
			if first.IsZero() || c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(end) {
			end = first
		}
	}
	return end
}
