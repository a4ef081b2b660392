package listener

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/protocol"
)

// refusal is why a connection was not let in.
type refusal uint8

const (
	refusedLimit       refusal = iota // too many connections
	refusedHandshakes                 // too many handshakes at once
	refusedTimeout                    // no complete handshake in time
	refusedPlain                      // not TLS
	refusedCertificate                // of another authority, expired
	refusedRevoked                    // a revoked certificate
	refusedIdentity                   // the certificate gives no clear identity
	refusedCrowd                      // too many connections of one identity
	refusedOther                      // any other failure, a missing certificate among them
	refusals
)

var refusalNames = [refusals]string{"limit", "handshakes", "timeout", "plain", "certificate", "revoked", "identity", "identity_limit", "other"}

func (r refusal) String() string { return refusalNames[r] }

// level keeps what any port scanner causes out of the log.
func (r refusal) level() slog.Level {
	if r == refusedCertificate || r == refusedRevoked || r == refusedIdentity {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// seldomEvery is how often a peer that does not speak TLS, or a connection over an
// identity's limit, is logged at the information level, where its owner looks for the
// reason why nothing works.
const seldomEvery = time.Minute

// seldom limits these lines.
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
	closedBySession          // its protocol ended the conversation
	closedUnknown            // its first bytes belong to no protocol
	closedPanic              // a defect of ours
	closings
)

var closingNames = [closings]string{"open", "peer", "broken", "write", "server", "operator", "revoked", "protocol", "unknown_protocol", "panic"}

func (c closing) String() string { return closingNames[c] }

// Metrics are the counters of one Server. It is a prometheus.Collector; register it once.
// All label sets are fixed.
type Metrics struct {
	accepted         atomic.Uint64
	opened           atomic.Int64
	connectionsLimit atomic.Int64
	perIdentityLimit atomic.Int64
	memory           atomic.Pointer[protocol.Budget]
	refused          [refusals]atomic.Uint64
	closed           [closings]atomic.Uint64
	acceptErrors     atomic.Uint64
	panics           atomic.Uint64
	bytesIn          atomic.Uint64
	bytesOut         atomic.Uint64
}

// NewMetrics returns counters at zero.
func NewMetrics() *Metrics { return &Metrics{} }

func (m *Metrics) refuse(why refusal) { m.refused[why].Add(1) }

var (
	openDesc = prometheus.NewDesc("sealmq_server_connections",
		"Open connections whose identity is known.", nil, nil)
	limitDesc = prometheus.NewDesc("sealmq_server_connections_limit",
		"Maximum number of open connections (server.max_connections).", nil, nil)
	perIdentityDesc = prometheus.NewDesc("sealmq_server_connections_per_identity_limit",
		"Maximum number of open connections of one identity (server.max_connections_per_identity).", nil, nil)
	memoryDesc = prometheus.NewDesc("sealmq_server_memory_bytes",
		"Bytes that connections hold in read buffers and in replies and deliveries that are not written yet.", nil, nil)
	memoryLimitDesc = prometheus.NewDesc("sealmq_server_memory_limit_bytes",
		"Maximum number of these bytes (server.max_memory_bytes).", nil, nil)
	memoryRefusedDesc = prometheus.NewDesc("sealmq_server_memory_refusals_total",
		"Memory requests of connections that were reduced.", nil, nil)
	acceptedDesc = prometheus.NewDesc("sealmq_server_connections_accepted_total",
		"Connections accepted, counted before the handshake.", nil, nil)
	refusedDesc = prometheus.NewDesc("sealmq_server_connections_refused_total",
		"Connections closed before the first byte of a protocol, by reason.", []string{"reason"}, nil)
	closedDesc = prometheus.NewDesc("sealmq_server_connections_closed_total",
		"Open connections that ended, by reason.", []string{"reason"}, nil)
	acceptErrorsDesc = prometheus.NewDesc("sealmq_server_accept_errors_total",
		"Failures of the system to accept a connection, for example without free file descriptors.", nil, nil)
	panicsDesc = prometheus.NewDesc("sealmq_server_panics_total",
		"Connections ended by a bug; please report it.", nil, nil)
	bytesDesc = prometheus.NewDesc("sealmq_server_bytes_total",
		"Bytes of protocols, without TLS, by direction.", []string{"direction"}, nil)
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, limitDesc, acceptedDesc, refusedDesc, closedDesc,
		acceptErrorsDesc, panicsDesc, bytesDesc, perIdentityDesc, memoryDesc, memoryLimitDesc, memoryRefusedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	ch <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(m.opened.Load()))
	ch <- prometheus.MustNewConstMetric(limitDesc, prometheus.GaugeValue, float64(m.connectionsLimit.Load()))
	ch <- prometheus.MustNewConstMetric(perIdentityDesc, prometheus.GaugeValue, float64(m.perIdentityLimit.Load()))
	if all := m.memory.Load(); all != nil {
		ch <- prometheus.MustNewConstMetric(memoryDesc, prometheus.GaugeValue, float64(all.Used()))
		ch <- prometheus.MustNewConstMetric(memoryLimitDesc, prometheus.GaugeValue, float64(all.Limit()))
		counter(memoryRefusedDesc, all.Refusals())
	}
	counter(acceptedDesc, m.accepted.Load())
	for r := range m.refused {
		counter(refusedDesc, m.refused[r].Load(), refusalNames[r])
	}
	for r := closedNot + 1; r < closings; r++ {
		counter(closedDesc, m.closed[r].Load(), closingNames[r])
	}
	counter(acceptErrorsDesc, m.acceptErrors.Load())
	counter(panicsDesc, m.panics.Load())
	counter(bytesDesc, m.bytesIn.Load(), "in")
	counter(bytesDesc, m.bytesOut.Load(), "out")
}
