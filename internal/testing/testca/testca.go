// Package testca makes new certificates for tests: good ones, and every kind of bad one that
// a server must refuse. No certificate is in the repository, so none expires.
//
// It is for tests only and imports testing.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// CA is an authority with P-256 keys that lives as long as a test. Its certificates
// are signed by its root directly. It is safe for concurrent use.
type CA struct {
	tb   testing.TB
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]tls.Certificate // by common name and role
}

// New makes an authority. Two of them do not trust each other.
func New(tb testing.TB) *CA {
	tb.Helper()
	key := newKey(tb)
	root := &x509.Certificate{
		SerialNumber:          newSerial(tb),
		Subject:               pkix.Name{CommonName: "SealMQ test root " + newSerial(tb).Text(36)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return &CA{tb: tb, root: parse(tb, der), key: key, leaves: make(map[string]tls.Certificate)}
}

// Root is the authority's own certificate.
func (c *CA) Root() *x509.Certificate { return c.root }

// Key is the key of the root.
func (c *CA) Key() *ecdsa.PrivateKey { return c.key }

// RootPEM is the content of a ca.crt.
func (c *CA) RootPEM() []byte { return mtls.EncodeCertificates(c.root) }

// Pool is a pool with the root.
func (c *CA) Pool() *x509.CertPool { return mtls.Pool(c.root) }

// Identify is mtls.Identify with this authority as our own, so that roles count.
func (c *CA) Identify(cs tls.ConnectionState) (sealmq.Identity, error) {
	return mtls.NewIdentifier(c.root).Identify(cs)
}

// Verifier trusts certificates of this authority, including their roles.
func (c *CA) Verifier() *trust.Verifier {
	return &trust.Verifier{Roots: c.Pool(), Identifier: mtls.NewIdentifier(c.root)}
}

// Template returns the default template of a client certificate, for Issue: common name,
// client URI if the name allows one, role, and both extended key usages.
func (c *CA) Template(cn string, role sealmq.Role) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: newSerial(c.tb),
		Subject:      pkix.Name{CommonName: cn},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(12 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if mtls.ValidID(cn) {
		t.URIs = []*url.URL{mtls.ClientURI(cn)}
	}
	if role != "" {
		t.URIs = append(t.URIs, mtls.RoleURI(role))
	}
	return t
}

// Issue signs a template with a new key.
func (c *CA) Issue(template *x509.Certificate) tls.Certificate {
	c.tb.Helper()
	key := newKey(c.tb)
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, key.Public(), c.key)
	if err != nil {
		c.tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parse(c.tb, der)}
}

// Leaf returns the certificate of a client, always the same one.
func (c *CA) Leaf(cn string, role sealmq.Role) tls.Certificate {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	id := cn + "\x00" + string(role)
	leaf, ok := c.leaves[id]
	if !ok {
		leaf = c.Issue(c.Template(cn, role))
		c.leaves[id] = leaf
	}
	return leaf
}

// ServerLeaf is a certificate for localhost and the loopback addresses.
func (c *CA) ServerLeaf() tls.Certificate {
	c.tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf, ok := c.leaves["server"]
	if !ok {
		t := c.Template("server", sealmq.RoleServer)
		t.DNSNames = []string{"localhost"}
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
		leaf = c.Issue(t)
		c.leaves["server"] = leaf
	}
	return leaf
}

// ServerTLS is a listener's configuration that requires client certificates of this
// authority. It never changes; the product uses mtls.ServerConfig with Files.
func (c *CA) ServerTLS() *tls.Config {
	c.tb.Helper()
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		Certificates:                []tls.Certificate{c.ServerLeaf()},
		ClientAuth:                  tls.RequireAndVerifyClientCert,
		ClientCAs:                   c.Pool(),
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

// ClientTLS is the configuration of a plain client with the given common name, which
// connects to localhost.
func (c *CA) ClientTLS(cn string) *tls.Config {
	c.tb.Helper()
	return c.ClientWith(c.Leaf(cn, sealmq.RoleClient))
}

// RoleTLS is ClientTLS with a role.
func (c *CA) RoleTLS(cn string, role sealmq.Role) *tls.Config {
	c.tb.Helper()
	return c.ClientWith(c.Leaf(cn, role))
}

// AdminTLS is the configuration of an administrator.
func (c *CA) AdminTLS() *tls.Config {
	c.tb.Helper()
	return c.RoleTLS("admin", sealmq.RoleAdmin)
}

// ClientWith is a client's configuration with any certificate.
func (c *CA) ClientWith(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		ServerName:                  "localhost",
		RootCAs:                     c.Pool(),
		Certificates:                []tls.Certificate{cert},
		DynamicRecordSizingDisabled: true,
	}
}

// WithoutCertificate is the configuration of a client that has none.
func (c *CA) WithoutCertificate() *tls.Config {
	cfg := c.ClientWith(tls.Certificate{})
	cfg.Certificates = nil
	return cfg
}

// ClientWithoutCN is a client whose certificate has neither common name nor URI.
func (c *CA) ClientWithoutCN() *tls.Config {
	c.tb.Helper()
	t := c.Template("", "")
	t.Subject = pkix.Name{Organization: []string{"Internet Widgits Pty Ltd"}, Country: []string{"AU"}}
	return c.ClientWith(c.Issue(t))
}

// ExpiredClient is a client whose certificate expired an hour ago.
func (c *CA) ExpiredClient(cn string) *tls.Config {
	c.tb.Helper()
	t := c.Template(cn, "")
	t.NotBefore, t.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	return c.ClientWith(c.Issue(t))
}

// FutureClient is a client whose certificate will be valid in an hour.
func (c *CA) FutureClient(cn string) *tls.Config {
	c.tb.Helper()
	t := c.Template(cn, "")
	t.NotBefore = time.Now().Add(time.Hour)
	return c.ClientWith(c.Issue(t))
}

// V1Client is a client with an X.509 v1 certificate: no extensions at all.
func (c *CA) V1Client(cn string) *tls.Config {
	c.tb.Helper()
	return c.ClientWith(c.IssueV1(pkix.Name{CommonName: cn}))
}

// Files are certificates on disk.
type Files struct {
	Dir                   string
	CA                    string
	ServerCert, ServerKey string
	AdminCert, AdminKey   string
}

// Files writes the root, a server certificate and an administrator's into a temporary
// folder, the keys with mode 0600.
func (c *CA) Files() Files {
	c.tb.Helper()
	dir := c.tb.TempDir()
	f := Files{Dir: dir, CA: filepath.Join(dir, "ca.crt")}
	WriteFile(c.tb, f.CA, c.RootPEM())
	f.ServerCert, f.ServerKey = WriteLeaf(c.tb, dir, "server", c.ServerLeaf())
	f.AdminCert, f.AdminKey = WriteLeaf(c.tb, dir, "admin", c.Leaf("admin", sealmq.RoleAdmin))
	return f
}

// WriteLeaf writes name.crt and name.key (PKCS#8) and returns their paths.
func WriteLeaf(tb testing.TB, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	tb.Helper()
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	WriteFile(tb, certFile, chain)
	WriteFile(tb, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certFile, keyFile
}

// WriteFile writes a file with mode 0600.
func WriteFile(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newSerial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		tb.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

func parse(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}
