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
	list func() ([]engine.QueueInfo, error)
	max  int

	count, ready, unacked, bytes, consumers *prometheus.Desc
	counters                                []queueCounter
}

type queueCounter struct {
	desc  *prometheus.Desc
	value func(*engine.QueueInfo) uint64
}

// NewQueues returns a collector over what list returns at each scrape, with series for
// at most max queues.
func NewQueues(list func() ([]engine.QueueInfo, error), max int) *Queues {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sealmq_queue_"+name, help, []string{"queue"}, nil)
	}
	return &Queues{
		list:      list,
		max:       max,
		count:     prometheus.NewDesc("sealmq_queues", "Queues that exist.", nil, nil),
		ready:     desc("ready_messages", "Messages waiting in the queue, delayed ones included."),
		unacked:   desc("unacked_messages", "Messages delivered and not yet acknowledged."),
		bytes:     desc("bytes", "Bytes of the bodies of waiting and unacknowledged messages."),
		consumers: desc("consumers", "Subscriptions to the queue."),
		counters: []queueCounter{
			{desc("published_total", "Messages stored in the queue."), func(q *engine.QueueInfo) uint64 { return q.Published }},
			{desc("delivered_total", "Deliveries to consumers, redeliveries included."), func(q *engine.QueueInfo) uint64 { return q.Delivered }},
			{desc("acked_total", "Messages acknowledged."), func(q *engine.QueueInfo) uint64 { return q.Acked }},
			{desc("returned_total", "Deliveries that came back without an acknowledgement."), func(q *engine.QueueInfo) uint64 { return q.Returned }},
			{desc("expired_total", "Messages removed by the queue's time to live."), func(q *engine.QueueInfo) uint64 { return q.Expired }},
			{desc("dropped_total", "Oldest messages dropped because the queue was full."), func(q *engine.QueueInfo) uint64 { return q.Dropped }},
			{desc("dead_lettered_total", "Messages moved to the dead-letter queue."), func(q *engine.QueueInfo) uint64 { return q.DeadLettered }},
			{desc("refused_total", "Publishes refused because the queue was full."), func(q *engine.QueueInfo) uint64 { return q.Refused }},
		},
	}
}

// Describe implements prometheus.Collector.
func (c *Queues) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.count, c.ready, c.unacked, c.bytes, c.consumers} {
		ch <- d
	}
	for _, k := range c.counters {
		ch <- k.desc
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
	for i := range all {
		q := &all[i]
		c.gauges(ch, q)
		for _, k := range c.counters {
			ch <- prometheus.MustNewConstMetric(k.desc, prometheus.CounterValue, float64(k.value(q)), q.Name)
		}
	}
	if len(rest) == 0 {
		return
	}
	sum := engine.QueueInfo{Name: otherQueues}
	for i := range rest {
		sum.Ready += rest[i].Ready
		sum.Unacked += rest[i].Unacked
		sum.Bytes += rest[i].Bytes
		sum.Consumers += rest[i].Consumers
	}
	c.gauges(ch, &sum)
}

func (c *Queues) gauges(ch chan<- prometheus.Metric, q *engine.QueueInfo) {
	gauge(ch, c.ready, q.Ready, q.Name)
	gauge(ch, c.unacked, q.Unacked, q.Name)
	gauge(ch, c.bytes, q.Bytes, q.Name)
	gauge(ch, c.consumers, q.Consumers, q.Name)
}

func gauge[N int | int64 | float64](ch chan<- prometheus.Metric, d *prometheus.Desc, v N, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
}
