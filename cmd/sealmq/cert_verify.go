package main

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

// expiresSoon is when a certificate should be renewed.
const expiresSoon = 30 * 24 * time.Hour

// certCheck is one of the checks of "sealmq cert verify".
type certCheck struct {
	Name   string `json:"name"`
	Result string `json:"result"` // ok, warning, failed
	Detail string `json:"detail"`
}

const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkFailed  = "failed"
)

func newCertVerifyCmd() *cobra.Command {
	return standalone(&cobra.Command{
		Use:   "verify NAME|FILE",
		Short: "Check a certificate as the broker would",
		Long: `Check a certificate: its signature and chain, its dates, whether it expires within 30 days, whether it is
revoked, what it may be used for, and whether it is the one on record. The status is 0 if it is valid, and 1 if
not. That it expires soon, or is in no record, is a warning.`,
		Example: `  sealmq cert verify alice
  sealmq cert verify usb/alice.crt --json`,
	}, func(a call) error {
		cfg, file, err := certFile(a)
		if err != nil {
			return err
		}
		certs, err := mtls.ReadCertificates(file)
		if err != nil {
			return err
		}
		checks, err := verifyCertificate(cfg, certs, time.Now())
		if err != nil {
			return err
		}
		valid := !slices.ContainsFunc(checks, func(c certCheck) bool { return c.Result == checkFailed })
		if a.asJSON {
			err = a.json(nil, struct {
				File   string      `json:"file"`
				Valid  bool        `json:"valid"`
				Checks []certCheck `json:"checks"`
			}{file, valid, checks})
		} else {
			err = printList(a, nil, checks, "", []string{"CHECK", "RESULT", "DETAIL"}, func(c certCheck) []any { return []any{c.Name, c.Result, c.Detail} })
		}
		if err == nil && !valid {
			err = errors.New("the certificate did not pass every check")
		}
		return err
	})
}

func verifyCertificate(cfg Config, certs []*x509.Certificate, now time.Time) ([]certCheck, error) {
	p, leaf := ca.In(cfg.Data), certs[0]
	caFile := cmp.Or(cfg.TLS.CA, p.CA)
	roots, err := mtls.ReadAuthorities(caFile)
	if err != nil {
		return nil, withHint(fmt.Errorf("read the accepted authorities: %w", err), "name the data folder with --data")
	}
	revoked, err := cfg.revocationList(caFile, nil)
	if err != nil {
		return nil, err
	}
	var checks []certCheck
	add := func(name string, failed error, format string, args ...any) {
		c := certCheck{name, checkOK, fmt.Sprintf(format, args...)}
		if failed != nil {
			c.Result, c.Detail = checkFailed, failed.Error()
		}
		checks = append(checks, c)
	}
	chains, err := chainsOf(certs, append(roots, authorities(p.Root)...), authorities(p.Intermediate), now)
	chain := []*x509.Certificate{leaf}
	if err == nil {
		chain = chains[0]
	}
	add("signature", err, "signed by %s", leaf.Issuer)

	left := leaf.NotAfter.Sub(now)
	switch {
	case left < 0:
		err = fmt.Errorf("it expired on %s", day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		err = fmt.Errorf("it is valid from %s", stampText(leaf.NotBefore))
	default:
		err = nil
	}
	add("expiry", err, "until %s", day(leaf.NotAfter))
	soon := certCheck{"30 days", checkOK, fmt.Sprintf("%d days left", max(0, int(left/(24*time.Hour))))}
	if left < expiresSoon {
		soon.Result, soon.Detail = checkWarning, soon.Detail+`; "sealmq cert renew" renews it`
	}
	checks = append(checks, soon)

	add("revocation", revoked.Check(chain), "not revoked")
	if len(chain) == 1 {
		chains = [][]*x509.Certificate{{leaf, leaf}} // its chain was judged above
	}
	add("key usage", mtls.CheckClient(chains), "%s", keyName(leaf.PublicKey))
	return append(checks, recordCheck(cfg, leaf)), nil
}

// chainsOf finds the chains to the accepted authorities. The dates are another check.
func chainsOf(certs, roots, intermediates []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	at := now
	if leaf := certs[0]; at.After(leaf.NotAfter) || at.Before(leaf.NotBefore) {
		at = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	return certs[0].Verify(x509.VerifyOptions{Roots: mtls.Pool(roots...), Intermediates: mtls.Pool(slices.Concat(certs[1:], intermediates)...), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
}

// recordCheck compares the fingerprint with the one on record.
func recordCheck(cfg Config, leaf *x509.Certificate) certCheck {
	c := certCheck{"fingerprint", checkWarning, mtls.Fingerprint(leaf) + " is in no record of this authority"}
	authority, err := ca.Open(cfg.Data, ca.Options{})
	if err != nil {
		return c
	}
	history, err := authority.History()
	if err != nil {
		return certCheck{c.Name, checkFailed, err.Error()}
	}
	p := authority.Paths()
	signers := authorities(p.Root, p.Intermediate)
	for _, h := range history {
		switch {
		case h.Fingerprint == mtls.Fingerprint(leaf):
			return certCheck{c.Name, checkOK, h.Fingerprint}
		case h.Serial == mtls.Serial(leaf) && slices.ContainsFunc(signers, func(s *x509.Certificate) bool {
			return h.Signer == mtls.Issuer(s) && leaf.CheckSignatureFrom(s) == nil
		}):
			return certCheck{c.Name, checkFailed, "another certificate with this serial number is on record"}
		}
	}
	return c
}
