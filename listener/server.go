package listener

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/protocol"
)

// Config is what a Server needs: Addr or Listener, TLS, Identify and Protocols.
type Config struct {
	// Addr is the TCP address to listen on; port 0 picks one.
	Addr string
	// Listener is used instead of Addr. The server closes it.
	Listener net.Listener
	// TLS must require and verify client certificates, and should use full-size records
	// from the start, as package mtls has it: a reply in two records may reach a client
	// that expects it in one read.
	TLS *tls.Config
	// Identify returns the identity of a verified peer; an error closes the connection. Recheck calls
	// it again for open ones.
	Identify func(tls.ConnectionState) (sealmq.Identity, error)
	// Refused is called for each connection that is not let in because of its peer's
	// certificate, on a goroutine of its own. It may be nil.
	Refused func(remote net.Addr, cs tls.ConnectionState, err error)
	// Protocols are what is spoken; the first bytes of a conversation choose one of them.
	Protocols []protocol.Protocol
	// Log gets the life of connections; nil discards.
	Log *slog.Logger
	// Metrics are counters that the caller registers; nil counts nothing.
	Metrics *Metrics
	Limits  Limits
}

// Limits bound the listener. Zero fields mean the defaults.
type Limits struct {
	// Connections is the maximum number of open connections whose identity is known. A few
	// more are reserved for administrators. Further peers are told why they are turned away.
	// Default 10,000.
	Connections int
	// ConnectionsPerIdentity is how many of them one identity may have. Default half.
	ConnectionsPerIdentity int
	// Unidentified is the maximum number of other connections: those that have not finished
	// their handshake. At the limit a new one takes the place of one that keeps the server
	// waiting: of the address that has the most of them, and there the one that has been
	// silent for longest. Default as many as Connections, but from 64 to 10,000.
	Unidentified int
	// Memory is how many bytes all connections together may hold in read buffers and in
	// replies and deliveries that are not written. A few KiB for each connection are not
	// counted. Default 256 MiB.
	Memory int64
	// Handshakes is how many handshakes may be under way, half of them with one address;
	// further ones wait. A peer that has not sent a byte is not counted. Default 256.
	Handshakes int
	// HandshakeTimeout is the time from accept to the end of the handshake. Default 5 s.
	HandshakeTimeout time.Duration
	// WriteTimeout is how long a peer may take no bytes before it is closed. Default 60 s.
	WriteTimeout time.Duration
}

// Default limits.
const (
	DefaultConnections      = 10_000
	minUnidentified         = 64
	DefaultMemory           = 256 << 20
	DefaultHandshakes       = 256
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultWriteTimeout     = 60 * time.Second
)

func (l Limits) withDefaults() Limits {
	l.Connections = cmp.Or(max(l.Connections, 0), DefaultConnections)
	l.ConnectionsPerIdentity = cmp.Or(max(l.ConnectionsPerIdentity, 0), l.Connections/2, 1)
	l.Unidentified = cmp.Or(max(l.Unidentified, 0), min(max(l.Connections, minUnidentified), DefaultConnections))
	l.Memory = cmp.Or(max(l.Memory, 0), DefaultMemory)
	l.Handshakes = cmp.Or(max(l.Handshakes, 0), DefaultHandshakes)
	l.HandshakeTimeout = cmp.Or(max(l.HandshakeTimeout, 0), DefaultHandshakeTimeout)
	l.WriteTimeout = cmp.Or(max(l.WriteTimeout, 0), DefaultWriteTimeout)
	return l
}

// reservedForAdmins is how many connections administrators have beside those of the limit, so
// that they can see what fills it.
const reservedForAdmins = 8

// Server accepts connections. Its methods are safe for concurrent use.
type Server struct {
	cfg        Config
	listener   net.Listener
	log        *slog.Logger
	metrics    *Metrics
	limits     Limits
	memory     *protocol.Budget
	handshakes connlimit.Handshakes
	// unidentified has the connections of conns whose identity is not known.
	unidentified *connlimit.Table
	stopping     context.Context // done when no more connections are wanted
	cancel       context.CancelFunc

	rechecks atomic.Uint64 // calls of Recheck

	mu      sync.Mutex
	conns   map[uint64]*conn
	bans    map[string]time.Time // when each ends; see nameOf
	lastID  uint64
	open    int // of conns, those whose identity is known
	seldom  [refusals]seldom
	running sync.WaitGroup // goroutines of connections, and Serve
}

// Listen binds the address. Nothing is accepted before Serve; a port in use is an
// error here.
func Listen(cfg Config) (*Server, error) {
	switch {
	case cfg.TLS == nil || cfg.TLS.ClientAuth != tls.RequireAndVerifyClientCert && cfg.TLS.GetConfigForClient == nil:
		return nil, errors.New("listen: client certificates are not required")
	case cfg.Identify == nil:
		return nil, errors.New("listen: no identities given")
	}
	if err := checkProtocols(cfg.Protocols); err != nil {
		return nil, err
	}
	s := &Server{
		cfg:     cfg,
		log:     cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		metrics: cmp.Or(cfg.Metrics, NewMetrics()),
		limits:  cfg.Limits.withDefaults(),
		conns:   make(map[uint64]*conn),
		bans:    make(map[string]time.Time),
	}
	s.stopping, s.cancel = context.WithCancel(context.Background())
	s.handshakes = connlimit.NewHandshakes(s.limits.Handshakes)
	s.unidentified = connlimit.New(s.limits.Unidentified, s.limits.HandshakeTimeout)
	s.metrics.unidentified.Store(s.unidentified)
	s.metrics.unidentifiedLimit.Set(float64(s.limits.Unidentified))
	s.memory = protocol.NewBudget(s.limits.Memory)
	s.metrics.memory.Store(s.memory)
	s.metrics.connectionsLimit.Set(float64(s.limits.Connections))
	s.metrics.perIdentityLimit.Set(float64(s.limits.ConnectionsPerIdentity))
	s.listener = cfg.Listener
	if s.listener == nil {
		l, err := net.Listen("tcp", cfg.Addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", cfg.Addr, err)
		}
		s.listener = l
	}
	return s, nil
}

func checkProtocols(list []protocol.Protocol) error {
	if len(list) == 0 {
		return errors.New("listen: no protocols given")
	}
	for i, p := range list {
		if p.Open == nil || len(p.Prefix) > protocol.MaxPrefix {
			return fmt.Errorf("listen: protocol %s has no Open, or its prefix is longer than %d bytes", p.Name, protocol.MaxPrefix)
		}
		for _, other := range list[:i] {
			if bytes.Equal(p.Prefix, other.Prefix) {
				return fmt.Errorf("listen: protocols %s and %s begin alike", other.Name, p.Name)
			}
		}
	}
	return nil
}

// SetConnections changes Limits.Connections and Limits.ConnectionsPerIdentity. Connections that
// are open stay so.
func (s *Server) SetConnections(all, perIdentity int) {
	l := Limits{Connections: all, ConnectionsPerIdentity: perIdentity}.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits.Connections, s.limits.ConnectionsPerIdentity = l.Connections, l.ConnectionsPerIdentity
	s.metrics.connectionsLimit.Set(float64(l.Connections))
	s.metrics.perIdentityLimit.Set(float64(l.ConnectionsPerIdentity))
}

// Addr is the address of the listener.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until ctx is done, or Shutdown or Close is called; then it
// returns nil. Connections that are open stay so. An error means that accepting is not
// possible any more.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	if s.stopping.Err() != nil {
		s.mu.Unlock()
		return nil
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	release := context.AfterFunc(ctx, s.stopAccepting)
	defer release()
	return s.accept()
}

func (s *Server) stopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	_ = s.listener.Close()
}

// Shutdown stops accepting and reading, answers what was accepted, and closes all
// connections. When ctx is done first it closes those that are left and returns
// ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopAccepting()
	for _, c := range s.all() {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		_ = s.Close()
		<-done
		return ctx.Err()
	}
}

// Close stops accepting, closes all connections at once and waits for their
// goroutines. It may be called twice.
func (s *Server) Close() error {
	s.stopAccepting()
	for _, c := range s.all() {
		c.abort(closedByServer)
	}
	s.running.Wait()
	return nil
}
