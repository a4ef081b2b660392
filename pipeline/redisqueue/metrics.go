package redisqueue

import "github.com/prometheus/client_golang/prometheus"

var (
	upDesc          = prometheus.NewDesc("broker_redis_up", "1 if the Redis server of the queue answered last, else 0.", nil, nil)
	persistenceDesc = prometheus.NewDesc("broker_redis_persistence_ok", "1 if the Redis server keeps what it has answered, also in a power cut; 0 if messages may be lost, or if it was not seen yet.", nil, nil)
	memoryDesc      = prometheus.NewDesc("broker_redis_memory_bytes", "Memory that the Redis server uses.", nil, nil)
	limitDesc       = prometheus.NewDesc("broker_redis_memory_limit_bytes", "Its maxmemory, above which it takes no messages; 0 if it has none.", nil, nil)
)

// Metrics are the metrics of the server.
func (q *Queue) Metrics() prometheus.Collector { return collector{q} }

type collector struct{ q *Queue }

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.q.Status()
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	bit := map[bool]float64{true: 1}
	gauge(upDesc, bit[s.Up])
	gauge(persistenceDesc, bit[s.Version != "" && s.Trouble == ""])
	gauge(memoryDesc, float64(s.Memory))
	gauge(limitDesc, float64(s.Limit))
}
