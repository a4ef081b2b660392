package client_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a broker that does what the test says, over connections in memory. It works
// inside a synctest bubble, where time passes by itself.
type fake struct {
	t     *testing.T
	conns chan net.Conn
	// refuse makes that many attempts to connect fail.
	refuse int
	// greeting is the answer to a client's first question; that of a broker which knows
	// none if it is empty.
	greeting string
}

func newFake(t *testing.T) *fake { return &fake{t: t, conns: make(chan net.Conn, 100)} }

func (f *fake) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if f.refuse > 0 {
		f.refuse--
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	f.conns <- far
	return near, nil
}

// accept waits for the next connection and answers its greeting.
func (f *fake) accept() *peer {
	f.t.Helper()
	p := f.acceptSilent()
	p.expect("whoami")
	p.send(cmp.Or(f.greeting, "Unknown command") + "\n")
	return p
}

func (f *fake) acceptSilent() *peer {
	conn := <-f.conns
	return &peer{t: f.t, conn: conn, r: bufio.NewReaderSize(conn, 1<<20)}
}

// open dials the fake and returns both ends.
func (f *fake) open(cfg client.Config) (*client.Client, *peer) {
	f.t.Helper()
	cfg.Dial = f.dial
	accepted := make(chan *peer)
	go func() { accepted <- f.accept() }()
	c, err := client.Dial(f.t.Context(), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c, <-accepted
}

// peer is the broker's end of one connection.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// expect reads lines and compares them byte for byte.
func (p *peer) expect(lines ...string) {
	p.t.Helper()
	for _, want := range lines {
		got, err := p.r.ReadString('\n')
		if got != want+"\n" || err != nil {
			p.t.Errorf("client sent %q, %v; want %q", got, err, want)
			panic("client_test: out of step") // Fatal works on the test's goroutine only
		}
	}
}

// send writes exactly these bytes with one write.
func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, s); err != nil {
		p.t.Errorf("write to client: %v", err)
	}
}

// silent fails if the client sends anything before the bubble's next second is over.
func (p *peer) silent() {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(time.Second))
	if got, err := p.r.ReadString('\n'); err == nil {
		p.t.Errorf("client sent %q, want nothing", got)
	}
	p.conn.SetReadDeadline(time.Time{})
}

// gone waits until the client has closed the connection.
func (p *peer) gone() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); err != nil || len(rest) > 0 {
		p.t.Errorf("before the end the client sent %q, %v", rest, err)
	}
}

func message(id string) client.Message {
	return client.Message{Exchange: "x", Key: "k", ID: id, Body: []byte(`{"message_id":"` + id + `"}`)}
}

// lines returns what the client sends for messages with these ids.
func lines(ids ...string) []string {
	var out []string
	for _, id := range ids {
		out = append(out, `publish x k {"message_id":"`+id+`"}`)
	}
	return out
}

// results collects what callbacks get.
type results struct {
	c chan string
}

func newResults() *results { return &results{make(chan string, 10_000)} }

func (r *results) of(id string) func(error) {
	return func(err error) {
		if err != nil {
			id += ": " + err.Error()
		}
		r.c <- id
	}
}

func (r *results) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-r.c; !strings.HasPrefix(got, w) {
			t.Errorf("callback %q, want %q", got, w)
		}
	}
	select {
	case more := <-r.c:
		t.Errorf("another callback: %q", more)
	default:
	}
}

func (r *results) publish(t *testing.T, c *client.Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := c.PublishAsync(t.Context(), message(id), r.of(id)); err != nil {
			t.Fatalf("publish %s: %v", id, err)
		}
	}
}
