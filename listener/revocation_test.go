package listener_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// revocable runs a server with the product's own configuration and a list of revoked
// certificates that is watched. Unlike the product, it lets sessions be resumed.
func revocable(t *testing.T, log *syncBuffer) (n *node, list string) {
	t.Helper()
	ca := testca.New(t)
	f := ca.Files()
	list = filepath.Join(f.Dir, "revoked.txt")
	revoked, err := trust.OpenRevocations(trust.ListConfig{Files: []trust.ListFile{{Path: list, MayBeMissing: true}}})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{Revocation: revoked})
	if err != nil {
		t.Fatal(err)
	}
	if conf, err = conf.GetConfigForClient(nil); err != nil {
		t.Fatal(err)
	}
	conf = conf.Clone()
	conf.SessionTicketsDisabled = false
	identifier := mtls.NewIdentifier(ca.Root())
	identifier.Revocation = revoked
	n = start(t, ca, func(c *listener.Config) {
		c.TLS, c.Identify = conf, identifier.Identify
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { revoked.Watch(ctx, n.server.Recheck) })
	t.Cleanup(func() { stop(); watching.Wait() })
	return n, list
}

// TestRevocationEndsEverything: the open connection, a new one and a resumed one. Nobody
// else notices.
func TestRevocationEndsEverything(t *testing.T) {
	var log syncBuffer
	n, list := revocable(t, &log)
	alice := n.ca.ClientTLS("alice")
	alice.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	resume := func() (*peer, error) {
		p, err := n.dial(alice)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = p.tcp.Close() })
		if _, err = p.Write([]byte("whoami\n")); err == nil {
			_, err = p.line(patience)
		}
		return p, err
	}
	first, err := resume()
	if err != nil {
		t.Fatal(err)
	}
	second, err := resume()
	if err != nil {
		t.Fatal(err)
	}
	if !second.ConnectionState().DidResume {
		t.Fatal("the test needs a resumed session")
	}
	bob := n.connect("bob")
	bob.ask("whoami")

	leaf := n.ca.Leaf("alice", sealmq.RoleClient).Leaf
	testca.WriteFile(t, list, []byte("# lost on a train\nserial "+mtls.Serial(leaf)+" issuer "+mtls.Issuer(n.ca.Root())+"\n"))
	first.wantEnd()
	second.wantEnd()
	if err := n.waitForCount(1); err != nil {
		t.Fatal(err)
	}
	if _, err := resume(); err == nil {
		t.Error("a resumed session was let in")
	}
	alice.ClientSessionCache = nil
	if _, err := resume(); err == nil {
		t.Error("a new connection was let in")
	}
	bob.ask("whoami")
	n.connect("bob").ask("whoami")
	if err := eventually(func() bool {
		return strings.Count(log.String(), "reason=revoked") == 4
	}); err != nil {
		t.Errorf("%v; log:\n%s", err, log.String())
	}
	for _, want := range []string{`not accepted any more"`, "client=alice", "serial=" + mtls.Serial(leaf)} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not have %q:\n%s", want, log.String())
		}
	}
	for _, name := range []string{"closed", "refused"} {
		if got := metric(t, n.counts, "sealmq_server_connections_"+name+"_total", "revoked"); got != 2 {
			t.Errorf("%s: counted %v", name, got)
		}
	}

	testca.WriteFile(t, list, []byte("# none\n"))
	if err := eventually(func() bool { _, err := resume(); return err == nil }); err != nil {
		t.Errorf("a certificate that is not in the list any more: %v", err)
	}
}

// TestRecheckSeesConnectionsThatBegin: a list changes while a handshake ends.
func TestRecheckSeesConnectionsThatBegin(t *testing.T) {
	ca := testca.New(t)
	var n *node
	var revoked atomic.Bool
	ready := make(chan struct{})
	n = start(t, ca, func(c *listener.Config) {
		c.Identify = func(cs tls.ConnectionState) (sealmq.Identity, error) {
			id, err := ca.Identify(cs)
			if err == nil && id.ID == "alice" {
				<-ready
				if !revoked.Swap(true) {
					n.server.Recheck() // does not know the connection yet
					return id, nil
				}
				return id, mtls.ErrRevoked
			}
			return id, err
		}
	})
	close(ready)
	n.connect("alice").wantEnd()
	n.connect("bob").ask("whoami")
}

// TestConnectionEndsWithItsCertificate: nobody keeps a connection for longer.
func TestConnectionEndsWithItsCertificate(t *testing.T) {
	var log syncBuffer
	ca := testca.New(t)
	n := start(t, ca, func(c *listener.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	template := ca.Template("alice", sealmq.RoleClient)
	var p *peer
	err := errors.New("not tried")
	for life := 2 * time.Second; err != nil && life < patience; life *= 2 { // on a busy machine a handshake takes long
		template.NotAfter = time.Now().Add(life).Truncate(time.Second)
		p, err = n.dial(ca.ClientWith(ca.Issue(template)))
	}
	if err != nil {
		t.Fatal(err)
	}
	bob := n.connect("bob")
	p.wantEnd()
	if now := time.Now(); now.Before(template.NotAfter) {
		t.Errorf("it ended %v too early", template.NotAfter.Sub(now))
	}
	bob.ask("whoami")
	if err := eventually(func() bool { return strings.Contains(log.String(), "its certificate has expired") }); err != nil {
		t.Errorf("%v; log:\n%s", err, log.String())
	}
	if err := eventually(func() bool {
		return metric(t, n.counts, "sealmq_server_connections_closed_total", "expired") == 1
	}); err != nil {
		t.Errorf("counted: %v", err)
	}
}

// TestRevocationAmongMany measures how long a revocation takes from the write of the
// list to the end of the connection.
func TestRevocationAmongMany(t *testing.T) {
	var log syncBuffer
	n, list := revocable(t, &log)
	const clients = 100
	peers := make([]*peer, clients)
	for i := range peers {
		peers[i] = n.connect(fmt.Sprint("client-", i))
	}
	begin := time.Now()
	testca.WriteFile(t, list, []byte("client-50\n"))
	peers[50].wantEnd()
	t.Logf("one of %d: %v", clients, time.Since(begin))
	if err := n.waitForCount(clients - 1); err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for i := range peers {
		fmt.Fprintf(&names, "client-%d\n", i)
	}
	begin = time.Now()
	testca.WriteFile(t, list, []byte(names.String()))
	if err := n.waitForCount(0); err != nil {
		t.Fatal(err)
	}
	t.Logf("all %d: %v", clients-1, time.Since(begin))
}
