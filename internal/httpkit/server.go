package httpkit

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/mtls"
)

// Limits bound what peers of a listener can hold. Zero values are the defaults.
type Limits struct {
	// MaxConnections is how many connections are open at once (default
	// DefaultMaxConnections). A further one takes the place of one without a running request,
	// of peers without a certificate first, or waits until there is one.
	MaxConnections int
	// Handshakes is how many handshakes run at once, half of them with one address (default two
	// for each processor, at least 8). One that waits for its peer is not counted, so more would
	// only share the processors.
	Handshakes int
	// MaxStreams is how many requests of one HTTP/2 connection run at once (default 256).
	MaxStreams int
	// HeaderTimeout bounds the handshake, and reading the header of a request (default 10 s).
	HeaderTimeout time.Duration
	// ReadTimeout bounds reading a request with its body (default 30 s).
	ReadTimeout time.Duration
	// WriteTimeout bounds a request from the end of its header to the end of its answer
	// (default 60 s). A handler of a stream sets a deadline for each write instead
	// (http.ResponseController).
	WriteTimeout time.Duration
	// IdleTimeout bounds the time between two requests of a connection (default 120 s).
	IdleTimeout time.Duration
	// RequestTimeout is how long a request may hold a place that another connection needs
	// (default 10 s).
	RequestTimeout time.Duration
}

// DefaultMaxConnections is how many connections a listener has if nothing else is said.
const DefaultMaxConnections = 4096

const (
	// maxHeaderBytes bounds the header of a request.
	maxHeaderBytes = 16 << 10
	// receiveBuffer bounds what an HTTP/2 peer can send before a handler has read it.
	receiveBuffer = 256 << 10
)

func (l Limits) withDefaults() Limits {
	return Limits{
		MaxConnections: cmp.Or(l.MaxConnections, DefaultMaxConnections),
		Handshakes:     cmp.Or(l.Handshakes, max(8, 2*runtime.GOMAXPROCS(0))),
		MaxStreams:     cmp.Or(l.MaxStreams, 256),
		HeaderTimeout:  cmp.Or(l.HeaderTimeout, 10*time.Second),
		ReadTimeout:    cmp.Or(l.ReadTimeout, 30*time.Second),
		WriteTimeout:   cmp.Or(l.WriteTimeout, time.Minute),
		IdleTimeout:    cmp.Or(l.IdleTimeout, 2*time.Minute),
		RequestTimeout: cmp.Or(l.RequestTimeout, 10*time.Second),
	}
}

// Server is an HTTPS listener.
type Server struct {
	listener *tlsListener
	http     *http.Server
	live     *mtls.Live
	refused  func(remote net.Addr, cs tls.ConnectionState, err error) // may be nil
	open     atomic.Int64
	// connections has a *connection for each open net.Conn.
	connections sync.Map
	stop        context.CancelFunc // ends what Stopping returns
	stopping    context.Context
	work        sync.RWMutex // held by what Outlive has begun
}

// Listen binds an address. The TLS configuration is mtls.HTTPSConfig's, with AnswerRevoked
// so that revoked clients get an answer. Serve must follow.
func Listen(addr string, conf *tls.Config, rt *Router, limits Limits) (*Server, error) {
	if conf == nil {
		return nil, errors.New("an HTTPS listener needs a TLS configuration")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", rt.cfg.Component, err)
	}
	limits = limits.withDefaults()
	bounded := connlimit.Listen(l, limits.MaxConnections, limits.RequestTimeout)
	s := &Server{listener: listenTLS(bounded, conf, limits), live: rt.live, refused: rt.cfg.Refused}
	rt.metrics.listen(bounded, limits.MaxConnections)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           rt,
		TLSConfig:         conf,
		ReadHeaderTimeout: limits.HeaderTimeout,
		ReadTimeout:       limits.ReadTimeout,
		WriteTimeout:      limits.WriteTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: limits.MaxStreams, MaxReceiveBufferPerConnection: receiveBuffer, MaxReceiveBufferPerStream: receiveBuffer,
			// The time-outs of requests cannot end one whose connection takes nothing.
			WriteByteTimeout: limits.WriteTimeout},
		ErrorLog:    slog.NewLogLogger(rt.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: s.opened,
		ConnState:   s.count,
	}
	return s, nil
}

// opened gives a connection its place for what is known of its peer.
func (s *Server) opened(ctx context.Context, raw net.Conn) context.Context {
	c := &connection{raw: raw, place: connlimit.Of(raw), live: s.live, stopping: s.stopping, work: &s.work}
	s.connections.Store(raw, c)
	return context.WithValue(ctx, connectionKey{}, c)
}

func (s *Server) count(raw net.Conn, state http.ConnState) {
	if c, ok := s.connections.Load(raw); ok {
		c.(*connection).changed(state)
	}
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.connections.Delete(raw)
		s.open.Add(-1)
		s.tellRefused(raw)
	}
}

// tellRefused tells of a connection that has ended if its handshake had failed.
func (s *Server) tellRefused(raw net.Conn) {
	conn, ok := raw.(*tls.Conn)
	if !ok || s.refused == nil {
		return
	}
	if cs := conn.ConnectionState(); !cs.HandshakeComplete {
		// A handshake that has failed is not begun again, but gives its error once more.
		s.refused(raw.RemoteAddr(), cs, conn.Handshake())
	}
}

// Connections is how many connections are open.
func (s *Server) Connections() int { return int(s.open.Load()) }

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until Shutdown or Close, and returns nil then.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTPS: %w", err)
	}
	return nil
}

// Shutdown takes no more requests and waits for those that run, and for the work that they have
// begun. If ctx ends first, it closes their connections and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	err := s.http.Shutdown(ctx)
	s.listener.Close() // also when Serve was never called
	if err != nil {
		s.http.Close()
		return err
	}
	done := make(chan struct{})
	go func() {
		s.work.Lock()
		defer s.work.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops at once.
func (s *Server) Close() error {
	s.stop()
	err := s.http.Close()
	s.listener.Close()
	return err
}
