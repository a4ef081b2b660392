package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newCertCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Issue and show certificates",
	}
	cmd.AddCommand(newCertIssueCmd(), newCertShowCmd())
	return cmd
}

func newCertIssueCmd() *cobra.Command {
	var f struct {
		days               int
		out, keyType, role string
		hosts              []string
		replace            bool
	}
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "Issue a certificate with a new key",
		Long: `Issue a certificate and write NAME.crt, NAME.key and the authority's ca.crt.
NAME is the identity of the client or server that holds the key. Some names, such as admin,
worker-1 or server, mean a role by convention; give that role with --role.`,
		Example: `  sealmq cert issue alice
  sealmq cert issue alice --out /media/usb --days 90
  sealmq cert issue mq2 --role server --host mq2.example.org`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kt, err := parseKeyType(f.keyType)
			if err != nil {
				return err
			}
			if f.days < 1 || f.days > ca.MaxDays {
				return usagef("--days: %d is not between 1 and %d", f.days, ca.MaxDays)
			}
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			r := ca.Request{Name: args[0], Role: sealmq.Role(f.role), Days: f.days}
			if cmd.Flag("key-type").Changed || !f.replace {
				r.KeyType = kt
			}
			if r.DNSNames, r.IPs, err = ca.ParseHosts(f.hosts); err != nil {
				return err
			}
			a, err := ca.Open(dir, ca.Options{})
			if err != nil {
				return err
			}
			c, err := a.IssueFiles(r, f.out, f.replace)
			if err != nil {
				return err
			}
			_, role, _ := mtls.Profile(c.Leaf)
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "certificate  %s  (%s, role %s, until %s, serial %s)\n", c.CertFile, args[0], role, day(c.Leaf.NotAfter), mtls.Serial(c.Leaf))
			fmt.Fprintf(w, "key          %s\n", c.KeyFile)
			return nil
		},
	}
	cmd.Flags().IntVar(&f.days, "days", ca.DefaultDays, "number of `days` that the certificate is valid")
	cmd.Flags().StringVar(&f.out, "out", "", "`folder` for the files (default: the folder certs in the data folder)")
	cmd.Flags().StringVar(&f.keyType, "key-type", string(ca.ECDSA), "`type` of the new key: ecdsa or rsa")
	cmd.Flags().StringVar(&f.role, "role", "", "`role` in the certificate: client, admin, proxy, worker, server or monitor (default: client)")
	cmd.Flags().StringSliceVar(&f.hosts, "host", nil, "host `name` or IP address of a server, proxy or worker; can be repeated")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "replace an existing certificate with a new one for the same key")
	return cmd
}

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
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show the certificates in a PEM file",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			certs, err := mtls.ReadCertificates(args[0])
			if err != nil {
				return err
			}
			infos := make([]certInfo, len(certs))
			for i, c := range certs {
				infos[i] = describe(c)
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(infos)
			}
			return printCertificates(cmd.OutOrStdout(), infos)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
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
		until := c.NotAfter.Local().Format(time.DateTime)
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
		line("from", c.NotBefore.Local().Format(time.DateTime))
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
