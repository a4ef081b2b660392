package client

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
)

const (
	// writeBytes is the largest piece handed to one Write: four full TLS records.
	writeBytes = 64 << 10
	// rawReadBytes is how much is read from the socket under TLS at a time, so that
	// several records cost one system call.
	rawReadBytes = 32 << 10
)

// connection is one network connection and the goroutine that writes to it.
type connection struct {
	net.Conn
	raw    net.Conn      // under TLS
	socket *bufferedConn // between raw and TLS; nil without TLS
	// wake has room for one signal: the writer looks at the outbox again.
	wake chan struct{}
	// horizon is what the broker's first reply said.
	horizon time.Duration
	// idle says that the writer waits for wake. Under Client.mu.
	idle bool
	// written counts bytes, for the heartbeat; seen is what it was last, and asked says that the
	// broker was asked for a sign of life since.
	written atomic.Int64
	seen    int64
	asked   bool

	// life ends, with a cause, when the connection fails.
	life context.Context
	end  context.CancelCauseFunc
}

// fail ends the connection; the first cause stays. It does not block, as a goodbye in
// TLS might, and may be called with Client.mu held.
func (n *connection) fail(cause error) {
	n.end(cause)
	n.raw.Close()
}

// bufferedConn is the socket under TLS. It reads in larger pieces than TLS asks for, and
// writes the records of one Write of ours with one system call: each call is work for both ends.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader

	mu   sync.Mutex // records keep their order when TLS answers a key update
	held []byte
	hold bool
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

func (b *bufferedConn) holdBack() {
	b.mu.Lock()
	b.hold = true
	b.mu.Unlock()
}

// flush writes what was held back.
func (b *bufferedConn) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.Conn.Write(b.held)
	b.held, b.hold = b.held[:0], false
	return err
}

// write writes p, of which TLS makes several records if it is long.
func (n *connection) write(p []byte) error {
	if n.socket == nil {
		_, err := n.Write(p)
		return err
	}
	n.socket.holdBack()
	_, err := n.Write(p)
	return errors.Join(err, n.socket.flush())
}

// connect makes one attempt: it dials, shakes hands, and waits for the broker's first reply.
// After an error, another attempt starts from the same state.
func (c *Client) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.DialTimeout, errDialTimeout)
	defer cancel()
	raw, err := c.cfg.Dial(ctx, "tcp", c.cfg.Addr)
	if err != nil {
		// The reason why an attempt was broken off comes before the shape in which the network
		// library reports it.
		return nil, fmt.Errorf("connect to %s: %w", c.cfg.Addr, cmp.Or(context.Cause(ctx), err))
	}
	conn, socket := raw, (*bufferedConn)(nil)
	if c.cfg.TLS != nil {
		socket = &bufferedConn{Conn: raw, r: bufio.NewReaderSize(raw, rawReadBytes)}
		t := tls.Client(socket, c.cfg.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS with %s: %w", c.cfg.Addr, cmp.Or(context.Cause(ctx), err))
		}
		conn = t
	}
	n := &connection{Conn: conn, raw: raw, socket: socket, wake: make(chan struct{}, 1)}
	n.life, n.end = context.WithCancelCause(context.Background())
	stop := context.AfterFunc(ctx, func() { n.fail(context.Cause(ctx)) })
	err = c.greet(n)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		n.fail(err)
		return nil, fmt.Errorf("connect to %s: %w", c.cfg.Addr, err)
	}
	return n, nil
}

var errDialTimeout = errors.New("no answer in time")

// greet asks for error codes, and for how long the broker remembers ids: what is sent
// again on the connection depends on that. Under TLS 1.3 a refused certificate shows only
// here.
func (c *Client) greet(n *connection) error {
	written := make(chan error, 1)
	go func() {
		_, err := n.Write([]byte(codesLine + whoamiLine))
		written <- err
	}()
	c.rd.start, c.rd.end, c.rd.pushes.next = 0, 0, sealmq.Delivery{}
	line, err := c.rd.line(n)
	if err == nil && string(line) != "Codes on" {
		err = refusedError(line)
	}
	if err == nil {
		line, err = c.rd.line(n)
	}
	if err != nil {
		n.fail(err) // also ends the write
	}
	if werr := <-written; err == nil && werr != nil {
		n.fail(werr)
		err = werr
	}
	if err != nil {
		return context.Cause(n.life)
	}
	if reply := replyError(line); reply != nil && sealmq.CodeOf(reply) != sealmq.Unsupported {
		return reply
	}
	who := readWho(line)
	n.horizon = horizonOf(who)
	return c.checkName(who)
}

// serve uses a connection until it fails and returns why.
func (c *Client) serve(n *connection) error {
	var writer sync.WaitGroup
	writer.Go(func() { c.write(n) })
	if c.life.Err() != nil { // Close came before conn was set
		n.fail(ErrClosed)
	}
	n.fail(c.read(n))
	writer.Wait()
	cause := context.Cause(n.life)
	c.lose(cause)
	return cause
}

// use puts a new connection to use. Publishes that are too old to be sent again fail.
func (c *Client) use(n *connection) {
	var stale []entry
	c.mu.Lock()
	now := c.cfg.Now()
	c.remember(n.horizon)
	keep := func(e *entry, _ bool) bool { return e.kind != kindPublish || c.mayLeave(e, now) }
	c.out = c.out.restart(c.sub.setup, keep, func(e entry) {
		c.popped++
		stale = append(stale, e)
	})
	c.conn = n
	c.stats.Connections++
	c.mu.Unlock()
	c.finish(stale, ErrResendTooOld)
}

// lose settles what the lost connection leaves behind. Publishes stay, to be sent again.
// Acks mean nothing on another connection, and a command that may have been executed is not repeated.
func (c *Client) lose(cause error) {
	var dropped []entry
	keep := func(e *entry, sent bool) bool {
		switch e.kind {
		case kindPublish:
			if sent {
				c.stats.Resent++
				e.sent = true
			}
			return true
		case kindCommand:
			return !sent && (e.id != verbFetch || c.sub == nil)
		}
		return false
	}
	drop := func(e entry) {
		switch e.kind {
		case kindAck, kindNack, kindRelease, kindExtend:
			c.popped++
		case kindSetup:
			return // its caller waits for the one that takes its place
		}
		dropped = append(dropped, e)
	}
	c.mu.Lock()
	c.conn = nil
	c.out = c.out.restart(func(*outbox) {}, keep, drop)
	sub := c.sub
	c.mu.Unlock()
	if sub != nil {
		sub.interrupt()
	}
	why := fmt.Errorf("%w: %w", ErrInterrupted, cause)
	if c.life.Err() != nil {
		why = ErrClosed
	}
	c.finish(dropped, why)
}

// WhileConnected returns a context that ends with ctx, when the connection is lost, or at once
// if there is none: for questions that are not worth waiting for another connection.
func (c *Client) WhileConnected(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	n := c.conn
	c.mu.Unlock()
	if n == nil {
		cancel()
		return ctx, cancel
	}
	stop := context.AfterFunc(n.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// kick lets the writer look at the outbox. The caller holds mu.
func (c *Client) kick() {
	if n := c.conn; n != nil && n.idle {
		n.idle = false
		n.wake <- struct{}{} // never blocks: the writer took the last one before it was idle
	}
}

// write sends what is in the outbox until the connection fails. While one Write is
// under way, all that arrives gathers for the next.
func (c *Client) write(n *connection) {
	buf := make([]byte, 0, writeBytes)
	for {
		c.mu.Lock()
		p := c.out.next(buf)
		n.idle = len(p) == 0
		c.mu.Unlock()
		if len(p) == 0 {
			select {
			case <-n.wake:
				continue
			case <-n.life.Done():
				return
			}
		}
		if err := n.write(p); err != nil {
			n.fail(fmt.Errorf("write: %w", err))
			return
		}
		n.written.Add(int64(len(p)))
	}
}

var errSilent = errors.New("the broker does not answer")

// progress is how much must be written within a heartbeat to show that the broker takes it, over
// a line that is too slow for an answer. Less goes into the buffer of a socket whose other end is
// gone.
const progress = 64 << 10

// silence is called when nothing was read for the time of a heartbeat. The broker is asked for
// a sign of life; the second time in a row, without progress meanwhile, is the end.
func (c *Client) silence(n *connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := n.written.Load()
	progressed := written-n.seen >= progress
	n.seen = written
	switch {
	case progressed:
		n.asked = false
	case n.asked:
		return errSilent
	default:
		n.asked = true
		if c.out.len() == 0 {
			c.out.addLine("ping\n", entry{kind: kindSetup})
			c.kick()
		}
	}
	return nil
}
