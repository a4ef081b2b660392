package listener_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

func TestListenRefusesWhatCannotServe(t *testing.T) {
	n := start(t, nil, nil)
	lines := text.Protocol(text.Config{Broker: n.broker})
	cfg := listener.Config{Addr: "127.0.0.1:0", TLS: n.ca.ServerTLS(), Identify: n.ca.Identify, Protocols: []protocol.Protocol{lines}}
	open := cfg
	open.TLS = open.TLS.Clone()
	open.TLS.ClientAuth = tls.VerifyClientCertIfGiven
	nobody := cfg
	nobody.Identify = nil
	silent, twice, long := cfg, cfg, cfg
	silent.Protocols = nil
	twice.Protocols = []protocol.Protocol{lines, lines}
	long.Protocols = []protocol.Protocol{{Name: "long", Prefix: make([]byte, protocol.MaxPrefix+1), Open: lines.Open}}
	taken := cfg
	taken.Addr = n.addr
	for name, c := range map[string]listener.Config{"certificates optional": open, "no identities": nobody, "no protocols": silent,
		"two protocols alike": twice, "prefix too long": long, "port in use": taken} {
		if s, err := listener.Listen(c); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		} else if name == "port in use" && !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestServeEndsWithItsContextAndKeepsConnections(t *testing.T) {
	n := start(t, nil, nil)
	s, err := listener.Listen(listener.Config{Addr: "127.0.0.1:0", TLS: n.ca.ServerTLS(), Identify: n.ca.Identify,
		Protocols: []protocol.Protocol{text.Protocol(text.Config{Broker: n.broker})}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	other := &node{tb: t, ca: n.ca, addr: s.Addr().String()}
	c := other.connect("a")
	c.do("ping", "Pong")
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	c.do("ping", "Pong")
	if conn, err := net.Dial("tcp", other.addr); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// TestShutdownAnswersWhatItRead lets publishes wait for their confirms while the server
// stops.
func TestShutdownAnswersWhatItRead(t *testing.T) {
	release := make(chan struct{})
	n := startOn(t, nil, slowPublishes{enginetest.NewModel(enginetest.Config{}), release}, nil)
	idle, silent, busy := n.connect("idle"), n.connect("silent"), n.connect("busy")
	idle.do("consume other", "Subscribed to queue")
	_ = silent
	busy.do("bind q x k", "Queue bound")
	busy.send(`publish x k {"message_id":"1"}`, `publish x k {"message_id":"2"}`)
	n.waitForPublished(2)
	stopped := make(chan error)
	go func() { stopped <- n.server.Shutdown(background()) }()
	idle.wantEnd()
	silent.wantEnd()
	select {
	case err := <-stopped:
		t.Fatalf("stopped with %v although publishes wait", err)
	default:
	}
	close(release)
	busy.want("ACK 1", "ACK 2")
	busy.wantEnd()
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func (n *node) waitForPublished(count uint64) {
	n.tb.Helper()
	if err := eventually(func() bool {
		info, _ := n.engine.Queue("q")
		return info.Published >= count
	}); err != nil {
		n.tb.Fatal(err)
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	release := make(chan struct{})
	n := startOn(t, nil, slowPublishes{enginetest.NewModel(enginetest.Config{}), release}, nil)
	defer close(release)
	busy := n.connect("busy")
	busy.do("bind q x k", "Queue bound")
	busy.send(`publish x k {"message_id":"1"}`)
	n.waitForPublished(1)
	ctx, cancel := context.WithTimeout(background(), 50*time.Millisecond)
	defer cancel()
	if err := n.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	busy.wantEnd()
}

// TestCloseNotifyIsAnsweredAtOnce: Python clients wait for it, up to thirty seconds.
func TestCloseNotifyIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		for _, command := range []string{"ping", "consume q"} {
			c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
			c.send(command)
			c.next()
			began := time.Now()
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c.Conn); err != nil {
				t.Errorf("after %s: %v", command, err)
			}
			if took := time.Since(began); took > 0 {
				t.Errorf("after %s the server took %v", command, took)
			}
		}
	})
}

func TestRestWithoutLineFeedIsDropped(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("a")
	c.do("ping", "Pong")
	if _, err := c.Write([]byte("declare_queue q")); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	c.wantEnd()
	if _, err := n.engine.Queue("q"); err == nil {
		t.Error("it was carried out")
	}
}

// failingListener fails a few times before it works, as when files run out.
type failingListener struct {
	net.Listener
	mu       sync.Mutex
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	fail := l.failures > 0
	l.failures--
	l.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := testnode.NewPipes()
		began := time.Now()
		n := start(t, nil, func(cfg *listener.Config) {
			cfg.Listener = &failingListener{Listener: pipes, failures: 10}
		})
		n.connectPipe(pipes, n.ca.ClientTLS("a")).do("ping", "Pong")
		if took := time.Since(began); took < time.Second || took > 10*time.Second {
			t.Errorf("ten failures took %v", took)
		}
		if got := metric(t, n.counts, "sealmq_server_accept_errors_total", ""); got != 10 {
			t.Errorf("%v failures were counted", got)
		}
	})
}

// syncBuffer is a buffer for a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestPanicEndsOneConnection(t *testing.T) {
	var log syncBuffer
	n := start(t, nil, func(cfg *listener.Config) {
		cfg.Protocols = append(cfg.Protocols, fakeProtocol("A", 0))
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	bystander := n.connect("b")
	bystander.do("consume q", "Subscribed to queue")
	for i, word := range []string{"A !", "A W"} {
		c := n.connect("a")
		c.send(word)
		c.wantEnd()
		if err := n.waitForCount(1); err != nil {
			t.Fatal(err)
		}
		if got := metric(t, n.counts, "sealmq_server_panics_total", ""); got != float64(i+1) {
			t.Errorf("%v panics counted", got)
		}
		if strings.Count(log.String(), "connection panicked") != i+1 || !strings.Contains(log.String(), "(*fake)") {
			t.Errorf("the log says %s", log.String())
		}
	}
	bystander.do("ping", "Pong")
}

func TestConnectionsAreDescribedAndClosed(t *testing.T) {
	n := start(t, nil, nil)
	a, b, admin := n.connect("a"), n.connect("b"), n.connectWith(n.ca.AdminTLS())
	for _, p := range []*peer{a, b, admin} {
		p.do("consume q", "Subscribed to queue")
	}
	var list []sealmq.ConnectionInfo
	if err := eventually(func() bool { // what is written is counted after the peer may have it
		list = n.all()
		return len(list) == 3 && !slices.ContainsFunc(list, func(c sealmq.ConnectionInfo) bool {
			return c.BytesOut == 0 || c.Commands == 0
		})
	}); err != nil {
		t.Fatalf("connections %+v: %v", list, err)
	}
	var first sealmq.ConnectionInfo
	for _, c := range list {
		if c.Client == "a" {
			first = c
		}
	}
	serial := mtls.Serial(n.ca.Leaf("a", sealmq.RoleClient).Leaf)
	if first.Serial != serial || first.Commands != 1 || first.Role != "client" || first.Protocol != "text" ||
		first.Address != a.LocalAddr().String() || first.BytesIn == 0 || time.Since(first.Since) > time.Minute {
		t.Errorf("connection %+v", first)
	}
	admin.do(fmt.Sprintf("close_connection %d", first.ID), "Connection closed")
	a.wantEnd()
	if err := n.waitForCount(2); err != nil {
		t.Fatal(err)
	}
	admin.do(fmt.Sprintf("close_connection %d", first.ID), "Error: no such connection")
	for _, c := range list { // whose it was is told, for the audit
		switch c.Role {
		case "admin":
			if client, err := n.server.Ban(c.ID, time.Minute); client != c.Client || sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("a ban of %q, want %q: %v", client, c.Client, err)
			}
		default:
			if client, err := n.server.CloseConnection(c.ID); c.Client == "b" && (client != "b" || err != nil) {
				t.Errorf("closed the connection of %q, want b: %v", client, err)
			}
		}
	}
	b.Close()
	if err := n.waitForCount(1); err != nil {
		t.Fatal(err)
	}
	if got := admin.ask("connections"); strings.Count(got, `"id"`) != 1 {
		t.Errorf("received %s", got)
	}
}

func (p *peer) ask(line string) string {
	p.tb.Helper()
	p.send(line)
	return p.next()
}

// TestSilentConnectionIsOneGoroutine: nobody waits to write.
func TestSilentConnectionIsOneGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		warm := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		warm.do("consume q", "Subscribed to queue")
		synctest.Wait()
		before := bubbled()
		const more = 20
		for range more {
			n.connectPipe(pipes, n.ca.ClientTLS("a")).do("consume q", "Subscribed to queue")
		}
		synctest.Wait()
		if got := bubbled() - before; got != more {
			t.Errorf("%d goroutines for %d connections", got, more)
		}
	})
}

// bubbled counts the goroutines of synctest bubbles: the runtime has others, which come
// and go.
func bubbled() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte(", synctest bubble "))
}

// TestBusyConnectionCalmsDown goes on working over the change of its buffers.
func TestBusyConnectionCalmsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		c.do("bind q x k", "Queue bound")
		for i := range 20 {
			id := fmt.Sprintf("m%d", i)
			line := fmt.Sprintf(`publish x k {"message_id":"%s","ciphertext":"%s"}`, id, strings.Repeat("A", i*3000))
			cut := len(line) / 2
			if _, err := c.Write([]byte(line[:cut])); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * time.Second)
			c.do(line[cut:], "ACK "+id)
			time.Sleep(time.Duration(i) * time.Second)
		}
		if got := metric(t, n.text, "sealmq_text_commands_total", "publish"); got != 20 {
			t.Errorf("%v publishes", got)
		}
	})
}

// busySession is a session whose reading goroutine is held until the test lets it go.
type busySession struct {
	fake
	hears, release chan struct{}
}

func (s *busySession) Input(data []byte) (int, bool) {
	close(s.hears)
	<-s.release
	return len(data), false
}

// TestClosedConnectionIsNotListed: from the moment it is closed, however long its session takes to
// notice.
func TestClosedConnectionIsNotListed(t *testing.T) {
	s := &busySession{hears: make(chan struct{}), release: make(chan struct{})}
	busy := protocol.Protocol{Name: "busy", Prefix: []byte("B"), Open: func(p protocol.Peer) protocol.Session { s.Peer = p; return s }}
	n := start(t, nil, func(cfg *listener.Config) { cfg.Protocols = append(cfg.Protocols, busy) })
	defer close(s.release)
	n.connect("a").send("B")
	<-s.hears
	id := n.all()[0].ID
	if client, err := n.server.CloseConnection(id); client != "a" || err != nil {
		t.Fatalf("closed the connection of %q: %v", client, err)
	}
	if list := n.all(); len(list) != 0 {
		t.Errorf("connections %+v", list)
	}
	if _, err := n.server.CloseConnection(id); sealmq.CodeOf(err) != sealmq.BadArgument {
		t.Errorf("closed it again: %v", err)
	}
	if n.server.Count() != 1 {
		t.Errorf("%d connections are counted, although one has not ended", n.server.Count())
	}
}
