package text

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
)

// fault is a reason for which input was not carried out, other than the broker's codes.
type fault uint8

const (
	faultLongLine fault = iota
	faultUnknownCommand
	faultMissingArgument
	faultBadMessage
	faultBadArgument
	faultInternal
	faults // number of faults
)

var faultNames = [faults]string{"long_line", "unknown_command", "missing_argument", "bad_message", "bad_argument", "internal"}

// confirmBuckets are the upper bounds of the confirm latency histogram.
var confirmBuckets = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// reading is what a timing has counted.
type reading struct {
	count uint64
	nanos int64
}

func (r *reading) subtract(o reading) { r.count, r.nanos = r.count-o.count, r.nanos-o.nanos }

func (t *timing) read() reading { return reading{t.count.Load(), t.nanos.Load()} }

// timing adds up how often something happened and how long it took.
type timing struct {
	count atomic.Uint64
	nanos atomic.Int64
}

func (t *timing) add(n int, total time.Duration) {
	t.count.Add(uint64(n))
	t.nanos.Add(int64(total))
}

// Metrics is what the sessions of one server count; the stats command reads it too. It
// is a prometheus.Collector; register it once. All label sets are fixed: a word that a
// client made up counts as "unknown".
//
// It adds to plain counters and builds Prometheus's form when it is collected, because
// a session counts many messages with one addition.
type Metrics struct {
	commands   []timing // by verb
	deliveries timing   // pushes; the time is that of taking and printing them
	faults     [faults]atomic.Uint64
	refusals   map[sealmq.Code]*atomic.Uint64 // by the codes of the table; never changed

	confirms   [len(confirmBuckets) + 1]atomic.Uint64
	confirmSum atomic.Int64

	publishToAck  timing
	deliveryToAck timing

	base atomic.Pointer[totals] // what reset_stats hides from stats; nil is zero
}

// NewMetrics returns counters at zero.
func NewMetrics() *Metrics {
	m := &Metrics{commands: make([]timing, len(table)), refusals: make(map[sealmq.Code]*atomic.Uint64)}
	for _, r := range sealmq.Codes() {
		m.refusals[r.Code] = new(atomic.Uint64)
	}
	return m
}

// answered counts n commands of one kind that were answered after d.
func (m *Metrics) answered(v Verb, n int, d time.Duration) {
	m.commands[v].add(n, time.Duration(n)*d)
	if v != Publish && v != PublishBatch {
		return
	}
	bucket := 0
	for bucket < len(confirmBuckets) && d > confirmBuckets[bucket] {
		bucket++
	}
	m.confirms[bucket].Add(uint64(n))
	m.confirmSum.Add(int64(n) * int64(d))
}

func (m *Metrics) fault(f fault) { m.faults[f].Add(1) }

func (m *Metrics) refused(code sealmq.Code) { m.refusals[code].Add(1) }

// totals is a reading of the counters that the stats command shows. The last two are of
// acknowledged deliveries: how long before the ack they were published and pushed.
type totals struct {
	commands                                []reading // by verb
	deliveries, publishToAck, deliveryToAck reading
}

func (m *Metrics) read() *totals {
	t := &totals{commands: make([]reading, len(m.commands)), deliveries: m.deliveries.read(), publishToAck: m.publishToAck.read(), deliveryToAck: m.deliveryToAck.read()}
	for v := range m.commands {
		t.commands[v] = m.commands[v].read()
	}
	return t
}

// sinceReset is what has been counted since the last reset.
func (m *Metrics) sinceReset() *totals {
	t := m.read()
	if b := m.base.Load(); b != nil {
		for v := range t.commands {
			t.commands[v].subtract(b.commands[v])
		}
		t.deliveries.subtract(b.deliveries)
		t.publishToAck.subtract(b.publishToAck)
		t.deliveryToAck.subtract(b.deliveryToAck)
	}
	return t
}

// reset restarts the counters of the stats command. Prometheus's counters go on.
func (m *Metrics) reset() { m.base.Store(m.read()) }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(name, help string, v float64, label, value string) {
		var labels prometheus.Labels
		if label != "" {
			labels = prometheus.Labels{label: value}
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("sealmq_text_"+name, help, nil, labels), prometheus.CounterValue, v)
	}
	for v := range m.commands {
		r := m.commands[v].read()
		counter("commands_total", "Commands answered.", float64(r.count), "command", Verb(v).String())
		counter("command_seconds_total", "Total time from reading a command to its reply.", time.Duration(r.nanos).Seconds(), "command", Verb(v).String())
	}
	counter("deliveries_total", "Messages pushed to consumers.", float64(m.deliveries.count.Load()), "", "")
	for f := range m.faults {
		counter("protocol_errors_total", "Lines that are not valid commands, by reason.", float64(m.faults[f].Load()), "reason", faultNames[f])
	}
	for code, n := range m.refusals {
		counter("refusals_total", "Commands that the broker refused, by error code.", float64(n.Load()), "reason", string(code))
	}
	buckets := make(map[float64]uint64, len(confirmBuckets))
	var n uint64
	for i, le := range confirmBuckets {
		n += m.confirms[i].Load()
		buckets[le.Seconds()] = n
	}
	n += m.confirms[len(confirmBuckets)].Load()
	ch <- prometheus.MustNewConstHistogram(prometheus.NewDesc("sealmq_text_confirm_seconds",
		"Time from reading a publish until its confirm is ready.", nil, nil), n, time.Duration(m.confirmSum.Load()).Seconds(), buckets)
}
