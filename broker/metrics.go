package broker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// Metrics is what a broker counts. It is a prometheus.Collector; register it once.
// One Metrics belongs to one Broker. All label sets are fixed.
type Metrics struct {
	prometheus.Collector
	published   *prometheus.CounterVec
	refused     *prometheus.CounterVec
	settled     *prometheus.CounterVec
	deniedTotal *prometheus.CounterVec
	delivered   prometheus.Counter
	consumers   prometheus.Gauge
	dangling    prometheus.Counter
	definitions *prometheus.GaugeVec
	limits      *prometheus.GaugeVec
	perIdentity *prometheus.GaugeVec
	overLimit   *prometheus.CounterVec

	outcomes [engine.Unrouted + 1]prometheus.Counter
	verdicts [released + 1]prometheus.Counter
	reasons  map[sealmq.Code]prometheus.Counter
}

// refusalReasons are all values of the label reason. A code that is not here counts as
// "other".
var refusalReasons = []sealmq.Code{
	sealmq.BadName, sealmq.NoExchange, sealmq.NoQueue, sealmq.Unroutable, sealmq.Duplicate,
	sealmq.QueueFull, sealmq.TooLarge, sealmq.NotSealed, sealmq.LimitReached, sealmq.Denied, sealmq.NoStorage, sealmq.Unavailable,
}

const otherReason sealmq.Code = "other"

// NewMetrics returns collectors at zero.
func NewMetrics() *Metrics {
	all := prometheus.NewRegistry()
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return promauto.With(all).NewCounterVec(prometheus.CounterOpts{Name: "sealmq_broker_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return promauto.With(all).NewGaugeVec(prometheus.GaugeOpts{Name: "sealmq_broker_" + name, Help: help}, labels)
	}
	m := &Metrics{
		Collector:   all,
		published:   counter("publishes_total", "Publishes by outcome: stored, repeated, conflict, refused.", "outcome"),
		refused:     counter("refusals_total", "Refused publishes, conflicts included, by error code.", "reason"),
		settled:     counter("settlements_total", "Settlements from consumers by verdict: ack, return, release (a return that does not count as an attempt), dead, drop, extend.", "verdict"),
		deniedTotal: counter("denials_total", "Commands refused because the identity lacks the permission.", "command"),
		delivered:   counter("deliveries_total", "Messages delivered to consumers.").WithLabelValues(),
		consumers:   gauge("consumers", "Connections that can consume.").WithLabelValues(),
		dangling:    counter("dangling_bindings_total", "Bindings removed at the start because their queue or exchange was missing.").WithLabelValues(),
		definitions: gauge("definitions", "Definitions by kind: exchange, binding, queue, key, key_log (changes in the key directory's log), chain (senders' certificate chains).", "kind"),
		limits:      gauge("definitions_limit", "Maximum number of definitions by kind (section limits).", "kind"),
		perIdentity: gauge("definitions_per_identity_limit", "Maximum number of definitions of one identity by kind (limits.queues_per_identity and others); a binding counts for the owner of its queue.", "kind"),
		overLimit:   counter("definitions_refused_total", "Definitions refused at a limit by kind, and whether it was the limit of all or that of one identity.", "kind", "limit"),
		reasons:     make(map[sealmq.Code]prometheus.Counter),
	}
	for o, name := range map[engine.Outcome]string{engine.Stored: "stored", engine.Repeated: "repeated", engine.Conflict: "conflict", engine.Refused: "refused"} {
		m.outcomes[o] = m.published.WithLabelValues(name)
	}
	m.outcomes[engine.Unrouted] = m.outcomes[engine.Refused]
	for v, name := range map[engine.Verdict]string{engine.Ack: "ack", engine.Return: "return", engine.Dead: "dead", engine.Drop: "drop", engine.Extend: "extend", released: "release"} {
		m.verdicts[v] = m.settled.WithLabelValues(name)
	}
	for _, kind := range []string{"exchange", "binding", "queue"} {
		m.overLimit.WithLabelValues(kind, "all")
		m.overLimit.WithLabelValues(kind, "identity")
	}
	for _, c := range append(refusalReasons[:len(refusalReasons):len(refusalReasons)], otherReason) {
		m.reasons[c] = m.refused.WithLabelValues(string(c))
	}
	return m
}

func (m *Metrics) denied(act action) { m.deniedTotal.WithLabelValues(string(act)).Inc() }

func (m *Metrics) setLimits(l Limits) {
	set(m.limits, map[string]int{"exchange": l.Exchanges, "binding": l.Bindings, "queue": l.Queues, "key": l.Keys, "key_log": l.KeyLog, "chain": l.Chains})
	set(m.perIdentity, map[string]int{"exchange": l.ExchangesPerIdentity, "binding": l.BindingsPerIdentity, "queue": l.QueuesPerIdentity})
}

func (m *Metrics) setDefinitions(c Counts) {
	set(m.definitions, map[string]int{"exchange": c.Exchanges, "binding": c.Bindings})
	m.setQueues(c.Queues)
	m.setKeys(c.Counts)
}

func (m *Metrics) setQueues(n int) { m.definitions.WithLabelValues("queue").Set(float64(n)) }

func (m *Metrics) setKeys(c keylog.Counts) {
	set(m.definitions, map[string]int{"key": c.Keys, "key_log": c.Records, "chain": c.Chains})
}

func set(to *prometheus.GaugeVec, kinds map[string]int) {
	for kind, n := range kinds {
		to.WithLabelValues(kind).Set(float64(n))
	}
}

// add adds to each counter what a batch has, with one addition.
func add(to []prometheus.Counter, counts []int) {
	for i, n := range counts {
		if n > 0 {
			to[i].Add(float64(n))
		}
	}
}

// results counts one answered batch.
func (m *Metrics) results(results []engine.PublishResult) {
	var n [engine.Unrouted + 1]int
	for i := range results {
		n[results[i].Outcome]++
		if results[i].Err != nil {
			m.reason(results[i].Err)
		}
	}
	add(m.outcomes[:], n[:])
}

func (m *Metrics) reason(err error) {
	c, ok := m.reasons[sealmq.CodeOf(err)]
	if !ok {
		c = m.reasons[otherReason]
	}
	c.Inc()
}

// released is what an uncounted Return counts as.
const released = engine.Extend + 1

func (m *Metrics) settlements(batch []engine.Settlement) {
	var n [released + 1]int
	for i := range batch {
		switch v := batch[i].Verdict; {
		case v == engine.Return && batch[i].Uncounted:
			n[released]++
		case v <= engine.Extend:
			n[v]++
		}
	}
	add(m.verdicts[:], n[:])
}
