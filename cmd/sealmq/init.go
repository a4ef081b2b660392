package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newInitCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the authority, a server certificate and an administrator certificate",
		Long: `Make what is missing in the data folder: an authority (a root and an intermediate), one
administrator certificate, and the server's certificate, which is for localhost, the loopback
addresses and the name of this machine. Only the owner can read the key files.

Existing files stay, so it is safe to run this again. "sealmq serve" does the same when it
starts. To use a root of your own, put root.crt and root.key into the folder ca first.

--protect-root puts a passphrase on the root's key. The key can also be moved away. It is needed again only to
make a new intermediate, and for "sealmq cert issue --direct".`,
		Example: `  sealmq init
  sealmq init --host mq.example.org --host 10.0.0.5
  sealmq init --protect-root --passphrase-file passphrase.txt`,
	}
	hosts := cmd.Flags().StringSlice("host", nil, "further host `name` or IP address of the server; can be repeated")
	keyType := cmd.Flags().String("key-type", string(ca.ECDSA), "`type` of new keys: ecdsa or rsa")
	protect := cmd.Flags().Bool("protect-root", false, "put a passphrase on the root's key")
	pass := addPassphraseFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := clientConfig(cmd)
		if err != nil {
			return err
		}
		kt, err := parseKeyType(*keyType)
		if err != nil {
			return err
		}
		o := ca.Options{KeyType: kt, RootPassphrase: func() ([]byte, error) { return pass.read("Passphrase of the root's key: ") }}
		if *protect {
			o.ProtectRoot = pass.choose
		}
		res, err := ca.Setup(cfg.Data, *hosts, o)
		if err != nil {
			return err
		}
		return printSetup(cmd.OutOrStdout(), res)
	}
	return cmd
}

func parseKeyType(s string) (ca.KeyType, error) {
	if t := ca.KeyType(s); slices.Contains(ca.KeyTypes, t) {
		return t, nil
	}
	return "", usagef("--key-type: %q is neither ecdsa nor rsa", s)
}

// printSetup prints what was done and where everything is.
func printSetup(w io.Writer, res *ca.Result) error {
	p := res.Authority.Paths()
	if len(res.Made)+len(res.Renewed) == 0 {
		fmt.Fprintf(w, "Nothing to do: %s is complete.\n", p.Dir)
	}
	for _, f := range res.Made {
		fmt.Fprintf(w, "made     %s\n", f)
	}
	for _, f := range res.Renewed {
		fmt.Fprintf(w, "renewed  %s\n", f)
	}
	for _, f := range res.Future {
		if !slices.Contains(res.Renewed, f.File) {
			fmt.Fprintf(w, "warning  %s is valid only from %s; nobody accepts it before\n", f.File, stampText(f.From))
		}
	}
	for _, e := range res.Gap {
		fmt.Fprintf(w, "missing  a revocation of %s of %s, as after a restore from a backup; it is in effect\n", printable(e.Name), day(e.RevokedAt))
	}
	if res.CopyErr != nil {
		fmt.Fprintf(w, "warning  the revocations have no copy beside the data folder: %v\n", res.CopyErr)
	}
	if err := printExpired(w, p.Dir); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t := &table{}
	t.add("root", p.Root, "until "+day(res.Authority.Root().NotAfter))
	t.add("for every peer", p.CA, "a copy of the root")
	for _, name := range []string{ca.ServerName, ca.AdminName} {
		cert, err := firstCertificate(p.Cert(name))
		if err != nil {
			return err
		}
		until := "until " + day(cert.NotAfter)
		if h := hostsOf(cert); len(h) > 0 {
			until += ", for " + strings.Join(h, ", ")
		}
		t.add(name, p.Cert(name), until)
	}
	return t.print(w, "")
}

// printExpired names the certificates of clients that are not valid any more.
func printExpired(w io.Writer, dir string) error {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(ca.In(dir).CA), "*.crt"))
	if err != nil {
		return err
	}
	for _, file := range files {
		cert, err := firstCertificate(file)
		if err != nil || time.Now().Before(cert.NotAfter) {
			continue // what cannot be read is no certificate of ours
		}
		name := strings.TrimSuffix(filepath.Base(file), ".crt")
		fmt.Fprintf(w, "expired  %s on %s; renew it with \"sealmq cert issue %s --replace\"\n", file, day(cert.NotAfter), shellWord(name))
	}
	return nil
}

func day(t time.Time) string { return t.Local().Format(time.DateOnly) }

func firstCertificate(file string) (*x509.Certificate, error) {
	certs, err := mtls.ReadCertificates(file)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}
