package broker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// Metrics is what a broker counts. It is a prometheus.Collector; register it once.
// One Metrics belongs to one Broker. All label sets are fixed.
type Metrics struct {
	published   *prometheus.CounterVec
	refused     *prometheus.CounterVec
	settled     *prometheus.CounterVec
	deniedTotal *prometheus.CounterVec
	delivered   prometheus.Counter
	consumers   prometheus.Gauge
	dangling    prometheus.Counter
	definitions *prometheus.GaugeVec
	limits      *prometheus.GaugeVec

	// The children that are used often.
	exchanges, bindings, queues, keys, keyLog, chains prometheus.Gauge

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
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmq_broker_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealmq_broker_" + name, Help: help}, labels)
	}
	m := &Metrics{
		published:   counter("publishes_total", "Publishes by outcome: stored, repeated, conflict, refused.", "outcome"),
		refused:     counter("refusals_total", "Refused publishes, conflicts included, by error code.", "reason"),
		settled:     counter("settlements_total", "Settlements from consumers by verdict: ack, return, release (a return that does not count as an attempt), dead, drop, extend.", "verdict"),
		deniedTotal: counter("denials_total", "Commands refused because the identity lacks the permission.", "command"),
		delivered:   counter("deliveries_total", "Messages delivered to consumers.").WithLabelValues(),
		consumers:   gauge("consumers", "Connections that can consume.").WithLabelValues(),
		dangling:    counter("dangling_bindings_total", "Bindings removed at the start because their queue or exchange was missing.").WithLabelValues(),
		definitions: gauge("definitions", "Definitions by kind: exchange, binding, queue, key, key_log (changes in the key directory's log), chain (senders' certificate chains).", "kind"),
		limits:      gauge("definitions_limit", "Maximum number of definitions by kind (section limits).", "kind"),
		reasons:     make(map[sealmq.Code]prometheus.Counter),
	}
	m.exchanges = m.definitions.WithLabelValues("exchange")
	m.bindings = m.definitions.WithLabelValues("binding")
	m.queues = m.definitions.WithLabelValues("queue")
	m.keys = m.definitions.WithLabelValues("key")
	m.keyLog = m.definitions.WithLabelValues("key_log")
	m.chains = m.definitions.WithLabelValues("chain")
	for o, name := range map[engine.Outcome]string{engine.Stored: "stored", engine.Repeated: "repeated", engine.Conflict: "conflict", engine.Refused: "refused"} {
		m.outcomes[o] = m.published.WithLabelValues(name)
	}
	m.outcomes[engine.Unrouted] = m.outcomes[engine.Refused]
	for v, name := range map[engine.Verdict]string{engine.Ack: "ack", engine.Return: "return", engine.Dead: "dead", engine.Drop: "drop", engine.Extend: "extend", released: "release"} {
		m.verdicts[v] = m.settled.WithLabelValues(name)
	}
	for _, c := range append(refusalReasons[:len(refusalReasons):len(refusalReasons)], otherReason) {
		m.reasons[c] = m.refused.WithLabelValues(string(c))
	}
	return m
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.published, m.refused, m.settled, m.deniedTotal, m.delivered,
		m.consumers, m.dangling, m.definitions, m.limits}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

func (m *Metrics) denied(act action) { m.deniedTotal.WithLabelValues(string(act)).Inc() }

func (m *Metrics) setLimits(l Limits) {
	m.limits.WithLabelValues("exchange").Set(float64(l.Exchanges))
	m.limits.WithLabelValues("binding").Set(float64(l.Bindings))
	m.limits.WithLabelValues("queue").Set(float64(l.Queues))
	m.limits.WithLabelValues("key").Set(float64(l.Keys))
	m.limits.WithLabelValues("key_log").Set(float64(l.KeyLog))
	m.limits.WithLabelValues("chain").Set(float64(l.Chains))
}

func (m *Metrics) setDefinitions(c Counts) {
	m.exchanges.Set(float64(c.Exchanges))
	m.bindings.Set(float64(c.Bindings))
	m.queues.Set(float64(c.Queues))
	m.setKeys(keylog.Counts{Keys: c.Keys, Records: c.KeyLog, Chains: c.Chains})
}

func (m *Metrics) setKeys(c keylog.Counts) {
	m.keys.Set(float64(c.Keys))
	m.keyLog.Set(float64(c.Records))
	m.chains.Set(float64(c.Chains))
}

// results counts one answered batch, with one addition per outcome.
func (m *Metrics) results(results []engine.PublishResult) {
	var n [engine.Unrouted + 1]int
	for i := range results {
		n[results[i].Outcome]++
		if results[i].Err != nil {
			m.reason(results[i].Err)
		}
	}
	for o := engine.Stored; o <= engine.Unrouted; o++ {
		if n[o] > 0 {
			m.outcomes[o].Add(float64(n[o]))
		}
	}
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
	for v := engine.Ack; v <= released; v++ {
		if n[v] > 0 {
			m.verdicts[v].Add(float64(n[v]))
		}
	}
}
