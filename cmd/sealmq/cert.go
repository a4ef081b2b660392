package main

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newCertCmd() *cobra.Command {
	return group("cert", "Issue, list, renew and revoke certificates",
		newCertIssueCmd(), newCertRequestCmd(), newCertSignCmd(), newCertListCmd(), newCertShowCmd(), newCertVerifyCmd(),
		newCertRenewCmd(), newCertRevokeCmd(), newCertCRLCmd(), newCertExportCmd(),
		newCertTokenCmd(), newCertTokensCmd(), newCertEnrollCmd(), newCertAllowRenewalCmd())
}

// openAuthority opens the authority in the data folder. pass may be nil; then a root's key
// with a passphrase cannot be used.
func openAuthority(a call, pass *passphraseFlag) (*ca.Authority, Config, error) {
	cfg, err := clientConfig(a.cmd)
	if err != nil {
		return nil, cfg, err
	}
	o := ca.Options{Lists: cfg.revocationFiles()}
	if pass != nil {
		o.RootPassphrase = func() ([]byte, error) { return pass.read("Passphrase of the root's key: ") }
	}
	authority, err := ca.Open(cfg.Data, o)
	return authority, cfg, err
}

// revocationFiles are the lists that people and scripts write.
func (c *Config) revocationFiles() []string {
	return []string{cmp.Or(c.TLS.Revoked, filepath.Join(c.Data, "revoked.txt")), ca.In(c.Data).Revoked}
}

// userName is who issues and revokes, for the record.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("user %d", os.Getuid())
	}
	return u.Username
}

// issueFlags are those of the commands that issue certificates.
type issueFlags struct {
	days         int
	role, domain string
	out          string
	hosts        []string
	direct       bool
	replace      bool
	pass         *passphraseFlag
}

func addIssueFlags(cmd *cobra.Command) *issueFlags {
	f := &issueFlags{pass: addPassphraseFlag(cmd)}
	cmd.Flags().IntVar(&f.days, "days", ca.DefaultDays, "number of `days` that the certificate is valid")
	cmd.Flags().StringVar(&f.out, "out", "", "`folder` for the files (default: the folder certs in the data folder)")
	cmd.Flags().StringVar(&f.role, "role", "", "`role` in the certificate: client, admin, proxy, worker, server or monitor (default: client)")
	cmd.Flags().StringVar(&f.domain, "domain", "", "`label` that becomes the organizational unit of the subject")
	cmd.Flags().StringSliceVar(&f.hosts, "host", nil, "host `name` or IP address of a server, proxy or worker; can be repeated")
	cmd.Flags().BoolVar(&f.direct, "direct", false, "sign with the root's key, for programs that send no intermediate certificate")
	return f
}

func (f *issueFlags) request(name string) (r ca.Request, err error) {
	if f.days < 1 || f.days > ca.MaxDays {
		return r, usagef("--days: %d is not between 1 and %d", f.days, ca.MaxDays)
	}
	if f.role != "" {
		if err := oneOf("role", sealmq.Role(f.role), sealmq.RoleClient, sealmq.RoleAdmin, sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleMonitor); err != nil {
			return r, err
		}
	}
	r = ca.Request{Name: name, Role: sealmq.Role(f.role), Domain: f.domain, Days: f.days, Direct: f.direct, By: userName(), Source: ca.SourceCLI}
	r.DNSNames, r.IPs, err = ca.ParseHosts(f.hosts)
	return r, err
}

// issue writes the files and says where they are.
func (f *issueFlags) issue(a call, r ca.Request) error {
	authority, cfg, err := openAuthority(a, f.pass)
	if err != nil {
		return err
	}
	out := f.out
	if r.CSR == nil { // the key of a request may be another one than the identity's
		out = certDir(cfg, r.Name, out)
	}
	files, err := authority.IssueFiles(r, out, f.replace)
	if err != nil {
		return err
	}
	return printIssued(a, r.Name, files)
}

// issuedInfo is what was written.
type issuedInfo struct {
	Certificate string   `json:"certificate"`
	Key         string   `json:"key,omitempty"`
	Backups     []string `json:"backups,omitempty"`
	certInfo
}

func printIssued(a call, name string, f *ca.Files) error {
	_, role, err := mtls.Profile(f.Leaf)
	if err != nil {
		return err
	}
	pairs := []any{"certificate", fmt.Sprintf("%s  (%s, role %s, until %s, serial %s)", f.CertFile, name, role, day(f.Leaf.NotAfter), mtls.Serial(f.Leaf)),
		"key", f.KeyFile}
	for _, b := range f.Backups {
		pairs = append(pairs, "old copy", b)
	}
	return a.facts(nil, issuedInfo{f.CertFile, f.KeyFile, f.Backups, describe(f.Leaf)}, pairs...)
}

func newCertIssueCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "Issue a certificate with a new key",
		Long: `Issue a certificate and write NAME.crt, NAME.key and the authority's ca.crt.
NAME is the identity of the client or server that holds the key. Some names, such as admin,
worker-1 or server, mean a role by convention; give that role with --role.

A name that was revoked can be issued again. It gets a new key; copies of the old files are in
the folder backup, and the old certificates stay revoked.

The files are in the folder certs of the data folder. If NAME has an identity with a certificate on this machine,
they are in its folder.`,
		Example: `  sealmq cert issue alice
  sealmq cert issue alice --out /media/usb --days 90
  sealmq cert issue mq2 --role server --host mq2.example.org`,
	}
	f := addIssueFlags(cmd)
	keyType := cmd.Flags().String("key-type", string(ca.ECDSA), "`type` of the new key: ecdsa or rsa")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "replace an existing certificate with a new one for the same key")
	return standalone(cmd, func(a call) error {
		kt, err := parseKeyType(*keyType)
		if err != nil {
			return err
		}
		r, err := f.request(a.args[0])
		if err != nil {
			return err
		}
		if cmd.Flag("key-type").Changed || !f.replace {
			r.KeyType = kt
		}
		return f.issue(a, r)
	})
}
