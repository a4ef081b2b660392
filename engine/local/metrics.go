package local

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/journal"
)

// Metrics measures syncs as they happen. Hand Committed to Config.Committed and
// register the collector of the opened engine (NewCollector) beside it.
type Metrics struct {
	prometheus.Collector
	Committed func(journal.CommitInfo) // observes one sync
}

// NewMetrics returns collectors that count nothing yet.
func NewMetrics() *Metrics {
	sync := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sealmq_journal_sync_seconds", Help: "Time of one sync of the journal.",
		Buckets: prometheus.ExponentialBuckets(25e-6, 2, 18),
	})
	records := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sealmq_journal_batch_records", Help: "Records that one sync made durable.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 16),
	})
	return &Metrics{
		Collector: prometheus.CollectorFunc(func(ch chan<- prometheus.Metric) {
			sync.Collect(ch)
			records.Collect(ch)
		}),
		Committed: func(c journal.CommitInfo) {
			sync.Observe(c.Sync.Seconds())
			records.Observe(float64(c.Records))
		},
	}
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

// NewCollector returns a collector that shows the Stats of an engine.
func NewCollector(e *Engine) prometheus.Collector {
	return prometheus.CollectorFunc(func(ch chan<- prometheus.Metric) {
		s := e.Stats()
		add := func(kind prometheus.ValueType, name, help string, value float64) {
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("sealmq_"+name, help, nil, nil), kind, value)
		}
		const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
		add(counter, "journal_syncs_total", "Syncs of the journal.", float64(s.Journal.Syncs))
		add(counter, "journal_batches_total", "Batches answered; a batch without records needs no sync, one over two segments needs two.", float64(s.Journal.Batches))
		add(counter, "journal_records_total", "Records made durable.", float64(s.Journal.Records))
		add(counter, "journal_written_bytes_total", "Bytes written to the journal.", float64(s.Journal.Bytes))
		add(gauge, "journal_live_bytes", "Estimated bytes of records that hold unsettled messages.", float64(s.LiveBytes))
		add(gauge, "journal_disk_bytes", "Bytes of all segment files.", float64(s.Journal.DiskBytes))
		add(gauge, "journal_pending_bytes", "Bytes that wait for a sync (limit: storage.max_pending_bytes).", float64(s.Journal.PendingBytes))
		add(gauge, "journal_segments", "Segments that hold records.", float64(s.Journal.Segments))
		add(gauge, "journal_ready_segments", "Segments prepared for records.", float64(s.Journal.Ready))
		add(gauge, "journal_free_segments", "Segments that wait for reuse.", float64(s.Journal.Free))
		add(counter, "journal_created_segments_total", "Segment files created.", float64(s.Journal.Created))
		add(counter, "journal_recycled_segments_total", "Segment files reused; in normal operation this grows and created segments do not.", float64(s.Journal.Recycled))
		add(counter, "journal_removed_segments_total", "Segment files removed.", float64(s.Journal.Removed))
		add(counter, "journal_copied_records_total", "Records copied forward so that their segment could be reused.", float64(s.CopiedForward))
		add(counter, "journal_damaged_records_total", "Damaged places found since the start.", float64(s.Damaged))
		add(counter, "journal_damage_not_kept_total", "Damaged places whose bytes could not be set aside in a file damaged-….bin.", float64(s.NotKept))
		add(counter, "journal_dropped_tails_total", "Torn places that the start dropped; nothing in them was ever confirmed.", float64(s.Journal.DroppedTail))
		add(counter, "checkpoints_total", "Checkpoints written.", float64(s.Checkpoints))
		add(gauge, "messages", "Messages in all queues; a copy in each queue counts.", float64(s.Copies))
		add(gauge, "messages_limit", "Maximum number of messages in all queues (limits.messages); further publishes are refused.", float64(s.MaxCopies))
		add(gauge, "dedup_ids", "Message ids remembered.", float64(s.DedupIDs))
		add(gauge, "dedup_settled_ids", "Remembered message ids whose message is settled (limit: dedup.max_ids).", float64(s.DedupSettled))
		add(gauge, "dedup_horizon_seconds", "Age of the oldest settled message id that is remembered; retry within this time.", s.DedupHorizon.Seconds())
		add(gauge, "dead_letters_waiting", "Messages on their way to a dead-letter queue.", float64(s.Dying))
	})
}
