package httpkit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/mtls"
)

// connection is what a connection keeps. Its requests may run at the same time (HTTP/2).
type connection struct {
	raw      net.Conn
	place    *connlimit.Conn
	live     *mtls.Live
	peer     atomic.Pointer[peer]
	stopping context.Context // ends when the server stops
	work     *sync.RWMutex   // held by what Outlive has begun, of all connections

	mu       sync.Mutex
	nameless bool   // its peer has shown no certificate
	idle     bool   // no request runs
	ending   bool   // its peer is not accepted any more
	remove   func() // takes it out of the registry; nil if it is not in it
}

type connectionKey struct{}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// Stopping is a context that ends when the server of a request stops: a handler that waits for
// something must answer then. It never ends if the request came without a server.
func Stopping(ctx context.Context) context.Context {
	if c := connectionOf(ctx); c != nil {
		return c.stopping
	}
	return context.Background()
}

// Outlive begins work that goes on after the answer to a request, until done is called. Shutdown
// waits for it; it must end soon when Stopping does. Nothing waits if the request came without a
// server.
func Outlive(ctx context.Context) (done func()) {
	c := connectionOf(ctx)
	if c == nil {
		return func() {}
	}
	c.work.RLock()
	return c.work.RUnlock
}

// register puts the connection into the registry, so that it ends when its peer is not
// accepted any more, whatever its requests are for. If the peer is not accepted now, its
// requests are refused by their own check. The lock is held.
func (c *connection) register() {
	conn, ok := c.raw.(*tls.Conn)
	if !ok || c.nameless || c.remove != nil {
		return
	}
	cs := conn.ConnectionState()
	if c.nameless = len(cs.PeerCertificates) == 0; c.nameless {
		return
	}
	if _, remove, err := c.live.Add(cs, c.end); err == nil {
		c.remove = remove
		c.place.Known()
	}
}

// end closes the connection once no request runs, and soon in any case. Requests that come
// first are refused by their own check.
func (c *connection) end(error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	c.peer.Store(nil) // it may have another role now
	if c.idle {
		c.closeSoon()
		return
	}
	time.AfterFunc(lastRequest, func() { c.raw.Close() })
}

// lastRequest is how long a request may go on when its connection ends. A body that comes slowly
// would otherwise be taken from a peer that is not accepted any more.
const lastRequest = 5 * time.Second

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
		c.register()
	case http.StateIdle:
		c.place.Idle()
		if c.ending {
			c.closeSoon()
		}
	case http.StateClosed, http.StateHijacked:
		if c.remove != nil {
			c.remove()
			c.remove = nil
		}
	}
}

// Recheck closes the connections of peers that are not accepted any more: those without a
// running request at once, the others after it. Call it after each change of what is revoked.
func (rt *Router) Recheck() { rt.live.Recheck() }

// EachPeer calls f with the certificate and the identity of each open connection that has made
// a request and has shown a certificate. f must not block.
func (rt *Router) EachPeer(f func(leaf *x509.Certificate, id sealmq.Identity)) { rt.live.Each(f) }
