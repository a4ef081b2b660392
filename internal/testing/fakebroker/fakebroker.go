// Package fakebroker is a broker that does what a test says, line by line, to test what a
// client sends and how it handles the answers.
package fakebroker

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
)

// Fake is a broker that does what the test says, over connections in memory. It works
// inside a synctest bubble, where time passes by itself.
type Fake struct {
	t *testing.T
	// Conns are the connections that were not accepted yet.
	Conns chan net.Conn
	// Refuse makes that many attempts to connect fail.
	Refuse int
	// Greeting is the answer to a client's whoami. If it is empty, the answer is that of a
	// broker without this command.
	Greeting string
}

// New makes a fake without connections.
func New(t *testing.T) *Fake { return &Fake{t: t, Conns: make(chan net.Conn, 100)} }

// Dial opens a connection to the fake. Its signature is that of client.Config.Dial.
func (f *Fake) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.Refuse > 0 {
		f.Refuse--
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	f.Conns <- far
	return near, nil
}

// Accept waits for the next connection and answers its greeting.
func (f *Fake) Accept() *Peer {
	f.t.Helper()
	p := f.AcceptSilent()
	p.Expect("codes on", "whoami")
	p.Send("Codes on\n" + cmp.Or(f.Greeting, "Error unsupported: Unknown command") + "\n")
	return p
}

// AcceptSilent waits for the next connection and answers nothing.
func (f *Fake) AcceptSilent() *Peer {
	conn := <-f.Conns
	return &Peer{t: f.t, Conn: conn, In: bufio.NewReaderSize(conn, 1<<20)}
}

// Open dials the fake and returns both ends.
func (f *Fake) Open(cfg client.Config) (*client.Client, *Peer) {
	f.t.Helper()
	cfg.Dial = f.Dial
	accepted := make(chan *Peer)
	go func() { accepted <- f.Accept() }()
	c, err := client.Dial(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c, <-accepted
}

// Peer is the broker's end of one connection.
type Peer struct {
	t *testing.T

	Conn net.Conn
	// In reads what the client sent. Do not read Conn directly too.
	In *bufio.Reader
}

// Expect reads lines and compares them byte for byte.
func (p *Peer) Expect(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		got, err := p.In.ReadString('\n')
		if got != want+"\n" || err != nil {
			p.t.Errorf("client sent %q, %v; want %q", got, err, want)
			panic("fakebroker: out of step") // Fatal works on the test's goroutine only
		}
	}
}

// Send writes exactly these bytes with one write.
func (p *Peer) Send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Errorf("write to client: %v", err)
	}
}

// Silent fails if the client sends anything before the bubble's next second is over.
func (p *Peer) Silent() {
	p.t.Helper()
	p.Conn.SetReadDeadline(time.Now().Add(time.Second))
	if got, err := p.In.ReadString('\n'); err == nil {
		p.t.Errorf("client sent %q, want nothing", got)
	}
	p.Conn.SetReadDeadline(time.Time{})
}

// Gone waits until the client has closed the connection.
func (p *Peer) Gone() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.In); err != nil || len(rest) > 0 {
		p.t.Errorf("before the end the client sent %q, %v", rest, err)
	}
}
