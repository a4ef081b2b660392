package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

func newCertRenewCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "renew NAME",
		Short: "Replace a certificate and its key by new ones",
		Long: `Make a new key and a new certificate with the name, role, domain and hosts of NAME.crt. Copies of the old
files are in the folder backup beside them. The old certificate stays valid until it expires, unless you add
--revoke-old. Running programs use the new files from their next connection on.

A revoked certificate is never renewed; use "sealmq cert issue".

On a machine that has enrolled, the main server renews the certificate, with the lifetime that it had. With
--watch that is done again and again, each time about two thirds of its life are over, until the command is
ended. While the main server does not answer, it is tried again. "sealmq serve" renews the certificates of its
roles by itself.`,
		Example: `  sealmq cert renew alice
  sealmq cert renew acme-01 --watch
  sealmq cert renew server --revoke-old`,
	}
	f := cmd.Flags()
	days := f.Int("days", ca.DefaultDays, "number of `days` that the certificate is valid")
	out := f.String("out", "", "`folder` of the files (default: the identity's, or the folder certs in the data folder)")
	keyType := f.String("key-type", "", "`type` of the new key: ecdsa or rsa (default: that of the old key)")
	expired := f.Bool("expired", false, "renew a certificate that has expired")
	revokeOld := f.Bool("revoke-old", false, "revoke the old certificate as superseded")
	server := f.String("server", "", "`address` of the main server that renews, https://host:port (default: the one of the enrolment)")
	watch := f.Bool("watch", false, "renew whenever it is time, until the command is ended")
	pass := addPassphraseFlag(cmd)
	return configured(cmd, func(a call, cfg Config) error {
		own, by, err := enrolledFiles(cfg, a.args[0], *out, *server)
		if err != nil {
			return err
		}
		if by != "" || *watch {
			return renewOwn(a, own, a.args[0], by, *watch)
		}
		r := ca.Renewal{Name: a.args[0], Days: *days, Expired: *expired, RevokeOld: *revokeOld, By: userName(), Source: ca.SourceCLI}
		if *days < 1 || *days > ca.MaxDays {
			return usagef("--days: %d is not between 1 and %d", *days, ca.MaxDays)
		}
		if *keyType != "" {
			if r.KeyType, err = parseKeyType(*keyType); err != nil {
				return err
			}
		}
		authority, cfg, err := openAuthority(a, pass)
		if err != nil {
			return err
		}
		r.Dir = certDir(cfg, r.Name, *out)
		files, err := authority.Renew(r)
		if err != nil {
			return noCertificate(err, r.Name)
		}
		return printIssued(a, r.Name, files)
	})
}

func newCertRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Revoke the certificates of a name",
		Long: `Revoke every certificate of NAME, or one of them. Within a second a running broker on this data folder closes
the connections that use them, and refuses new ones. Nothing takes a revocation back, but the name can get a
new certificate with "sealmq cert issue".

A reason is text of your own, or one of keyCompromise, affiliationChanged, superseded, cessationOfOperation and
privilegeWithdrawn, which programs that read the CRL understand.`,
		Example: `  sealmq cert revoke alice --reason keyCompromise
  sealmq cert revoke alice --serial 3f9a0c --force`,
	}
	var r ca.Revocation
	f := cmd.Flags()
	f.StringVar(&r.Reason, "reason", "", "why, in the record and the CRL")
	f.StringVar(&r.Serial, "serial", "", "revoke only the certificate with this serial `number`, in hexadecimal")
	f.StringVar(&r.Fingerprint, "fingerprint", "", "revoke only the certificate with this `SHA-256`")
	force := f.Bool("force", false, "do not ask for confirmation")
	return standalone(cmd, func(a call) error {
		r.Name = a.args[0]
		if r.Serial != "" && r.Fingerprint != "" {
			return usagef("--serial and --fingerprint cannot be combined")
		}
		if r.Name == "" {
			return usagef("the name is empty")
		}
		r.Serial, r.Fingerprint = trust.SerialForm(r.Serial), trust.HexForm(r.Fingerprint)
		authority, _, err := openAuthority(a, nil)
		if err != nil {
			return err
		}
		if !*force {
			if err := confirmRevocation(a, authority, r); err != nil {
				return err
			}
		}
		entries, err := authority.Revoke(r)
		if errors.Is(err, ca.ErrAlreadyRevoked) {
			return withHint(err, "\"sealmq cert list --status revoked\" shows what is revoked")
		}
		if err != nil {
			return err
		}
		if history, err := authority.HistoryOf(r.Name); err == nil && len(history) == 0 && *force { // else the question said so
			a.note("no certificate of %s is on record; see that the name is right, with \"sealmq cert list\"", printable(r.Name))
		}
		if _, err := authority.CRL(); err != nil {
			a.note("the revocation is in force, but the CRL was not written: %v", err)
		}
		if a.asJSON {
			return a.json(nil, entries)
		}
		for _, e := range entries {
			fmt.Fprintln(a.out, revocationText(e))
		}
		return nil
	})
}

func revocationText(e trust.Entry) string {
	switch {
	case e.Scope == trust.ScopeName:
		return fmt.Sprintf("revoked every certificate of %s", printable(e.Name))
	case e.Serial != "":
		return fmt.Sprintf("revoked certificate %s of %s", e.Serial, printable(e.Name))
	}
	return fmt.Sprintf("revoked the certificate with SHA-256 %s", e.Fingerprint)
}

// confirmRevocation says what will be cut off, and asks the person at the terminal.
func confirmRevocation(a call, authority *ca.Authority, r ca.Revocation) error {
	history, err := authority.HistoryOf(r.Name)
	if err != nil {
		return err
	}
	in, w := terminalOf(a.cmd), a.cmd.ErrOrStderr()
	switch {
	case in == nil && len(history) == 0:
		return withHint(fmt.Errorf("no certificate of %s is on record", printable(r.Name)),
			`"sealmq cert list" shows the names; to revoke what another accepted authority issued to this one, add --force`)
	case in == nil:
		return withHint(errors.New("a revocation needs a confirmation, and there is no terminal to ask for it"), "add --force")
	}
	known := 0
	for _, c := range history {
		one := r.Serial != "" || r.Fingerprint != ""
		if one && c.Serial != r.Serial && c.Fingerprint != r.Fingerprint || time.Now().After(c.NotAfter) {
			continue
		}
		known++
		fmt.Fprintf(w, "certificate %s of %s (role %s, until %s) will be revoked\n", c.Serial, printable(c.Name), c.Role, day(c.NotAfter))
	}
	switch {
	case r.Serial != "" || r.Fingerprint != "":
		if known == 0 {
			fmt.Fprintf(w, "no certificate of %s with this number is on record; one of another accepted authority will be revoked\n", printable(r.Name))
		}
	case known == 0:
		fmt.Fprintf(w, "no certificate of %s is on record; every one of that name from any accepted authority will be revoked\n", printable(r.Name))
	default:
		fmt.Fprintf(w, "and every other certificate of %s from any accepted authority\n", printable(r.Name))
	}
	if role := mtls.ReservedRole(r.Name); role != "client" {
		fmt.Fprintf(w, "%s is the name of the %s itself: what uses it stops working until it has a new certificate\n", printable(r.Name), role)
	}
	return askYes(a.cmd, in, "nothing was revoked", "Its open connections are closed")
}
