package trust

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// ReadVerifier returns a verifier that believes certificates of the authorities in a
// file, and gives their owners the names that they have as connections.
func ReadVerifier(caFile string) (*seal.X509Verifier, error) {
	v, _, err := ReadAnchoredVerifier(caFile)
	return v, err
}

// ReadAnchoredVerifier is ReadVerifier that also names the first of the authorities, so
// that two brokers with one address but different authorities are told apart.
func ReadAnchoredVerifier(caFile string) (v *seal.X509Verifier, anchor string, err error) {
	certs, err := mtls.ReadAuthorities(caFile)
	if err != nil {
		return nil, "", fmt.Errorf("read authority: %w", err)
	}
	v = &seal.X509Verifier{Roots: x509.NewCertPool(), Identify: mtls.NewIdentifier().Identify}
	for _, c := range certs {
		v.Roots.AddCert(c)
	}
	return v, mtls.Issuer(certs[0]), nil
}

// FileVerifier is a ReadVerifier that reads its file for every answer, so that a change
// needs no restart. It is for answers that are rare.
type FileVerifier struct {
	// CA is the file of authorities.
	CA string
	// Revocation may be nil.
	Revocation mtls.Revocation
}

// Verify implements seal.Verifier. While the file cannot be used, nobody is refused for
// good: the error wraps seal.ErrUndecided.
func (f FileVerifier) Verify(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
	v, err := ReadVerifier(f.CA)
	if err != nil {
		return seal.Sender{}, fmt.Errorf("%w: %w", seal.ErrUndecided, err)
	}
	v.Revocation = f.Revocation
	return v.Verify(chain, at)
}
