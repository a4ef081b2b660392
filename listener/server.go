package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/protocol/text"
)

// Config is what a Server needs: Addr or Listener, TLS, Identify and Broker.
type Config struct {
	// Addr is the TCP address to listen on; port 0 picks one.
	Addr string
	// Listener is used instead of Addr. The server closes it.
	Listener net.Listener
	// TLS must require and verify client certificates.
	TLS *tls.Config
	// Identify tells who a verified peer is; an error closes the connection.
	Identify func(tls.ConnectionState) (sealmq.Identity, error)
	Broker   *broker.Broker
	// Protocols are those that are spoken besides the line protocol.
	Protocols []Protocol
	// Log gets the life of connections; nil discards.
	Log *slog.Logger
	// Clock is what sessions measure with; nil is the machine's. Deadlines on sockets are
	// always the machine's.
	Clock clock.Clock
	// Metrics and TextMetrics are what is counted into; nil counts for nobody.
	Metrics     *Metrics
	TextMetrics *text.Metrics
	Limits      Limits
	// Session bounds each conversation in the line protocol.
	Session text.Limits
}

// Limits bound the listener. Zero fields mean the defaults.
type Limits struct {
	// Connections is how many may be open, those that have not shown who they are
	// included. More are closed without a byte. Default 10,000.
	Connections int
	// ConnectionsPerIdentity is how many of them one identity may have. Default half.
	ConnectionsPerIdentity int
	// Memory is how many bytes all connections together may hold in read buffers, replies
	// and deliveries that are not written, besides a few KiB for each. Default 256 MiB.
	Memory int64
	// Handshakes is how many handshakes may be under way; more wait for their turn. A
	// peer that has not sent a byte needs none. Default 256.
	Handshakes int
	// HandshakeTimeout is the time from accept to the end of the handshake. Default 5 s.
	HandshakeTimeout time.Duration
	// WriteTimeout closes a peer that takes no bytes for so long. Default 60 s.
	WriteTimeout time.Duration
}

// Default limits.
const (
	DefaultConnections      = 10_000
	DefaultMemory           = 256 << 20
	DefaultHandshakes       = 256
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultWriteTimeout     = 60 * time.Second
)

func (l Limits) withDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = DefaultConnections
	}
	if l.ConnectionsPerIdentity <= 0 {
		l.ConnectionsPerIdentity = max(l.Connections/2, 1)
	}
	if l.Memory <= 0 {
		l.Memory = DefaultMemory
	}
	if l.Handshakes <= 0 {
		l.Handshakes = DefaultHandshakes
	}
	if l.HandshakeTimeout <= 0 {
		l.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if l.WriteTimeout <= 0 {
		l.WriteTimeout = DefaultWriteTimeout
	}
	return l
}

// Server accepts connections. Its methods are safe for concurrent use.
type Server struct {
	cfg        Config
	listener   net.Listener
	tls        *tls.Config
	log        *slog.Logger
	metrics    *Metrics
	limits     Limits
	memory     *memory
	handshakes chan struct{} // a slot for each handshake under way
	stop       chan struct{} // closed when no more connections are wanted

	mu      sync.Mutex
	conns   map[uint64]*conn
	lastID  uint64
	open    int // of conns, those that have shown who they are
	stopped bool
	plain   seldom         // lines about peers that do not speak TLS
	crowded seldom         // about identities that have too many connections
	running sync.WaitGroup // goroutines of connections, and Serve
}

// Listen binds the address. Nothing is accepted before Serve; a port in use is an
// error here.
func Listen(cfg Config) (*Server, error) {
	switch {
	case cfg.TLS == nil || cfg.TLS.ClientAuth != tls.RequireAndVerifyClientCert && cfg.TLS.GetConfigForClient == nil:
		return nil, errors.New("listen: client certificates are not required")
	case cfg.Identify == nil || cfg.Broker == nil:
		return nil, errors.New("listen: no identities or no broker given")
	}
	s := &Server{
		cfg:     cfg,
		tls:     wholeRecords(cfg.TLS),
		log:     cfg.Log,
		metrics: cfg.Metrics,
		limits:  cfg.Limits.withDefaults(),
		stop:    make(chan struct{}),
		conns:   make(map[uint64]*conn),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	if s.cfg.TextMetrics == nil {
		s.cfg.TextMetrics = text.NewMetrics()
	}
	s.handshakes = make(chan struct{}, s.limits.Handshakes)
	s.memory = newMemory(s.limits.Memory)
	s.metrics.memory.Store(s.memory)
	s.metrics.connectionsLimit.Store(int64(s.limits.Connections))
	s.metrics.perIdentityLimit.Store(int64(s.limits.ConnectionsPerIdentity))
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

// wholeRecords makes TLS use records of full size from the start. By default it begins
// with small ones, and a reply to publish_batch would arrive in pieces (specification
// R8).
func wholeRecords(c *tls.Config) *tls.Config {
	if !c.DynamicRecordSizingDisabled {
		c = c.Clone()
		c.DynamicRecordSizingDisabled = true
	}
	choose := c.GetConfigForClient
	if choose == nil {
		return c
	}
	c = c.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen, err := choose(hello)
		if chosen != nil && !chosen.DynamicRecordSizingDisabled {
			chosen = chosen.Clone()
			chosen.DynamicRecordSizingDisabled = true
		}
		return chosen, err
	}
	return c
}

// Addr is the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until ctx is done, or Shutdown or Close is called; then it
// returns nil. Connections that are open stay so. An error means that accepting is not
// possible any more.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
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
	if !s.stopped {
		s.stopped = true
		close(s.stop)
		_ = s.listener.Close()
	}
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
