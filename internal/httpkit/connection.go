package httpkit

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/connlimit"
)

// connection is what a connection keeps. Its requests may run at the same time (HTTP/2).
type connection struct {
	raw      net.Conn
	place    *connlimit.Conn
	peer     atomic.Pointer[peer]
	stopping <-chan struct{} // closed when the server stops

	mu     sync.Mutex
	idle   bool // no request runs
	ending bool // its peer is not accepted any more
	closed bool
	remove func() // takes it out of the router's registry; nil if it is not in it
}

type connectionKey struct{}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// Stopping is closed when the server of a request stops: a handler that waits for something
// must answer then. It is nil, and never closed, if the request came without one.
func Stopping(ctx context.Context) <-chan struct{} {
	if c := connectionOf(ctx); c != nil {
		return c.stopping
	}
	return nil
}

// identify says whose connection it is, and puts it into the registry, so that it ends when
// its peer is not accepted any more.
func (c *connection) identify(rt *Router, cs tls.ConnectionState) (sealmq.Identity, error) {
	if c == nil {
		return rt.cfg.Identifier.Identify(cs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remove != nil || c.closed {
		return rt.cfg.Identifier.Identify(cs)
	}
	id, remove, err := rt.live.Add(cs, c.end)
	c.remove = remove
	return id, err
}

// end closes the connection once no request runs. Requests that come first are refused by
// their own check.
func (c *connection) end(error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	if c.idle {
		c.closeSoon()
	}
}

// lastWords is how long a connection that ends stays open. Over HTTP/2 the server reports it
// as idle before the end of its last answer has left.
const lastWords = 50 * time.Millisecond

func (c *connection) closeSoon() { time.AfterFunc(lastWords, func() { c.raw.Close() }) }

// changed takes down the state that the HTTP server reports.
func (c *connection) changed(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = state == http.StateIdle
	switch state {
	case http.StateActive:
		c.place.Busy()
	case http.StateIdle:
		c.place.Idle()
		if c.ending {
			c.closeSoon()
		}
	case http.StateClosed, http.StateHijacked:
		c.closed = true
		if c.remove != nil {
			c.remove()
			c.remove = nil
		}
	}
}

// Recheck closes the connections of peers that are not accepted any more: those without a
// running request at once, the others after it. Call it after each change of what is revoked.
// Connections that only had public requests are not known and not closed.
func (rt *Router) Recheck() { rt.live.Recheck() }
