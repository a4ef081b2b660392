package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
)

// lookAtExpiry bounds how late WhenExpired notices that the time of day was set.
const lookAtExpiry = time.Minute

// WhenExpired calls f, once, when the certificates of a verified peer have expired
// (ValidUntil). stop prevents that if it is called before.
func WhenExpired(cs tls.ConnectionState, f func()) (stop func()) {
	end := ValidUntil(cs)
	if end.IsZero() {
		return func() {}
	}
	var mu sync.Mutex
	var timer *time.Timer
	over := false
	look := func() {
		mu.Lock()
		// A certificate is valid to the end of its last second.
		left := time.Until(end) + time.Millisecond
		expired := !over && left <= 0
		over = over || expired
		if !over {
			timer.Reset(min(left, lookAtExpiry))
		}
		mu.Unlock()
		if expired {
			f()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(min(max(time.Until(end)+time.Millisecond, 0), lookAtExpiry), look)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// Live is a registry of open connections. A revocation closes exactly those that it concerns, and a connection ends
// with its certificate. It is safe for concurrent use.
type Live struct {
	identifier *Identifier

	mu   sync.Mutex
	open map[*liveConn]bool
}

type liveConn struct {
	state tls.ConnectionState
	id    sealmq.Identity
	end   func(why error)
	once  sync.Once
}

// NewLive returns a registry that asks an Identifier about its connections.
func NewLive(i *Identifier) *Live {
	return &Live{identifier: i, open: make(map[*liveConn]bool)}
}

// Add identifies the peer of a connection and keeps it in the registry until remove is
// called. If it is not accepted any more, end is called once with the reason: it must begin
// to close the connection, and must not block. After an error the connection is not in the
// registry.
func (l *Live) Add(cs tls.ConnectionState, end func(why error)) (id sealmq.Identity, remove func(), err error) {
	c := &liveConn{state: cs, end: end}
	// It is put in first, so that no Recheck between the two misses it.
	l.mu.Lock()
	l.open[c] = true
	c.id, err = l.identifier.Identify(cs)
	l.mu.Unlock()
	drop := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.open, c)
	}
	if err != nil {
		drop()
		return sealmq.Identity{}, nil, err
	}
	stop := WhenExpired(cs, func() { c.close(errExpired) })
	return c.id, func() { stop(); drop() }, nil
}

func (c *liveConn) close(why error) { c.once.Do(func() { c.end(why) }) }

// Recheck asks about each peer again, and ends the connections of those that would not be let
// in now or would have another identity. Call it after each change of what is revoked.
func (l *Live) Recheck() {
	ending := make(map[*liveConn]error)
	l.mu.Lock()
	for c := range l.open {
		id, err := l.identifier.Identify(c.state)
		if err == nil && id != c.id {
			err = errOtherIdentity
		}
		if err != nil {
			ending[c] = err
		}
	}
	l.mu.Unlock()
	for c, why := range ending {
		c.close(why)
	}
}

// Each calls f with the certificate and the identity of each connection. f must not call l.
func (l *Live) Each(f func(leaf *x509.Certificate, id sealmq.Identity)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		f(c.state.PeerCertificates[0], c.id)
	}
}

// Len is the number of connections in the registry.
func (l *Live) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

var (
	errExpired       = errors.New("its certificate has expired")
	errOtherIdentity = errors.New("its certificate means another identity now")
)
