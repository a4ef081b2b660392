package connlimit

import (
	"net"
	"sync"
	"time"
)

// Listener is a net.Listener whose connections have places in a table.
type Listener struct {
	net.Listener
	*Table
	stop func()
	done chan struct{}
}

// Conn is a connection of a Listener. Closing it gives its place back.
type Conn struct {
	net.Conn
	*Place
}

// Listen bounds the connections of a listener: New says what max and patience are.
func Listen(l net.Listener, max int, patience time.Duration) *Listener {
	done := make(chan struct{})
	return &Listener{Listener: l, Table: New(max, patience), done: done, stop: sync.OnceFunc(func() { close(done) })}
}

// lookAgain is how often Accept looks whether a connection has been busy for too long.
const lookAgain = 100 * time.Millisecond

// Accept waits for a connection and, while all others are busy, for a place.
func (l *Listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		if p := l.Add(raw.RemoteAddr(), func() { raw.Close() }); p != nil {
			return &Conn{raw, p}, nil
		}
		select {
		case <-l.freed:
		case <-time.After(lookAgain):
		case <-l.done:
			raw.Close()
			return nil, net.ErrClosed
		}
	}
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.stop()
	return l.Listener.Close()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.Leave()
	return c.Conn.Close()
}

// Of returns the connection of a Listener that is below another one, such as a *tls.Conn; nil
// if there is none.
func Of(c net.Conn) *Conn {
	for {
		switch below := c.(type) {
		case *Conn:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}
