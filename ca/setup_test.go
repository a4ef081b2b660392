package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/mtls"
)

func setup(t testing.TB, fs *faultfs.FS, hosts ...string) *ca.Result {
	t.Helper()
	res, err := ca.Setup("data", hosts, ca.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func leaf(t testing.TB, fs *faultfs.FS, name string) *x509.Certificate {
	t.Helper()
	certs, err := mtls.ParseCertificates(fs.Get("data/certs/" + name + ".crt"))
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

func TestSetup(t *testing.T) {
	fs := faultfs.New()
	res := setup(t, fs)
	want := []string{
		"data/ca/root.key", "data/ca/root.crt", "data/ca/intermediate.key", "data/ca/intermediate.crt", "data/certs/ca.crt",
		"data/certs/server.key", "data/certs/server.crt", "data/certs/admin.key", "data/certs/admin.crt",
	}
	if diff := cmp.Diff(want, res.Made); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	server := leaf(t, fs, "server")
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := server.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if _, role, err := mtls.Profile(leaf(t, fs, "admin")); role != sealmq.RoleAdmin || err != nil {
		t.Errorf("administrator's role %q, %v", role, err)
	}
	checkFolder(t, fs)

	before := contents(fs)
	again := setup(t, fs, "localhost", "127.0.0.1")
	if len(again.Made)+len(again.Renewed) != 0 {
		t.Errorf("the second run made %q and renewed %q", again.Made, again.Renewed)
	}
	if diff := cmp.Diff(before, contents(fs)); diff != "" {
		t.Errorf("the second run changed files:\n%s", diff)
	}
}

func TestSetupAddsHosts(t *testing.T) {
	fs := faultfs.New()
	setup(t, fs, "one.example")
	key := string(fs.Get("data/certs/server.key"))
	res := setup(t, fs, "Two.example", "10.1.2.3")
	if diff := cmp.Diff([]string{"data/certs/server.crt"}, res.Renewed); diff != "" || len(res.Made) > 0 {
		t.Errorf("made %q, renewed (-want +got):\n%s", res.Made, diff)
	}
	server := leaf(t, fs, "server")
	for _, host := range []string{"localhost", "::1", "one.example", "two.example", "10.1.2.3"} {
		if err := server.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if string(fs.Get("data/certs/server.key")) != key {
		t.Error("the key changed, which no crash-safe step can do together with the certificate")
	}
	if _, err := ca.Setup("data", []string{"not a host"}, ca.Options{FS: fs}); err == nil {
		t.Error("took a bad host")
	}
	checkFolder(t, fs)
}

// TestCertificatesOfTheFuture: what was renewed while the clock was years ahead is made again when
// it is right.
func TestCertificatesOfTheFuture(t *testing.T) {
	fs, now := faultfs.New(), time.Now()
	setup := func(at time.Time) *ca.Result {
		t.Helper()
		res, err := ca.Setup("data", nil, ca.Options{FS: fs, Clock: fakeclock.New(at)})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	setup(now)
	if res := setup(now.AddDate(3, 0, 0)); len(res.Renewed) != 2 || len(res.Future) != 0 {
		t.Fatalf("three years ahead: renewed %q, of the future %v", res.Renewed, res.Future)
	}
	res := setup(now)
	var files []string
	for _, f := range res.Future {
		files = append(files, f.File)
	}
	if diff := cmp.Diff(files, res.Renewed); diff != "" || len(files) != 2 {
		t.Errorf("of the future, renewed:\n%s", diff)
	}
	for _, name := range []string{"server", "admin"} {
		if cert := leaf(t, fs, name); cert.NotBefore.After(now) || cert.NotAfter.Before(now.AddDate(0, 11, 0)) {
			t.Errorf("%s is valid from %v until %v", name, cert.NotBefore, cert.NotAfter)
		}
	}
	if res := setup(now); len(res.Renewed)+len(res.Future) != 0 {
		t.Errorf("again: renewed %q, of the future %v", res.Renewed, res.Future)
	}
}

func TestSetupRenews(t *testing.T) {
	fs, now := faultfs.New(), fakeclock.New(time.Now())
	o := ca.Options{FS: fs, Clock: now}
	if _, err := ca.Setup("data", []string{"mq.example"}, o); err != nil {
		t.Fatal(err)
	}
	now.Advance(330 * 24 * time.Hour)
	if res, err := ca.Setup("data", nil, o); err != nil || len(res.Renewed) != 0 {
		t.Fatalf("35 days before the end: renewed %q, %v", res.Renewed, err)
	}
	now.Advance(10 * 24 * time.Hour)
	res, err := ca.Setup("data", nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"data/certs/server.crt", "data/certs/admin.crt"}, res.Renewed); diff != "" {
		t.Errorf("25 days before the end (-want +got):\n%s", diff)
	}
	server := leaf(t, fs, "server")
	if err := server.VerifyHostname("mq.example"); err != nil || server.NotAfter.Before(now.Now().AddDate(0, 0, 364)) {
		t.Errorf("%v, until %v", err, server.NotAfter)
	}
}

func TestSetupLeavesForeignCertificates(t *testing.T) {
	fs := faultfs.New()
	setup(t, fs)
	key, err := ca.GenerateKey(ca.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM := selfSigned(t, key)
	fs.Put("data/certs/server.crt", certPEM)
	fs.Put("data/certs/server.key", keyPEM)
	res := setup(t, fs, "other.example")
	if len(res.Renewed) != 0 || string(fs.Get("data/certs/server.crt")) != string(certPEM) {
		t.Errorf("renewed %q", res.Renewed)
	}
}

// TestNewAuthorityForOldKeys makes a new authority for certificates that are there, but not for
// those that were copied from a node with the authority.
func TestNewAuthorityForOldKeys(t *testing.T) {
	fs := faultfs.New()
	old := setup(t, fs, "mq.example").Authority.Root()
	for _, name := range []string{"root.crt", "root.key", "intermediate.crt", "intermediate.key"} {
		if err := fs.Remove("data/ca/" + name); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(fs)
	if _, err := ca.Setup("data", nil, ca.Options{FS: fs}); err == nil || !strings.Contains(hintOf(err), "ca/root.crt") {
		t.Errorf("beside a copied ca.crt: %v; hint %q", err, hintOf(err))
	}
	if diff := cmp.Diff(before, contents(fs)); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
	if err := fs.Remove("data/certs/ca.crt"); err != nil {
		t.Fatal(err)
	}
	res := setup(t, fs)
	if res.Authority.Root().Equal(old) || len(res.Renewed) != 2 {
		t.Errorf("renewed %q", res.Renewed)
	}
	if err := leaf(t, fs, "server").VerifyHostname("mq.example"); err != nil {
		t.Error(err)
	}
	checkFolder(t, fs)
}

// checkFolder fails the test if the folder is not complete.
func checkFolder(t testing.TB, fs *faultfs.FS) {
	t.Helper()
	a, err := ca.Open("data", ca.Options{FS: fs})
	if err != nil {
		t.Error(err)
		return
	}
	checkPairs(t, fs)
	roots, err := mtls.ParseCertificates(fs.Get("data/certs/ca.crt"))
	if err != nil || len(roots) != 1 || !roots[0].Equal(a.Root()) {
		t.Errorf("ca.crt is not the root: %v", err)
	}
	for _, name := range []string{"server", "admin"} {
		if err := verify(t, a.Root(), fs.Get("data/certs/"+name+".crt"), time.Time{}, x509.ExtKeyUsageClientAuth); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := leaf(t, fs, "server").VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
}

// checkPairs checks what must hold at every moment, also right after a crash: a
// certificate has its key, and both are whole.
func checkPairs(t testing.TB, fs *faultfs.FS) {
	t.Helper()
	files := fs.Files()
	for _, name := range files {
		data := fs.Get(name)
		switch path.Ext(name) {
		case ".key":
			if _, err := mtls.ParsePrivateKey(data); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case ".crt":
			certs, err := mtls.ParseCertificates(data)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			keyFile := strings.TrimSuffix(name, ".crt") + ".key"
			if path.Base(name) == "ca.crt" {
				continue
			}
			if !slices.Contains(files, keyFile) {
				t.Errorf("%s has no key", name)
				continue
			}
			key, err := mtls.ParsePrivateKey(fs.Get(keyFile))
			if err != nil {
				continue
			}
			if err := mtls.CheckPair(certs[0], key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestSetupIsCutAnywhere cuts the power before every mutation, keeps every kind of
// remains, and expects the next start to complete the work.
func TestSetupIsCutAnywhere(t *testing.T) {
	start := map[string]func() *faultfs.FS{
		"first start": faultfs.New,
		"another host": func() *faultfs.FS {
			fs := faultfs.New()
			setup(t, fs)
			return fs
		},
	}
	for name, newFS := range start {
		t.Run(name, func(t *testing.T) {
			base := newFS()
			for at := 1; ; at++ {
				fs := base.Snapshot()
				fs.PowerOffAt(at)
				_, err := ca.Setup("data", []string{"mq.example"}, ca.Options{FS: fs})
				for _, mode := range faultfs.CrashModes {
					for seed := range uint64(4) {
						after := fs.Snapshot().Crash(mode, seed)
						checkPairs(t, after)
						setup(t, after, "mq.example")
						checkFolder(t, after.Crash(faultfs.DropUnsynced, 0))
						if t.Failed() {
							t.Fatalf("power off at mutation %d, %v, seed %d", at, mode, seed)
						}
						if mode != faultfs.KeepRandom {
							break
						}
					}
				}
				if err == nil {
					t.Logf("%d mutations", at-1)
					return
				}
			}
		})
	}
}

// TestAlteredRoot: one other bit anywhere in the root is noticed. Peers do not look at its signature, so
// they would be given it as it is.
func TestAlteredRoot(t *testing.T) {
	healthy := faultfs.New()
	setup(t, healthy)
	block, _ := pem.Decode(healthy.Get("data/ca/root.crt"))
	for at := range block.Bytes {
		fs := healthy.Snapshot()
		altered := bytes.Clone(block.Bytes)
		altered[at] ^= 1 << (at % 8)
		fs.Put("data/ca/root.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: altered}))
		if _, err := ca.Setup("data", nil, ca.Options{FS: fs}); err == nil {
			t.Errorf("bit %d of byte %d is another one, and nothing is said", at%8, at)
		}
	}
}

// TestSetupFailsAnywhere lets every operation fail once, before and after it was done,
// and expects the same process to succeed when it tries again.
func TestSetupFailsAnywhere(t *testing.T) {
	for kind := faultfs.Open; kind <= faultfs.SyncDir; kind++ {
		for _, applied := range []bool{false, true} {
			if applied && (kind < faultfs.Create || kind == faultfs.Remove) {
				continue // nothing to apply: every removal here is of a file that may be missing
			}
			for nth := 1; ; nth++ {
				fs := faultfs.New()
				before := fs.Count(kind)
				fs.Fail(kind, nth, faultfs.Fault{Err: faultfs.EIO, Applied: applied})
				_, err := ca.Setup("data", nil, ca.Options{FS: fs})
				if fs.Count(kind)-before < nth {
					if err != nil {
						t.Fatal(err)
					}
					break
				}
				if err == nil {
					t.Errorf("%v %d failed (applied=%v) and nobody noticed", kind, nth, applied)
				}
				checkPairs(t, fs)
				setup(t, fs)
				checkFolder(t, fs)
				if t.Failed() {
					t.Fatalf("%v %d, applied=%v", kind, nth, applied)
				}
			}
		}
	}
}

func TestIssueFiles(t *testing.T) {
	fs := faultfs.New()
	a := setup(t, fs).Authority
	c, err := a.IssueFiles(ca.Request{Name: "alice"}, "out", false)
	if err != nil {
		t.Fatal(err)
	}
	if c.CertFile != "out/alice.crt" || c.KeyFile != "out/alice.key" || string(fs.Get(c.CertFile)) != string(c.CertPEM) {
		t.Errorf("files %s, %s", c.CertFile, c.KeyFile)
	}
	if string(fs.Get("out/ca.crt")) != string(fs.Get("data/certs/ca.crt")) {
		t.Error("out/ca.crt is not the root")
	}
	key := string(fs.Get(c.KeyFile))

	before := contents(fs)
	_, err = a.IssueFiles(ca.Request{Name: "alice"}, "out", false)
	if err == nil || !strings.Contains(hintOf(err), "--replace") {
		t.Errorf("again: %v", err)
	}
	for what, r := range map[string]ca.Request{"bad name": {Name: "a b"}, "bad days": {Name: "b", Days: -1}} {
		if _, err := a.IssueFiles(r, "out", false); err == nil {
			t.Errorf("%s: issued", what)
		}
	}
	if _, err := a.IssueFiles(ca.Request{Name: "alice", KeyType: ca.RSA}, "out", true); err == nil {
		t.Error("replaced by a certificate for a key of another type")
	}
	fs.Put("other/ca.crt", other(t))
	if _, err := a.IssueFiles(ca.Request{Name: "alice"}, "other", false); err == nil || !strings.Contains(hintOf(err), "--out") {
		t.Errorf("into the folder of another authority: %v", err)
	}
	fs.Remove("other/ca.crt")
	fs.SyncDir("other")
	if diff := cmp.Diff(before, contents(fs)); diff != "" {
		t.Errorf("refused requests changed files:\n%s", diff)
	}

	if c, err = a.IssueFiles(ca.Request{Name: "alice", Days: 10}, "out", true); err != nil {
		t.Fatal(err)
	}
	if string(fs.Get(c.CertFile)) != string(c.CertPEM) || string(fs.Get(c.KeyFile)) != key {
		t.Error("replace must change the certificate and keep the key")
	}
	if got := fs.Unsynced(); len(got) != 0 {
		t.Errorf("not durable: %q", got)
	}
}

func TestIssueFilesIsCutAnywhere(t *testing.T) {
	base := faultfs.New()
	setup(t, base)
	for at := 1; ; at++ {
		fs := base.Snapshot()
		a, err := ca.Open("data", ca.Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		fs.PowerOffAt(at)
		_, err = a.IssueFiles(ca.Request{Name: "alice"}, "", false)
		if err == nil {
			return
		}
		for _, mode := range faultfs.CrashModes {
			after := fs.Snapshot().Crash(mode, uint64(at))
			checkPairs(t, after)
			b, err := ca.Open("data", ca.Options{FS: after})
			if err != nil {
				t.Fatal(err)
			}
			done := slices.Contains(after.Files(), "/data/certs/alice.crt")
			if _, err := b.IssueFiles(ca.Request{Name: "alice"}, "", false); (err == nil) == done {
				t.Errorf("cut at %d, %v: certificate there: %v, %v", at, mode, done, err)
			}
			checkPairs(t, after)
		}
	}
}

func other(t testing.TB) []byte {
	fs := faultfs.New()
	setup(t, fs)
	return fs.Get("data/certs/ca.crt")
}

func TestKeyTypeOfTheAuthority(t *testing.T) {
	fs := faultfs.New()
	res, err := ca.Setup("data", nil, ca.Options{FS: fs, KeyType: ca.RSA})
	if err != nil {
		t.Fatal(err)
	}
	if alg := res.Authority.Root().PublicKeyAlgorithm; alg != x509.RSA {
		t.Errorf("root key is %v", alg)
	}
	if alg := leaf(t, fs, "server").PublicKeyAlgorithm; alg != x509.RSA {
		t.Errorf("server key is %v", alg)
	}
	checkFolder(t, fs)
	if ips := leaf(t, fs, "server").IPAddresses; !slices.ContainsFunc(ips, net.IPv6loopback.Equal) {
		t.Errorf("addresses %v", ips)
	}
}

// TestSetupForMoreRoles: the certificates of other roles are made once, for this machine.
func TestSetupForMoreRoles(t *testing.T) {
	dir := t.TempDir()
	o := ca.Options{Roles: []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker}}
	res, err := ca.Setup(dir, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range o.Roles {
		certs, err := mtls.ReadCertificates(res.Authority.Paths().Cert(string(role)))
		if err != nil {
			t.Fatal(err)
		}
		id, got, err := mtls.Profile(certs[0])
		if err != nil || id != string(role) || got != role || !slices.Contains(certs[0].DNSNames, "localhost") {
			t.Errorf("the certificate of %s is %s's, of the role %s, for %v (%v)", role, id, got, certs[0].DNSNames, err)
		}
	}
	again, err := ca.Setup(dir, nil, o)
	if err != nil || len(again.Made)+len(again.Renewed) > 0 {
		t.Errorf("the second time made %v, renewed %v, error %v", again.Made, again.Renewed, err)
	}
}
