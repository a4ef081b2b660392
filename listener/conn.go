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
	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/protocol"
)

// conn is one connection. One goroutine reads while it is open. Another one writes, and
// exists only while there is something to write, because most connections are idle most of
// the time.
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
	pushPause time.Duration // of the goroutine that writes: its last pause for want of memory

	bytesIn, bytesOut atomic.Uint64
	hasPanicked       atomic.Bool
	stalled           atomic.Bool // the peer took no bytes for too long

	// mu is a leaf: nothing is called while it is held except Session.Drained and
	// deadlines.
	mu       sync.Mutex
	changed  sync.Cond        // the writing ended, the conversation is over, or the socket is closed
	session  protocol.Session // nil until the protocol is known; then never changed
	protocol string
	known    bool // identified was called
	writing  bool // there is a goroutine that writes
	again    bool // it must ask the session once more before it ends
	draining bool
	over     bool        // the conversation is over: Session.Output said so, or the peer has stalled
	timer    *time.Timer // wakes when Session.Tick asked for it; nil until it does
	why      closing     // not zero once the socket is closed
	// stopExpiry stops the timer of the certificate's end; nil before the peer is known.
	stopExpiry func()
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{server: s, since: time.Now(), raw: &socket{Stranger: connlimit.Stranger{Conn: raw}}}
	c.changed.L = &c.mu
	c.tls = tls.Server(c.raw, s.cfg.TLS)
	return c
}

// identified counts the connection as open, unless the server is stopping, or there are too
// many connections, in all or of the identity.
func (c *conn) identified(id sealmq.Identity, leaf *x509.Certificate) (refusal, error) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Err() != nil {
		return refusedOther, errors.New("the server is stopping")
	}
	c.identity, c.serial = id, mtls.Serial(leaf)
	if left := s.banned(&id); left > 0 {
		return refusedBanned, fmt.Errorf("an administrator has banned this identity for %v", left.Round(time.Second))
	}
	most := s.limits.Connections
	if id.Role == sealmq.RoleAdmin {
		most += reservedForAdmins
	}
	if s.open >= most {
		return refusedLimit, fmt.Errorf("too many connections, the limit is %d", s.limits.Connections)
	}
	most = s.limits.ConnectionsPerIdentity
	var ok bool
	if c.memory, ok = s.memory.Join(nameOf(&id), most); !ok {
		return refusedCrowd, fmt.Errorf("too many connections of this identity, the limit is %d", most)
	}
	c.in.memory = c.memory
	s.open++
	c.raw.Place.Leave()
	s.metrics.opened.Inc()
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
	defer c.contain(c.finishPanicked)
	err := c.read()
	switch draining, over := c.ending(); {
	case over:
		c.linger()
	case draining:
		c.waitDrained()
	}
	why := c.end(err)
	c.server.metrics.closed[why].Inc()
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
			c.server.metrics.bytesIn.Add(float64(n))
			c.in.received(n)
			if session == nil {
				var err error
				if session, err = c.openSession(); err != nil {
					return err
				}
			}
			if session != nil && !c.passInput(session) {
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

// openSession begins the conversation in the protocol that the first bytes choose. It
// returns nil while they leave it open.
func (c *conn) openSession() (protocol.Session, error) {
	p, undecided := choose(c.server.cfg.Protocols, c.in.data())
	switch {
	case undecided:
		return nil, nil
	case p == nil:
		return nil, errNoProtocol
	}
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
	return session, nil
}

// passInput gives the session what was read. It returns false once the session is closed.
func (c *conn) passInput(session protocol.Session) bool {
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

// contain ends only this connection when its code panics, and then calls after.
func (c *conn) contain(after func()) {
	if v := recover(); v != nil {
		c.panicked(v, debug.Stack())
		c.abort(closedPanic)
		after()
	}
}

// finishPanicked is for the goroutine that reads.
func (c *conn) finishPanicked() {
	c.server.metrics.closed[closedPanic].Inc()
	c.finish()
}

// panicked reports a panic. Several goroutines may panic for one reason; the first report
// is enough.
func (c *conn) panicked(v any, stack []byte) {
	if !c.hasPanicked.Swap(true) {
		c.server.metrics.panics.Inc()
		c.log().Error("connection panicked", "panic", v, "stack", string(stack))
	}
}

// panickedElsewhere is for a goroutine of the broker, which may hold a lock that closing
// needs.
func (c *conn) panickedElsewhere(v any, stack []byte) {
	c.panicked(v, stack)
	go c.abort(closedPanic)
}
