package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

// certInfo is what "sealmq cert show" prints of a certificate.
type certInfo struct {
	Subject    string      `json:"subject"`
	Client     string      `json:"client,omitempty"`
	Role       sealmq.Role `json:"role,omitempty"`
	Issuer     string      `json:"issuer"`
	Serial     string      `json:"serial"`
	NotBefore  time.Time   `json:"not_before"`
	NotAfter   time.Time   `json:"not_after"`
	Expired    bool        `json:"expired"`
	Authority  bool        `json:"authority"`
	Hosts      []string    `json:"hosts,omitempty"`
	Key        string      `json:"key"`
	Signature  string      `json:"signature"`
	Version    int         `json:"version"`
	SHA256     string      `json:"sha256"`
	ProfileErr string      `json:"profile_error,omitempty"`
}

func newCertShowCmd() *cobra.Command {
	return standalone(&cobra.Command{
		Use:   "show NAME|FILE",
		Short: "Show the certificates in a PEM file",
		Example: `  sealmq cert show alice
  sealmq cert show usb/alice.crt`,
	}, func(a call) error {
		_, file, err := certFile(a)
		if err != nil {
			return err
		}
		certs, err := mtls.ReadCertificates(file)
		if err != nil {
			return err
		}
		infos := make([]certInfo, len(certs))
		for i, c := range certs {
			infos[i] = describe(c)
		}
		if a.asJSON {
			return printJSON(a.out, infos)
		}
		for i, c := range infos {
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			if err := c.facts().print(a.out, ""); err != nil {
				return err
			}
		}
		return nil
	})
}

// certFile is the file that the first argument names: itself, or the certificate of that name
// of an identity or in the data folder.
func certFile(a call) (c Config, file string, err error) {
	if c, err = clientConfig(a.cmd); err != nil {
		return c, "", err
	}
	file = a.args[0]
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if dir := certDir(c, file, ""); dir != "" {
			return c, filepath.Join(dir, file+".crt"), nil
		}
		if named := ca.In(c.Data).Cert(file); mtls.ValidID(file) && exists(named) {
			return c, named, nil
		}
		return c, "", noCertificate(err, file)
	}
	return c, file, nil
}

// noCertificate adds a hint to an error about a certificate that is not there.
func noCertificate(err error, name string) error {
	switch {
	case !errors.Is(err, fs.ErrNotExist) || hintFor(err) != "":
		return err
	case !mtls.ValidID(name):
		return withHint(err, `"sealmq cert list" shows the names of those that were issued`)
	}
	return withHint(err, `"sealmq cert list" shows the names of those that were issued, and "sealmq cert issue %s" makes this one`, name)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func describe(c *x509.Certificate) certInfo {
	info := certInfo{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: mtls.Serial(c),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Expired: time.Now().After(c.NotAfter),
		Authority: c.IsCA, Key: keyName(c.PublicKey), Signature: c.SignatureAlgorithm.String(),
		Version: c.Version, SHA256: mtls.Fingerprint(c), Hosts: hostsOf(c),
	}
	var err error
	if info.Client, info.Role, err = mtls.Profile(c); err != nil {
		info.ProfileErr = err.Error()
	}
	return info
}

func (c certInfo) facts() *table {
	until, authority := stampText(c.NotAfter), ""
	if c.Expired {
		until += " (expired)"
	}
	if c.Authority {
		authority = "yes"
	}
	return factsTable("subject", c.Subject, "client", c.Client, "role", string(c.Role), "profile", c.ProfileErr, "authority", authority,
		"hosts", strings.Join(c.Hosts, ", "), "issuer", c.Issuer, "serial", c.Serial, "from", stampText(c.NotBefore), "until", until,
		"key", c.Key, "signature", c.Signature, "version", fmt.Sprintf("X.509 v%d", c.Version), "sha256", c.SHA256)
}

func hostsOf(c *x509.Certificate) []string {
	hosts := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func keyName(public any) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", public)
}
