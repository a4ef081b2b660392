package listener

import (
	"bytes"
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
	"github.com/sealmq/sealmq/protocol"
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
	memory   *protocol.Memory

	in        readBuffer    // of the goroutine that reads
	pushPause time.Duration // of the goroutine that writes: how long it waited last for memory

	bytesIn, bytesOut atomic.Uint64
	defect            atomic.Bool // it has panicked

	// mu is a leaf: nothing is called while it is held except Session.Drained and
	// deadlines.
	mu       sync.Mutex
	changed  sync.Cond        // writing ended, the conversation is over, or closed
	session  protocol.Session // nil until the protocol is known; then never changed
	protocol string
	known    bool // identified was called
	writing  bool // there is a goroutine that writes
	again    bool // it must look once more before it ends
	draining bool
	over     bool        // the session has said its last words
	timer    *time.Timer // wakes when Session.Tick asked for it; nil until it does
	why      closing     // not zero once the socket is closed
}

func newConn(s *Server, id uint64, raw net.Conn) *conn {
	c := &conn{server: s, id: id, since: time.Now(), raw: &socket{Conn: raw}}
	c.changed.L = &c.mu
	c.tls = tls.Server(c.raw, s.cfg.TLS)
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
	if c.memory, ok = s.memory.Join(id.Issuer+"\x00"+id.ID, most); !ok {
		return refusedCrowd, fmt.Errorf("too many connections of this identity, the limit is %d", most)
	}
	c.in.memory = c.memory
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
	switch draining, over := c.ending(); {
	case over:
		c.linger()
	case draining:
		c.flush()
	}
	why := c.end(err)
	c.server.metrics.closed[why].Add(1)
	c.log().Info("connection closed", "reason", why.String(), "took", time.Since(c.since).Round(time.Millisecond))
	c.finish()
}

// errNoProtocol says that a conversation begins like none that is known.
var errNoProtocol = errors.New("the first bytes are of no known protocol")

// read moves what arrives into the session. It returns nil when the peer, the session or
// a drain ended the conversation.
func (c *conn) read() error {
	var session protocol.Session // nil until the protocol is known
	for {
		if session != nil && !session.Ready() {
			return net.ErrClosed
		}
		n, err := c.tls.Read(c.in.free())
		if n > 0 {
			c.bytesIn.Add(uint64(n))
			c.server.metrics.bytesIn.Add(uint64(n))
			c.in.received(n)
			if session == nil {
				p, undecided := choose(c.server.cfg.Protocols, c.in.data())
				switch {
				case undecided:
				case p == nil:
					return errNoProtocol
				default:
					session = c.openSession(p)
				}
			}
			if session != nil && !c.take(session) {
				return net.ErrClosed
			}
		}
		switch draining, over := c.ending(); {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && !draining && !over:
			c.onIdle(session)
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return err
		}
	}
}

// choose returns the protocol of a conversation that begins with first, nil if there is
// none. undecided says that bytes to come may lead to another one.
func choose(protocols []protocol.Protocol, first []byte) (best *protocol.Protocol, undecided bool) {
	for i := range protocols {
		p := &protocols[i]
		switch {
		case !bytes.HasPrefix(first, p.Prefix):
			undecided = undecided || bytes.HasPrefix(p.Prefix, first)
		case best == nil || len(p.Prefix) > len(best.Prefix):
			best = p
		}
	}
	return best, undecided
}

// openSession begins the conversation: a connection that never speaks has no session.
func (c *conn) openSession(p *protocol.Protocol) protocol.Session {
	session := p.Open(protocol.Peer{
		Identity: c.identity,
		Conn:     c.id,
		Wake:     c.wake,
		Peers:    c.server,
		Memory:   c.memory,
		Panicked: c.panickedElsewhere,
		Log:      c.log(),
	})
	c.mu.Lock()
	c.session, c.protocol = session, p.Name
	aborted := c.why != closedNot
	c.mu.Unlock()
	if aborted {
		session.Close()
	}
	c.wake() // it may have called Wake before it was known here
	return session
}

// take gives the session what was read. It returns false once the session is closed.
func (c *conn) take(session protocol.Session) bool {
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

// idleAfter is how long a connection that was busy may keep a large read buffer.
const idleAfter = 5 * time.Second

// arm sets the deadline at which onIdle is called.
func (c *conn) arm() { c.readUntil(time.Now().Add(idleAfter)) }

// readUntil sets the deadline for reading, unless the connection is about to end.
func (c *conn) readUntil(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining && !c.over {
		_ = c.raw.SetReadDeadline(t)
	}
}

// onIdle is called when idleAfter has passed: a connection that was silent meanwhile
// gives its memory back.
func (c *conn) onIdle(session protocol.Session) {
	if c.in.busy {
		c.in.busy = false
		c.arm()
		return
	}
	if !c.in.shrink() {
		c.arm() // in the middle of something large
		return
	}
	c.readUntil(time.Time{})
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

// ending tells whether the server or the session wants the connection to end.
func (c *conn) ending() (draining, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining, c.over
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
	for c.why == closedNot && !c.over && (c.writing || !session.Drained()) {
		c.changed.Wait()
	}
}

// hangUp is called when the session's last words are written. The goroutine that reads
// closes the connection.
func (c *conn) hangUp() {
	c.mu.Lock()
	c.over = true
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.changed.Broadcast()
	c.mu.Unlock()
	c.session.Close()
	_ = c.tls.CloseWrite()
}

// lingerTime is how long a peer has to close its side after the session's last words.
const lingerTime = 2 * time.Second

// linger skips what the peer still sends: to close a socket with unread bytes resets it,
// and the peer might lose the last words.
func (c *conn) linger() {
	c.mu.Lock()
	draining := c.draining
	if !draining {
		_ = c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	}
	c.mu.Unlock()
	for err := error(nil); err == nil && !draining; {
		c.in.discard(c.in.n)
		_, err = c.tls.Read(c.in.free())
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
		session.Close() // so that Ready does not wait for the peer
	}
}

// end closes the connection with close_notify, unless it is closed already. A peer that
// sent its own waits for ours (specification R7).
func (c *conn) end(err error) closing {
	c.mu.Lock()
	if c.why == closedNot {
		switch {
		case c.over:
			c.why = closedBySession
		case c.draining:
			c.why = closedByServer
		case errors.Is(err, errNoProtocol):
			c.why = closedUnknown
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

// finish removes the connection from the table. It is the last thing its goroutine does.
func (c *conn) finish() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	c.in.release()
	c.memory.Close()
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

// panicked reports a defect once, which may show on several goroutines.
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
func (c *conn) describe() protocol.Connection {
	d := protocol.Connection{
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
