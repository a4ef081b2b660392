package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// metrics are the proxy's (specification 12.2), besides those of its requests.
type metrics struct {
	enqueued, rateLimited              prometheus.Counter
	failed, validations, registrations map[string]prometheus.Counter
}

var (
	failures = []string{"invalid_certificate", "redis_error", "validation_error", "internal_error", "rate_limited", "revoked", "conflict"}
	results  = []string{"missing", "unverified", "valid", "revoked", "expired", "untrusted", "api_key", "header"}
	outcomes = []string{"ok", "duplicate", "failed", "dropped"}
)

func newMetrics(p *Proxy) *metrics {
	reg := p.cfg.Registry
	m := &metrics{
		enqueued:      promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "proxy_messages_enqueued_total", Help: "Messages that the queue has stored."}),
		rateLimited:   promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "proxy_rate_limited_total", Help: "Requests over a client's rate limit."}),
		failed:        counters(reg, "proxy_messages_failed_total", "Submissions that were not accepted, by reason.", "reason", failures),
		validations:   counters(reg, "proxy_certificate_validations_total", "Looks at who makes a request, by result.", "result", results),
		registrations: counters(reg, "proxy_registrations_total", "Messages told to the main server, by result.", "result", outcomes),
	}
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "redis_queue_size", Help: "Messages that wait in the queue, of whatever kind it is."},
			func() float64 { return p.counts.current() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "proxy_registration_backlog", Help: "Messages that the main server has not been told of."},
			func() float64 { return p.register.backlog() }))
	return m
}

// counters makes one counter for each value of a label, so that all start at 0 and no other
// value appears.
func counters(reg *prometheus.Registry, name, help, label string, values []string) map[string]prometheus.Counter {
	vec := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m := make(map[string]prometheus.Counter)
	for _, v := range values {
		m[v] = vec.WithLabelValues(v)
	}
	return m
}

func (m *metrics) certificateSeen(result string) {
	if c := m.validations[result]; c != nil {
		c.Inc()
	}
}

// refused counts a submission that was answered with an error.
func (m *metrics) refused(e *httpkit.Error) {
	reason := "internal_error"
	switch e.Code {
	case httpkit.CodeAuthentication:
		reason = "invalid_certificate"
	case httpkit.CodeAuthorization:
		reason = "revoked"
		if e.Message != httpkit.TextRevoked {
			reason = "validation_error"
		}
	case httpkit.CodeRateLimitExceeded:
		reason = "rate_limited"
		m.rateLimited.Inc()
	case httpkit.CodeConflict:
		reason = "conflict"
	case httpkit.CodeUnavailable:
		reason = "redis_error"
	case httpkit.CodeValidation, httpkit.CodePayloadTooLarge, httpkit.CodeUnsupportedMediaType:
		reason = "validation_error"
	}
	m.failed[reason].Inc()
}
