package seal

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
)

// Verifier decides whom to believe.
type Verifier interface {
	// Verify is given the certificates of an envelope, leaf first, and the time at
	// which a message says it was sealed. It returns who the leaf's owner is, or an
	// error that wraps ErrUntrusted, ErrExpired, ErrNotYetValid, ErrRevoked or
	// ErrUndecided. An error that wraps none of them counts as ErrUntrusted.
	//
	// That the message is really the owner's is checked elsewhere. Verify is called
	// again at short intervals, so that a revocation is noticed; it must be safe for
	// concurrent use.
	Verify(chain []*x509.Certificate, sealedAt time.Time) (Sender, error)
}

// Sender is what a Verifier knows of a sender.
type Sender struct {
	sealmq.Identity
	// NotBefore and NotAfter say for which times of sealing the answer holds.
	NotBefore, NotAfter time.Time
}

// Revocation knows the certificates that were withdrawn before their time.
type Revocation interface {
	// Check returns an error if a certificate of a chain, leaf first and root last, must
	// not be accepted. One that wraps ErrUndecided says that nobody knows now.
	Check(chain []*x509.Certificate) error
}

// DefaultMaxAge is X509Verifier's.
const DefaultMaxAge = 30 * 24 * time.Hour

// X509Verifier is the Verifier for certificates of accepted authorities. A certificate
// must have been valid when the message was sealed. If it has expired since, the message
// must not be older than MaxAge: whoever finds a key that is long out of use could seal
// with any time.
type X509Verifier struct {
	// Roots are the accepted authorities. It must be set.
	Roots *x509.CertPool
	// Intermediates are authorities below the roots that senders may leave out of their
	// chains.
	Intermediates []*x509.Certificate
	// Identify says whose a verified chain is. It must be set; it is the Identify of
	// package mtls, so that a sender has the name that a connection would have.
	Identify func(tls.ConnectionState) (sealmq.Identity, error)
	// Revocation is asked about every chain; nil asks nobody.
	Revocation Revocation
	// MaxAge is how old a message of a signer who has expired since may be (default
	// DefaultMaxAge).
	MaxAge time.Duration
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Verify implements Verifier.
func (v *X509Verifier) Verify(chain []*x509.Certificate, sealedAt time.Time) (Sender, error) {
	if v.Roots == nil || v.Identify == nil {
		return Sender{}, refuse(ErrUndecided, "", "no authority is configured")
	}
	if len(chain) == 0 {
		return Sender{}, refuse(ErrUntrusted, "", "there is no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, c := range slices.Concat(chain[1:], v.Intermediates) {
		intermediates.AddCert(c)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         v.Roots,
		Intermediates: intermediates,
		CurrentTime:   sealedAt,
		// What a certificate may do is said by its role, not by its key usages, which
		// certificates of imported authorities often lack.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return Sender{}, untrusted(chain, sealedAt, err)
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	return v.choose(chains, sealedAt, now())
}

// choose takes the first chain that nothing speaks against.
func (v *X509Verifier) choose(chains [][]*x509.Certificate, sealedAt, now time.Time) (Sender, error) {
	var refused error
	for _, chain := range chains {
		sender, err := v.judge(chain, sealedAt, now)
		if err == nil {
			return sender, nil
		}
		if refused == nil {
			refused = err
		}
	}
	return Sender{}, refused
}

func (v *X509Verifier) judge(chain []*x509.Certificate, sealedAt, now time.Time) (Sender, error) {
	s := Sender{NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter}
	for _, c := range chain {
		if c.NotBefore.After(s.NotBefore) {
			s.NotBefore = c.NotBefore
		}
		if c.NotAfter.Before(s.NotAfter) {
			s.NotAfter = c.NotAfter
		}
	}
	if v.Revocation != nil {
		if err := v.Revocation.Check(chain); errors.Is(err, ErrUndecided) {
			return Sender{}, err
		} else if err != nil {
			return Sender{}, &Error{Kind: ErrRevoked, Err: err, Hint: "put the message into quarantine and ask its sender"}
		}
	}
	maxAge := v.MaxAge
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	if oldest := now.Add(-maxAge); now.After(s.NotAfter) && oldest.After(s.NotBefore) {
		s.NotBefore = oldest
		if sealedAt.Before(oldest) {
			return Sender{}, refuse(ErrExpired, "ask the sender to send it again, or raise the maximum age",
				"it expired on %s, and the message of %s is older than %v", date(s.NotAfter), date(sealedAt), maxAge)
		}
	}
	identity, err := v.Identify(tls.ConnectionState{PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}})
	if err != nil {
		return Sender{}, &Error{Kind: ErrUntrusted, Err: err}
	}
	s.Identity = identity
	return s, nil
}

// untrusted says what x509 did not like.
func untrusted(chain []*x509.Certificate, at time.Time, err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		c := invalid.Cert
		if at.Before(c.NotBefore) {
			return refuse(ErrNotYetValid, "check the sender's clock", "it is valid from %s, and the message was sealed on %s", date(c.NotBefore), date(at))
		}
		return refuse(ErrExpired, "ask the sender to renew the certificate and to send again", "it expired on %s, and the message was sealed on %s", date(c.NotAfter), date(at))
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return refuse(ErrUntrusted, "if the sender is known, add the authority's certificate to the accepted ones", "it is of authority %q", chain[len(chain)-1].Issuer.CommonName)
	}
	return &Error{Kind: ErrUntrusted, Err: err}
}
