// Package liar is a broker that lies. It is a proxy between clients and an honest broker,
// with the broker's certificate, and changes lines in both directions as a test wants. The
// clients believe that it is the broker. The tests check which lies end-to-end protection
// finds.
//
// Without lies it forwards every line unchanged, which is the control of each test. It knows
// lines, but not their meaning. It is for tests only.
package liar

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/sealmq/sealmq"
)

// Lies replace a line, given without its line feed, by other lines, or by none. Nil forwards
// everything. They are called for one line of one connection at a time, so they may share
// state without locks.
type Lies struct {
	ToBroker func(c *Conn, line string) []string
	ToClient func(c *Conn, line string) []string
}

// Config is the configuration of a liar.
type Config struct {
	// TLS is the broker's own configuration, so that clients trust the liar.
	TLS *tls.Config
	// Identify names the client, as the broker's own function does.
	Identify func(tls.ConnectionState) (sealmq.Identity, error)
	// Upstream connects to the honest broker in the client's name.
	Upstream func(ctx context.Context, client string) (net.Conn, error)
}

// Liar is a listening proxy.
type Liar struct {
	cfg      Config
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu    sync.Mutex // held while a line is judged
	lies  Lies
	conns map[*Conn]bool
}

// Conn is one client's connection through the liar.
type Conn struct {
	// Client is the client's identity from its certificate.
	Client string

	down, up net.Conn
}

// maxLine is longer than any line of a test.
const maxLine = 8 << 20

// Listen starts a liar on a free port of the loopback interface. It is honest until
// Lie is called.
func Listen(cfg Config) (*Liar, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", cfg.TLS)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l := &Liar{cfg: cfg, listener: listener, conns: make(map[*Conn]bool)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.running.Go(l.accept)
	return l, nil
}

// Addr is the liar's address.
func (l *Liar) Addr() string { return l.listener.Addr().String() }

// Lie sets the lies from the next line on.
func (l *Liar) Lie(lies Lies) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies = lies
}

// Close ends all connections and waits until all goroutines have ended.
func (l *Liar) Close() error {
	l.cancel()
	err := l.listener.Close()
	l.mu.Lock()
	for c := range l.conns {
		c.close()
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// ToClient sends lines that the broker did not send. It is for use within a lie.
func (c *Conn) ToClient(lines ...string) { send(c.down, lines) }

// ToBroker sends lines that the client did not send. It is for use within a lie.
func (c *Conn) ToBroker(lines ...string) { send(c.up, lines) }

// send ignores errors, because the reader of the connection gets them too.
func send(conn net.Conn, lines []string) {
	if len(lines) > 0 {
		_, _ = conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	}
}

func (c *Conn) close() {
	_ = c.down.Close()
	_ = c.up.Close()
}

func (l *Liar) accept() {
	for {
		conn, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.running.Go(func() { l.serve(conn.(*tls.Conn)) })
		}
	}
}

func (l *Liar) serve(down *tls.Conn) {
	defer down.Close()
	if err := down.HandshakeContext(l.ctx); err != nil {
		return
	}
	id, err := l.cfg.Identify(down.ConnectionState())
	if err != nil {
		return
	}
	up, err := l.cfg.Upstream(l.ctx, id.ID)
	if err != nil {
		return
	}
	c := &Conn{Client: id.ID, down: down, up: up}
	defer c.close()
	l.mu.Lock()
	l.conns[c] = true
	l.mu.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	l.running.Go(func() {
		defer c.close()
		l.pass(c, c.down, c.up, func(s Lies) func(*Conn, string) []string { return s.ToBroker })
	})
	l.pass(c, c.up, c.down, func(s Lies) func(*Conn, string) []string { return s.ToClient })
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// pass forwards lines in one direction until the connection ends.
func (l *Liar) pass(c *Conn, from, to net.Conn, lie func(Lies) func(*Conn, string) []string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		line := lines.Text()
		l.mu.Lock()
		out := []string{line}
		if f := lie(l.lies); f != nil {
			out = f(c, line)
		}
		l.mu.Unlock()
		send(to, out)
	}
}
