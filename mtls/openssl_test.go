package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// pki is a folder in which plain openssl commands make certificates, as the
// instructions of CipherMQ's versions do.
type pki struct {
	testing.TB
	dir string
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	return &pki{t, t.TempDir()}
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pki) openssl(args ...string) string {
	p.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// leaf signs a certificate for name.key without any extension.
func (p *pki) leaf(name, subject string, extra ...string) {
	p.Helper()
	p.openssl("req", "-new", "-key", name+".key", "-out", name+".csr", "-subj", subject)
	p.openssl(append([]string{"x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
		"-out", name + ".crt", "-days", "30", "-sha256"}, extra...)...)
	p.private(name + ".key")
}

func (p *pki) private(name string) {
	p.Helper()
	if err := os.Chmod(p.path(name), 0o600); err != nil {
		p.Fatal(err)
	}
}

func (p *pki) files(name string) mtls.Files {
	return mtls.Files{Cert: p.path(name + ".crt"), Key: p.path(name + ".key"), CA: p.path("ca.crt")}
}

func (p *pki) client(name string) *tls.Config {
	p.Helper()
	cfg, err := mtls.ClientConfig(p.files(name), mtls.ClientOptions{AnyServerName: true})
	if err != nil {
		p.Fatal(err)
	}
	return cfg
}

func (p *pki) server(name string) *tls.Config {
	p.Helper()
	cfg, err := mtls.ServerConfig(p.files(name), mtls.Options{})
	if err != nil {
		p.Fatal(err)
	}
	return cfg
}

func certVersion(t testing.TB, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := mtls.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0].Version
}

// TestOpenSSLWithoutExtensions is the installation of CipherMQ 1.2: an RSA 4096
// authority, X.509 v1 leaves with RSA keys, and a client without a common name.
func TestOpenSSLWithoutExtensions(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.openssl("genrsa", "-traditional", "-out", "ca.key", "4096")
	p.openssl("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd/CN=Root")
	p.openssl("genrsa", "-traditional", "-out", "server.key", "2048") // PKCS#1
	p.leaf("server", "/CN=localhost")
	p.openssl("genrsa", "-out", "client.key", "2048") // PKCS#8
	p.leaf("client", "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd")
	p.openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", "named.key") // SEC1, with parameters before it
	p.leaf("named", "/CN=receiver_1")
	if v := certVersion(t, p.path("client.crt")); v != 1 {
		t.Logf("this openssl makes X.509 v%d, not v1", v)
	}
	server := p.server("server")

	r := connect(t, server, p.client("client"))
	if !r.accepted() {
		t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
	}
	id, err := mtls.NewIdentifier().Identify(r.server)
	fingerprint := strings.ToLower(strings.ReplaceAll(p.openssl("x509", "-in", "client.crt", "-noout", "-fingerprint", "-sha256"), ":", ""))
	_, fingerprint, _ = strings.Cut(strings.TrimSpace(fingerprint), "=")
	if err != nil || id.ID != "sha256:"+fingerprint || id.CommonName != "" {
		t.Errorf("%+v, %v, want sha256:%s", id, err, fingerprint)
	}

	r = connect(t, server, p.client("named"))
	if id, err := mtls.NewIdentifier().Identify(r.server); err != nil || id.ID != "receiver_1" || id.CommonName != "receiver_1" {
		t.Errorf("%+v, %v; server %v, client %v", id, err, r.serverErr, r.clientErr)
	}
}

// TestOpenSSLWithP384 is the installation of CipherMQ 1.3 and later.
func TestOpenSSLWithP384(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "ca.key")
	p.openssl("req", "-x509", "-new", "-key", "ca.key", "-sha384", "-out", "ca.crt", "-days", "30", "-subj", "/CN=CipherMQ-CA")
	for _, name := range []string{"server", "client"} {
		p.openssl("ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", name+".key")
	}
	if err := os.WriteFile(p.path("san.cnf"), []byte("subjectAltName=DNS:localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.leaf("server", "/CN=CipherMQ-Server", "-sha384", "-extfile", "san.cnf")
	p.leaf("client", "/CN=CipherMQ-Receiver", "-sha384")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, err := mtls.ClientConfig(p.files("client"), mtls.ClientOptions{ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		client.MaxVersion = version
		r := connect(t, p.server("server"), client)
		if id, err := mtls.NewIdentifier().Identify(r.server); err != nil || id.ID != "CipherMQ-Receiver" {
			t.Errorf("%s: %+v, %v; server %v, client %v", tls.VersionName(version), id, err, r.serverErr, r.clientErr)
		}
	}
}

// TestOpenSSLAsClient lets a foreign TLS stack connect.
func TestOpenSSLAsClient(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	p.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=Root")
	for _, name := range []string{"server", "client"} {
		p.openssl("genrsa", "-out", name+".key", "2048")
		p.leaf(name, "/CN="+name)
	}
	server := p.server("server")
	for _, tc := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"TLS 1.3", []string{"-tls1_3"}, true},
		{"TLS 1.2", []string{"-tls1_2"}, true},
		{"TLS 1.2 with ChaCha20", []string{"-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"}, true},
		{"TLS 1.2 with CBC", []string{"-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA"}, false},
		{"TLS 1.2 without forward secrecy", []string{"-tls1_2", "-cipher", "AES256-GCM-SHA384"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan error, 1)
			go func() {
				raw, err := l.Accept()
				if err != nil {
					done <- err
					return
				}
				defer raw.Close()
				raw.SetDeadline(time.Now().Add(time.Minute))
				conn := tls.Server(raw, server)
				err = conn.Handshake()
				if err == nil {
					conn.Write([]byte("hello from the server\n"))
					conn.Close()
				}
				done <- err
			}()
			cmd := exec.Command("openssl", append([]string{"s_client", "-connect", l.Addr().String(), "-quiet", "-verify_return_error",
				"-CAfile", p.path("ca.crt"), "-cert", p.path("client.crt"), "-key", p.path("client.key")}, tc.args...)...)
			out, _ := cmd.CombinedOutput()
			err = <-done
			if got := err == nil && strings.Contains(string(out), "hello from the server"); got != tc.ok {
				t.Errorf("server %v; openssl said:\n%s", err, out)
			}
		})
	}
}

// TestSameSubjectForAuthorityAndClient is what pressing Enter at every question gives.
func TestSameSubjectForAuthorityAndClient(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	const subject = "/C=AU/ST=Some-State/O=Internet Widgits Pty Ltd"
	p.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", subject)
	for _, name := range []string{"server", "client"} {
		p.openssl("genrsa", "-out", name+".key", "2048")
		p.leaf(name, subject)
	}
	r := connect(t, p.server("server"), p.client("client"))
	if !r.accepted() {
		t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
	}
	var chain []*x509.Certificate
	if len(r.server.VerifiedChains) == 1 {
		chain = r.server.VerifiedChains[0]
	}
	if len(chain) != 2 {
		t.Errorf("a chain of %d", len(chain))
	}
}

// TestDocumentedCommands pastes the commands of docs/tls-and-identity.md.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	p := newPKI(t)
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh")
	}
	page, err := os.ReadFile("../docs/tls-and-identity.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, ok := strings.Cut(string(page), "```sh\n# openssl: authority, server, client\n")
	script, _, end := strings.Cut(script, "```")
	if !ok || !end {
		t.Fatal("the page has no such block")
	}
	sh := exec.Command("sh", "-e", "-c", script)
	sh.Dir = p.dir
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	client, err := mtls.ClientConfig(p.files("client"), mtls.ClientOptions{ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	r := connect(t, p.server("server"), client)
	if id, err := mtls.NewIdentifier().Identify(r.server); err != nil || id.ID != "sender_1" {
		t.Errorf("%+v, %v; server %v, client %v", id, err, r.serverErr, r.clientErr)
	}
}
