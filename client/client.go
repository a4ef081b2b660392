// Package client talks to a SealMQ broker: it publishes with confirmation, consumes,
// acknowledges and administers over one connection of the line protocol.
//
// It promises:
//
//   - A publish whose callback got nil is stored by the broker. Until then the client
//     keeps its bytes and sends the same bytes again, in order, on each new connection; the
//     broker recognises what it already has. It may have forgotten what is older than its
//     memory or ResendFor: that publish fails, and whether it was stored is not known.
//   - Callbacks run once each, in the order of the publishes.
//   - A subscription survives a lost connection. What was delivered and not acknowledged
//     comes again: a consumer sees each message at least once.
//   - Memory is bounded: by Window and WindowBytes for publishes, by the prefetch for
//     deliveries, by MaxLineBytes for a line. A call that would exceed a bound waits, up to its context.
//
// It keeps nothing on disk and does not seal. Package send seals, and keeps messages until
// they are confirmed; package receive opens messages, and remembers which were taken.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/changes"
	"github.com/sealmq/sealmq/internal/clock"
)

// Defaults of Config.
const (
	DefaultAddr        = "127.0.0.1:5672"
	DefaultWindow      = 1024
	DefaultWindowBytes = 16 << 20
	// DefaultMaxLineBytes is the broker's own limit for a request line.
	DefaultMaxLineBytes = sealmq.MaxLineBytes
	DefaultDialTimeout  = 10 * time.Second
	DefaultHeartbeat    = 30 * time.Second
	DefaultBackoffMin   = 100 * time.Millisecond
	DefaultBackoffMax   = 10 * time.Second
)

// Bounds that are not configured.
const (
	// MaxPendingAcks is how many acknowledgements may wait for their confirmation;
	// Ack waits when they are more.
	MaxPendingAcks = 65_536
	// MaxPendingCommands is how many commands may wait for their reply.
	MaxPendingCommands = 4_096
)

// Config says where the broker is and how to treat the connection. The zero value of a
// field means its default; TLS or Dial must be set.
type Config struct {
	// Addr is host:port (default 127.0.0.1:5672).
	Addr string
	// TLS is the client side of mutual TLS. If its ServerName is empty, the host of
	// Addr is expected in the broker's certificate.
	TLS *tls.Config
	// Name is the client's own name, from its certificate (mtls.NameOf). A broker that calls it
	// otherwise is not connected to (default: any name will do).
	Name string
	// Dial opens the connection under TLS (default: TCP). With TLS nil its connection is
	// used as it is, and Dial answers for its protection. The connection must keep to read
	// deadlines: they are how the client notices a broker that is silent.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// DialTimeout bounds one attempt: connect, handshake and first reply (default 10 s).
	DialTimeout time.Duration

	// Window is how many publishes may wait for their confirm (default 1024).
	Window int
	// WindowBytes bounds the bytes of these publishes (default 16 MiB); a single one
	// may be larger.
	WindowBytes int
	// MaxLineBytes bounds a line in both directions (default 4 MiB). A larger publish is
	// refused with sealmq.ErrTooLarge; a larger line of the broker ends the connection.
	// Replies that list many objects may need more.
	MaxLineBytes int

	// Heartbeat is the time without traffic in either direction after which the broker is
	// pinged (default 30 s, at most twice that). If nothing comes for the same time again, the
	// connection is given up.
	Heartbeat time.Duration
	// BackoffMin and BackoffMax bound the pause before another attempt to connect
	// (default 100 ms and 10 s). It doubles from one to the other; a random part of up
	// to a half is taken off, so that many clients do not come at once.
	BackoffMin, BackoffMax time.Duration
	// GiveUpAfter is how long the broker may be away before the client closes itself
	// (default: it never does; each call has its own context).
	GiveUpAfter time.Duration

	// ResendFor is the longest time after which an unconfirmed publish may be sent again on
	// another connection. Later the broker may have stored, delivered and forgotten it, and
	// the publish fails with ErrResendTooOld. The limit of the broker, five sixths of the time
	// that it says it remembers messages, also applies and is the default. For a broker that
	// does not say, the default is DefaultHorizon. Then ResendFor must be shorter than the
	// broker's dedup.window, and than the time in which all publishers together publish
	// dedup.max_ids messages.
	ResendFor time.Duration

	// Meta has the broker say more of each delivery than ID and Body, at the price of a line.
	// There is only the broker's word for it.
	Meta bool
	// Log gets lost and restored connections (default: nothing is logged).
	Log *slog.Logger
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

func (c Config) withDefaults() (Config, error) {
	if c.TLS == nil && c.Dial == nil {
		return c, errors.New("client: Config.TLS is not set; brokers speak mutual TLS only")
	}
	c.Addr = cmp.Or(c.Addr, DefaultAddr)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = clock.System.Now
	}
	c.Window = cmp.Or(max(c.Window, 0), DefaultWindow)
	c.WindowBytes = cmp.Or(max(c.WindowBytes, 0), DefaultWindowBytes)
	c.MaxLineBytes = cmp.Or(max(c.MaxLineBytes, 0), DefaultMaxLineBytes)
	c.DialTimeout = cmp.Or(max(c.DialTimeout, 0), DefaultDialTimeout)
	c.Heartbeat = cmp.Or(max(c.Heartbeat, 0), DefaultHeartbeat)
	c.BackoffMin = cmp.Or(max(c.BackoffMin, 0), DefaultBackoffMin)
	c.BackoffMax = cmp.Or(max(c.BackoffMax, 0), max(DefaultBackoffMax, c.BackoffMin))
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		// Small first records would only split what is gathered on purpose.
		c.TLS.DynamicRecordSizingDisabled = true
		if c.TLS.ServerName == "" {
			host, _, err := net.SplitHostPort(c.Addr)
			if err != nil {
				return c, fmt.Errorf("client: address %q: %w", c.Addr, err)
			}
			c.TLS.ServerName = host
		}
	}
	return c, nil
}

var _ sealmq.Connection = (*Client)(nil)

// Client is one connection to a broker, which it makes again when it is lost. Its methods may be
// called from many goroutines.
type Client struct {
	cfg Config

	// life ends with Close; done is closed when nothing of the client runs any more.
	life context.Context
	stop context.CancelFunc
	done chan struct{}

	mu  sync.Mutex
	out outbox
	// conn is the connection in use, nil while there is none.
	conn *connection
	// err is set once, when the client is closed for good.
	err error
	// changed is when something happened that a call may wait for.
	changed changes.Signal
	// popped counts publishes and acks that were answered; settled, those whose
	// callbacks have returned as well. issued counts all that were handed in.
	issued, popped, settled uint64
	sub                     *subscription
	dedup                   dedupHorizon // of the connection's broker
	stats                   Stats

	// rd belongs to the goroutine that reads.
	rd readScratch
}

// Stats counts what a client did since Dial.
type Stats struct {
	Published   uint64 `json:"published"`   // publishes handed in
	Confirmed   uint64 `json:"confirmed"`   // answered with ACK
	Refused     uint64 `json:"refused"`     // answered with an error
	Resent      uint64 `json:"resent"`      // publishes sent again after a lost connection
	Delivered   uint64 `json:"delivered"`   // deliveries received
	Acked       uint64 `json:"acked"`       // acknowledgements confirmed
	Connections uint64 `json:"connections"` // connections made
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Dial connects and returns when the broker has answered once, so that a refused
// certificate is an error here. ctx bounds this first attempt alone; it is not repeated.
// The client lives until Close.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, done: make(chan struct{})}
	c.life, c.stop = context.WithCancel(context.Background())
	conn, err := c.connect(ctx)
	if err != nil {
		c.stop()
		return nil, err
	}
	c.use(conn)
	go c.run(conn)
	return c, nil
}

// Close ends the connection at once and waits until nothing of the client runs.
// Publishes without a confirm fail with ErrClosed; call Flush first to wait for them.
// It must not be called from a callback. It always returns nil.
func (c *Client) Close() error {
	c.stop()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.Close() // says goodbye in TLS, so that the broker need not guess
		conn.fail(ErrClosed)
	}
	<-c.done
	return nil
}

// Err is nil while the client works or tries to, and says afterwards why it ended.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// run owns the connection: it serves one after the other until the client ends.
func (c *Client) run(conn *connection) {
	defer close(c.done)
	for {
		err := c.serve(conn)
		if c.life.Err() != nil {
			c.end(ErrClosed)
			return
		}
		err = c.orExpired(err)
		c.cfg.Log.Warn("connection to broker lost", "addr", c.cfg.Addr, "err", err)
		if conn, err = c.reconnect(err); err != nil {
			c.end(err)
			return
		}
		c.use(conn)
		c.cfg.Log.Info("connection to broker restored", "addr", c.cfg.Addr)
	}
}

// reconnect tries until there is a connection, the client is closed, or GiveUpAfter is over.
func (c *Client) reconnect(cause error) (*connection, error) {
	lost := c.cfg.Now()
	pause := c.cfg.BackoffMin
	warned := false
	for {
		if away := c.cfg.Now().Sub(lost); c.cfg.GiveUpAfter > 0 && away >= c.cfg.GiveUpAfter {
			return nil, fmt.Errorf("broker is away for %v: %w", away.Round(time.Millisecond), cause)
		}
		if clock.Sleep(c.life, clock.System, pause-rand.N(pause/2+1)) != nil {
			return nil, ErrClosed
		}
		conn, err := c.connect(c.life)
		if err == nil {
			return conn, nil
		}
		if c.life.Err() != nil {
			return nil, ErrClosed
		}
		level := slog.LevelDebug
		refused := !Unreachable(err)
		if refused && !warned { // which does not pass by itself
			level, err = slog.LevelWarn, c.orExpired(err)
		}
		cause, warned = err, refused
		c.cfg.Log.Log(c.life, level, "cannot connect to broker", "addr", c.cfg.Addr, "err", err)
		pause = min(2*pause, c.cfg.BackoffMax)
	}
}

// end fails everything that still waits.
func (c *Client) end(err error) {
	if !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	c.mu.Lock()
	c.err = err
	c.conn = nil
	sub := c.sub
	var rest []entry
	for c.out.len() > 0 {
		rest = append(rest, c.out.pop())
	}
	c.popped = c.issued
	c.changed.Notify()
	c.mu.Unlock()
	if sub != nil {
		sub.end(err)
	}
	c.finish(rest, err)
}

// finish ends entries that get no reply. What was popped is settled then.
func (c *Client) finish(list []entry, err error) {
	for i := range list {
		list[i].finish(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = c.popped
	c.changed.Notify()
}

// wait gives mu up until something happened. The caller holds mu and looks again.
func (c *Client) wait(ctx context.Context) error {
	if c.err != nil {
		return c.err
	}
	c.kick()
	return c.changed.Wait(ctx, &c.mu)
}

// Flush sends what is buffered and waits until every publish and acknowledgement that
// was handed in before is answered and the callbacks of these publishes have returned.
// The callbacks get the results of the publishes. An acknowledgement that a lost
// connection swallowed counts as answered: its message comes again.
func (c *Client) Flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	target := c.issued
	if c.settled >= target {
		return nil
	}
	for c.settled < target {
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	return c.err
}
