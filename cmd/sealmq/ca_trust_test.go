package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func newRoot(t *testing.T) (root *x509.Certificate, file string) {
	t.Helper()
	r, err := ca.Setup(filepath.Join(t.TempDir(), "data"), nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Authority.Root(), r.Authority.Paths().Root
}

// TestTrustSteps: what is done on each system.
func TestTrustSteps(t *testing.T) {
	root, _ := newRoot(t)
	short := mtls.Fingerprint(root)[:16]
	for _, c := range []struct{ goos, folder, trust, untrust string }{
		{"linux", "/usr/local/share/ca-certificates", "write /usr/local/share/ca-certificates/sealmq-ID.crt\nrun update-ca-certificates",
			"remove /usr/local/share/ca-certificates/sealmq-ID.crt\nrun update-ca-certificates --fresh"},
		{"linux", "/etc/pki/ca-trust/source/anchors", "write /etc/pki/ca-trust/source/anchors/sealmq-ID.crt\nrun update-ca-trust",
			"remove /etc/pki/ca-trust/source/anchors/sealmq-ID.crt\nrun update-ca-trust"},
		{"darwin", "", "run security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain '/my folder/ca.crt'",
			"run security remove-trusted-cert -d '/my folder/ca.crt'\nrun security delete-certificate -Z DIGEST /Library/Keychains/System.keychain"},
		{"windows", "", "run certutil -addstore -f Root '/my folder/ca.crt'", "run certutil -delstore Root DIGEST"},
	} {
		store, err := storeOf(c.goos, func(dir string) bool { return dir == c.folder })
		if err != nil {
			t.Fatal(err)
		}
		for _, remove := range []bool{false, true} {
			change := trustChange{store: store, cert: root, source: "/my folder/ca.crt", remove: remove}
			want := c.trust
			if remove {
				want = c.untrust
			}
			var got []string
			for _, line := range change.steps() {
				line = strings.ReplaceAll(filepath.ToSlash(line), short, "ID")
				if _, after, ok := strings.Cut(line, "-Z "); ok {
					line = strings.Replace(line, after[:40], "DIGEST", 1)
				} else if _, after, ok := strings.Cut(line, "-delstore Root "); ok {
					line = strings.Replace(line, after, "DIGEST", 1)
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("%s, remove %v: %s", c.goos, remove, diff)
			}
		}
	}
	if _, err := storeOf("linux", func(string) bool { return false }); err == nil || hintFor(err) == "" {
		t.Errorf("an unknown system: %v", err)
	}
}

// TestTrustRefuses: only a root of SealMQ gets into the store.
func TestTrustRefuses(t *testing.T) {
	root, _ := newRoot(t)
	other := testca.New(t).Root()
	leaf := testca.New(t).Issue(testca.New(t).Template("alice", "client")).Leaf
	now := time.Now()
	for _, c := range []struct {
		what  string
		certs []*x509.Certificate
		own   *x509.Certificate
		now   time.Time
		says  string
	}{
		{"a root", []*x509.Certificate{root}, nil, now, ""},
		{"another authority", []*x509.Certificate{other}, root, now, "not an authority of SealMQ"},
		{"another authority, which is this data folder's", []*x509.Certificate{other}, other, now, ""},
		{"a chain", []*x509.Certificate{root, other}, nil, now, "2 certificates"},
		{"a client", []*x509.Certificate{leaf}, nil, now, "no certificate of an authority"},
		{"an expired root", []*x509.Certificate{root}, nil, root.NotAfter.Add(time.Hour), "expired on"},
	} {
		err := checkRoot(c.certs, c.own, c.now)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestTrustOnThisSystem puts a root into a store of Debian's tool in a folder of its own, and
// takes it out.
func TestTrustOnThisSystem(t *testing.T) {
	tool, err := exec.LookPath("update-ca-certificates")
	if err != nil || testing.Short() {
		t.Skip("update-ca-certificates is not installed, or tests are to be short")
	}
	root, file := newRoot(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"local", "etc", "hooks"} {
		if err := os.Mkdir(in(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("conf"), []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, _ := newRoot(t) // which somebody has put there
	if err := os.WriteFile(in("local/other.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	command := []string{tool, "--localcertsdir", in("local"), "--etccertsdir", in("etc"), "--hooksdir", in("hooks"), "--certsconf", in("conf")}
	change := trustChange{store: systemStore{"a try", in("local"), [][]string{command}, [][]string{append(command, "--fresh")}}, cert: root, source: file}
	for range 2 { // it can be repeated
		if err := change.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	bundle := in("etc/ca-certificates.crt")
	believes := func(c *x509.Certificate) bool {
		certs, err := mtls.ReadCertificates(bundle)
		return err == nil && slices.ContainsFunc(certs, c.Equal)
	}
	if !believes(root) || !believes(other) {
		t.Fatal("an authority is missing in the store")
	}
	change.remove = true
	if err := change.apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if believes(root) || !believes(other) {
		t.Error("the root is still in the store, or another has gone")
	}
	if err := change.apply(t.Context()); err == nil {
		t.Error("it was removed twice")
	}
}
