package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

// revokes says that the certificates of a name are revoked.
type revokes string

func (r revokes) Check(chain []*x509.Certificate) error {
	if chain[0].Subject.CommonName == string(r) {
		return mtls.ErrRevoked
	}
	return nil
}

// TestRefused: a name is told only if an accepted authority has vouched for it.
func TestRefused(t *testing.T) {
	c, other := testca.New(t), testca.New(t)
	conf := serverConfig(t, c.Files(), mtls.Options{Revocation: revokes("stolen")})
	authority := c.Template("authority", sealmq.RoleClient)
	authority.IsCA, authority.BasicConstraintsValid = true, true
	forged := other.Template("acme", sealmq.RoleClient)
	forged.NotBefore, forged.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	stranger := func(cert tls.Certificate) *tls.Config {
		conf := c.WithoutCertificate()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil } // whomever it is asked for
		return conf
	}
	for _, tt := range []struct {
		what      string
		client    *tls.Config
		name, why string
	}{
		{"revoked", c.ClientTLS("stolen"), "stolen", mtls.WhyRevoked},
		{"expired", c.ExpiredClient("acme"), "acme", mtls.WhyExpired},
		{"not yet valid", c.FutureClient("acme"), "acme", mtls.WhyNotYet},
		{"of another authority", stranger(other.Leaf("acme", sealmq.RoleClient)), "", mtls.WhyAuthority},
		{"expired, of another authority", stranger(other.Issue(forged)), "", mtls.WhyExpired},
		{"of an authority", c.ClientWith(c.Issue(authority)), "authority", mtls.WhyOther},
		{"no certificate", c.WithoutCertificate(), "", ""},
	} {
		r := connect(t, conf, tt.client)
		if r.serverErr == nil {
			t.Errorf("%s: let in", tt.what)
			continue
		}
		if name, why, ok := mtls.Refused(r.server, r.serverErr, c.Pool()); name != tt.name || why != tt.why || ok != (why != "") {
			t.Errorf("%s: %q, %q, %t after %v", tt.what, name, why, ok, r.serverErr)
		}
	}
}
