package worker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/pipeline"
)

// Metrics are the counters of one Worker (specification 12.4). It is a
// prometheus.Collector. All label sets are fixed.
type Metrics struct {
	processed, failed   *prometheus.CounterVec
	delivered, retried  prometheus.Counter
	duration, wait      prometheus.Histogram
	running, processing prometheus.Gauge

	queue         pipeline.Queue
	depth, oldest *prometheus.Desc
	counts        cached.Value[*pipeline.Counts] // nil if the queue does not answer
}

// countsAge is how long metrics show a look at the queue, and countsTimeout bounds one.
const (
	countsAge     = time.Second
	countsTimeout = time.Second
)

var (
	durationBuckets = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	waitBuckets     = append(durationBuckets[:len(durationBuckets):len(durationBuckets)], 30, 60, 300, 1800)
)

// newMetrics returns counters at zero for a worker's name, and gauges of its queue.
func newMetrics(name string, queue pipeline.Queue) *Metrics {
	labels := prometheus.Labels{"worker_id": name}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value)
		}
		return v
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: labels, Buckets: buckets})
	}
	return &Metrics{
		processed: vector("worker_messages_processed_total", "Messages by how their attempt ended.", "status", "delivered", "retried", "failed", pipeline.ReasonMalformed),
		failed: vector("worker_messages_failed_total", "Messages that were given up, by reason.", "reason",
			pipeline.ReasonMaxAttempts, pipeline.ReasonMalformed, pipeline.ReasonConflict, pipeline.ReasonRefused),
		delivered:  counter("worker_messages_delivered_total", "Messages that the main server has stored."),
		retried:    counter("worker_messages_retried_total", "Attempts that failed and are made again."),
		duration:   histogram("worker_delivery_duration_seconds", "Duration of a call to the main server.", durationBuckets),
		wait:       histogram("worker_queue_wait_seconds", "Time from queueing to delivery.", waitBuckets),
		running:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "worker_active_workers", Help: "1 while the worker runs."}),
		processing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "worker_processing_messages", Help: "Messages in the worker's hands.", ConstLabels: labels}),
		queue:      queue,
		depth: prometheus.NewDesc("worker_queue_depth", "Messages in the queue: they wait for a worker (ready), are in the hands of one (processing), wait for their next attempt (retry), or were given up (dead).",
			[]string{"queue"}, nil),
		oldest: prometheus.NewDesc("worker_oldest_message_age_seconds", "How long the oldest message has waited in the queue; 0 if none waits.", nil, nil),
	}
}

// gaveUp counts a message that became a dead letter.
func (m *Metrics) gaveUp(reason string) {
	m.failed.WithLabelValues(reason).Inc()
	status := "failed"
	if reason == pipeline.ReasonMalformed {
		status = reason
	}
	m.processed.WithLabelValues(status).Inc()
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.processed, m.failed, m.delivered, m.retried, m.duration, m.wait, m.running, m.processing}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
	ch <- m.depth
	ch <- m.oldest
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
	counts := m.counts.Get(countsAge, m.look)
	if counts == nil {
		return // a queue that does not answer has no series
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.depth, float64(counts.Ready), "ready")
	gauge(m.depth, float64(counts.Processing), "processing")
	gauge(m.depth, float64(counts.Retry), "retry")
	gauge(m.depth, float64(counts.Dead), "dead")
	age := 0.0
	if !counts.Oldest.IsZero() {
		age = max(0, time.Since(counts.Oldest).Seconds())
	}
	gauge(m.oldest, age)
}

// look asks the queue for its counts.
func (m *Metrics) look() (*pipeline.Counts, error) {
	ctx, cancel := context.WithTimeout(context.Background(), countsTimeout)
	defer cancel()
	counts, err := m.queue.Counts(ctx)
	if err != nil {
		return nil, nil // with an error the counts of before would stay
	}
	return &counts, nil
}
