package ca

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// Result says what Setup did.
type Result struct {
	Authority *Authority
	// Made are the new files, Renewed the certificates that were replaced. Both are
	// empty if there was nothing to do.
	Made, Renewed []string
	// Future are certificates that are valid only from a later time on, because the clock was
	// ahead when they were made. Those that are among Renewed are replaced; the others stay, and
	// nobody accepts them until then.
	Future []Future
	// Gap are revocations that the folder lacked, because a backup was restored. They are in
	// effect.
	Gap []trust.Entry
	// CopyErr says why the revocations have no copy beside the data folder, nil if there is
	// one or nothing was revoked yet.
	CopyErr error
}

// Setup completes a data folder for a broker: the authority, the server certificate and one
// administrator certificate, and a copy of the root for peers. It makes what is missing of the
// authority and never replaces what is there. A root that the operator put there, also an RSA
// one, is used as it is.
//
// It is safe against a crash at any point. Every file is replaced in one step. A key is
// written before its certificate, so a certificate shows that its pair is complete, and a
// key that has no certificate yet gets one. A lock keeps other processes out.
//
// The server certificate is for localhost, the loopback addresses and the name of this
// machine. If hosts has a name that it lacks, it is issued again with that name added.
// Options.Roles get certificates for the same hosts.
// All of these are renewed in the last 30 days of their life, and if they are valid only in the
// future. A new certificate is
// for the same key. Everything else that is there stays as it is.
func Setup(dir string, hosts []string, o Options) (*Result, error) {
	o = o.normalize()
	names, ips, err := ParseHosts(hosts)
	if err != nil {
		return nil, err
	}
	unlock, err := lockFolder(dir, o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	a, made, err := complete(dir, o)
	if err != nil {
		return nil, err
	}
	ledger, err := a.openLedger()
	if err != nil {
		return nil, err
	}
	gap := ledger.Gap()
	if err := ledger.Save(); err != nil {
		return nil, err
	}
	n := &renewer{a: a, m: &maker{fs: o.FS}}
	if err := n.ensureListener(ServerName, sealmq.RoleServer, names, ips); err != nil {
		return nil, err
	}
	if err := n.ensure(Request{Name: AdminName, Role: sealmq.RoleAdmin, KeyType: o.KeyType}, false); err != nil {
		return nil, err
	}
	for _, role := range o.Roles {
		if err := n.ensureListener(string(role), role, names, ips); err != nil {
			return nil, err
		}
	}
	return &Result{Authority: a, Made: append(made, n.m.made...), Renewed: n.renewed, Future: n.future, Gap: gap, CopyErr: ledger.CopyErr()}, nil
}

// Future is a certificate that is not valid yet.
type Future struct {
	File string
	From time.Time
}

// renewer makes and renews the certificates that belong to a data folder.
type renewer struct {
	a       *Authority
	m       *maker
	renewed []string
	future  []Future
}

// isFuture reports whether a certificate is not valid yet, and notes it.
func (n *renewer) isFuture(file string, cert *x509.Certificate) bool {
	if cert == nil || !cert.NotBefore.After(n.a.options.Clock.Now()) {
		return false
	}
	n.future = append(n.future, Future{file, cert.NotBefore})
	return true
}

// ensureListener ensures the certificate of a role that listens. It names the hosts that
// the last one named, or this machine, and more.
func (n *renewer) ensureListener(name string, role sealmq.Role, moreNames []string, moreIPs []net.IP) error {
	names, ips := defaultHosts()
	old, err := n.a.readCert(n.a.paths.Cert(name))
	if err == nil {
		names, ips = old.DNSNames, old.IPAddresses
	} else if !durable.IsNotExist(err) {
		return err
	}
	names, ips, changed := addHosts(names, ips, moreNames, moreIPs)
	return n.ensure(Request{Name: name, Role: role, KeyType: n.a.options.KeyType, DNSNames: names, IPs: ips}, changed)
}

// ensure issues a certificate if there is none. It issues it again if it is stale, if it
// expires soon, or if an earlier authority of ours issued it. A certificate that the
// operator put there stays as it is.
func (n *renewer) ensure(r Request, stale bool) error {
	certFile, keyFile := n.a.paths.Cert(r.Name), n.a.paths.Key(r.Name)
	key, err := n.a.readKey(keyFile)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	chain, err := n.a.readChain(certFile)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	var cert *x509.Certificate
	if len(chain) > 0 {
		cert = chain[0]
		if key == nil {
			return missingKey(keyFile)
		}
		if key, err = n.a.readKeyOf(cert, certFile, keyFile); err != nil {
			return err
		}
		if issuer := n.a.intermediate; issuer != nil && slices.ContainsFunc(chain[1:], issuer.Equal) && cert.CheckSignatureFrom(issuer) != nil {
			return &mtls.FileError{What: "certificate file", Path: certFile, Err: errors.New("the authority that follows in it has not signed it")}
		}
		fresh := !n.isFuture(certFile, cert) && !mtls.ExpiresSoon(cert, n.a.options.Clock.Now()) && !stale && n.a.isOurs(chain)
		if _, role, err := mtls.Profile(cert); fresh || err != nil || role == "" {
			return nil
		}
		if revoked, err := n.a.isRevoked(cert); err != nil || revoked {
			return err // a revoked one is never renewed
		}
	}
	if !n.a.HasKey() && n.a.options.KeyElsewhere {
		return nil // it is issued where the key is
	}
	if key == nil {
		if key, err = n.m.newKey(keyFile, r.KeyType); err != nil {
			return err
		}
	}
	r.Key = key
	issued, err := n.a.issue(r)
	if err != nil {
		return err
	}
	if cert == nil {
		return n.m.write(certFile, issued.CertPEM, 0o644)
	}
	if err := durable.WriteFile(n.m.fs, certFile, issued.CertPEM, 0o644); err != nil {
		return err
	}
	n.renewed = append(n.renewed, certFile)
	return nil
}

// defaultHosts are the names under which a broker is reached on its own machine.
func defaultHosts() ([]string, []net.IP) {
	names := []string{"localhost"}
	if h, err := os.Hostname(); err == nil {
		if h = strings.ToLower(h); validHost(h) && h != "localhost" && net.ParseIP(h) == nil {
			names = append(names, h)
		}
	}
	return names, loopback()
}

func loopback() []net.IP { return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback} }

// IssueFiles issues a certificate and writes <name>.key and <name>.crt to outDir, with a
// copy of the root as ca.crt. An empty outDir is the folder certs of the data folder. If
// the certificate exists, that is an error, or with replace only the certificate is
// replaced, in one step, and the key stays. One that is revoked is replaced together with its
// key, after copies were made. For a CSR there is no key file.
func (a *Authority) IssueFiles(r Request, outDir string, replace bool) (*Files, error) {
	outDir = cmp.Or(outDir, a.paths.Certs())
	// A bad request must not leave a key behind.
	if _, err := a.leafTemplate(r); err != nil {
		return nil, err
	}
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	m := &maker{fs: a.options.FS}
	if err := durable.MkdirAll(m.fs, outDir, 0o700); err != nil {
		return nil, err
	}
	if err := a.copyRoot(m, filepath.Join(outDir, "ca.crt")); err != nil {
		return nil, err
	}
	f := &Files{CertFile: filepath.Join(outDir, r.Name+".crt"), KeyFile: filepath.Join(outDir, r.Name+".key")}
	old, err := a.readCert(f.CertFile)
	switch {
	case err == nil:
		revoked, err := a.isRevoked(old)
		if err != nil {
			return nil, err
		}
		if revoked && r.CSR == nil {
			if f.Certificate, err = a.issue(r); err != nil {
				return nil, err
			}
			return f, a.replacePair(f)
		}
		replace = replace || revoked
	case !durable.IsNotExist(err) && !replace:
		return nil, err
	}
	if old != nil && !replace {
		return nil, &hintError{f.CertFile + " already exists",
			"add --replace to issue a new certificate for the same key, or choose another folder with --out"}
	}
	if r.CSR != nil {
		f.KeyFile = ""
	} else if r.Key, err = a.keyFor(r, f.KeyFile, m); err != nil {
		return nil, err
	}
	if f.Certificate, err = a.issue(r); err != nil {
		return nil, err
	}
	return f, m.write(f.CertFile, f.CertPEM, 0o644)
}

// isOurs reports whether this authority signed a certificate, and its chain is whole.
func (a *Authority) isOurs(chain []*x509.Certificate) bool {
	c := chain[0]
	return a.intermediate != nil && c.CheckSignatureFrom(a.intermediate) == nil && slices.ContainsFunc(chain, a.intermediate.Equal) ||
		a.isDirect() && c.CheckSignatureFrom(a.root) == nil
}

// copyRoot puts the root, and those behind it in its file, beside the certificates that need them.
// It replaces only an earlier copy.
func (a *Authority) copyRoot(m *maker, path string) error {
	roots, err := a.readChain(a.paths.Root)
	if err != nil {
		return err
	}
	old, err := a.readChain(path)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	if err == nil && !slices.ContainsFunc(old, func(c *x509.Certificate) bool { return slices.ContainsFunc(roots, c.Equal) }) {
		return &hintError{path + " is the certificate of another authority", "choose another folder with --out"}
	}
	return m.ensureContent(path, mtls.EncodeCertificates(roots...), 0o644)
}

// keyFor returns the key that is there, or makes one. An interrupted call may have left a
// key without its certificate.
func (a *Authority) keyFor(r Request, keyFile string, m *maker) (crypto.Signer, error) {
	key, err := a.readKey(keyFile)
	switch {
	case err == nil:
		return key, a.checkKeyType(key, r.KeyType, keyFile)
	case !durable.IsNotExist(err):
		return nil, err
	}
	return m.newKey(keyFile, r.KeyType)
}

// checkKeyType refuses an existing key of another type than was asked for.
func (a *Authority) checkKeyType(key crypto.Signer, want KeyType, path string) error {
	if want == "" || keyTypeOf(key.Public()) == want {
		return nil
	}
	return fmt.Errorf("%s holds a key of another type than %s", path, want)
}
