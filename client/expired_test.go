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

// short makes a certificate that ends soon.
func short(ca *testca.CA, cn string, role sealmq.Role) tls.Certificate {
	template := ca.Template(cn, role)
	template.NotAfter = time.Now().Add(2 * time.Second).Truncate(time.Second)
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
	testca.WriteLeaf(t, dir, "alice", short(n.CA, "alice", ""))
	id, err := client.LoadIdentity(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	log := &history{t: t}
	c := n.Dial(client.Config{TLS: id.TLS, Name: id.Name, Log: slog.New(slog.NewTextHandler(log, nil))})
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
	if testing.Short() {
		t.Skip("it waits for a certificate to expire")
	}
	t.Parallel()
	ca := testca.New(t)
	template := ca.Template("server", sealmq.RoleServer)
	template.DNSNames = []string{"localhost"}
	template.NotAfter = time.Now().Add(2 * time.Second).Truncate(time.Second)
	var current atomic.Pointer[tls.Certificate]
	expiring, renewed := ca.Issue(template), ca.ServerLeaf()
	current.Store(&expiring)
	n := testnode.Start(t, testnode.Config{CA: ca, Listener: func(cfg *listener.Config) {
		cfg.TLS.Certificates = nil
		cfg.TLS.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil }
	}})
	log := &history{t: t}
	c := n.Dial(client.Config{TLS: ca.ClientTLS("alice"), Log: slog.New(slog.NewTextHandler(log, nil))})
	n.Stop()
	<-time.After(time.Until(template.NotAfter))
	n.Start()
	log.until(`msg="cannot connect to broker"`, "certificate has expired")
	current.Store(&renewed)
	log.until(`msg="connection to broker restored"`)
	if _, err := c.Whoami(t.Context()); err != nil {
		t.Error(err)
	}
}
