package local

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/journal"
)

// Metrics measures syncs as they happen. Hand Committed to Config.Committed and
// register the collector of the opened engine (NewCollector) beside it.
type Metrics struct {
	sync    prometheus.Histogram
	records prometheus.Histogram
}

// NewMetrics returns collectors that count nothing yet.
func NewMetrics() *Metrics {
	return &Metrics{
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sealmq_journal_sync_seconds", Help: "Time of one sync of the journal.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2, 18),
		}),
		records: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sealmq_journal_batch_records", Help: "Records that one sync made durable.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 16),
		}),
	}
}

// Committed observes one sync.
func (m *Metrics) Committed(c journal.CommitInfo) {
	m.sync.Observe(c.Sync.Seconds())
	m.records.Observe(float64(c.Records))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.sync.Collect(ch)
	m.records.Collect(ch)
}

// Stats are levels and totals of the engine and its journal.
type Stats struct {
	Journal       journal.Stats
	LiveBytes     int64 // of records that hold a message that is not settled, estimated by segment
	Copies        int   // in all queues
	MaxCopies     int
	DedupIDs      int // ids remembered
	DedupSettled  int // of these, ids without a living copy
	DedupHorizon  time.Duration
	Checkpoints   uint64
	CopiedForward uint64
	Damaged       uint64
	NotKept       uint64 // of these, places whose bytes could not be kept aside
	Dying         int
}

// Stats returns the figures of this moment.
func (e *Engine) Stats() Stats {
	s := Stats{Journal: e.j.Stats(), Checkpoints: e.reclaimer.checkpoints.Load(), CopiedForward: e.reclaimer.copied.Load(), Damaged: e.damage.found.Load(), NotKept: e.damage.notKept.Load()}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.state.segs {
		s.LiveBytes += u.liveBytes()
	}
	s.Copies, s.MaxCopies = e.state.copies, e.cfg.MaxMessages
	s.DedupIDs, s.DedupSettled, s.Dying = e.state.dedup.count, e.state.dedup.settled, len(e.dead.waiting)
	if at := e.state.dedup.horizon(); at != 0 {
		s.DedupHorizon = time.Duration(max(int64(e.nowSeconds())-int64(at), 0)) * time.Second
	}
	return s
}

// Collector shows Stats.
type Collector struct {
	e       *Engine
	figures []figure
}

type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*Stats) float64
}

// NewCollector returns a collector over an engine.
func NewCollector(e *Engine) *Collector {
	c := &Collector{e: e}
	add := func(kind prometheus.ValueType, name, help string, of func(*Stats) float64) {
		c.figures = append(c.figures, figure{prometheus.NewDesc("sealmq_"+name, help, nil, nil), kind, of})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	add(counter, "journal_syncs_total", "Syncs of the journal.", func(s *Stats) float64 { return float64(s.Journal.Syncs) })
	add(counter, "journal_batches_total", "Batches answered; a batch without records needs no sync, one over two segments needs two.", func(s *Stats) float64 { return float64(s.Journal.Batches) })
	add(counter, "journal_records_total", "Records made durable.", func(s *Stats) float64 { return float64(s.Journal.Records) })
	add(counter, "journal_written_bytes_total", "Bytes written to the journal.", func(s *Stats) float64 { return float64(s.Journal.Bytes) })
	add(gauge, "journal_live_bytes", "Estimated bytes of records that hold unsettled messages.", func(s *Stats) float64 { return float64(s.LiveBytes) })
	add(gauge, "journal_disk_bytes", "Bytes of all segment files.", func(s *Stats) float64 { return float64(s.Journal.DiskBytes) })
	add(gauge, "journal_pending_bytes", "Bytes that wait for a sync (limit: storage.max_pending_bytes).", func(s *Stats) float64 { return float64(s.Journal.PendingBytes) })
	add(gauge, "journal_segments", "Segments that hold records.", func(s *Stats) float64 { return float64(s.Journal.Segments) })
	add(gauge, "journal_ready_segments", "Segments prepared for records.", func(s *Stats) float64 { return float64(s.Journal.Ready) })
	add(gauge, "journal_free_segments", "Segments that wait for reuse.", func(s *Stats) float64 { return float64(s.Journal.Free) })
	add(counter, "journal_created_segments_total", "Segment files created.", func(s *Stats) float64 { return float64(s.Journal.Created) })
	add(counter, "journal_recycled_segments_total", "Segment files reused; in normal operation this grows and created segments do not.", func(s *Stats) float64 { return float64(s.Journal.Recycled) })
	add(counter, "journal_removed_segments_total", "Segment files removed.", func(s *Stats) float64 { return float64(s.Journal.Removed) })
	add(counter, "journal_copied_records_total", "Records copied forward so that their segment could be reused.", func(s *Stats) float64 { return float64(s.CopiedForward) })
	add(counter, "journal_damaged_records_total", "Damaged places found since the start.", func(s *Stats) float64 { return float64(s.Damaged) })
	add(counter, "journal_damage_not_kept_total", "Damaged places whose bytes could not be set aside in a file damaged-….bin.", func(s *Stats) float64 { return float64(s.NotKept) })
	add(counter, "journal_dropped_tails_total", "Torn places that the start dropped; nothing in them was ever confirmed.", func(s *Stats) float64 { return float64(s.Journal.DroppedTail) })
	add(counter, "checkpoints_total", "Checkpoints written.", func(s *Stats) float64 { return float64(s.Checkpoints) })
	add(gauge, "messages", "Messages in all queues; a copy in each queue counts.", func(s *Stats) float64 { return float64(s.Copies) })
	add(gauge, "messages_limit", "Maximum number of messages in all queues (limits.messages); further publishes are refused.", func(s *Stats) float64 { return float64(s.MaxCopies) })
	add(gauge, "dedup_ids", "Message ids remembered.", func(s *Stats) float64 { return float64(s.DedupIDs) })
	add(gauge, "dedup_settled_ids", "Remembered message ids whose message is settled (limit: dedup.max_ids).", func(s *Stats) float64 { return float64(s.DedupSettled) })
	add(gauge, "dedup_horizon_seconds", "Age of the oldest settled message id that is remembered; retry within this time.", func(s *Stats) float64 { return s.DedupHorizon.Seconds() })
	add(gauge, "dead_letters_waiting", "Messages on their way to a dead-letter queue.", func(s *Stats) float64 { return float64(s.Dying) })
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.figures {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.e.Stats()
	for _, f := range c.figures {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.of(&s))
	}
}
