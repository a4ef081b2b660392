package trust

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// NewVerifier returns a verifier that believes certificates of the given authorities.
func NewVerifier(roots ...*x509.Certificate) *Verifier {
	return &Verifier{Roots: mtls.Pool(roots...)}
}

// ReadVerifier is NewVerifier for the authorities in a file.
func ReadVerifier(caFile string) (*Verifier, error) {
	roots, err := mtls.ReadAuthorities(caFile)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	return NewVerifier(roots...), nil
}

// FileVerifier reads its files for every answer, so that a change needs no restart. It is
// for answers that are rare.
type FileVerifier struct {
	// CA is the file of authorities.
	CA string
	// OwnRoot is the file with the root of our own authority, whose roles are believed
	// (ReadIdentifier). Without it no role is.
	OwnRoot string
	// Revocation may be nil.
	Revocation mtls.Revocation
}

// Verify implements seal.Verifier. While a file cannot be used, the error wraps
// seal.ErrUndecided.
func (f FileVerifier) Verify(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
	v, err := ReadVerifier(f.CA)
	if err == nil && f.OwnRoot != "" {
		v.Identifier, err = ReadIdentifier(f.OwnRoot, nil)
	}
	if err != nil {
		return seal.Sender{}, fmt.Errorf("%w: %w", seal.ErrUndecided, err)
	}
	v.Revocation = f.Revocation
	return v.Verify(chain, at)
}
