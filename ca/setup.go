package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// renewBefore is how long before its end Setup renews a certificate that it keeps.
const renewBefore = 30 * 24 * time.Hour

// Result says what Setup did.
type Result struct {
	Authority *Authority
	// Made are the files that were not there, Renewed the certificates that were
	// replaced. Both are empty if nothing had to be done.
	Made, Renewed []string
}

// Setup completes a data folder for a broker: the authority as Init does, the server
// certificate and one administrator certificate, and a copy of the root for peers.
//
// The server certificate is for localhost, the loopback addresses and the name of this
// machine. It is made anew, for the same key, if hosts names one that it lacks; what it
// had stays. Both certificates are renewed, for the same key, in the last 30 days of
// their life. Everything else that is there stays as it is.
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
	k := &keeper{a: a, m: &maker{fs: o.FS}}
	if err := k.keepServer(names, ips); err != nil {
		return nil, err
	}
	if err := k.keep(Request{Name: AdminName, Role: sealmq.RoleAdmin, KeyType: o.KeyType}, func(*x509.Certificate) bool { return false }); err != nil {
		return nil, err
	}
	return &Result{Authority: a, Made: append(made, k.m.made...), Renewed: k.renewed}, nil
}

// keeper makes and renews the certificates that belong to a data folder.
type keeper struct {
	a       *Authority
	m       *maker
	renewed []string
}

func (k *keeper) keepServer(moreNames []string, moreIPs []net.IP) error {
	names, ips := defaultHosts()
	old, err := k.a.readCert(k.a.paths.Cert(ServerName))
	if err == nil {
		names, ips = old.DNSNames, old.IPAddresses
	} else if !durable.IsNotExist(err) {
		return err
	}
	names, ips, changed := addHosts(names, ips, moreNames, moreIPs)
	return k.keep(Request{Name: ServerName, Role: sealmq.RoleServer, KeyType: k.a.options.KeyType, DNSNames: names, IPs: ips},
		func(*x509.Certificate) bool { return changed })
}

// keep makes a certificate, or makes it anew if stale says so, if it ends soon, or if an
// earlier authority of ours issued it. What the operator put there is left alone.
func (k *keeper) keep(r Request, stale func(*x509.Certificate) bool) error {
	certFile, keyFile := k.a.paths.Cert(r.Name), k.a.paths.Key(r.Name)
	key, err := k.a.readKey(keyFile)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	cert, err := k.a.readCert(certFile)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	if cert != nil {
		if key == nil {
			return fmt.Errorf("read key: %s does not exist, but its certificate does", keyFile)
		}
		if err := mtls.CheckPair(cert, key); err != nil {
			return fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
		}
		left := cert.NotAfter.Sub(k.a.options.Clock.Now())
		fresh := left > renewBefore && !stale(cert) && cert.CheckSignatureFrom(k.a.intermediate) == nil
		if _, role, err := mtls.Profile(cert); fresh || err != nil || role == "" {
			return nil
		}
	}
	if key == nil {
		if key, err = k.m.newKey(keyFile, r.KeyType); err != nil {
			return err
		}
	}
	r.Key = key
	issued, err := k.a.Issue(r)
	if err != nil {
		return err
	}
	if cert == nil {
		return k.m.write(certFile, issued.CertPEM, 0o644)
	}
	if err := durable.WriteFile(k.m.fs, certFile, issued.CertPEM, 0o644); err != nil {
		return err
	}
	k.renewed = append(k.renewed, certFile)
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
	return names, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
}

// existsError says that Save would replace a certificate.
type existsError struct{ path string }

func (e *existsError) Error() string { return fmt.Sprintf("%s exists already", e.path) }
func (e *existsError) Hint() string {
	return "add --replace to issue a new certificate for the same key, or choose another folder with --out"
}

// IssueFiles issues a certificate and writes outDir/<name>.key and .crt, and a copy of
// the root as outDir/ca.crt; an empty outDir is the folder of the data folder. An
// existing certificate is an error unless replace is set; then the key stays and only
// the certificate is replaced, in one step.
func (a *Authority) IssueFiles(r Request, outDir string, replace bool) (c *Certificate, certFile, keyFile string, err error) {
	if outDir == "" {
		outDir = a.paths.Certs()
	}
	// A bad request must not leave a key behind.
	if _, err := a.leafTemplate(r); err != nil {
		return nil, "", "", err
	}
	unlock, err := lockFolder(a.paths.Dir, a.options)
	if err != nil {
		return nil, "", "", err
	}
	defer unlock()
	m := &maker{fs: a.options.FS}
	if err := durable.MkdirAll(m.fs, outDir, 0o700); err != nil {
		return nil, "", "", err
	}
	if err := a.copyRoot(m, filepath.Join(outDir, "ca.crt")); err != nil {
		return nil, "", "", err
	}
	certFile, keyFile = filepath.Join(outDir, r.Name+".crt"), filepath.Join(outDir, r.Name+".key")
	if r.Key, err = a.keyFor(r, certFile, keyFile, replace, m); err != nil {
		return nil, "", "", err
	}
	if c, err = a.Issue(r); err != nil {
		return nil, "", "", err
	}
	if err := m.write(certFile, c.CertPEM, 0o644); err != nil {
		return nil, "", "", err
	}
	return c, certFile, keyFile, nil
}

// foreignRootError says that a folder belongs to another authority.
type foreignRootError struct{ path string }

func (e *foreignRootError) Error() string {
	return fmt.Sprintf("%s is the certificate of another authority", e.path)
}
func (e *foreignRootError) Hint() string { return "choose another folder with --out" }

// copyRoot puts the root beside the certificates that need it. It replaces nothing.
func (a *Authority) copyRoot(m *maker, path string) error {
	old, err := a.readCert(path)
	switch {
	case durable.IsNotExist(err):
		return m.write(path, certPEM(a.root), 0o644)
	case err != nil:
		return err
	case !old.Equal(a.root):
		return &foreignRootError{path}
	}
	return nil
}

// keyFor returns the key that is there, or makes one. A key without a certificate is
// what an interrupted call left.
func (a *Authority) keyFor(r Request, certFile, keyFile string, replace bool, m *maker) (crypto.Signer, error) {
	_, err := a.readCert(certFile)
	switch {
	case err == nil && !replace:
		return nil, &existsError{certFile}
	case err != nil && !durable.IsNotExist(err) && !replace:
		return nil, err
	}
	key, err := a.readKey(keyFile)
	switch {
	case err == nil:
		return key, a.checkKeyType(key, r.KeyType, keyFile)
	case !durable.IsNotExist(err):
		return nil, err
	}
	return m.newKey(keyFile, r.KeyType)
}

// checkKeyType refuses to go on with another type of key than was asked for.
func (a *Authority) checkKeyType(key crypto.Signer, want KeyType, path string) error {
	if want == "" || keyType(key.Public()) == want {
		return nil
	}
	return fmt.Errorf("%s holds a key of another type than %s", path, want)
}

// IsNoAuthority reports whether err says that the data folder has no authority.
func IsNoAuthority(err error) bool {
	var e *noAuthorityError
	return errors.As(err, &e)
}
