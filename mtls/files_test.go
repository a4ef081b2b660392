package mtls_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func TestUnusableFiles(t *testing.T) {
	authority := testca.New(t)
	pemOf := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	for _, tc := range []struct {
		name, file string // which file is replaced
		data       []byte
		say        string
	}{
		{"missing certificate", "server.crt", nil, "server.crt"},
		{"missing key", "server.key", nil, "server.key"},
		{"missing CA", "ca.crt", nil, "ca.crt"},
		{"empty CA", "ca.crt", []byte{}, "no PEM block"},
		{"text as certificate", "server.crt", []byte("hello"), "server.crt"},
		{"broken certificate", "server.crt", pemOf("CERTIFICATE", []byte{0x30, 0}), "certificate 1"},
		{"key in place of the certificate", "server.crt", pemOf("PRIVATE KEY", []byte{1}), "no PEM block"},
		{"certificate in place of the key", "server.key", authority.RootPEM(), "no PEM block with a private key"},
		{"broken key", "server.key", pemOf("EC PRIVATE KEY", []byte("secret")), "malformed"},
		{"key with a passphrase", "server.key", pemOf("ENCRYPTED PRIVATE KEY", []byte{1}), "passphrase"},
		{"another key", "server.key", keyPEM(t), "does not belong"},
		{"CA file with a client's certificate", "ca.crt", pemOf("CERTIFICATE", authority.Leaf("bob", "").Leaf.Raw), "not the certificate of an authority"},
		{"CA file with a root and a client", "ca.crt", append(authority.RootPEM(), pemOf("CERTIFICATE", authority.Leaf("bob", "").Leaf.Raw)...), "not the certificate of an authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := authority.Files()
			path := filepath.Join(f.Dir, tc.file)
			if tc.data == nil {
				os.Remove(path)
			} else {
				testca.WriteFile(t, path, tc.data)
			}
			_, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{})
			if err == nil || !strings.Contains(err.Error(), tc.say) || !strings.Contains(err.Error(), tc.file) {
				t.Errorf("%v, want something with %q and %q", err, tc.say, tc.file)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%q shows key material", err)
			}
		})
	}
	for name, f := range map[string]mtls.Files{"nothing": {}, "no CA": {Cert: "a", Key: "b"}, "no key": {Cert: "a", CA: "b"}} {
		if _, err := mtls.ServerConfig(f, mtls.Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func keyPEM(t testing.TB) []byte {
	t.Helper()
	key, err := ca.GenerateKey(ca.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	data, err := mtls.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKeyOpenToOthers(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are inherited from the folder here")
	}
	f := testca.New(t).Files()
	if err := os.Chmod(f.ServerKey, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{})
	var private *durable.PrivateError
	if !errors.As(err, &private) || !strings.Contains(private.Hint(), "chmod 600") {
		t.Errorf("%v", err)
	}
}

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count returns how many lines have a level and a text.
func (l *lines) count(level, text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, "level="+level) && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func TestReload(t *testing.T) {
	first, second := testca.New(t), testca.New(t)
	f := first.Files()
	now, log := fakeclock.New(time.Now()), new(lines)
	server := serverConfig(t, f, mtls.Options{Clock: now, Log: slog.New(slog.NewTextHandler(log, nil))})
	check := func(what string, in, out *testca.CA) {
		t.Helper()
		if r := connect(t, server, in.ClientTLS("alice")); !r.accepted() {
			t.Errorf("%s: server %v, client %v", what, r.serverErr, r.clientErr)
		}
		if r := connect(t, server, out.ClientTLS("alice")); r.serverErr == nil && r.clientErr == nil {
			t.Errorf("%s: a client of the other authority was let in", what)
		}
	}
	check("at the start", first, second)

	// The certificate comes first, its key a moment later: the pair never fits between.
	testca.WriteLeaf(t, f.Dir, "next", second.ServerLeaf())
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(f.Dir, from), to); err != nil {
			t.Fatal(err)
		}
	}
	testca.WriteFile(t, f.CA, second.RootPEM())
	move("next.crt", f.ServerCert)
	check("within the interval", first, second)
	for range 3 {
		now.Advance(time.Second)
		check("half of a pair", first, second)
	}
	if n := log.count("ERROR", "does not belong"); n != 1 {
		t.Errorf("the log complained %d times", n)
	}
	move("next.key", f.ServerKey)
	now.Advance(time.Second)
	check("new files", second, first)

	for what, damage := range map[string]func(){
		"CA file cut off":   func() { testca.WriteFile(t, f.CA, second.RootPEM()[:100]) },
		"CA file gone":      func() { os.Remove(f.CA) },
		"key open to all":   func() { os.Chmod(f.ServerKey, 0o666) },
		"empty certificate": func() { testca.WriteFile(t, f.ServerCert, nil) },
	} {
		if what == "key open to all" && runtime.GOOS == "windows" {
			continue
		}
		damage()
		now.Advance(time.Second)
		check(what, second, first)
		testca.WriteFile(t, f.CA, second.RootPEM())
		testca.WriteLeaf(t, f.Dir, "server", second.ServerLeaf())
		os.Chmod(f.ServerKey, 0o600)
		now.Advance(time.Second)
		check("repaired", second, first)
	}

	// The content decides: a file may keep its size and its time.
	padded := func(data []byte) []byte { return append(data, strings.Repeat("\n", 2000-len(data))...) }
	testca.WriteFile(t, f.CA, padded(second.RootPEM()))
	now.Advance(time.Second)
	check("padded", second, first)
	info, err := os.Stat(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	testca.WriteFile(t, f.CA, padded(first.RootPEM()))
	testca.WriteLeaf(t, f.Dir, "server", first.ServerLeaf())
	if err := os.Chtimes(f.CA, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	now.Advance(time.Second)
	check("same time and size", first, second)
	testca.WriteFile(t, f.CA, second.RootPEM())
	testca.WriteLeaf(t, f.Dir, "server", second.ServerLeaf())
	now.Advance(time.Second)
	check("back again", second, first)
	testca.WriteFile(t, f.CA, append(first.RootPEM(), '\n'))
	testca.WriteLeaf(t, f.Dir, "server", first.ServerLeaf())
	now.Advance(time.Second)
	check("a line more", first, second)
}

func TestClientReloadsItsCertificate(t *testing.T) {
	authority := testca.New(t)
	f := authority.Files()
	now := fakeclock.New(time.Now())
	client, err := mtls.ClientConfig(mtls.Files{Cert: f.AdminCert, Key: f.AdminKey, CA: f.CA},
		mtls.ClientOptions{ServerName: "localhost", Options: mtls.Options{Clock: now}})
	if err != nil {
		t.Fatal(err)
	}
	testca.WriteLeaf(t, f.Dir, "admin", authority.Leaf("renewed", ""))
	for _, want := range []string{"admin", "renewed"} {
		r := connect(t, authority.ServerTLS(), client)
		if !r.accepted() {
			t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
		}
		if id, err := mtls.NewIdentifier().Identify(r.server); err != nil || id.ID != want {
			t.Errorf("%+v, %v, want %s", id, err, want)
		}
		now.Advance(2 * time.Second)
	}
}

func TestConcurrentReload(t *testing.T) {
	authority := testca.New(t)
	f := authority.Files()
	server := serverConfig(t, f, mtls.Options{ReloadEvery: time.Nanosecond})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if c, err := server.GetConfigForClient(nil); err != nil || len(c.Certificates) != 1 {
					t.Errorf("%v", err)
				}
			}
		})
	}
	for i := range 20 {
		data := append(authority.RootPEM(), strings.Repeat("\n", i%3)...)
		if err := durable.WriteFile(durable.OS(), f.CA, data, 0o600); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if r := connect(t, server, authority.ClientTLS("alice")); !r.accepted() {
		t.Errorf("server %v, client %v", r.serverErr, r.clientErr)
	}
}

func TestWarnings(t *testing.T) {
	authority := testca.New(t)
	for _, tc := range []struct {
		name, level, say string
		change           func(*x509.Certificate)
	}{
		{"no host", "WARN", "names no host", func(c *x509.Certificate) { c.DNSNames = nil }},
		{"ends soon", "WARN", "expires soon", func(*x509.Certificate) {}},
		{"has ended", "ERROR", "has expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
	} {
		template := authority.Template("server", "")
		template.DNSNames = []string{"localhost"}
		tc.change(template)
		f := authority.Files()
		testca.WriteLeaf(t, f.Dir, "server", authority.Issue(template))
		log := new(lines)
		serverConfig(t, f, mtls.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
		if log.count(tc.level, tc.say) != 1 {
			t.Errorf("%s: log %q", tc.name, log.b.String())
		}
	}
}

// TestEncode reads back what is written as PEM.
func TestEncode(t *testing.T) {
	authority := testca.New(t)
	leaf := authority.Leaf("alice", "").Leaf
	certs, err := mtls.ParseCertificates(mtls.EncodeCertificates(leaf, authority.Root()))
	if err != nil || len(certs) != 2 || !certs[0].Equal(leaf) || !certs[1].Equal(authority.Root()) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	data, err := mtls.EncodeKey(authority.Key())
	if err != nil {
		t.Fatal(err)
	}
	if key, err := mtls.ParsePrivateKey(data); err != nil || !authority.Key().Equal(key) {
		t.Errorf("another key, or %v", err)
	}
	if !mtls.Pool(authority.Root()).Equal(authority.Pool()) || !mtls.Pool().Equal(x509.NewCertPool()) {
		t.Error("a pool of other certificates")
	}
}
