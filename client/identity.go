package client

import (
	"crypto/tls"
	"fmt"

	"github.com/sealmq/sealmq/mtls"
)

// Identity is a client's identity, and the authority whose brokers it believes.
type Identity struct {
	// Files are the certificate, its key, and the certificate of the authority.
	Files mtls.Files
	// Name is the one in the certificate, for Config.Name.
	Name string
	// TLS is for Config.TLS. A renewed certificate is used from the next connection on.
	TLS *tls.Config
}

// LoadIdentity reads the identity of a name from dir, a folder in which "sealmq cert issue"
// has written NAME.crt, NAME.key and ca.crt, or a broker's data folder.
func LoadIdentity(dir, name string) (*Identity, error) {
	files := mtls.FindFiles(dir, name)
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{})
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", name, err)
	}
	certs, err := mtls.ReadCertificates(files.Cert)
	if err != nil {
		return nil, err
	}
	own, err := mtls.NameOf(certs[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Cert, err)
	}
	return &Identity{Files: files, Name: own, TLS: conf}, nil
}
