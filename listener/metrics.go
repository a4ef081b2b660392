package listener

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/protocol"
)

// refusal is why a connection was not let in.
type refusal uint8

const (
	refusedLimit         refusal = iota // too many connections
	refusedDisplaced                    // too many that are not identified, and another one needed its place
	refusedHandshakes                   // too many handshakes at once
	refusedTimeout                      // no complete handshake in time
	refusedPlain                        // not TLS
	refusedNoCertificate                // a peer without a certificate
	refusedCertificate                  // of another authority, expired
	refusedRevoked                      // a revoked certificate
	refusedIdentity                     // the certificate gives no clear identity
	refusedCrowd                        // too many connections of one identity
	refusedBanned                       // an administrator has banned the identity
	refusedOther                        // any other failure
	refusals
)

var refusalNames = [refusals]string{"limit", "displaced", "handshakes", "timeout", "plain", "no_certificate", "certificate", "revoked", "identity", "identity_limit", "banned", "other"}

func (r refusal) String() string { return refusalNames[r] }

// seldomEvery is how often a peer that does not speak TLS, one without a certificate, or a
// connection over a limit is logged at the information level, where its owner looks for the
// reason why nothing works.
const seldomEvery = time.Minute

// seldom limits these lines, for each reason by itself.
type seldom struct {
	mu     sync.Mutex
	last   time.Time
	silent int // peers since then
}

// level is the one for a peer at that time, and how many peers were not logged before it.
func (p *seldom) level(now time.Time) (slog.Level, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() && now.Sub(p.last) < seldomEvery {
		p.silent++
		return slog.LevelDebug, 0
	}
	n := p.silent
	p.last, p.silent = now, 0
	return slog.LevelInfo, n
}

// closing is why a connection ended.
type closing uint8

const (
	closedNot        closing = iota
	closedByPeer             // it said so
	closedBroken             // reading failed
	closedWrite              // writing failed, or the peer took nothing for too long
	closedByServer           // shutdown
	closedByOperator         // by command
	closedRevoked            // its certificate is not accepted any more
	closedExpired            // its certificate has expired
	closedBySession          // its protocol ended the conversation
	closedUnknown            // its first bytes belong to no protocol
	closedPanic              // a defect of ours
	closings
)

var closingNames = [closings]string{"open", "peer", "broken", "write", "server", "operator", "revoked", "expired", "protocol", "unknown_protocol", "panic"}

func (c closing) String() string { return closingNames[c] }

// Metrics are the counters of one Server. It is a prometheus.Collector; register it once.
// All label sets are fixed.
type Metrics struct {
	prometheus.Collector
	accepted, acceptErrors, panics             prometheus.Counter
	bytesIn, bytesOut                          prometheus.Counter
	opened, connectionsLimit, perIdentityLimit prometheus.Gauge
	unidentifiedLimit                          prometheus.Gauge
	refused                                    [refusals]prometheus.Counter
	closed                                     [closings]prometheus.Counter
	memory                                     atomic.Pointer[protocol.Budget]
	unidentified                               atomic.Pointer[connlimit.Table]
}

// NewMetrics returns counters at zero.
func NewMetrics() *Metrics {
	all := prometheus.NewRegistry()
	make := promauto.With(all)
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "sealmq_server_" + name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts { return prometheus.GaugeOpts(counter(name, help)) }
	m := &Metrics{
		Collector: all,
		opened:    make.NewGauge(gauge("connections", "Open connections whose identity is known.")),
		connectionsLimit: make.NewGauge(gauge("connections_limit",
			"Maximum number of open connections (server.max_connections).")),
		unidentifiedLimit: make.NewGauge(gauge("connections_unidentified_limit",
			"Maximum number of connections whose identity is not known yet.")),
		perIdentityLimit: make.NewGauge(gauge("connections_per_identity_limit",
			"Maximum number of open connections of one identity (server.max_connections_per_identity).")),
		accepted: make.NewCounter(counter("connections_accepted_total", "Connections accepted, counted before the handshake.")),
		acceptErrors: make.NewCounter(counter("accept_errors_total",
			"Failures of the system to accept a connection, for example without free file descriptors.")),
		panics: make.NewCounter(counter("panics_total", "Connections ended by a bug; please report it.")),
	}
	m.memory.Store(protocol.NewBudget(0))
	m.unidentified.Store(connlimit.New(0, 0))
	make.NewGaugeFunc(gauge("connections_unidentified", "Connections whose identity is not known yet."),
		func() float64 { return float64(m.unidentified.Load().Len()) })
	make.NewGaugeFunc(gauge("memory_bytes", "Bytes that connections hold in read buffers and in replies and deliveries that are not written yet."),
		func() float64 { return float64(m.memory.Load().Used()) })
	make.NewGaugeFunc(gauge("memory_limit_bytes", "Maximum number of these bytes (server.max_memory_bytes)."),
		func() float64 { return float64(m.memory.Load().Limit()) })
	make.NewCounterFunc(counter("memory_refusals_total", "Memory requests of connections that were reduced."),
		func() float64 { return float64(m.memory.Load().Refusals()) })
	bytes := make.NewCounterVec(counter("bytes_total", "Bytes of protocols, without TLS, by direction."), []string{"direction"})
	m.bytesIn, m.bytesOut = bytes.WithLabelValues("in"), bytes.WithLabelValues("out")
	refused := make.NewCounterVec(counter("connections_refused_total",
		"Connections closed before the first byte of a protocol, by reason."), []string{"reason"})
	for r, name := range refusalNames {
		m.refused[r] = refused.WithLabelValues(name)
	}
	closed := make.NewCounterVec(counter("connections_closed_total", "Open connections that ended, by reason."), []string{"reason"})
	for c := closedNot + 1; c < closings; c++ {
		m.closed[c] = closed.WithLabelValues(c.String())
	}
	return m
}
