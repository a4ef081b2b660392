package ca

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// Renewal asks for a new key and certificate with the name, role, domain and hosts of an
// older one.
type Renewal struct {
	Name string
	// Dir has NAME.crt and NAME.key. Empty is the folder certs of the data folder.
	Dir     string
	Days    int
	KeyType KeyType // empty: that of the old key
	// Expired allows an expired certificate to be renewed.
	Expired bool
	// RevokeOld revokes the old certificate as superseded.
	RevokeOld bool
	By        string
	Source    Source
}

// Files are what a command wrote.
type Files struct {
	*Certificate
	CertFile, KeyFile string
	// Backups are copies of what was replaced.
	Backups []string
}

// Renew replaces a pair of files by a new one and keeps copies of the old. A revoked
// certificate is never renewed. A crash between the two files leaves a key that does not
// belong to the certificate, with both copies in the folder backup; Renew then goes on.
func (a *Authority) Renew(r Renewal) (*Files, error) {
	r.Dir = cmp.Or(r.Dir, a.paths.Certs())
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	f := &Files{CertFile: filepath.Join(r.Dir, r.Name+".crt"), KeyFile: filepath.Join(r.Dir, r.Name+".key")}
	old, err := a.readCert(f.CertFile)
	if err != nil {
		return nil, err
	}
	req, err := a.requestLike(old, r)
	if err != nil {
		return nil, err
	}
	if req.Key, err = GenerateKey(req.KeyType); err != nil {
		return nil, err
	}
	if f.Certificate, err = a.issue(*req); err != nil {
		return nil, err
	}
	if err := a.replacePair(f); err != nil {
		return nil, err
	}
	if r.RevokeOld {
		_, err = a.revoke(Revocation{Name: r.Name, Serial: mtls.Serial(old), Reason: trust.Superseded.String()})
	}
	return f, err
}

// requestLike asks for a certificate like an older one of ours.
func (a *Authority) requestLike(old *x509.Certificate, r Renewal) (*Request, error) {
	name, role, err := mtls.Profile(old)
	direct := old.CheckSignatureFrom(a.root) == nil
	switch {
	case !direct && (a.intermediate == nil || old.CheckSignatureFrom(a.intermediate) != nil):
		return nil, &hintError{fmt.Sprintf("the certificate of %q is not of this authority", r.Name), "ask the authority that issued it, or issue a new one with \"sealmq cert issue\""}
	case err != nil:
		return nil, err
	case name == "":
		name = old.Subject.CommonName // an imported root signed it by other means
	}
	if name != r.Name {
		return nil, fmt.Errorf("the certificate is of %q, not of %q", name, r.Name)
	}
	if revoked, err := a.isRevoked(old); err != nil || revoked {
		if err == nil {
			err = &hintError{fmt.Sprintf("the certificate of %q is revoked and is not renewed", r.Name), `"sealmq cert issue" makes a new one, with a new key`}
		}
		return nil, err
	}
	if now := a.options.Clock.Now(); now.After(old.NotAfter) && !r.Expired {
		return nil, &hintError{fmt.Sprintf("the certificate of %q expired on %s", r.Name, old.NotAfter.Format(time.DateOnly)),
			"if its owner may still have one, add --expired"}
	}
	return &Request{Name: name, Role: role, Domain: cmp.Or(old.Subject.OrganizationalUnit...), Days: r.Days, KeyType: cmp.Or(r.KeyType, keyTypeOf(old.PublicKey)),
		DNSNames: old.DNSNames, IPs: old.IPAddresses, Direct: direct, By: r.By, Source: r.Source}, nil
}

// isRevoked asks the authority's own lists.
func (a *Authority) isRevoked(c *x509.Certificate) (bool, error) {
	list, err := a.Revocations(false, nil)
	if err != nil {
		return false, err
	}
	chain := []*x509.Certificate{c, a.root}
	if a.intermediate != nil && c.CheckSignatureFrom(a.intermediate) == nil {
		chain = []*x509.Certificate{c, a.intermediate, a.root}
	}
	err = list.Check(chain)
	if errors.Is(err, mtls.ErrRevoked) {
		return true, nil
	}
	return false, err
}

// replacePair writes key and certificate over older ones, of which it keeps copies.
func (a *Authority) replacePair(f *Files) error {
	fs := a.options.FS
	dir := filepath.Join(filepath.Dir(f.CertFile), "backup")
	if err := durable.MkdirAll(fs, dir, 0o700); err != nil {
		return err
	}
	there, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	stampOf := func(at time.Time) string { return "." + at.Format("20060102_150405") }
	at := a.options.Clock.Now()
	for slices.Contains(there, filepath.Base(f.KeyFile)+stampOf(at)) || slices.Contains(there, filepath.Base(f.CertFile)+stampOf(at)) {
		at = at.Add(time.Second) // two renewals in a second keep both copies
	}
	for _, name := range []string{f.KeyFile, f.CertFile} {
		data, err := durable.ReadFile(fs, name, maxFileBytes)
		if durable.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		backup := filepath.Join(dir, filepath.Base(name)+stampOf(at))
		if err := durable.WriteFile(fs, backup, data, 0o600); err != nil {
			return err
		}
		f.Backups = append(f.Backups, backup)
	}
	if err := durable.WriteFile(fs, f.KeyFile, f.KeyPEM, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(fs, f.CertFile, f.CertPEM, 0o644)
}

// signers are the certificates whose CRLs are believed: the authority's own.
func (a *Authority) signers() []*x509.Certificate {
	return slices.DeleteFunc([]*x509.Certificate{a.root, a.intermediate}, func(c *x509.Certificate) bool { return c == nil })
}
