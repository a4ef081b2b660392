package mtls_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func TestClientChecksTheServer(t *testing.T) {
	authority, stranger := testca.New(t), testca.New(t)
	f := authority.Files()
	serve := func(cert tls.Certificate) *tls.Config {
		s := authority.ServerTLS()
		s.Certificates = []tls.Certificate{cert}
		return s
	}
	change := func(fn func(*x509.Certificate)) tls.Certificate {
		template := authority.Template("x", "")
		template.DNSNames = []string{"localhost"}
		fn(template)
		return authority.Issue(template)
	}
	nameless := change(func(c *x509.Certificate) { c.DNSNames = nil })
	for _, tc := range []struct {
		name   string
		server tls.Certificate
		o      mtls.ClientOptions
		ok     bool
	}{
		{"right name", authority.ServerLeaf(), mtls.ClientOptions{ServerName: "localhost"}, true},
		{"address", authority.ServerLeaf(), mtls.ClientOptions{ServerName: "127.0.0.1"}, true},
		{"name of the dialed address", authority.ServerLeaf(), mtls.ClientOptions{}, true},
		{"wrong name", authority.ServerLeaf(), mtls.ClientOptions{ServerName: "mq.example"}, false},
		{"no name", nameless, mtls.ClientOptions{ServerName: "localhost"}, false},
		{"other authority", stranger.ServerLeaf(), mtls.ClientOptions{ServerName: "localhost"}, false},
		{"client certificate", change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), mtls.ClientOptions{ServerName: "localhost"}, false},

		{"any name: no name", nameless, mtls.ClientOptions{AnyServerName: true}, true},
		{"any name: X.509 v1", authority.IssueV1(nameless.Leaf.Subject), mtls.ClientOptions{AnyServerName: true}, true},
		{"any name: through an intermediate", issueBelow(t, subCA(authority, 0), authority.Template("x", "")), mtls.ClientOptions{AnyServerName: true}, true},
		{"any name: other authority", stranger.ServerLeaf(), mtls.ClientOptions{AnyServerName: true}, false},
		{"any name: expired", change(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), mtls.ClientOptions{AnyServerName: true}, false},
		{"any name: client certificate", change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), mtls.ClientOptions{AnyServerName: true}, false},
		{"any name: issued by a client", issueBelow(t, authority.Leaf("bob", ""), authority.Template("x", "")), mtls.ClientOptions{AnyServerName: true}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client, err := mtls.ClientConfig(mtls.Files{Cert: f.AdminCert, Key: f.AdminKey, CA: f.CA}, tc.o)
			if err != nil {
				t.Fatal(err)
			}
			if r := connect(t, serve(tc.server), client); r.accepted() != tc.ok {
				t.Errorf("server %v, client %v", r.serverErr, r.clientErr)
			}
		})
	}
}

func TestClientChecksRevocationOfTheServer(t *testing.T) {
	authority := testca.New(t)
	f := authority.Files()
	list := &revoked{serials: make(map[string]bool)}
	list.add(authority.ServerLeaf().Leaf)
	for _, any := range []bool{false, true} {
		client, err := mtls.ClientConfig(mtls.Files{Cert: f.AdminCert, Key: f.AdminKey, CA: f.CA},
			mtls.ClientOptions{ServerName: "localhost", AnyServerName: any, Options: mtls.Options{Revocation: list}})
		if err != nil {
			t.Fatal(err)
		}
		if r := connect(t, authority.ServerTLS(), client); r.clientErr == nil || !strings.Contains(r.clientErr.Error(), "revoked") {
			t.Errorf("any name %v: client %v", any, r.clientErr)
		}
	}
}

func TestClientWithoutCertificate(t *testing.T) {
	authority := testca.New(t)
	f := authority.Files()
	client, err := mtls.ClientConfig(mtls.Files{CA: f.CA}, mtls.ClientOptions{ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	if r := connect(t, authority.ServerTLS(), client); r.serverErr == nil {
		t.Error("let in")
	}
	for what, files := range map[string]mtls.Files{
		"no CA":    {Cert: f.AdminCert, Key: f.AdminKey},
		"only key": {Key: f.AdminKey, CA: f.CA},
	} {
		if _, err := mtls.ClientConfig(files, mtls.ClientOptions{}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// TestClientForgetsAuthorities: a client that runs believes no authority that was taken out of its
// CA file, also if the file keeps its time and size.
func TestClientForgetsAuthorities(t *testing.T) {
	ours, theirs := testca.New(t), testca.New(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	past := time.Now().Add(-time.Hour)
	write := func(cas ...*testca.CA) {
		var text []byte
		for _, c := range cas {
			text = append(text, c.RootPEM()...)
		}
		testca.WriteFile(t, file, append(text, bytes.Repeat([]byte("\n"), 4096-len(text))...))
		if err := os.Chtimes(file, past, past); err != nil {
			t.Fatal(err)
		}
	}
	f := ours.Files()
	server := theirs.ServerTLS()
	server.ClientCAs = ours.Pool()
	for _, any := range []bool{false, true} {
		write(ours, theirs)
		client, err := mtls.ClientConfig(mtls.Files{Cert: f.AdminCert, Key: f.AdminKey, CA: file},
			mtls.ClientOptions{ServerName: "localhost", AnyServerName: any, Options: mtls.Options{ReloadEvery: time.Nanosecond}})
		if err != nil {
			t.Fatal(err)
		}
		if r := connect(t, server, client); !r.accepted() {
			t.Fatalf("any name %v: server %v, client %v", any, r.serverErr, r.clientErr)
		}
		write(ours)
		if r := connect(t, server, client); r.clientErr == nil {
			t.Errorf("any name %v: a server of the authority that was taken out is believed", any)
		}
	}
}
