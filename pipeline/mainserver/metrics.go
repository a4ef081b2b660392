package mainserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

const (
	// maxClientLabels bounds the clients that metrics name; further ones are "other".
	maxClientLabels = 200
	otherLabel      = "other"
	// countsAge and expiringAge are how long gauges show what was read.
	countsAge   = 10 * time.Second
	expiringAge = time.Minute
)

// metrics are the main server's (specification 12.3), besides those of its requests.
type metrics struct {
	registry              *prometheus.Registry
	registered, delivered *byClient
	failed                *prometheus.CounterVec
	failedClients         labels
	issued, revoked       prometheus.Counter
	logins                map[string]prometheus.Counter
	queries               *prometheus.HistogramVec
}

func newMetrics(reg *prometheus.Registry) *metrics {
	m := &metrics{
		registry:   reg,
		registered: newByClient(reg, "main_server_messages_registered_total", "Messages that were registered, by client."),
		delivered:  newByClient(reg, "main_server_messages_delivered_total", "Messages that were delivered, by client."),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "main_server_messages_failed_total", Help: "Messages that were given up, by client and reason."},
			[]string{"client_id", "reason"}),
		issued:  prometheus.NewCounter(prometheus.CounterOpts{Name: "main_server_certificates_issued_total", Help: "Certificates that this process has issued."}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{Name: "main_server_certificates_revoked_total", Help: "Certificates that this process has revoked."}),
		queries: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "main_server_db_query_duration_seconds", Help: "Duration of calls of the database, by operation.",
			Buckets: httpkit.Buckets}, []string{"operation"}),
	}
	for _, operation := range []string{"register", "deliver", "status", "get"} {
		m.queries.WithLabelValues(operation)
	}
	logins := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "main_server_logins_total",
		Help: "Attempts of people to log in, by result: success, refused, locked, second_factor, error."}, []string{"result"})
	m.logins = make(map[string]prometheus.Counter)
	for _, result := range []string{loginSuccess, loginRefused, loginLocked, loginSecondFactor, loginError} {
		m.logins[result] = logins.WithLabelValues(result)
	}
	reg.MustRegister(logins, m.failed, m.issued, m.revoked, m.queries)
	return m
}

// labels bounds the names of clients that become values of a label.
type labels struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (l *labels) of(client string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[client] {
		return client
	}
	if client == "" || len(l.seen) >= maxClientLabels {
		return otherLabel
	}
	if l.seen == nil {
		l.seen = make(map[string]bool)
	}
	l.seen[client] = true
	return client
}

// byClient is a counter for each client.
type byClient struct {
	labels
	vec *prometheus.CounterVec
}

func newByClient(reg *prometheus.Registry, name, help string) *byClient {
	c := &byClient{vec: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"client_id"})}
	c.vec.WithLabelValues(otherLabel)
	reg.MustRegister(c.vec)
	return c
}

func (c *byClient) of(client string) prometheus.Counter {
	return c.vec.WithLabelValues(c.labels.of(client))
}

// Results of attempts to log in.
const (
	loginSuccess      = "success"
	loginRefused      = "refused"
	loginLocked       = "locked"
	loginSecondFactor = "second_factor" // its code is missing
	loginError        = "error"         // nobody was refused
)

// countLogin counts an attempt that ended with an error or nil.
func (m *metrics) countLogin(err error) {
	result := loginError
	switch e, _ := errors.AsType[*accounts.Error](err); {
	case err == nil:
		result = loginSuccess
	case e == nil:
	case e.Kind == accounts.ErrCredentials.Kind, e.Kind == accounts.ErrInactive.Kind, e.Kind == accounts.ErrLink.Kind, e.Field != "":
		result = loginRefused
	case e.Kind == accounts.ErrLocked.Kind, e.Kind == accounts.ErrFlood.Kind:
		result = loginLocked
	case e.Kind == accounts.ErrSecondFactor.Kind:
		result = loginSecondFactor
	}
	m.logins[result].Inc()
}

// failReasons are the reasons that become labels; other texts are "other".
var failReasons = []string{pipeline.ReasonMalformed, pipeline.ReasonConflict, pipeline.ReasonMaxAttempts, pipeline.ReasonRefused}

func (m *metrics) countFailed(client, reason string) {
	reason, _, _ = strings.Cut(reason, ":")
	if !slices.Contains(failReasons, reason) {
		reason = otherLabel
	}
	m.failed.WithLabelValues(m.failedClients.of(client), reason).Inc()
}

// took notes how long a call of the records has taken.
func (m *metrics) took(operation string, began time.Time) {
	m.queries.WithLabelValues(operation).Observe(time.Since(began).Seconds())
}

// addMetrics adds the gauges, which are read when they are asked for.
func (h *handler) addMetrics() {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		h.cfg.Service.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("main_server_db_connections", "Open connections to the database.", nil, func() float64 { return float64(h.cfg.Store.Connections()) })
	var counts cached.Value[map[pipeline.State]int64]
	for _, state := range []pipeline.State{pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed} {
		gauge("main_server_messages_by_status", "Messages in the database, by status.", prometheus.Labels{"status": string(state)}, func() float64 {
			return float64(counts.Get(countsAge, h.countsByState)[state])
		})
	}
	var expiring cached.Value[map[int]int]
	for label, days := range map[string]int{"7d": 7, "30d": 30} {
		gauge("main_server_certificates_expiring", "Certificates that expire soon, should have been renewed and have no successor.", prometheus.Labels{"within": label}, func() float64 {
			return float64(expiring.Get(expiringAge, h.countExpiring)[days])
		})
	}
	gauge("main_server_event_streams", "Open streams of events for pages of the overview.", nil, func() float64 { return float64(h.streams.count()) })
	gauge("main_server_crl_entries", "Revocations in force.", nil, func() float64 { return float64(h.cfg.Revocations.Len()) })
	failures := loadFailures{h: h}
	h.cfg.Service.metrics.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "main_server_crl_load_failures_total",
		Help: "How often a list of revocations was found that cannot be used."}, failures.count))
	h.cfg.Service.metrics.registry.MustRegister(h.health.Collector("main_server"), &presenceCollector{h.cfg.Service})
}

func (h *handler) countsByState() (map[pipeline.State]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := h.cfg.Store.Stats(ctx, "", "", time.Time{})
	return st.ByState, err
}

func (h *handler) countExpiring() (map[int]int, error) {
	list, err := h.certificates(certificateFilter{status: certActive, current: true, due: true})
	counts := make(map[int]int)
	for _, c := range list {
		for _, days := range []int{7, 30} {
			if c.ExpiresAt.Before(h.now().AddDate(0, 0, days)) {
				counts[days]++
			}
		}
	}
	return counts, err
}

// loadFailures counts the changes from good to bad that scrapes see.
type loadFailures struct {
	h    *handler
	mu   sync.Mutex
	n    float64
	last string
}

func (l *loadFailures) count() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := ""
	if err := l.h.cfg.Revocations.Err(); err != nil {
		text = err.Error()
	}
	if text != "" && text != l.last {
		l.n++
	}
	l.last = text
	return l.n
}

// presenceCollector shows which processes of the pipeline are there.
type presenceCollector struct{ *Service }

var componentUp = prometheus.NewDesc("main_server_component_up", "1 if a process of the pipeline is connected to the main server, 0 if it has gone without a word in the last 24 hours.",
	[]string{"role", "name"}, nil)

// Describe implements prometheus.Collector.
func (*presenceCollector) Describe(ch chan<- *prometheus.Desc) { ch <- componentUp }

// Collect implements prometheus.Collector.
func (c *presenceCollector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.presence.all(c.cfg.Now()) {
		up := 0.0
		if p.State == mainapi.ComponentStateOnline {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(componentUp, prometheus.GaugeValue, up, string(p.Role), p.Name)
	}
}
