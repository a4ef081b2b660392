package enroll

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

// Renew replaces a certificate and its key by new ones, whatever is left of its life. An expired
// one needs an administrator's consent. It may be repeated after it was interrupted. now may be
// nil.
func Renew(ctx context.Context, f Files, server string, now func() time.Time) (*x509.Certificate, error) {
	if now == nil {
		now = time.Now
	}
	cert, err := f.readCert()
	if err != nil {
		return nil, err
	}
	key, old, err := f.nextKey(cert)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return nil, &hintError{fmt.Sprintf("%s does not have the key of %s", f.Key, f.Cert), "put the key back, or enroll again with a new token and --replace"}
	}
	name, _, err := mtls.Profile(cert)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = cert.Subject.CommonName
	}
	csr, err := ca.NewCSR(name, key)
	if err != nil {
		return nil, err
	}
	roots, err := f.roots()
	if err != nil {
		return nil, err
	}
	ask := f.renewValid
	if now().After(cert.NotAfter) {
		ask = renewExpired
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Time: now}
	var certs []*x509.Certificate
	err = ask(ctx, server, conf, cert, old, string(csr), func(resp *http.Response, c *mainapi.IssuedCertificate, p *mainapi.Problem) error {
		if c == nil {
			return refused(resp, p)
		}
		certs, err = checkIssued(c, roots, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return certs[0], f.install(mtls.EncodeCertificates(certs...), key)
}

// answered takes the answer to a renewal.
type answered func(*http.Response, *mainapi.IssuedCertificate, *mainapi.Problem) error

// renewValid proves the possession of the old key by the connection.
func (f Files) renewValid(ctx context.Context, server string, conf *tls.Config, cert *x509.Certificate, old crypto.Signer, csr string, take answered) error {
	chain, err := f.readChain()
	if err != nil {
		return err
	}
	pair := tls.Certificate{PrivateKey: old, Leaf: cert}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return call(ctx, server, conf, func(ctx context.Context, c *mainapi.ClientWithResponses) error {
		r, err := c.RenewOwnCertificateWithResponse(ctx, mainapi.OwnRenewal{Csr: csr})
		if err != nil {
			return explain(server, 0, err)
		}
		return take(r.HTTPResponse, r.JSON201, r.ApplicationProblemJSONDefault)
	})
}

// renewExpired proves it by a signature, because no connection is made with an expired certificate.
func renewExpired(ctx context.Context, server string, conf *tls.Config, cert *x509.Certificate, old crypto.Signer, csr string, take answered) error {
	proof, err := ca.NewCSR(digest(csr), old)
	if err != nil {
		return err
	}
	return call(ctx, server, conf, func(ctx context.Context, c *mainapi.ClientWithResponses) error {
		r, err := c.RenewExpiredCertificateWithResponse(ctx, mainapi.ExpiredRenewal{Fingerprint: mtls.Fingerprint(cert), Csr: csr, Proof: string(proof)})
		if err != nil {
			return explain(server, 0, err)
		}
		return take(r.HTTPResponse, r.JSON201, r.ApplicationProblemJSONDefault)
	})
}
