package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sealmq/sealmq/engine"
)

// otherQueues labels the sum of the queues without series of their own. No queue can
// have this name, because a name has no white space.
const otherQueues = "other queues"

// Queues collects the state of queues. The number of series is bounded, however many
// queues clients declare. The queues with the most messages, waiting and unacknowledged,
// have their own series. The others share one label with the sums of their gauges. They
// have no counters, because the sum of a changing set of queues is not a counter.
type Queues struct {
	list   func() ([]engine.QueueInfo, error)
	max    int
	count  *prometheus.Desc
	series []queueSeries
}

// queueSeries is a metric that each queue has.
type queueSeries struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*engine.QueueInfo) uint64
	sums  bool // the queues without a series of their own are added up
}

// NewQueues returns a collector over what list returns at each scrape, with series for
// at most max queues.
func NewQueues(list func() ([]engine.QueueInfo, error), max int) *Queues {
	c := &Queues{list: list, max: max, count: prometheus.NewDesc("sealmq_queues", "Queues that exist.", nil, nil)}
	add := func(kind prometheus.ValueType, name, help string, value func(*engine.QueueInfo) uint64) {
		c.series = append(c.series, queueSeries{prometheus.NewDesc("sealmq_queue_"+name, help, []string{"queue"}, nil), kind, value, kind == prometheus.GaugeValue})
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	type queue = engine.QueueInfo
	add(gauge, "ready_messages", "Messages waiting in the queue, delayed ones included.", func(q *queue) uint64 { return uint64(q.Ready) })
	add(gauge, "delayed_messages", "Messages waiting in the queue that are not due yet.", func(q *queue) uint64 { return uint64(q.Delayed) })
	add(gauge, "unacked_messages", "Messages delivered and not yet acknowledged.", func(q *queue) uint64 { return uint64(q.Unacked) })
	add(gauge, "bytes", "Bytes of the bodies of waiting and unacknowledged messages.", func(q *queue) uint64 { return uint64(q.Bytes) })
	add(gauge, "consumers", "Subscriptions to the queue.", func(q *queue) uint64 { return uint64(q.Consumers) })
	add(counter, "published_total", "Messages stored in the queue.", func(q *queue) uint64 { return q.Published })
	add(counter, "delivered_total", "Deliveries to consumers, redeliveries included.", func(q *queue) uint64 { return q.Delivered })
	add(counter, "acked_total", "Messages acknowledged.", func(q *queue) uint64 { return q.Acked })
	add(counter, "returned_total", "Deliveries that came back without an acknowledgement.", func(q *queue) uint64 { return q.Returned })
	add(counter, "expired_total", "Messages removed by the queue's time to live.", func(q *queue) uint64 { return q.Expired })
	add(counter, "dropped_total", "Oldest messages dropped because the queue was full.", func(q *queue) uint64 { return q.Dropped })
	add(counter, "dead_lettered_total", "Messages moved to the dead-letter queue.", func(q *queue) uint64 { return q.DeadLettered })
	add(counter, "refused_total", "Publishes refused because the queue was full.", func(q *queue) uint64 { return q.Refused })
	add(gauge, "oldest_timestamp_seconds", "When the message at the front came to the queue, in Unix time; 0 if none waits.", func(q *queue) uint64 {
		if q.Oldest.IsZero() {
			return 0
		}
		return uint64(q.Oldest.Unix())
	})
	c.series[len(c.series)-1].sums = false
	return c
}

// Describe implements prometheus.Collector.
func (c *Queues) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.count
	for _, s := range c.series {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Queues) Collect(ch chan<- prometheus.Metric) {
	all, err := c.list()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.count, err)
		return
	}
	gauge(ch, c.count, len(all))
	var rest []engine.QueueInfo
	if len(all) > c.max {
		all = slices.Clone(all) // the slice belongs to the engine
		slices.SortStableFunc(all, func(a, b engine.QueueInfo) int {
			return (b.Ready + b.Unacked) - (a.Ready + a.Unacked)
		})
		all, rest = all[:c.max], all[c.max:]
	}
	for _, s := range c.series {
		for i := range all {
			ch <- prometheus.MustNewConstMetric(s.desc, s.kind, float64(s.value(&all[i])), all[i].Name)
		}
		if len(rest) > 0 && s.sums {
			var sum uint64
			for i := range rest {
				sum += s.value(&rest[i])
			}
			gauge(ch, s.desc, sum, otherQueues)
		}
	}
}

func gauge[N int | int64 | uint64](ch chan<- prometheus.Metric, d *prometheus.Desc, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}
