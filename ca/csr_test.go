package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

func key[K crypto.Signer](t testing.TB, k K, err error) crypto.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrOf(t testing.TB, template *x509.CertificateRequest, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestCSR(t *testing.T) {
	o := newOffice(t)
	curve := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		return key(t, k, err)
	}
	modulus := func(bits int) crypto.Signer {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		return key(t, k, err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "alice"}}
	good := csrOf(t, plain, curve(elliptic.P256()))
	forged := bytes.Clone(good)
	block, _ := pem.Decode(forged)
	block.Bytes[len(block.Bytes)-1] ^= 1
	forged = pem.EncodeToMemory(block)
	for _, tc := range []struct {
		name, want string // want is a part of the error
		csr        []byte
	}{
		{"P-256", "", good},
		{"P-384", "", csrOf(t, plain, curve(elliptic.P384()))},
		{"Ed25519", "", csrOf(t, plain, ed)},
		{"RSA 2048", "", csrOf(t, plain, modulus(2048))},
		{"no name", "", csrOf(t, &x509.CertificateRequest{}, curve(elliptic.P256()))},
		{"of a Windows tool", "", bytes.ReplaceAll(csrOf(t, plain, curve(elliptic.P256())), []byte("CERTIFICATE REQ"), []byte("NEW CERTIFICATE REQ"))},
		{"RSA 1024", "1024 bits", csrOf(t, plain, modulus(1024))},
		{"P-521", "P-521", csrOf(t, plain, curve(elliptic.P521()))},
		{"another name", `for the name "bob"`, csrOf(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "bob"}}, curve(elliptic.P256()))},
		{"a name in other letters", `for the name "Alice"`, csrOf(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alice"}}, curve(elliptic.P256()))},
		{"not signed by its key", "not signed by its own key", forged},
		{"two requests", "behind the request", append(bytes.Clone(good), good...)},
		{"a key", "no PEM block", []byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")},
		{"nonsense", "malformed", []byte("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n")},
		{"too large", "more than", make([]byte, ca.MaxCSRBytes+1)},
		{"nothing", "no PEM block", []byte{}},
	} {
		c, err := o.Issue(ca.Request{Name: "alice", CSR: tc.csr})
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if len(c.KeyPEM) > 0 || verify(t, o.Root(), c.CertPEM, o.now.Now(), x509.ExtKeyUsageClientAuth) != nil {
			t.Errorf("%s: with a key, or not valid", tc.name)
		}
	}
}

// TestCSRDecidesNothing: names, hosts, usages and roles that a request asks for are not in the
// certificate.
func TestCSRDecidesNothing(t *testing.T) {
	o := newOffice(t)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	role, _ := url.Parse("sealmq:role/admin")
	csr := csrOf(t, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "alice", Organization: []string{"Bank"}, OrganizationalUnit: []string{"Board"}},
		DNSNames: []string{"bank.example"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}, URIs: []*url.URL{role}, EmailAddresses: []string{"a@b"},
		ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}},
	}, key(t, k, err))
	c, err := o.Issue(ca.Request{Name: "alice", CSR: csr, Domain: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ := mtls.Profile(c.Leaf)
	if got != sealmq.RoleClient || c.Leaf.IsCA || len(c.Leaf.DNSNames)+len(c.Leaf.IPAddresses)+len(c.Leaf.EmailAddresses) > 0 ||
		c.Leaf.Subject.String() != "CN=alice,OU=shop" {
		t.Errorf("subject %s, role %s, hosts %v", c.Leaf.Subject, got, c.Leaf.DNSNames)
	}
	// A key that was revoked comes back under no name.
	o.revoke(ca.Revocation{Name: "alice", Serial: mtls.Serial(c.Leaf), Reason: "keyCompromise"})
	again := csrOf(t, &x509.CertificateRequest{}, k)
	for _, name := range []string{"alice", "bob"} {
		if _, err := o.Issue(ca.Request{Name: name, CSR: again}); err == nil || !strings.Contains(err.Error(), "which is revoked") {
			t.Errorf("%s, with a revoked key: %v", name, err)
		}
	}
}

func TestNewCSR(t *testing.T) {
	k, err := ca.GenerateKey(ca.RSA)
	csr, cerr := ca.NewCSR("alice", k)
	if err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	if got, err := ca.ParseCSR(csr); err != nil || got.CommonName != "alice" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ca.NewCSR("a b", k); err == nil {
		t.Error("a bad name")
	}
}

func FuzzParseCSR(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.Add(csrOf(f, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "alice"}}, key(f, k, err)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ca.ParseCSR(data); err == nil && c.Public == nil {
			t.Error("no key and no error")
		}
	})
}

// TestRootPassphrase: with a passphrase on the root's key everything works but making an
// intermediate, which asks for it.
func TestRootPassphrase(t *testing.T) {
	fs := faultfs.New()
	asked := 0
	secret := func() ([]byte, error) { asked++; return []byte("correct horse"), nil }
	made, err := ca.Setup("data", nil, ca.Options{FS: fs, ProtectRoot: secret})
	if err != nil || asked != 1 {
		t.Fatal(asked, err)
	}
	if !seal.IsEncryptedKeyFile(fs.Get("data/ca/root.key")) {
		t.Fatal("the root's key is in the clear")
	}
	if again, err := ca.Setup("data", nil, ca.Options{FS: fs}); err != nil || len(again.Made) > 0 {
		t.Fatalf("%v, made %q", err, again.Made)
	}
	fs.Remove("data/ca/intermediate.crt")
	fs.Remove("data/ca/intermediate.key")
	if _, err := ca.Init("data", ca.Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "root.key") || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("a new intermediate without it: %v", err)
	}
	wrong := func() ([]byte, error) { return []byte("x"), nil }
	if _, err := ca.Init("data", ca.Options{FS: fs, RootPassphrase: wrong}); err == nil {
		t.Error("a wrong passphrase is good")
	}
	if a, err := ca.Init("data", ca.Options{FS: fs, RootPassphrase: secret}); err != nil || !a.Root().Equal(made.Authority.Root()) {
		t.Errorf("with it: %v", err)
	}
	// A key without one gets one.
	plain := faultfs.New()
	if _, err := ca.Init("data", ca.Options{FS: plain}); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Init("data", ca.Options{FS: plain, ProtectRoot: secret}); err != nil || !seal.IsEncryptedKeyFile(plain.Get("data/ca/root.key")) {
		t.Errorf("later: %v", err)
	}
}

// TestImportedRootSignsDirectly: one that may have no authority below it, and any root on
// request; without its key, the file is named.
func TestImportedRootSignsDirectly(t *testing.T) {
	o := newOffice(t)
	direct, err := o.Issue(ca.Request{Name: "alice", Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	if certs, err := mtls.ParseCertificates(direct.CertPEM); err != nil || len(certs) != 1 || certs[0].CheckSignatureFrom(o.Root()) != nil {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	bob := o.issue(ca.Request{Name: "bob"})
	o.revoke(ca.Revocation{Name: "alice"})
	o.revoke(ca.Revocation{Name: "bob"})
	crl, err := o.RootCRL()
	if err != nil || len(crl.List.RevokedCertificateEntries) != 1 || crl.List.RevokedCertificateEntries[0].SerialNumber.Cmp(direct.Leaf.SerialNumber) != 0 {
		t.Fatalf("the root's CRL: %v", err)
	}
	if crl := o.mustCRL(); len(crl.List.RevokedCertificateEntries) != 1 || crl.List.RevokedCertificateEntries[0].SerialNumber.Cmp(bob.SerialNumber) != 0 {
		t.Error("the intermediate's CRL has what it did not sign")
	}
	o.fs.Remove("data/ca/root.key")
	if _, err := o.Issue(ca.Request{Name: "alice", Direct: true}); err == nil || !strings.Contains(err.Error(), "root.key") || hintOf(err) == "" {
		t.Errorf("without the key: %v", err)
	}
	o.issue(ca.Request{Name: "carol"})

	// A root with a path length of zero.
	fs := faultfs.New()
	rootKey, err := ca.GenerateKey(ca.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	template := *o.Intermediate()
	template.MaxPathLen, template.MaxPathLenZero, template.PublicKey, template.AuthorityKeyId = 0, true, rootKey.Public(), nil
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(rootKey)
	fs.Put("data/ca/root.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	fs.Put("data/ca/root.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	for range 2 {
		if _, err := ca.Setup("data", nil, ca.Options{FS: fs}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := ca.Open("data", ca.Options{FS: fs})
	if err != nil || a.Intermediate() != nil {
		t.Fatal(err)
	}
	if err := verify(t, a.Root(), fs.Get("data/certs/server.crt"), o.now.Now(), x509.ExtKeyUsageServerAuth); err != nil {
		t.Error(err)
	}
	if _, err := a.Revoke(ca.Revocation{Name: "admin"}); err != nil {
		t.Error(err)
	}
	if crl, err := a.CRL(); err != nil || len(crl.List.RevokedCertificateEntries) != 1 {
		t.Errorf("its CRL: %v", err)
	}
	der[len(der)-1] ^= 1 // the end of its signature
	fs.Put("data/ca/root.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if _, err := ca.Open("data", ca.Options{FS: fs}); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("with another signature: %v", err)
	}
}
