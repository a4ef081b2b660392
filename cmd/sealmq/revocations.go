package main

import (
	"cmp"
	"crypto/x509"
	"log/slog"
	"path/filepath"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// revocationList opens the one list of what is revoked: what the authority in the data folder
// has revoked, and two files that people and scripts write. The file that the configuration
// names must exist; the others appear with the first revocation. caFile has the accepted
// authorities.
func (c *Config) revocationList(caFile string, log *slog.Logger) (*trust.RevocationList, error) {
	p := ca.In(c.Data)
	l, err := trust.OpenRevocations(trust.ListConfig{
		Files: []trust.ListFile{
			{Path: p.Revocations, MayBeMissing: true, Ledger: true},
			{Path: cmp.Or(c.TLS.Revoked, filepath.Join(c.Data, "revoked.txt")), MayBeMissing: c.TLS.Revoked == ""},
			{Path: p.Revoked, MayBeMissing: true},
		},
		Authorities: func() []*x509.Certificate { return authorities(caFile, p.Root, p.Intermediate) },
		Log:         log,
	})
	return l, withHint(err, "correct the list, or restore it from a backup: without it the broker would accept revoked certificates")
}

// authorities are the certificates in files, of which some may not exist.
func authorities(files ...string) (list []*x509.Certificate) {
	for _, f := range files {
		certs, err := mtls.ReadAuthorities(f)
		if err == nil {
			list = append(list, certs...)
		}
	}
	return list
}
