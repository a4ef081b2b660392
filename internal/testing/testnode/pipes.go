package testnode

import (
	"context"
	"net"
	"sync"
)

// Pipes is a network in memory, for a broker in a synctest bubble. There time passes only
// when all goroutines wait, so a busy machine makes nothing late. Its connections have no
// buffers: a write waits until the peer reads, so a peer that does not read is noticed at
// once. Pipes is a net.Listener.
type Pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewPipes makes a network without connections.
func NewPipes() *Pipes { return &Pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

// Accept returns the broker's end of the next connection.
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close refuses further connections.
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr is a made-up address.
func (p *Pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5672} }

// Dial returns a client's end of a new connection. Its signature is that of
// client.Config.Dial.
func (p *Pipes) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	mine, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return mine, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
