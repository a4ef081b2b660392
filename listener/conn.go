package listener

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/protocol/text"
)

// conn is one connection. One goroutine reads for as long as it is open; another one
// writes while there is something to write, and does not exist otherwise, because most
// connections are idle most of the time.
type conn struct {
	server *Server
	id     uint64
	since  time.Time
	raw    *socket
	tls    *tls.Conn

	// Set by identified, before the goroutine that reads starts.
	identity sealmq.Identity
	serial   string
	account  *account

	in        readBuffer    // of the goroutine that reads
	pushPause time.Duration // of the goroutine that writes: how long it waited last for memory

	bytesIn, bytesOut atomic.Uint64
	defect            atomic.Bool // it has panicked

	// mu is a leaf: nothing is called while it is held except Session.Drained and
	// deadlines.
	mu       sync.Mutex
	changed  sync.Cond // writing ended, or closed
	session  Session   // nil until the first byte; then never changed
	protocol string
	known    bool // identified was called
	writing  bool // there is a goroutine that writes
	again    bool // it must look once more before it ends
	draining bool
	why      closing // not zero once the socket is closed
}

// socket is the TCP connection. It can wait for the first byte without giving it up.
type socket struct {
	net.Conn
	first  [1]byte
	peeked bool
	// timeout is for each write once it is not zero; written is when the deadline was set
	// last, and ending that somebody else has set one. TLS writes one after the other,
	// whoever makes it write.
	timeout time.Duration
	written time.Time
	ending  bool
	// slot is not nil while a handshake holds one. It is given up while the peer is waited
	// for, so that peers that stall in the middle of a handshake hold up nobody else's.
	slot chan struct{}
}

func (s *socket) waitForByte() error {
	_, err := io.ReadFull(s.Conn, s.first[:])
	s.peeked = err == nil
	return err
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.peeked && len(p) > 0 {
		s.peeked = false
		return copy(p, s.first[:]), nil
	}
	if s.slot != nil {
		<-s.slot
		defer func() { s.slot <- struct{}{} }()
	}
	return s.Conn.Read(p)
}

// Write implements net.Conn. The deadline counts for each write, so that a slow peer
// that does take bytes is not closed, and so that one which was set long ago ends
// nothing. It is set anew rarely, because setting it costs as much as a small write.
func (s *socket) Write(p []byte) (int, error) {
	if s.timeout > 0 && !s.ending {
		now := time.Now()
		if slack := s.timeout / 8; s.written.IsZero() || now.Sub(s.written) > slack {
			s.written = now
			if err := s.Conn.SetWriteDeadline(now.Add(s.timeout + slack)); err != nil {
				return 0, err
			}
		}
	}
	return s.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn. TLS calls it when it says goodbye.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.ending = true
	return s.Conn.SetWriteDeadline(t)
}

func newConn(s *Server, id uint64, raw net.Conn) *conn {
	c := &conn{server: s, id: id, since: time.Now(), raw: &socket{Conn: raw}}
	c.changed.L = &c.mu
	c.tls = tls.Server(c.raw, s.tls)
	return c
}

// identified makes the connection one of those that count as open, unless the server
// has begun to stop meanwhile or the identity has too many.
func (c *conn) identified(id sealmq.Identity, leaf *x509.Certificate) (refusal, error) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return refusedOther, errors.New("the server is stopping")
	}
	c.identity, c.serial = id, mtls.Serial(leaf)
	most := s.limits.ConnectionsPerIdentity
	var ok bool
	if c.account, ok = s.memory.join(id.Issuer+"\x00"+id.ID, most); !ok {
		return refusedCrowd, fmt.Errorf("too many connections of this identity, the limit is %d", most)
	}
	c.in.account = c.account
	s.open++
	s.metrics.opened.Add(1)
	c.mu.Lock()
	c.known = true
	c.mu.Unlock()
	return 0, nil
}

func (c *conn) log() *slog.Logger {
	log := c.server.log.With("conn", c.id)
	if c.identity.ID != "" {
		log = log.With("client", c.identity.ID)
	}
	return log
}

// serve reads until the connection ends, and cleans up.
func (c *conn) serve() {
	defer c.contain()
	err := c.read()
	if c.isDraining() {
		c.flush()
	}
	why := c.end(err)
	c.server.metrics.closed[why].Add(1)
	c.log().Info("connection closed", "reason", why.String(), "took", time.Since(c.since).Round(time.Millisecond))
	c.finish()
}

// read moves what arrives into the session. It returns nil when the peer or a drain
// ended the conversation.
func (c *conn) read() error {
	var session Session
	for {
		if session != nil && !session.Ready() {
			return net.ErrClosed
		}
		n, err := c.tls.Read(c.in.free())
		if n > 0 {
			c.bytesIn.Add(uint64(n))
			c.server.metrics.bytesIn.Add(uint64(n))
			if session == nil {
				session = c.begun(c.in.buf[0])
			}
			if !c.take(session, n) {
				return net.ErrClosed
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.isDraining():
			c.calm(session)
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return err
		}
	}
}

// begun opens the session at the first byte: a connection that never speaks has none.
func (c *conn) begun(first byte) Session {
	session, protocol := c.server.openSession(first, Peer{
		Identity: c.identity,
		Wake:     c.wake,
		Peers:    c.server,
		Memory:   c.account,
		Panicked: c.panickedElsewhere,
		Log:      c.log(),
	})
	c.mu.Lock()
	c.session, c.protocol = session, protocol
	aborted := c.why != closedNot
	c.mu.Unlock()
	if aborted {
		session.Close()
	}
	c.wake() // it may have spoken before it had a place
	return session
}

// take gives the session what was read. It returns false once the session is closed.
func (c *conn) take(session Session, n int) bool {
	c.in.received(n)
	for {
		used, more := session.Input(c.in.data())
		c.in.discard(used)
		if !more {
			break
		}
		if !session.Ready() {
			return false
		}
	}
	grown, ok := c.in.settle()
	if !ok {
		session.NoRoom()
		c.in.discard(c.in.n)
	}
	if grown {
		c.arm()
	}
	return true
}

// calmAfter is how long a connection that was busy may keep a large read buffer.
const calmAfter = 5 * time.Second

// arm sets the deadline at which calm is called.
func (c *conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining {
		_ = c.raw.SetReadDeadline(time.Now().Add(calmAfter))
	}
}

// calm is called when calmAfter has passed: a connection that was silent meanwhile
// gives its memory back.
func (c *conn) calm(session Session) {
	if c.in.busy {
		c.in.busy = false
		c.arm()
		return
	}
	if !c.in.shrink() {
		c.arm() // in the middle of something large
		return
	}
	c.mu.Lock()
	if !c.draining {
		_ = c.raw.SetReadDeadline(time.Time{})
	}
	c.mu.Unlock()
	if session != nil {
		session.Quiet()
	}
}

// drain makes the connection end once everything is answered.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	session := c.session
	known := c.known
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.mu.Unlock()
	if session != nil {
		session.Drain()
	}
	if !known {
		c.abort(closedByServer)
	}
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// flush waits until everything that was accepted is answered and written.
func (c *conn) flush() {
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	if session == nil {
		return
	}
	session.Drain()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.why == closedNot && (c.writing || !session.Drained()) {
		c.changed.Wait()
	}
}

// abort closes the socket at once. The goroutine that reads cleans up.
func (c *conn) abort(why closing) {
	c.mu.Lock()
	if c.why != closedNot {
		c.mu.Unlock()
		return
	}
	c.why = why
	session := c.session
	c.changed.Broadcast()
	c.mu.Unlock()
	_ = c.raw.Close()
	if session != nil {
		session.Close() // whoever waits for it must not wait for the peer
	}
}

// end closes the connection politely, with close_notify, unless it is closed already.
// A peer that sent its own waits for ours (specification R7).
func (c *conn) end(err error) closing {
	c.mu.Lock()
	if c.why == closedNot {
		switch {
		case c.draining:
			c.why = closedByServer
		case err == nil:
			c.why = closedByPeer
		default:
			c.why = closedBroken
		}
		c.changed.Broadcast()
	}
	why, session := c.why, c.session
	c.mu.Unlock()
	if session != nil {
		session.Close()
	}
	_ = c.tls.Close()
	return why
}

// finish gives the connection's place free. It is the last thing its goroutine does.
func (c *conn) finish() {
	c.in.release()
	c.account.close()
	c.server.remove(c)
	c.server.running.Done()
}

// contain ends the connection, and nothing else, when its own code panics.
func (c *conn) contain() {
	v := recover()
	if v == nil {
		return
	}
	c.panicked(v, debug.Stack())
	c.abort(closedPanic)
	c.server.metrics.closed[closedPanic].Add(1)
	c.finish()
}

// panicked says that the connection has a defect, which may show on several goroutines;
// the first tells enough.
func (c *conn) panicked(v any, stack []byte) {
	if !c.defect.Swap(true) {
		c.server.metrics.panics.Add(1)
		c.log().Error("connection panicked", "panic", v, "stack", string(stack))
	}
}

// panickedElsewhere is for a goroutine of the broker, which may hold what closing needs.
func (c *conn) panickedElsewhere(v any, stack []byte) {
	c.panicked(v, stack)
	go c.abort(closedPanic)
}

// describe is the connection as operators see it.
func (c *conn) describe() text.Connection {
	d := text.Connection{
		ID:       c.id,
		Client:   c.identity.ID,
		Issuer:   c.identity.Issuer,
		Role:     string(c.identity.Role),
		Serial:   c.serial,
		Address:  c.raw.RemoteAddr().String(),
		Since:    c.since.UTC().Truncate(time.Millisecond),
		BytesIn:  c.bytesIn.Load(),
		BytesOut: c.bytesOut.Load(),
	}
	c.mu.Lock()
	session := c.session
	d.Protocol = c.protocol
	c.mu.Unlock()
	if session != nil {
		d.Commands, d.Unacked = session.Commands(), session.Unacked()
	}
	return d
}
