package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// ClientOptions say which server a client expects.
type ClientOptions struct {
	// ServerName is the host name or IP address that the server's certificate must
	// carry. If it is empty, the dialer sets it.
	ServerName string
	// AnyServerName accepts every server certificate of the authority, whatever its
	// name. It is for servers whose certificate names no host.
	AnyServerName bool
	// Options are those of a server; MinVersion, Log, Clock and ReloadEvery apply, and
	// Revocation to the server's certificate.
	Options
}

// ClientConfig returns the configuration of a client. Cert and Key may be empty for a
// client without certificate, CA may not: the system's authorities are never used.
//
// A changed certificate or key is used from the next connection on, and an authority that was
// taken out of the CA file is not believed any more. One that was added is believed by a new
// configuration only, unless AnyServerName is set.
func ClientConfig(files Files, co ClientOptions) (*tls.Config, error) {
	o, err := co.Options.normalize()
	if err != nil {
		return nil, err
	}
	if files.CA == "" {
		return nil, errors.New("a TLS client needs a CA file")
	}
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("a client certificate and its key must be given together")
	}
	r, err := newReloader(files, o.Log, o.Clock, o.ReloadEvery, func(m *material) *material { return m })
	if err != nil {
		return nil, err
	}
	roots := r.get().roots
	return &tls.Config{
		MinVersion:                  o.MinVersion,
		CipherSuites:                cipherSuites,
		ServerName:                  co.ServerName,
		RootCAs:                     roots,
		DynamicRecordSizingDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certs := r.get().certs; len(certs) > 0 {
				return &certs[0], nil
			}
			return new(tls.Certificate), nil
		},
		InsecureSkipVerify: co.AnyServerName, // VerifyConnection does every check except that of the name
		VerifyConnection: func(cs tls.ConnectionState) error {
			chains := cs.VerifiedChains
			if now := r.get().roots; co.AnyServerName || now != roots {
				var err error
				if chains, err = verifyServer(cs.PeerCertificates, now); err != nil {
					return err
				}
			}
			return verifyChains(chains, o.Revocation)
		},
	}, nil
}

// verifyServer is what crypto/tls does with a server's certificates, without a name.
func verifyServer(certs []*x509.Certificate, roots *x509.CertPool) ([][]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, errors.New("the server sent no certificate")
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: Pool(certs[1:]...)})
	if err != nil {
		return nil, &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return chains, nil
}
