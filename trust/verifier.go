package trust

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// MaxAge is how old a message may be if its signer's certificate has expired or was superseded
// since.
const MaxAge = 30 * 24 * time.Hour

// Verifier is the seal.Verifier for certificates of accepted authorities. A certificate
// must have been valid when the message was sealed. If it has expired since, or was revoked
// because another one superseded it, the message must not be older than MaxAge: a thief who
// finds a key that is long out of use could seal with any time. After every other revocation
// nothing is believed any more, whenever it was sealed.
type Verifier struct {
	// Roots are the accepted authorities. It must be set.
	Roots *x509.CertPool
	// Identifier says whose a verified chain is, so that a sender has the name that it has
	// as a connection. Nil believes no roles, as of foreign authorities.
	Identifier *mtls.Identifier
	// Revocation is asked about every chain; nil revokes nothing.
	Revocation mtls.Revocation
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Verify implements seal.Verifier.
func (v *Verifier) Verify(chain []*x509.Certificate, sealedAt time.Time) (seal.Sender, error) {
	if v.Roots == nil {
		return seal.Sender{}, refuse(seal.ErrUndecided, "", "no authority is configured")
	}
	if len(chain) == 0 {
		return seal.Sender{}, refuse(seal.ErrUntrusted, "", "there is no certificate")
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         v.Roots,
		Intermediates: mtls.Pool(chain[1:]...),
		CurrentTime:   sealedAt,
		// What a certificate may do is said by its role, not by its key usages, which
		// certificates of imported authorities often lack.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return seal.Sender{}, untrusted(chain, sealedAt, err)
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	return v.choose(chains, sealedAt, now())
}

// choose takes the first chain that nothing speaks against.
func (v *Verifier) choose(chains [][]*x509.Certificate, sealedAt, now time.Time) (seal.Sender, error) {
	var refused error
	for _, chain := range chains {
		sender, err := v.judge(chain, sealedAt, now)
		if err == nil {
			return sender, nil
		}
		refused = cmp.Or(refused, err)
	}
	return seal.Sender{}, refused
}

func (v *Verifier) judge(chain []*x509.Certificate, sealedAt, now time.Time) (seal.Sender, error) {
	s := seal.Sender{NotBefore: chain[0].NotBefore, NotAfter: chain[0].NotAfter}
	for _, c := range chain {
		if c.NotBefore.After(s.NotBefore) {
			s.NotBefore = c.NotBefore
		}
		if c.NotAfter.Before(s.NotAfter) {
			s.NotAfter = c.NotAfter
		}
	}
	if v.Revocation != nil {
		err := v.Revocation.Check(chain)
		if until, ok := supersededAt(err); ok && !sealedAt.After(until) {
			s.NotAfter, err = earlier(s.NotAfter, until), nil
		}
		if errors.Is(err, mtls.ErrRevoked) {
			return seal.Sender{}, &seal.Error{Kind: seal.ErrRevoked, Err: err, Remedy: "put the message into quarantine and ask its sender"}
		} else if err != nil {
			return seal.Sender{}, &seal.Error{Kind: seal.ErrUndecided, Err: err}
		}
	}
	if oldest := now.Add(-MaxAge); now.After(s.NotAfter) && oldest.After(s.NotBefore) {
		s.NotBefore = oldest
		if sealedAt.Before(oldest) {
			return seal.Sender{}, refuse(seal.ErrExpired, "ask the sender to send it again",
				"it was good until %s, and the message of %s is older than %v", date(s.NotAfter), date(sealedAt), MaxAge)
		}
	}
	identity, err := cmp.Or(v.Identifier, mtls.NewIdentifier()).Identify(tls.ConnectionState{PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}})
	if err != nil {
		return seal.Sender{}, &seal.Error{Kind: seal.ErrUntrusted, Err: err}
	}
	s.Identity = identity
	return s, nil
}

// supersededAt returns until when a certificate is believed that was revoked because another
// one took its place: nobody suspects that its key was stolen. The sender's clock and the
// authority's may differ, and the sender needs a moment to take its new certificate.
func supersededAt(err error) (until time.Time, ok bool) {
	var revoked *RevokedError
	if !errors.As(err, &revoked) || revoked.Entry.Code != Superseded || revoked.Entry.RevokedAt.IsZero() {
		return until, false
	}
	return revoked.Entry.RevokedAt.Add(seal.DefaultMaxSkew), true
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// untrusted says what x509 did not like.
func untrusted(chain []*x509.Certificate, at time.Time, err error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		c := invalid.Cert
		if at.Before(c.NotBefore) {
			return refuse(seal.ErrNotYetValid, "check the sender's clock", "it is valid from %s, and the message was sealed on %s", date(c.NotBefore), date(at))
		}
		return refuse(seal.ErrExpired, "ask the sender to renew the certificate and to send again", "it expired on %s, and the message was sealed on %s", date(c.NotAfter), date(at))
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return refuse(seal.ErrUntrusted, "if the sender is known, add the authority's certificate to the accepted ones", "it is of authority %q", chain[len(chain)-1].Issuer.CommonName)
	}
	return &seal.Error{Kind: seal.ErrUntrusted, Err: err}
}

func refuse(kind error, hint, format string, args ...any) error {
	return &seal.Error{Kind: kind, Detail: fmt.Sprintf(format, args...), Remedy: hint}
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
