package mtls_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

// signedFor signs a template for a given key.
func signedFor(t testing.TB, c *testca.CA, template *x509.Certificate, key crypto.Signer) tls.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, c.Root(), key.Public(), c.Key())
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWhatIsNoClient(t *testing.T) {
	authority := testca.New(t)
	server := serverConfig(t, authority.Files(), mtls.Options{})
	https, err := mtls.HTTPSConfig(mtls.Files{Cert: authority.Files().ServerCert, Key: authority.Files().ServerKey, CA: authority.Files().CA}, mtls.Options{})
	if err != nil {
		t.Fatal(err)
	}
	usage := func(u x509.KeyUsage) tls.Certificate {
		template := authority.Template("alice", "")
		template.KeyUsage = u
		return authority.Issue(template)
	}
	says := authority.Template("alice", "")
	says.BasicConstraintsValid, says.IsCA, says.KeyUsage = true, true, x509.KeyUsageDigitalSignature
	signing := subCA(authority, 0)
	root := tls.Certificate{Certificate: [][]byte{authority.Root().Raw}, PrivateKey: authority.Key()}
	for _, tc := range []struct {
		name string
		cert tls.Certificate
		ok   bool
	}{
		{"no key usage", usage(0), true},
		{"digital signature and more", usage(x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment), true},
		{"key encipherment only", usage(x509.KeyUsageKeyEncipherment), false},
		{"a leaf with CA:TRUE", authority.Issue(says), false},
		{"an intermediate", signing, false},
		{"the root", root, false},
		{"RSA 2048", signedFor(t, authority, authority.Template("alice", ""), rsaKey(t, 2048)), true},
		{"RSA 1024", signedFor(t, authority, authority.Template("alice", ""), rsaKey(t, 1024)), false},
	} {
		for kind, conf := range map[string]*tls.Config{"server": server, "https": https} {
			r := connect(t, conf, shows(authority.WithoutCertificate(), tc.cert))
			if (r.serverErr == nil) != tc.ok || (r.clientErr == nil) != tc.ok {
				t.Errorf("%s, %s: server %v, client %v", tc.name, kind, r.serverErr, r.clientErr)
			}
		}
	}
}

// TestV1RootIsNoClient: a root of X.509 v1 cannot say that it is an authority.
func TestV1RootIsNoClient(t *testing.T) {
	authority := testca.New(t)
	v1, f := authority.IssueV1(pkix.Name{CommonName: "alice"}), authority.Files()
	pem, _ := testca.WriteLeaf(t, t.TempDir(), "v1", v1)
	both, err := os.ReadFile(pem)
	if err != nil {
		t.Fatal(err)
	}
	testca.WriteFile(t, f.CA, append(both, authority.RootPEM()...))
	if r := connect(t, serverConfig(t, f, mtls.Options{}), authority.ClientWith(v1)); r.serverErr == nil {
		t.Error("it was let in as its own authority")
	}
}

func TestBareCertificatesAreWarnedAboutOnce(t *testing.T) {
	authority := testca.New(t)
	var log bytes.Buffer
	server := serverConfig(t, authority.Files(), mtls.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	alice, bob := authority.V1Client("alice"), authority.V1Client("bob")
	for range 3 {
		for _, c := range []*tls.Config{alice, bob, authority.ClientTLS("carol")} {
			if r := connect(t, server, c); !r.accepted() {
				t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
			}
		}
	}
	for name, want := range map[string]int{"alice": 1, "bob": 1, "carol": 0} {
		if got := strings.Count(log.String(), `subject="CN=`+name) + strings.Count(log.String(), `subject=CN=`+name); got != want {
			t.Errorf("%s: %d warnings, want %d:\n%s", name, got, want, log.String())
		}
	}
}

func TestValidUntil(t *testing.T) {
	day := func(n int) *x509.Certificate {
		return &x509.Certificate{NotAfter: time.Date(2030, 1, n, 0, 0, 0, 0, time.UTC)}
	}
	for _, tc := range []struct {
		chains [][]*x509.Certificate
		want   time.Time
	}{
		{nil, time.Time{}},
		{[][]*x509.Certificate{{day(3), day(9)}}, day(3).NotAfter},
		{[][]*x509.Certificate{{day(8), day(2), day(9)}}, day(2).NotAfter},
		{[][]*x509.Certificate{{day(8), day(2)}, {day(8), day(5)}}, day(5).NotAfter},
	} {
		if got := mtls.ValidUntil(tls.ConnectionState{VerifiedChains: tc.chains}); !got.Equal(tc.want) {
			t.Errorf("%v, want %v", got, tc.want)
		}
	}
}
