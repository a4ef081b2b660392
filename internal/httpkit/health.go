package httpkit

import (
	"cmp"
	"context"
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/mtls"
)

// Level is how much the health of a component suffers.
type Level uint8

// The levels.
const (
	OK       Level = iota
	Degraded       // it works, and somebody should look
	Down           // it does not work: 503
)

func (l Level) String() string { return [...]string{"healthy", "degraded", "unhealthy"}[l] }

// Finding is what a check has found.
type Finding struct {
	Level Level
	// Value is what the check shows (default "healthy" if Level is OK, else "unhealthy").
	Value string
	// Reason is a sentence for the operator, empty if Level is OK.
	Reason string
}

// Check is one part of the health of a component.
type Check struct {
	Name string
	// Run is given a second. If it takes longer, its finding is Late.
	Run  func(ctx context.Context) Finding
	Late Level
}

// CertificateHealth is the health of the chain that a component shows. revocation may be nil; a
// chain that it refuses is as bad as revoked says.
func CertificateHealth(component string, chain []*x509.Certificate, now time.Time, revocation mtls.Revocation, revoked Level) Finding {
	switch {
	case len(chain) == 0:
		return Finding{Level: Down, Value: "missing", Reason: component + " has no certificate"}
	case now.After(chain[0].NotAfter):
		return Finding{Level: Down, Value: "expired", Reason: component + "'s certificate has expired"}
	case revocation != nil && revocation.Check(chain) != nil:
		return Finding{Level: revoked, Value: "revoked", Reason: component + "'s certificate has been revoked"}
	case mtls.ExpiresSoon(chain[0], now):
		return Finding{Level: Degraded, Value: "expiring", Reason: component + "'s certificate expires on " + chain[0].NotAfter.UTC().Format(time.DateOnly)}
	}
	return Finding{Value: "valid"}
}

const (
	healthAge     = 2 * time.Second
	healthTimeout = time.Second
)

// Health answers GET /health (specification 2.2 and 8.6). Its checks run at most once in
// two seconds, however many ask.
type Health struct {
	// Service is the component's name in the answer; it may be empty. It is set before use.
	Service string

	version    string
	components bool
	checks     []Check
	started    time.Time
	last       cached.Value[*health]
}

// NewHealth makes the health of a component. components repeats the checks under that name.
func NewHealth(version string, components bool, checks ...Check) *Health {
	return &Health{version: version, components: components, checks: checks, started: time.Now()}
}

type health struct {
	Status     string            `json:"status"`
	Service    string            `json:"service,omitempty"`
	Version    string            `json:"version"`
	Timestamp  Time              `json:"timestamp"`
	Checks     map[string]string `json:"checks"`
	Components map[string]string `json:"components,omitempty"`
	Uptime     int64             `json:"uptime_seconds"`
	Errors     []string          `json:"errors"`

	level  Level
	levels []Level // of the checks
	faults []Fault
}

// Fault is what a check has found that is not all right.
type Fault struct {
	Check string
	Finding
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	state := h.state()
	status := http.StatusOK
	if state.level == Down {
		status = http.StatusServiceUnavailable
	}
	WriteJSON(w, status, state)
}

// Level is the worst level that the checks find.
func (h *Health) Level() Level { return h.state().level }

// Faults are what the checks find that is not all right, in the order of the checks.
func (h *Health) Faults() []Fault { return h.state().faults }

// state is what the checks find. While they run, other callers wait for their findings.
func (h *Health) state() *health {
	return h.last.Get(healthAge, func() (*health, error) { return h.look(), nil })
}

// look runs the checks.
func (h *Health) look() *health {
	findings := make([]Finding, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { findings[i] = c.run() })
	}
	wg.Wait()
	now := time.Now()
	s := &health{Service: h.Service, Version: h.version, Timestamp: Time{now}, Checks: make(map[string]string), Uptime: int64(now.Sub(h.started).Seconds()), Errors: []string{}}
	for i, f := range findings {
		f.Value = cmp.Or(f.Value, [...]string{"healthy", "unhealthy", "unhealthy"}[f.Level])
		s.Checks[h.checks[i].Name] = f.Value
		if f.Reason != "" {
			s.Errors = append(s.Errors, f.Reason)
		}
		if f.Level != OK {
			s.faults = append(s.faults, Fault{h.checks[i].Name, f})
		}
		s.level, s.levels = max(s.level, f.Level), append(s.levels, f.Level)
	}
	s.Status = s.level.String()
	if h.components {
		s.Components = s.Checks
	}
	return s
}

// run gives a check its second. A Run must heed its context: one that does not is left
// behind.
func (c *Check) run() Finding {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	done := make(chan Finding, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case f := <-done:
		return f
	case <-ctx.Done():
		return Finding{Level: c.Late, Reason: "the check of " + c.Name + " took longer than a second"}
	}
}

// Collector shows the checks as metrics of a component.
func (h *Health) Collector(component string) prometheus.Collector {
	return healthCollector{h, prometheus.NewDesc("sealmq_health_check", "What a check of /health found: 0 healthy, 1 degraded, 2 unhealthy.",
		[]string{"check"}, prometheus.Labels{"component": component})}
}

type healthCollector struct {
	*Health
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c healthCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c healthCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.state()
	for i, check := range c.checks {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(s.levels[i]), check.Name)
	}
}

// Live answers GET /health/live: the process runs.
func Live(w http.ResponseWriter, _ *http.Request) {
	WriteJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}
