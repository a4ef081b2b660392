package client_test

import (
	"crypto/tls"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/listener"
)

// history is a log whose lines a test waits for.
type history struct {
	t    *testing.T
	mu   sync.Mutex
	text strings.Builder
}

func (l *history) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *history) until(want ...string) {
	l.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		l.mu.Lock()
		got := l.text.String()
		l.mu.Unlock()
		found := true
		for _, w := range want {
			found = found && strings.Contains(got, w)
		}
		if found {
			return
		}
		if l.t.Context().Err() != nil {
			l.t.Fatal(got)
		}
	}
}

// short makes a client's certificate that ends soon.
func short(ca *testca.CA, cn string, life time.Duration) tls.Certificate {
	template := ca.Template(cn, "")
	template.NotAfter = time.Now().Add(life).Truncate(time.Second)
	return ca.Issue(template)
}

// TestOwnCertificateExpires: a connected client says that its certificate has expired, and goes on
// with a renewed one.
func TestOwnCertificateExpires(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a certificate to expire")
	}
	t.Parallel()
	n := testnode.Start(t, testnode.Config{})
	dir := t.TempDir()
	testca.WriteFile(t, filepath.Join(dir, "ca.crt"), n.CA.RootPEM())
	log := &history{t: t}
	var c *client.Client
	for life := 2 * time.Second; c == nil; life *= 2 { // it may end before a slow machine has connected
		testca.WriteLeaf(t, dir, "alice", short(n.CA, "alice", life))
		id, err := client.LoadIdentity(dir, "alice")
		if err != nil {
			t.Fatal(err)
		}
		c, err = client.Dial(t.Context(), n.Config(client.Config{TLS: id.TLS, Name: id.Name, Log: slog.New(slog.NewTextHandler(log, nil))}))
		if err != nil && life > time.Minute {
			t.Fatal(err)
		}
	}
	defer c.Close()
	log.until(`msg="connection to broker lost"`, "the client's certificate expired on 20", `msg="cannot connect to broker"`, "tls: expired certificate")
	testca.WriteLeaf(t, dir, "alice", n.CA.Leaf("alice", ""))
	log.until(`msg="connection to broker restored"`)
	if _, err := c.Whoami(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBrokersCertificateExpires: a client that has lost its connection says that the broker's
// certificate has expired, and goes on once it is renewed.
func TestBrokersCertificateExpires(t *testing.T) {
	t.Parallel()
	ca := testca.New(t)
	template := ca.Template("server", sealmq.RoleServer)
	template.DNSNames = []string{"localhost"}
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	var current atomic.Pointer[tls.Certificate]
	expired, renewed := ca.Issue(template), ca.ServerLeaf()
	current.Store(&renewed)
	n := testnode.Start(t, testnode.Config{CA: ca, Listener: func(cfg *listener.Config) {
		cfg.TLS.Certificates = nil
		cfg.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }
	}})
	log := &history{t: t}
	c := n.Dial(client.Config{TLS: ca.ClientTLS("alice"), Log: slog.New(slog.NewTextHandler(log, nil))})
	n.Stop()
	current.Store(&expired)
	n.Start()
	log.until(`msg="cannot connect to broker"`, "certificate has expired")
	current.Store(&renewed)
	log.until(`msg="connection to broker restored"`)
	if _, err := c.Whoami(t.Context()); err != nil {
		t.Error(err)
	}
}
