package main

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newCertExportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export NAME",
		Short: "Write a certificate with its key and chain into one file",
		Long: `Write the certificate of NAME, its key and its chain into one file: NAME.pem, or with --p12 NAME.p12, which
Windows, browsers and the curl of Windows read. NAME.p12 has a password, which is asked for.`,
		Example: `  sealmq cert export alice
  sealmq cert export alice --p12 --passphrase-file password.txt`,
	}
	p12 := cmd.Flags().Bool("p12", false, "write PKCS#12 with a password")
	old := cmd.Flags().Bool("old", false, "with --p12: encrypt for programs before 2018, which is weak")
	out := cmd.Flags().String("out", "", "`file` to write (default: NAME.pem or NAME.p12 in the current folder)")
	pass := addPassphraseFlag(cmd)
	cmd.Flags().Lookup("passphrase-file").Usage = "with --p12: `file` whose first line is the password (default: ask for it)"
	return configured(cmd, func(a call, cfg Config) error {
		name := a.args[0]
		files := mtls.FilesIn(cmp.Or(certDir(cfg, name, ""), ca.In(cfg.Data).Certs()), name)
		if _, err := mtls.ReadCertificates(files.Cert); err != nil {
			return noCertificate(err, name)
		}
		certs, key, err := mtls.ReadPair(files)
		if err != nil {
			return err
		}
		var data []byte
		file := cmp.Or(*out, name+".pem")
		if *p12 {
			file = cmp.Or(*out, name+".p12")
			data, err = p12Of(certs, authorities(files.CA), key, *old, pass)
		} else {
			data, err = mtls.EncodeKey(key)
			data = append(data, mtls.EncodeCertificates(certs...)...)
		}
		if err != nil {
			return err
		}
		if err := writeOutput(a.cmd, file, data, 0o600); err != nil {
			return fmt.Errorf("write the file: %w", err)
		}
		if isStdout(file) {
			return nil
		}
		return a.report(nil, result{"file": file}, "wrote %s: the certificate of %s with its key, keep it secret", file, name)
	})
}

func p12Of(certs, roots []*x509.Certificate, key any, old bool, pass *passphraseFlag) ([]byte, error) {
	password, err := pass.choose()
	if err != nil {
		return nil, err
	}
	encoder := pkcs12.Modern
	if old {
		encoder = pkcs12.LegacyDES
	}
	data, err := encoder.Encode(key, certs[0], slices.Concat(certs[1:], roots), string(password))
	if err != nil {
		return nil, fmt.Errorf("encode PKCS#12: %w", err)
	}
	return data, nil
}

func newCertCRLCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crl",
		Short: "Make the certificate revocation list",
		Long: `Sign a certificate revocation list (CRL) of X.509 if the last one lacks a revocation or is older than a day,
and say where it is: crl/crl.pem in the data folder. It promises the next one within seven days. A running
broker keeps it current from then on.

A name that is revoked as a whole is in it with the certificates that are on record.`,
		Example: `  sealmq cert crl
  sealmq cert crl --root`,
	}
	root := cmd.Flags().Bool("root", false, "the CRL of the certificates that the root signed itself; a new one needs the root's key")
	pass := addPassphraseFlag(cmd)
	return standalone(cmd, func(a call) error {
		authority, _, err := openAuthority(a, pass)
		if err != nil {
			return err
		}
		sign := authority.CRL
		if *root {
			sign = authority.RootCRL
		}
		crl, err := sign()
		if err != nil {
			return err
		}
		l := crl.List
		return a.facts(nil, result{"file": crl.File, "number": l.Number, "issuer": l.Issuer.String(), "this_update": l.ThisUpdate, "next_update": l.NextUpdate,
			"entries": len(l.RevokedCertificateEntries), "pem": string(crl.PEM)},
			"file", crl.File, "number", l.Number.String(), "issuer", l.Issuer.String(), "made", stampText(l.ThisUpdate),
			"next", stampText(l.NextUpdate), "revoked", plural(len(l.RevokedCertificateEntries), "certificate"))
	})
}
