package text_test

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/transcript"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a broker over an engine in memory.
type node struct {
	broker *broker.Broker
	engine engine.Engine
	peers  *table
}

func newNode(tb testing.TB) *node {
	tb.Helper()
	n, stop, err := startNode()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(stop)
	return n
}

func startNode() (*node, func(), error) {
	engine := enginetest.NewModel(enginetest.Config{})
	b, err := broker.New(broker.Config{Engine: engine})
	if err != nil {
		return nil, nil, err
	}
	return &node{broker: b, engine: engine, peers: &table{}}, func() { b.Close(); engine.Close() }, nil
}

// table is the server's table of connections, without a server.
type table struct {
	mu   sync.Mutex
	open int
}

func (t *table) add(n int) {
	t.mu.Lock()
	t.open += n
	t.mu.Unlock()
}

func (t *table) Count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

func (t *table) ConnectionsOf(match func(*sealmq.Identity) bool) []sealmq.ConnectionInfo {
	list := []sealmq.ConnectionInfo{}
	for i, name := range []string{"alice", "bob"} {
		for _, issuer := range []string{"", "test"} {
			if match(&sealmq.Identity{ID: name, Issuer: issuer}) {
				list = append(list, sealmq.ConnectionInfo{ID: uint64(i + 1), Client: name, Issuer: issuer})
			}
		}
	}
	return list
}

func (t *table) CloseConnection(id uint64) (string, error) {
	if id != 1 {
		return "", &sealmq.Error{Code: sealmq.BadArgument, Message: "no such connection"}
	}
	return "alice", nil
}

func (t *table) Ban(id uint64, _ time.Duration) (string, error) { return t.CloseConnection(id) }

// pipe is a connection without a network: what is written goes to a session, and what
// the session has to say is read in pieces of a TLS record at most.
type pipe struct {
	session protocol.Session
	peers   *table
	woken   chan struct{}
	rest    []byte // received by the session and not used
	out     []byte // read from the session and not handed out
}

func caller(cn string, admin bool) broker.Caller { return broker.Caller{Identity: client(cn, admin)} }

func client(cn string, admin bool) sealmq.Identity {
	id := sealmq.Identity{ID: cn, CommonName: cn, Issuer: "test", Role: sealmq.RoleClient}
	if cn == "" {
		id.ID = "sha256:00"
	}
	if admin {
		id.Role = sealmq.RoleAdmin
	}
	return id
}

func (n *node) dial(cn string, admin bool) *pipe {
	return n.dialWith(protocol.Peer{Identity: client(cn, admin)}, text.Config{})
}

// dialWith opens a session for a peer of which only Identity need be set.
func (n *node) dialWith(peer protocol.Peer, cfg text.Config) *pipe {
	p := &pipe{woken: make(chan struct{}, 1), peers: n.peers}
	peer.Peers = n.peers
	if peer.Log == nil {
		peer.Log = slog.New(slog.DiscardHandler)
	}
	peer.Wake = func() {
		select {
		case p.woken <- struct{}{}:
		default:
		}
	}
	cfg.Broker = n.broker
	p.session = text.Protocol(cfg).Open(peer)
	n.peers.add(1)
	return p
}

func (n *node) dialer(cn string, admin bool) (transcript.Conn, error) { return n.dial(cn, admin), nil }

// Synchronous implements transcript.Synchronous.
func (p *pipe) Synchronous() {}

func (p *pipe) Write(data []byte) error {
	p.rest = append(p.rest, data...)
	for more := true; more; {
		var n int
		n, more = p.session.Input(p.rest)
		if n > 0 {
			p.rest = append([]byte(nil), p.rest[n:]...) // elsewhere, so that kept references show
		}
		if more && !p.session.Ready() {
			break
		}
	}
	return nil
}

const (
	maxRecord = 16 << 10
	maxOutput = 64 << 10
)

// output is what a session has to write next.
func output(s protocol.Session, dst []byte) []byte {
	dst, end := s.Output(dst, maxOutput)
	if end {
		panic("the line protocol ends no conversation")
	}
	return dst
}

func (p *pipe) Read(d time.Duration) ([]byte, error) {
	var timeout <-chan time.Time
	for len(p.out) == 0 {
		if p.out = output(p.session, nil); len(p.out) > 0 {
			break
		}
		if d == 0 {
			return nil, transcript.ErrSilent
		}
		if timeout == nil {
			timer := time.NewTimer(d)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-p.woken:
		case <-timeout:
			return nil, transcript.ErrSilent
		}
	}
	piece := p.out[:min(len(p.out), maxRecord)]
	p.out = p.out[len(piece):]
	return piece, nil
}

func (p *pipe) Close(bool) error {
	p.session.Close()
	p.peers.add(-1)
	return nil
}

// lines is a pipe read line by line.
type lines struct {
	tb testing.TB
	*pipe
	buf []byte
}

func (n *node) client(tb testing.TB, cn string) *lines {
	p := n.dial(cn, false)
	tb.Cleanup(func() { p.session.Close() })
	return &lines{tb: tb, pipe: p}
}

func (n *node) admin(tb testing.TB) *lines {
	p := n.dial("admin", true)
	tb.Cleanup(func() { p.session.Close() })
	return &lines{tb: tb, pipe: p}
}

// send sends whole lines in one piece.
func (l *lines) send(list ...string) {
	l.tb.Helper()
	var data []byte
	for _, s := range list {
		data = append(append(data, s...), '\n')
	}
	if err := l.Write(data); err != nil {
		l.tb.Fatal(err)
	}
}

func (l *lines) next() string {
	l.tb.Helper()
	for {
		for i, c := range l.buf {
			if c == '\n' {
				line := string(l.buf[:i])
				l.buf = l.buf[i+1:]
				return line
			}
		}
		piece, err := l.Read(time.Minute)
		if err != nil {
			l.tb.Fatalf("no line: %v", err)
		}
		l.buf = append(l.buf, piece...)
	}
}

// want reads lines and compares them.
func (l *lines) want(list ...string) {
	l.tb.Helper()
	for _, s := range list {
		if got := l.next(); got != s {
			l.tb.Fatalf("received %.300q, want %.300q", got, s)
		}
	}
}

// do sends one line and wants one reply.
func (l *lines) do(line, reply string) {
	l.tb.Helper()
	l.send(line)
	l.want(reply)
}

// ask sends one line and returns the reply.
func (l *lines) ask(line string) string {
	l.tb.Helper()
	l.send(line)
	return l.next()
}

func (l *lines) quiet() {
	l.tb.Helper()
	l.do("ping", "Pong")
}
