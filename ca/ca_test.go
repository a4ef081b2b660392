package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/mtls"
)

func initCA(t testing.TB) *ca.Authority {
	t.Helper()
	a, err := ca.Init("data", ca.Options{FS: faultfs.New()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hintOf is what the command line prints below an error.
func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

// verify checks a chain as a peer does that knows nothing but the root.
func verify(t testing.TB, root *x509.Certificate, chainPEM []byte, now time.Time, usage x509.ExtKeyUsage) error {
	t.Helper()
	chain, err := mtls.ParseCertificates(chainPEM)
	if err != nil {
		t.Fatal(err)
	}
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	}
	opts.Roots.AddCert(root)
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err = chain[0].Verify(opts)
	return err
}

func TestAuthority(t *testing.T) {
	a := initCA(t)
	root, inter := a.Root(), a.Intermediate()
	for name, c := range map[string]*x509.Certificate{"root": root, "intermediate": inter} {
		if !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s is not marked as an authority: %+v", name, c.KeyUsage)
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s has a %T", name, c.PublicKey)
		}
		if n := c.SerialNumber.BitLen(); n < 64 || n > 128 || c.SerialNumber.Sign() <= 0 {
			t.Errorf("%s: serial of %d bits", name, n)
		}
		if len(c.SubjectKeyId) != 20 {
			t.Errorf("%s: subject key id %x", name, c.SubjectKeyId)
		}
	}
	if root.MaxPathLen != 1 || inter.MaxPathLen != 0 || !inter.MaxPathLenZero {
		t.Errorf("path lengths %d and %d", root.MaxPathLen, inter.MaxPathLen)
	}
	if !bytes.Equal(inter.AuthorityKeyId, root.SubjectKeyId) {
		t.Error("intermediate does not name the root's key")
	}
	if b := initCA(t); b.Root().Subject.String() == root.Subject.String() {
		t.Error("two authorities share a name")
	}
}

func TestIssue(t *testing.T) {
	a := initCA(t)
	for _, tc := range []struct {
		name   string
		req    ca.Request
		role   sealmq.Role
		server bool
	}{
		{"client", ca.Request{Name: "alice"}, sealmq.RoleClient, false},
		{"administrator", ca.Request{Name: "admin-eve", Role: sealmq.RoleAdmin}, sealmq.RoleAdmin, false},
		{"administrator by role only", ca.Request{Name: "eve", Role: sealmq.RoleAdmin}, sealmq.RoleAdmin, false},
		{"worker", ca.Request{Name: "worker-1", Role: sealmq.RoleWorker}, sealmq.RoleWorker, true},
		{"server", ca.Request{Name: "server", Role: sealmq.RoleServer, DNSNames: []string{"mq.Example.org", "*.example.org"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}, sealmq.RoleServer, true},
		{"RSA server", ca.Request{Name: "proxy-1", Role: sealmq.RoleProxy, KeyType: ca.RSA}, sealmq.RoleProxy, true},
		{"RSA", ca.Request{Name: "old", KeyType: ca.RSA, Days: 1}, sealmq.RoleClient, false},
		{"longest", ca.Request{Name: strings.Repeat("a", 64), Days: ca.MaxDays}, sealmq.RoleClient, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := time.Now()
			c, err := a.Issue(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(t, a.Root(), c.CertPEM, time.Time{}, x509.ExtKeyUsageClientAuth); err != nil {
				t.Errorf("as a client: %v", err)
			}
			if err := verify(t, a.Root(), c.CertPEM, time.Time{}, x509.ExtKeyUsageServerAuth); (err == nil) != tc.server {
				t.Errorf("as a server: %v", err)
			}
			key, err := mtls.ParsePrivateKey(c.KeyPEM)
			if err != nil {
				t.Fatal(err)
			}
			if err := mtls.CheckPair(c.Leaf, key); err != nil {
				t.Error(err)
			}
			id, role, err := mtls.Profile(c.Leaf)
			if err != nil || id != tc.req.Name || role != tc.role || c.Leaf.Subject.CommonName != id {
				t.Errorf("profile %q %q, %v", id, role, err)
			}
			wantUsage := x509.KeyUsageDigitalSignature
			if rsaKey, ok := c.Leaf.PublicKey.(*rsa.PublicKey); ok {
				if tc.server {
					wantUsage |= x509.KeyUsageKeyEncipherment
				}
				if rsaKey.N.BitLen() != 3072 {
					t.Errorf("RSA key of %d bits", rsaKey.N.BitLen())
				}
			} else if tc.req.KeyType == ca.RSA {
				t.Errorf("%T", c.Leaf.PublicKey)
			}
			if c.Leaf.KeyUsage != wantUsage || c.Leaf.IsCA || !c.Leaf.BasicConstraintsValid {
				t.Errorf("key usage %v, is CA %v", c.Leaf.KeyUsage, c.Leaf.IsCA)
			}
			days := tc.req.Days
			if days == 0 {
				days = 365
			}
			if d := c.Leaf.NotAfter.Sub(before.AddDate(0, 0, days)); d < -time.Second || d > time.Minute {
				t.Errorf("ends %v off", d)
			}
			if !c.Leaf.NotBefore.Before(before.Add(-30 * time.Minute)) {
				t.Errorf("a peer whose clock is slow refuses it: %v", c.Leaf.NotBefore)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	a := initCA(t)
	for _, name := range []string{
		"", " ", "a b", "-a", ".a", "_a", "a/b", "../a", "a\x00", "a\n", "ä", "a:b", "*", strings.Repeat("a", 65), "sealmq:client/a",
	} {
		if _, err := a.Issue(ca.Request{Name: name}); err == nil {
			t.Errorf("name %q: issued", name)
		}
	}
	for _, name := range []string{"admin", "admin-1", "proxy", "proxy-x", "worker", "worker-7", "server", "localhost", "portal"} {
		_, err := a.Issue(ca.Request{Name: name})
		if err == nil || !strings.Contains(hintOf(err), "--role "+string(mtls.ReservedRole(name))) {
			t.Errorf("name %q without a role: %v", name, err)
		}
		if _, err := a.Issue(ca.Request{Name: name, Role: sealmq.RoleClient}); err != nil {
			t.Errorf("name %q with an explicit role: %v", name, err)
		}
	}
	for _, name := range []string{"administrator", "proxyman", "workers", "server-1", "adminx"} {
		if _, err := a.Issue(ca.Request{Name: name}); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for what, r := range map[string]ca.Request{
		"role":                {Name: "a", Role: "root"},
		"negative days":       {Name: "a", Days: -1},
		"too many days":       {Name: "a", Days: ca.MaxDays + 1},
		"key type":            {Name: "a", KeyType: "dsa"},
		"host for a client":   {Name: "a", DNSNames: []string{"a.example"}},
		"host with a space":   {Name: "a", Role: sealmq.RoleServer, DNSNames: []string{"a b"}},
		"host with a port":    {Name: "a", Role: sealmq.RoleServer, DNSNames: []string{"a:1"}},
		"host with two stars": {Name: "a", Role: sealmq.RoleServer, DNSNames: []string{"*.*.a"}},
	} {
		if _, err := a.Issue(r); err == nil {
			t.Errorf("%s: issued", what)
		}
	}
}

func TestNothingOutlivesTheAuthority(t *testing.T) {
	now := fakeclock.New(time.Now())
	a, err := ca.Init("data", ca.Options{FS: faultfs.New(), Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	now.Advance(14*365*24*time.Hour + 200*24*time.Hour)
	if _, err := a.Issue(ca.Request{Name: "a"}); err == nil || !strings.Contains(err.Error(), "expires on") {
		t.Errorf("%v", err)
	}
	if _, err := a.Issue(ca.Request{Name: "a", Days: 10}); err != nil {
		t.Error(err)
	}
}

func TestInitTwiceChangesNothing(t *testing.T) {
	fs := faultfs.New()
	first, err := ca.Init("data", ca.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	want := contents(fs)
	for range 2 {
		again, err := ca.Init("data", ca.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		if !again.Root().Equal(first.Root()) || !again.Intermediate().Equal(first.Intermediate()) {
			t.Error("another authority")
		}
	}
	opened, err := ca.Open("data", ca.Options{FS: fs})
	if err != nil || !opened.Intermediate().Equal(first.Intermediate()) {
		t.Errorf("open: %v", err)
	}
	if diff := cmp.Diff(want, contents(fs)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
	if got := fs.Unsynced(); len(got) != 0 {
		t.Errorf("not durable: %q", got)
	}
}

func contents(fs *faultfs.FS) map[string]string {
	m := make(map[string]string)
	for _, name := range fs.Files() {
		m[name] = string(fs.Get(name))
	}
	return m
}

func TestRootKeptElsewhere(t *testing.T) {
	fs := faultfs.New()
	o := ca.Options{FS: fs}
	first, err := ca.Init("data", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove("data/ca/root.key"); err != nil {
		t.Fatal(err)
	}
	if a, err := ca.Init("data", o); err != nil || !a.Root().Equal(first.Root()) {
		t.Fatalf("init without the root's key: %v", err)
	}
	if _, err := ca.Open("data", o); err != nil {
		t.Fatal(err)
	}
	fs.Remove("data/ca/intermediate.crt")
	before := contents(fs)
	if _, err := ca.Init("data", o); err == nil || hintOf(err) == "" {
		t.Errorf("no root key and no intermediate: %v", err)
	}
	if diff := cmp.Diff(before, contents(fs)); diff != "" {
		t.Errorf("a failed init changed files:\n%s", diff)
	}
}

func TestDamagedFolder(t *testing.T) {
	good := faultfs.New()
	if _, err := ca.Init("data", ca.Options{FS: good}); err != nil {
		t.Fatal(err)
	}
	other := faultfs.New()
	if _, err := ca.Init("data", ca.Options{FS: other}); err != nil {
		t.Fatal(err)
	}
	swap := func(fs *faultfs.FS, name string) { fs.Put("data/ca/"+name, other.Get("data/ca/"+name)) }
	for what, damage := range map[string]func(*faultfs.FS){
		"root key of another root":         func(fs *faultfs.FS) { swap(fs, "root.key") },
		"intermediate key of another":      func(fs *faultfs.FS) { swap(fs, "intermediate.key") },
		"intermediate of another root":     func(fs *faultfs.FS) { swap(fs, "intermediate.key"); swap(fs, "intermediate.crt") },
		"no intermediate key":              func(fs *faultfs.FS) { fs.Remove("data/ca/intermediate.key") },
		"empty root":                       func(fs *faultfs.FS) { fs.Cut("data/ca/root.crt", 0) },
		"half a key":                       func(fs *faultfs.FS) { fs.Cut("data/ca/intermediate.key", 100) },
		"half a certificate":               func(fs *faultfs.FS) { fs.Cut("data/ca/intermediate.crt", 100) },
		"a certificate that is no PEM":     func(fs *faultfs.FS) { fs.Put("data/ca/root.crt", []byte("hello")) },
		"a root that may not sign":         func(fs *faultfs.FS) { putLeafAsRoot(t, fs) },
		"a key with a passphrase (PKCS#8)": func(fs *faultfs.FS) { fs.Put("data/ca/root.key", []byte(encryptedPEM)) },
	} {
		t.Run(what, func(t *testing.T) {
			fs := good.Snapshot()
			damage(fs)
			before := contents(fs)
			if _, err := ca.Init("data", ca.Options{FS: fs}); err == nil {
				t.Error("init: no error")
			} else if !strings.Contains(err.Error(), "data") {
				t.Errorf("init: %q names no file", err)
			}
			if diff := cmp.Diff(before, contents(fs)); diff != "" {
				t.Errorf("init changed files:\n%s", diff)
			}
		})
	}
}

const encryptedPEM = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"

// putLeafAsRoot makes the intermediate of a leaf's key: the root is then a leaf.
func putLeafAsRoot(t *testing.T, fs *faultfs.FS) {
	t.Helper()
	a, err := ca.Open("data", ca.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Issue(ca.Request{Name: "leaf"})
	if err != nil {
		t.Fatal(err)
	}
	fs.Put("data/ca/root.crt", leaf.CertPEM)
	fs.Put("data/ca/root.key", leaf.KeyPEM)
	fs.Remove("data/ca/intermediate.crt")
	fs.Remove("data/ca/intermediate.key")
	fs.Put("data/ca/intermediate.key", leaf.KeyPEM)
}

func TestOpenWithoutAuthority(t *testing.T) {
	_, err := ca.Open("nowhere", ca.Options{FS: faultfs.New()})
	if err == nil || !strings.Contains(err.Error(), "no authority") || !strings.Contains(hintOf(err), "sealmq init") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
}

func TestFilesOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	res, err := ca.Setup(dir, nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Made) != 9 {
		t.Errorf("made %q", res.Made)
	}
	for _, name := range res.Made {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && strings.HasSuffix(name, ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	key := ca.In(dir).IntermediateKey
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = ca.Open(dir, ca.Options{})
	var private *durable.PrivateError
	if !errors.As(err, &private) || !strings.Contains(err.Error(), "intermediate.key") || !strings.Contains(hintOf(err), "chmod 600") {
		t.Errorf("a key that the group can read: %v, hint %q", err, hintOf(err))
	}
}

func TestParseHosts(t *testing.T) {
	names, ips, err := ca.ParseHosts([]string{"MQ.example.org.", "10.0.0.1", "[::1]", "fe80::1", "*.a.b", "under_score"})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"mq.example.org", "*.a.b", "under_score"}; !slices.Equal(names, want) {
		t.Errorf("names %q", names)
	}
	if len(ips) != 3 {
		t.Errorf("addresses %v", ips)
	}
	for _, bad := range []string{"", "a b", "a:5672", "http://a", "-a", "a-", "a..b", "*", "a.*", strings.Repeat("a", 64), "ä.example"} {
		if _, _, err := ca.ParseHosts([]string{bad}); err == nil {
			t.Errorf("%q is taken for a host", bad)
		}
	}
}
