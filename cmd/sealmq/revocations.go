package main

import (
	"context"
	"crypto/x509"
	"log/slog"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// revocationList opens the one list of what is revoked: what the authority in the data folder
// has revoked, and two files that people and scripts write. The file that the configuration
// names must exist; the others appear with the first revocation. caFile has the accepted
// authorities.
func (c *Config) revocationList(caFile string, log *slog.Logger) (*trust.RevocationList, error) {
	p, files := ca.In(c.Data), c.revocationFiles()
	l, err := trust.OpenRevocations(trust.ListConfig{
		Files: []trust.ListFile{
			{Path: p.Revocations, MayBeMissing: true, Ledger: true},
			{Path: files[0], MayBeMissing: c.TLS.Revoked == ""},
			{Path: files[1], MayBeMissing: true},
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

// reportGap says which revocations the data folder lacked.
func (n *node) reportGap(res *ca.Result) {
	for _, e := range res.Gap {
		n.log.Error("this revocation was missing in the data folder, as after a restore from a backup; it is in effect",
			"version", e.Version, "scope", string(e.Scope), "client", e.Name, "serial", e.Serial, "revoked_at", e.RevokedAt)
	}
	if res.CopyErr != nil {
		n.log.Warn("the revocations have no copy beside the data folder, so a restore from a backup could take some back", "err", res.CopyErr)
	}
}

// maintainCRL refreshes crl/crl.pem once it exists.
func (n *node) maintainCRL(ctx context.Context) error {
	if n.authority == nil {
		<-ctx.Done()
		return nil
	}
	n.authority.MaintainCRL(ctx, n.log)
	return nil
}
