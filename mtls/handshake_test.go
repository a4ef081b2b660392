package mtls_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what the two ends saw.
type result struct {
	server, client tls.ConnectionState
	// serverErr is the server's handshake, clientErr the client's handshake and its
	// first read, after which it knows whether it was let in.
	serverErr, clientErr error
}

func (r result) accepted() bool { return r.serverErr == nil && r.clientErr == nil }

// connect does one handshake over loopback TCP. The server sends one byte to whom it
// let in.
func connect(t testing.TB, server, client *tls.Config) result {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var r result
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			r.serverErr = err
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(time.Minute))
		conn := tls.Server(raw, server)
		r.serverErr = conn.Handshake()
		r.server = conn.ConnectionState()
		if r.serverErr == nil {
			conn.Write([]byte("x"))
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		conn.SetDeadline(time.Now().Add(time.Minute))
		r.client = conn.ConnectionState()
		var b []byte
		if b, err = io.ReadAll(conn); err == nil && string(b) != "x" {
			err = errors.New("end of stream")
		}
		conn.Close()
	}
	r.clientErr = err
	<-done
	return r
}

func serverConfig(t testing.TB, f testca.Files, o mtls.Options) *tls.Config {
	t.Helper()
	cfg, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, o)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// issueBelow signs a leaf with the key of another certificate and sends both.
func issueBelow(t testing.TB, issuer tls.Certificate, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ca.GenerateKey(ca.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Leaf, key.Public(), issuer.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: append([][]byte{der}, issuer.Certificate...), PrivateKey: key, Leaf: leaf}
}

func subCA(c *testca.CA, pathLen int) tls.Certificate {
	t := c.Template("", "")
	t.Subject = pkix.Name{CommonName: "sub"}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLen, t.MaxPathLenZero = true, true, pathLen, pathLen == 0
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageCertSign, nil
	return c.Issue(t)
}

func TestWhoIsLetIn(t *testing.T) {
	authority, stranger := testca.New(t), testca.New(t)
	server := serverConfig(t, authority.Files(), mtls.Options{})
	with := authority.ClientWith
	change := func(f func(*x509.Certificate)) tls.Certificate {
		template := authority.Template("alice", "")
		f(template)
		return authority.Issue(template)
	}
	sub := subCA(authority, 0)
	for _, tc := range []struct {
		name   string
		client *tls.Config
		want   string // identity; empty: refused
	}{
		{"client", authority.ClientTLS("alice"), "alice"},
		{"X.509 v1", authority.V1Client("alice"), "alice"},
		{"without extended key usage", with(change(func(c *x509.Certificate) { c.ExtKeyUsage = nil })), "alice"},
		{"without any extension but v3", with(change(func(c *x509.Certificate) { c.ExtKeyUsage, c.URIs, c.KeyUsage = nil, nil, 0 })), "alice"},
		{"any extended key usage", with(change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} })), "alice"},
		{"through an intermediate", with(issueBelow(t, sub, authority.Template("alice", ""))), "alice"},

		{"no certificate", authority.WithoutCertificate(), ""},
		{"expired", authority.ExpiredClient("alice"), ""},
		{"from the future", authority.FutureClient("alice"), ""},
		{"of another authority", with(stranger.Leaf("alice", "")), ""},
		{"X.509 v1 of another authority", with(stranger.IssueV1(pkix.Name{CommonName: "alice"})), ""},
		{"for servers only", with(change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), ""},
		{"for code signing", with(change(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })), ""},
		{"issued by a client", with(issueBelow(t, authority.Leaf("bob", ""), authority.Template("alice", ""))), ""},
		{"issued by an X.509 v1 client", with(issueBelow(t, authority.IssueV1(pkix.Name{CommonName: "bob"}), authority.Template("alice", ""))), ""},
		{"below an authority that may have none", with(issueBelow(t, subOf(t, sub), authority.Template("alice", ""))), ""},
		{"self-signed with the root's name", with(impostor(t, authority)), ""},
		{"signed by a root with the same name", with(sameNameRoot(t, authority)), ""},
		{"unknown critical extension", with(change(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		})), ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tc.name+"/"+tls.VersionName(version), func(t *testing.T) {
				client := tc.client.Clone()
				client.MaxVersion = version
				r := connect(t, server, client)
				if tc.want == "" {
					if r.serverErr == nil || r.clientErr == nil {
						t.Fatalf("let in; server %v, client %v", r.serverErr, r.clientErr)
					}
					return
				}
				if !r.accepted() {
					t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
				}
				if id, err := mtls.NewIdentifier().Identify(r.server); err != nil || id.ID != tc.want {
					t.Errorf("identity %+v, %v", id, err)
				}
			})
		}
	}
}

// subOf is an authority below one that must not have any.
func subOf(t testing.TB, parent tls.Certificate) tls.Certificate {
	return issueBelow(t, parent, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "subsub"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

func impostor(t testing.TB, c *testca.CA) tls.Certificate {
	template := c.Template("", "")
	template.Subject = c.Root().Subject
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	key, err := ca.GenerateKey(ca.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func sameNameRoot(t testing.TB, c *testca.CA) tls.Certificate {
	return issueBelow(t, impostor(t, c), c.Template("alice", ""))
}

func TestBuiltInAuthority(t *testing.T) {
	dir := t.TempDir()
	res, err := ca.Setup(dir, nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := res.Authority.IssueFiles(ca.Request{Name: "old", KeyType: ca.RSA}, "", false); err != nil {
		t.Fatal(err)
	}
	p := ca.In(dir)
	server, err := mtls.ServerConfig(mtls.Files{Cert: p.Cert(ca.ServerName), Key: p.Key(ca.ServerName), CA: p.CA}, mtls.Options{})
	if err != nil {
		t.Fatal(err)
	}
	identifier := mtls.NewIdentifier(res.Authority.Root())
	for name, role := range map[string]sealmq.Role{ca.AdminName: sealmq.RoleAdmin, "old": sealmq.RoleClient, ca.ServerName: sealmq.RoleServer} {
		for _, host := range []string{"localhost", "127.0.0.1", ""} {
			client, err := mtls.ClientConfig(mtls.Files{Cert: p.Cert(name), Key: p.Key(name), CA: p.CA}, mtls.ClientOptions{ServerName: host})
			if err != nil {
				t.Fatal(err)
			}
			r := connect(t, server, client)
			if !r.accepted() {
				t.Fatalf("%s: server %v, client %v", name, r.serverErr, r.clientErr)
			}
			id, err := identifier.Identify(r.server)
			if err != nil || id.ID != name || id.Role != role || id.CommonName != name {
				t.Errorf("%+v, %v", id, err)
			}
			if r.server.Version != tls.VersionTLS13 || r.server.CurveID != tls.X25519MLKEM768 {
				t.Errorf("version %s with %v", tls.VersionName(r.server.Version), r.server.CurveID)
			}
		}
	}
	// What a second installation issues, administrators included, is worth nothing here.
	other, err := ca.Setup("data", nil, ca.Options{FS: faultfs.New()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := other.Authority.Issue(ca.Request{Name: "admin", Role: sealmq.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(res.Authority.Root())
	if r := connect(t, server, &tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{pair}}); r.serverErr == nil {
		t.Error("an administrator of another installation was let in")
	}
}

func TestVersionsAndSuites(t *testing.T) {
	authority := testca.New(t)
	server := serverConfig(t, authority.Files(), mtls.Options{})
	strict := serverConfig(t, authority.Files(), mtls.Options{MinVersion: tls.VersionTLS13})
	only := func(version uint16, suites ...uint16) *tls.Config {
		c := authority.ClientTLS("alice")
		c.MinVersion, c.MaxVersion, c.CipherSuites = version, version, suites
		return c
	}
	for _, id := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		if r := connect(t, server, only(tls.VersionTLS12, id)); !r.accepted() || r.server.CipherSuite != id {
			t.Errorf("%s: server %v, client %v", tls.CipherSuiteName(id), r.serverErr, r.clientErr)
		}
	}
	for _, id := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
	} {
		if r := connect(t, server, only(tls.VersionTLS12, id)); r.serverErr == nil {
			t.Errorf("%s was accepted", tls.CipherSuiteName(id))
		}
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if r := connect(t, server, only(version)); r.serverErr == nil {
			t.Errorf("%s was accepted", tls.VersionName(version))
		}
	}
	if r := connect(t, strict, only(tls.VersionTLS12)); r.serverErr == nil {
		t.Error("TLS 1.2 was accepted although 1.3 is the minimum")
	}
	if r := connect(t, strict, only(tls.VersionTLS13)); !r.accepted() {
		t.Errorf("TLS 1.3: server %v, client %v", r.serverErr, r.clientErr)
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, 1} {
		f := authority.Files()
		if _, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{MinVersion: version}); err == nil {
			t.Errorf("minimum version %#x was taken", version)
		}
	}
}

// revoked is a Revocation that a test changes.
type revoked struct {
	mu      sync.Mutex
	serials map[string]bool
	asked   int
}

func (r *revoked) Check(chain []*x509.Certificate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	for _, c := range chain[:len(chain)-1] {
		if r.serials[mtls.Serial(c)] {
			return mtls.ErrRevoked
		}
	}
	return nil
}

func (r *revoked) add(c *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serials[mtls.Serial(c)] = true
}

func TestRevocationAlsoActsOnReturningClients(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			authority := testca.New(t)
			list := &revoked{serials: make(map[string]bool)}
			server := serverConfig(t, authority.Files(), mtls.Options{Revocation: list})
			client := authority.ClientTLS("alice")
			client.MaxVersion = version
			client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			for i := range 3 {
				r := connect(t, server, client)
				if !r.accepted() {
					t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
				}
				if r.server.DidResume || r.client.DidResume {
					t.Error("a session was resumed")
				}
				if list.asked != i+1 {
					t.Errorf("asked %d times in %d handshakes", list.asked, i+1)
				}
			}
			list.add(authority.Leaf("alice", sealmq.RoleClient).Leaf)
			r := connect(t, server, client)
			if !errors.Is(r.serverErr, mtls.ErrRevoked) || r.clientErr == nil {
				t.Errorf("a revoked client with a session: server %v, client %v", r.serverErr, r.clientErr)
			}
			if r := connect(t, server, authority.ClientTLS("bob")); !r.accepted() {
				t.Errorf("bob: server %v, client %v", r.serverErr, r.clientErr)
			}
		})
	}
}

// TestRevocationRunsOnResumedSessions shows that the check does not depend on tickets
// being off.
func TestRevocationRunsOnResumedSessions(t *testing.T) {
	authority := testca.New(t)
	list := &revoked{serials: make(map[string]bool)}
	base := serverConfig(t, authority.Files(), mtls.Options{Revocation: list})
	inner, err := base.GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	server := inner.Clone()
	server.SessionTicketsDisabled = false
	client := authority.ClientTLS("alice")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	connect(t, server, client)
	if r := connect(t, server, client); !r.server.DidResume {
		t.Fatal("the test needs a resumed session")
	}
	list.add(authority.Leaf("alice", sealmq.RoleClient).Leaf)
	if r := connect(t, server, client); !errors.Is(r.serverErr, mtls.ErrRevoked) {
		t.Errorf("server %v", r.serverErr)
	}
}

func TestRevokedIntermediate(t *testing.T) {
	authority := testca.New(t)
	list := &revoked{serials: make(map[string]bool)}
	server := serverConfig(t, authority.Files(), mtls.Options{Revocation: list})
	sub := subCA(authority, 0)
	client := authority.ClientWith(issueBelow(t, sub, authority.Template("alice", "")))
	if r := connect(t, server, client); !r.accepted() {
		t.Fatalf("server %v, client %v", r.serverErr, r.clientErr)
	}
	list.add(sub.Leaf)
	if r := connect(t, server, client); !errors.Is(r.serverErr, mtls.ErrRevoked) {
		t.Errorf("server %v", r.serverErr)
	}
}

// TestEveryConfigurationIsStrict looks at the fields, because a listener may use the
// outer configuration or the one for the client.
func TestEveryConfigurationIsStrict(t *testing.T) {
	base := serverConfig(t, testca.New(t).Files(), mtls.Options{})
	inner, err := base.GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{"outer": base, "inner": inner} {
		if c.ClientAuth != tls.RequireAndVerifyClientCert || c.ClientCAs == nil || c.VerifyConnection == nil ||
			c.MinVersion < tls.VersionTLS12 || c.InsecureSkipVerify || !c.SessionTicketsDisabled || !c.DynamicRecordSizingDisabled ||
			c.CurvePreferences != nil || len(c.NextProtos) > 0 {
			t.Errorf("%s: %+v", name, c)
		}
		if err := c.VerifyConnection(tls.ConnectionState{}); err == nil {
			t.Errorf("%s: a connection without a verified chain passes", name)
		}
	}
}
