package seal

import (
	"crypto/x509"
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
