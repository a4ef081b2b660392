package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
)

// selfSigned is a server certificate that no authority of ours issued.
func selfSigned(t testing.TB, key crypto.Signer) (certPEM, keyPEM []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "mq.corp.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"mq.corp.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

func openssl(t testing.TB, args ...string) string {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestOpenSSLAcceptsTheChain(t *testing.T) {
	dir := t.TempDir()
	res, err := ca.Setup(dir, nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := res.Authority.Paths()
	openssl(t, "verify", "-x509_strict", "-policy_check", "-purpose", "sslserver", "-verify_hostname", "localhost",
		"-CAfile", p.CA, "-untrusted", p.Intermediate, p.Cert(ca.ServerName))
	openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", p.CA, "-untrusted", p.Intermediate, p.Cert(ca.AdminName))
}

// TestImportedRoot puts a root made by plain openssl commands into an empty folder.
func TestImportedRoot(t *testing.T) {
	dir := t.TempDir()
	p := ca.In(dir)
	if err := os.MkdirAll(filepath.Dir(p.Root), 0o700); err != nil {
		t.Fatal(err)
	}
	openssl(t, "req", "-x509", "-newkey", "rsa:4096", "-nodes", "-keyout", p.RootKey, "-out", p.Root, "-days", "30", "-subj", "/O=Example/CN=Example Root")
	if err := os.Chmod(p.RootKey, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(p.Root)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ca.Init(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(p.Root); string(after) != string(before) {
		t.Error("the imported root was replaced")
	}
	if a.Intermediate().NotAfter.After(a.Root().NotAfter) {
		t.Error("the intermediate outlives the root")
	}
	c, err := a.Issue(ca.Request{Name: "worker-1", Role: sealmq.RoleWorker, Days: 10})
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, a.Root(), c.CertPEM, time.Time{}, x509.ExtKeyUsageServerAuth); err != nil {
		t.Error(err)
	}
	leaf := filepath.Join(dir, "leaf.crt")
	if err := os.WriteFile(leaf, c.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, "verify", "-CAfile", p.Root, "-untrusted", p.Intermediate, leaf)
}
