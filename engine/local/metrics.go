package local

import (
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

// NewCollector returns a collector of the levels and totals of an engine and its journal.
func NewCollector(e *Engine) prometheus.Collector {
	return prometheus.CollectorFunc(func(ch chan<- prometheus.Metric) {
		j := e.j.Stats()
		e.mu.Lock()
		var liveBytes int64
		for _, u := range e.state.segs {
			liveBytes += u.liveBytes()
		}
		var horizon uint32
		if at := e.state.dedup.horizon(); at != 0 {
			horizon = max(e.nowSeconds(), at) - at
		}
		copies, ids, settled, dying := e.state.copies, e.state.dedup.count, e.state.dedup.settled, len(e.dead.waiting)
		e.mu.Unlock()
		add := func(kind prometheus.ValueType, name, help string, value float64) {
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("sealmq_"+name, help, nil, nil), kind, value)
		}
		const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
		add(counter, "journal_syncs_total", "Syncs of the journal.", float64(j.Syncs))
		add(counter, "journal_batches_total", "Batches answered; a batch without records needs no sync, one over two segments needs two.", float64(j.Batches))
		add(counter, "journal_records_total", "Records made durable.", float64(j.Records))
		add(counter, "journal_written_bytes_total", "Bytes written to the journal.", float64(j.Bytes))
		add(gauge, "journal_live_bytes", "Estimated bytes of records that hold unsettled messages.", float64(liveBytes))
		add(gauge, "journal_disk_bytes", "Bytes of all segment files.", float64(j.DiskBytes))
		add(gauge, "journal_pending_bytes", "Bytes that wait for a sync (limit: storage.max_pending_bytes).", float64(j.PendingBytes))
		add(gauge, "journal_segments", "Segments that hold records.", float64(j.Segments))
		add(gauge, "journal_ready_segments", "Segments prepared for records.", float64(j.Ready))
		add(gauge, "journal_free_segments", "Segments that wait for reuse.", float64(j.Free))
		add(counter, "journal_created_segments_total", "Segment files created.", float64(j.Created))
		add(counter, "journal_recycled_segments_total", "Segment files reused; in normal operation this grows and created segments do not.", float64(j.Recycled))
		add(counter, "journal_removed_segments_total", "Segment files removed.", float64(j.Removed))
		add(counter, "journal_copied_records_total", "Records copied forward so that their segment could be reused.", float64(e.reclaimer.copied.Load()))
		add(counter, "journal_damaged_records_total", "Damaged places found since the start.", float64(e.damage.found.Load()))
		add(counter, "journal_damage_not_kept_total", "Damaged places whose bytes could not be set aside in a file damaged-….bin.", float64(e.damage.notKept.Load()))
		add(counter, "journal_dropped_tails_total", "Torn places that the start dropped; nothing in them was ever confirmed.", float64(j.DroppedTail))
		add(counter, "checkpoints_total", "Checkpoints written.", float64(e.reclaimer.checkpoints.Load()))
		add(gauge, "messages", "Messages in all queues; a copy in each queue counts.", float64(copies))
		add(gauge, "messages_limit", "Maximum number of messages in all queues (limits.messages); further publishes are refused.", float64(e.cfg.MaxMessages))
		add(gauge, "dedup_ids", "Message ids remembered.", float64(ids))
		add(gauge, "dedup_settled_ids", "Remembered message ids whose message is settled (limit: dedup.max_ids).", float64(settled))
		add(gauge, "dedup_horizon_seconds", "Age of the oldest settled message id that is remembered; retry within this time.", float64(horizon))
		add(gauge, "dead_letters_waiting", "Messages on their way to a dead-letter queue.", float64(dying))
	})
}
