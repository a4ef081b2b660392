package httpkit

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// Buckets are those of all histograms of requests and deliveries, in seconds
// (specification 12.1).
var Buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// metrics are the counters of requests. Labels are from closed sets: the methods that have
// routes, the endpoints of the routes, and the statuses of HTTP.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	limit    prometheus.Gauge
	listener atomic.Pointer[connlimit.Listener] // nil until there is one
}

func newMetrics(component string, reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: component + "_requests_total",
			Help: "Requests, by method, endpoint and status."}, []string{"method", "endpoint", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: component + "_request_duration_seconds",
			Help: "Duration of requests, by method and endpoint.", Buckets: Buckets}, []string{"method", "endpoint"}),
		limit: prometheus.NewGauge(prometheus.GaugeOpts{Name: component + "_connections_limit", Help: "Maximum number of open connections."}),
	}
	of := func(f func(*connlimit.Listener) float64) func() float64 {
		return func() float64 {
			if l := m.listener.Load(); l != nil {
				return f(l)
			}
			return 0
		}
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.limit,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: component + "_connections", Help: "Open connections."},
				of(func(l *connlimit.Listener) float64 { return float64(l.Len()) })),
			prometheus.NewCounterFunc(prometheus.CounterOpts{Name: component + "_connections_displaced_total",
				Help: "Connections that were closed to make room for another one."},
				of(func(l *connlimit.Listener) float64 { return float64(l.Displaced()) })))
	}
	return m
}

// listen says which listener the metrics of connections are about.
func (m *metrics) listen(l *connlimit.Listener, max int) {
	m.listener.Store(l)
	m.limit.Set(float64(max))
}

func (m *metrics) route(endpoint string) *routeMetrics {
	return &routeMetrics{all: m, endpoint: endpoint}
}

// routeMetrics keeps the series of a route at hand, because looking one up by its labels
// costs more than counting.
type routeMetrics struct {
	all      *metrics
	endpoint string
	byMethod sync.Map // method to *methodMetrics
}

type methodMetrics struct {
	duration prometheus.Observer
	statuses [600]atomic.Pointer[prometheus.Counter]
}

func (m *routeMetrics) of(method string) *methodMetrics {
	if v, ok := m.byMethod.Load(method); ok {
		return v.(*methodMetrics)
	}
	v, _ := m.byMethod.LoadOrStore(method, &methodMetrics{duration: m.all.duration.WithLabelValues(method, m.endpoint)})
	return v.(*methodMetrics)
}

// prepare makes the series of a status, so that it starts at 0.
func (m *routeMetrics) prepare(method string, status int) { m.counter(methodLabel(method), status) }

func (m *routeMetrics) counter(method string, status int) prometheus.Counter {
	if status < 100 || status > 599 {
		status = http.StatusInternalServerError
	}
	slot := &m.of(method).statuses[status]
	if c := slot.Load(); c != nil {
		return *c
	}
	c := m.all.requests.WithLabelValues(method, m.endpoint, strconv.Itoa(status))
	slot.Store(&c)
	return c
}

func (m *routeMetrics) observe(method string, status int, took time.Duration) {
	method = methodLabel(method)
	m.counter(method, status).Inc()
	m.of(method).duration.Observe(took.Seconds())
}

// methodLabel keeps a stranger's method out of the labels.
func methodLabel(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return "other"
}
