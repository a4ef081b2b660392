package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// Why a peer was not let in, for people.
const (
	WhyRevoked   = "Client certificate has been revoked"
	WhyExpired   = "Client certificate has expired"
	WhyNotYet    = "Client certificate is not valid yet"
	WhyAuthority = "Client certificate is of an unknown authority"
	WhyOther     = "Client certificate is not accepted"
)

// Refused says whose certificate a connection showed that was not let in, and why it was not.
// cs and err are what the handshake or an Identifier left. The name is empty unless one of the
// roots has vouched for it: anybody can put any name into a certificate of his own. ok is false
// if no certificate was the reason.
func Refused(cs tls.ConnectionState, err error, roots *x509.CertPool) (name, why string, ok bool) {
	certs, verified := cs.PeerCertificates, len(cs.VerifiedChains) > 0
	var (
		verification *tls.CertificateVerificationError
		invalid      x509.CertificateInvalidError
		authority    x509.UnknownAuthorityError
	)
	if errors.As(err, &verification) {
		certs = verification.UnverifiedCertificates
	}
	if len(certs) == 0 {
		return "", "", false
	}
	why = WhyOther
	switch leaf := certs[0]; {
	case errors.Is(err, ErrRevoked):
		why = WhyRevoked
	case errors.As(err, &authority):
		why = WhyAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		why = WhyExpired
		at := leaf.NotAfter
		if time.Now().Before(leaf.NotBefore) {
			why, at = WhyNotYet, leaf.NotBefore
		}
		verified = vouched(certs, roots, at)
	}
	if !verified {
		return "", why, true
	}
	name, err = NameOf(certs[0])
	if err != nil {
		return "", WhyOther, true
	}
	return name, why, true
}

// vouched reports whether certificates, leaf first, were good at a time.
func vouched(certs []*x509.Certificate, roots *x509.CertPool, at time.Time) bool {
	_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: Pool(certs[1:]...), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return roots != nil && err == nil
}
