package listener_test

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/internal/testing/transcript"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/protocol/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a server over an engine in memory, with an authority of its own.
type node struct {
	tb     testing.TB
	ca     *testca.CA
	server *listener.Server
	broker *broker.Broker
	engine engine.Engine
	text   *text.Metrics
	counts *listener.Metrics
	addr   string
}

// start runs a server; change may alter its configuration.
func start(tb testing.TB, ca *testca.CA, change func(*listener.Config)) *node {
	tb.Helper()
	return startOn(tb, ca, enginetest.NewModel(enginetest.Config{}), change)
}

func startOn(tb testing.TB, ca *testca.CA, engine engine.Engine, change func(*listener.Config)) *node {
	tb.Helper()
	return startNode(tb, testnode.Config{CA: ca, Engine: engine, Listener: change})
}

func startNode(tb testing.TB, cfg testnode.Config) *node {
	tb.Helper()
	n := testnode.Start(tb, cfg)
	return &node{tb: tb, ca: n.CA, server: n.Server(), broker: n.Broker(), engine: cfg.Engine, text: n.Text, counts: n.Connections, addr: n.Addr}
}

// peer is a client's end of a TLS connection.
type peer struct {
	*tls.Conn
	tb  testing.TB
	tcp net.Conn
	buf []byte
	// patience is how long next waits; 0 is the patience of all tests.
	patience time.Duration
}

// patience is how long to wait for what must happen. Only a failing test waits that long.
const patience = time.Minute

func (n *node) dial(cfg *tls.Config) (*peer, error) {
	tcp, err := net.Dial("tcp", n.addr)
	if err != nil {
		return nil, err
	}
	p := &peer{tb: n.tb, tcp: tcp, Conn: tls.Client(tcp, cfg)}
	if err := p.Handshake(); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return p, nil
}

// connect is a plain client; it is closed when the test ends.
func (n *node) connect(cn string) *peer {
	n.tb.Helper()
	return n.connectWith(n.ca.ClientTLS(cn))
}

func (n *node) connectWith(cfg *tls.Config) *peer {
	n.tb.Helper()
	p, err := n.dial(cfg)
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(func() { _ = p.tcp.Close() })
	return p
}

func (p *peer) send(lines ...string) {
	p.tb.Helper()
	var data []byte
	for _, l := range lines {
		data = append(append(data, l...), '\n')
	}
	if _, err := p.Write(data); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *peer) next() string {
	p.tb.Helper()
	line, err := p.line(cmp.Or(p.patience, patience))
	if err != nil {
		p.tb.Fatalf("no line: %v", err)
	}
	return line
}

func (p *peer) line(patience time.Duration) (string, error) {
	for {
		if i := bytes.IndexByte(p.buf, '\n'); i >= 0 {
			line := string(p.buf[:i])
			p.buf = p.buf[i+1:]
			return line, nil
		}
		piece, err := p.piece(patience)
		if err != nil {
			return "", err
		}
		p.buf = append(p.buf, piece...)
	}
}

// piece reads one TLS record.
func (p *peer) piece(patience time.Duration) ([]byte, error) {
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	buf := make([]byte, 32<<10)
	n, err := p.Conn.Read(buf)
	return buf[:n], err
}

func (p *peer) want(lines ...string) {
	p.tb.Helper()
	for _, l := range lines {
		if got := p.next(); got != l {
			p.tb.Fatalf("received %.300q, want %.300q", got, l)
		}
	}
}

func (p *peer) do(line, reply string) {
	p.tb.Helper()
	p.send(line)
	p.want(reply)
}

// wantEnd demands that the server ends the connection.
func (p *peer) wantEnd() {
	p.tb.Helper()
	for {
		_, err := p.piece(patience)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.tb.Fatal("the connection is still open")
		default:
			return
		}
	}
}

// The peer as a transcript's connection.
type replayed struct {
	*peer
	node *node
}

func (r replayed) Write(p []byte) error {
	_, err := r.Conn.Write(p)
	return err
}

func (r replayed) Read(d time.Duration) ([]byte, error) {
	piece, err := r.piece(d)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, transcript.ErrSilent
	}
	return piece, err
}

// Close waits for the server to notice: a polite peer first for its close_notify, and
// both until theirs is no connection any more.
func (r replayed) Close(politely bool) error {
	var err error
	if politely {
		if err := r.CloseWrite(); err != nil {
			return err
		}
		_ = r.SetReadDeadline(time.Now().Add(patience))
		_, err = io.Copy(io.Discard, r.Conn)
	}
	return errors.Join(err, r.tcp.Close(), eventually(func() bool {
		return !slices.ContainsFunc(r.node.all(), func(c sealmq.ConnectionInfo) bool {
			return c.Address == r.LocalAddr().String()
		})
	}))
}

// waitForCount waits until at most that many connections are open.
func (n *node) waitForCount(most int) error {
	return eventually(func() bool { return n.server.Count() <= most })
}

// eventually waits for something that cannot tell by itself when it happens.
func eventually(happened func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("it did not happen within %v", patience)
		}
	}
	return nil
}

func (n *node) dialer(cn string, admin bool) (transcript.Conn, error) {
	cfg := n.ca.ClientTLS(cn)
	switch {
	case admin:
		cfg = n.ca.AdminTLS()
	case cn == "":
		cfg = n.ca.ClientWithoutCN()
	}
	p, err := n.dial(cfg)
	if err != nil {
		return nil, err
	}
	return replayed{p, n}, nil
}

// all describes every connection whose identity is known.
func (n *node) all() []sealmq.ConnectionInfo {
	return n.server.ConnectionsOf(func(*sealmq.Identity) bool { return true })
}
