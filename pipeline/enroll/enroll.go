package enroll

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// Request asks for the first certificate of a machine.
type Request struct {
	Token pipeline.EnrolmentToken
	// Server is used instead of the token's address.
	Server string
	Files  Files
	// Replace allows a certificate that is there to be replaced, together with its key.
	Replace bool
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Result says what Enroll has got.
type Result struct {
	Leaf *x509.Certificate
	// Skew is by how much the server's clock is ahead.
	Skew time.Duration
}

// Enroll makes a key, gets a certificate for it and writes both. It may be repeated with the same
// token after it was interrupted.
func Enroll(ctx context.Context, r Request) (*Result, error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	server := cmp.Or(r.Server, r.Token.Server)
	if err := pipeline.CheckMainAddress(server); err != nil {
		return nil, err
	}
	old, err := r.Files.readCert()
	switch {
	case durable.IsNotExist(err):
		old = nil
	case err != nil:
		return nil, err
	case !r.Replace:
		return nil, &hintError{fmt.Sprintf("%s is there already, valid until %s", r.Files.Cert, old.NotAfter.UTC().Format(time.RFC3339)), "\"sealmq cert renew\" renews it; add --replace to enroll nevertheless, with a new key"}
	}
	root, skew, err := fetchRoot(ctx, server, r.Token.Root, r.Now)
	if err != nil {
		return nil, err
	}
	if err := r.Files.checkAuthority(r.Files.CA, root); err != nil && !errors.Is(err, errMissing) {
		return nil, err
	}
	key, _, err := r.Files.nextKey(old)
	if err != nil {
		return nil, err
	}
	csr, err := ca.NewCSR(r.Token.Name, key)
	if err != nil {
		return nil, err
	}
	pool := mtls.Pool(root)
	var certs []*x509.Certificate
	err = call(ctx, server, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Time: r.Now}, func(ctx context.Context, c *mainapi.ClientWithResponses) error {
		a, err := c.EnrollWithResponse(ctx, mainapi.EnrolmentRequest{Token: r.Token.String(), Csr: string(csr)})
		if err != nil {
			return explain(server, skew, err)
		}
		if a.JSON201 == nil {
			return refused(a.HTTPResponse, a.ApplicationProblemJSONDefault)
		}
		certs, err = checkIssued(a.JSON201, pool, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	if name, role, err := mtls.Profile(certs[0]); err != nil || name != r.Token.Name || role != cmp.Or(r.Token.Role, sealmq.RoleClient) {
		return nil, fmt.Errorf("the main server sent a certificate of %q with the role %q, not of %q", name, role, r.Token.Name)
	}
	var intermediate *x509.Certificate
	if len(certs) > 1 {
		intermediate = certs[1]
	}
	if err := r.Files.keepRoot(root, intermediate); err != nil {
		return nil, err
	}
	if err := r.Files.writeNote(server); err != nil {
		return nil, err
	}
	return &Result{Leaf: certs[0], Skew: skew}, r.Files.install(mtls.EncodeCertificates(certs...), key)
}
