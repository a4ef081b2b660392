package listener

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// drain ends the connection as soon as everything is answered.
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

// waitDrained waits until everything that was accepted is answered and written.
func (c *conn) waitDrained() {
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

// hangUp is called when the session has ended the conversation and its last bytes are
// written. It makes the goroutine that reads close the connection.
func (c *conn) hangUp() {
	c.mu.Lock()
	c.over = true
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.changed.Broadcast()
	c.mu.Unlock()
	c.session.Close()
	_ = c.tls.CloseWrite()
}

// stall is called by the goroutine that writes when the peer took no bytes for too long. The
// goroutine that reads now skips what the peer sends, so that a peer that sends everything
// before it reads comes to reading, and finds the replies that waited and an error.
func (c *conn) stall() {
	c.stalled.Store(true)
	c.mu.Lock()
	c.over = true
	session := c.session
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	c.changed.Broadcast()
	c.mu.Unlock()
	if session != nil {
		session.Close()
	}
}

// lastWords is how long a peer that has stalled may take for what was written for it.
const lastWords = 5 * time.Second

// lingerTime is how long a peer has to close its side after the session's last bytes, and
// maxSkipped is how much it may send meanwhile.
const (
	lingerTime = 2 * time.Second
	maxSkipped = 64 << 20
)

// linger skips what the peer still sends. Closing a socket with unread bytes resets the
// connection, and the peer might lose the last bytes.
func (c *conn) linger() {
	c.mu.Lock()
	draining := c.draining
	if patience := lingerTime; !draining {
		if c.stalled.Load() {
			patience = lastWords
		}
		_ = c.raw.SetReadDeadline(time.Now().Add(patience))
	}
	c.mu.Unlock()
	skipped := 0
	for err := error(nil); err == nil && !draining && skipped < maxSkipped; {
		n := 0
		c.in.discard(c.in.n)
		n, err = c.tls.Read(c.in.free())
		skipped += n
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
		case c.stalled.Load():
			c.why = closedWrite
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

// endWhenExpired ends the connection together with its certificate.
func (c *conn) endWhenExpired(state tls.ConnectionState) {
	stop := mtls.WhenExpired(state, func() {
		c.log().Info("connection closed: its certificate has expired", "serial", c.serial, "issuer", c.identity.Issuer)
		c.abort(closedExpired)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopExpiry = stop
}

// finish removes the connection from the table. It is the last thing its goroutine does.
func (c *conn) finish() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	stopExpiry := c.stopExpiry
	c.mu.Unlock()
	if stopExpiry != nil {
		stopExpiry()
	}
	c.raw.Place.Leave()
	c.in.release()
	c.memory.Close()
	c.server.remove(c)
	c.server.running.Done()
}
