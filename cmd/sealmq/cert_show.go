package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
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
		return printCertificates(a.out, infos)
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
		Version: c.Version, SHA256: mtls.Fingerprint(c),
	}
	if h := hostsOf(c); h != "" {
		info.Hosts = strings.Split(h, ", ")
	}
	var err error
	if info.Client, info.Role, err = mtls.Profile(c); err != nil {
		info.ProfileErr = err.Error()
	}
	return info
}

func printCertificates(w io.Writer, infos []certInfo) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range infos {
		if i > 0 {
			fmt.Fprintln(tw)
		}
		line := func(name, value string) {
			if value != "" {
				fmt.Fprintf(tw, "%s\t%s\n", name, printable(value))
			}
		}
		until := stampText(c.NotAfter)
		if c.Expired {
			until += " (expired)"
		}
		line("subject", c.Subject)
		line("client", c.Client)
		line("role", string(c.Role))
		line("profile", c.ProfileErr)
		if c.Authority {
			line("authority", "yes")
		}
		line("hosts", strings.Join(c.Hosts, ", "))
		line("issuer", c.Issuer)
		line("serial", c.Serial)
		line("from", stampText(c.NotBefore))
		line("until", until)
		line("key", c.Key)
		line("signature", c.Signature)
		line("version", fmt.Sprintf("X.509 v%d", c.Version))
		line("sha256", c.SHA256)
	}
	return tw.Flush()
}

func hostsOf(c *x509.Certificate) string {
	hosts := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return strings.Join(hosts, ", ")
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
