// Package metrics is the listener for Prometheus and health checks, with the collectors
// for queues and certificates.
//
// The caller passes the registry and the checks; nothing is global. The listener has no
// TLS and no login. It shows no message, key or client address, but it shows queue names:
// it belongs on the loopback address or a closed network.
package metrics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealmq/sealmq/internal/connlimit"
)

// Limits of the listener.
const (
	maxConnections = 32
	maxScrapes     = 4
	maxHeaderBytes = 16 << 10
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
)

// Config is what the listener shows. Registry is required.
type Config struct {
	// Addr is host:port; port 0 is a free port.
	Addr string
	// Component names the role in the metrics of its checks; empty leaves them out.
	Component string
	// Registry holds all collectors.
	Registry *prometheus.Registry
	// Live are the checks that the process can still do its work: if one fails, only a
	// restart helps. Ready are the checks that clients should be sent here.
	Live, Ready []Check
	// Health answers GET /health, and the metrics are at / too. Without it neither is there.
	Health http.Handler
	// Log may be nil.
	Log *slog.Logger
}

// Status is the answer of a check.
type Status string

// The answers. A degraded process still counts as live and ready: a promise is weaker or a
// part refuses work, but sending its clients elsewhere would make it worse.
const (
	OK       Status = "ok"
	Degraded Status = "degraded"
	Failing  Status = "failing"
)

// Check is one aspect of health.
type Check struct {
	Name string
	// Run answers at once. The reason is one sentence for the operator; with OK it is a
	// remark, mostly empty.
	Run func() (status Status, reason string)
}

// Server is the listener.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen binds the address. Serve must follow.
func Listen(cfg Config) (*Server, error) {
	log := cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelInfo)
	mux := http.NewServeMux()
	figures := promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             writeTimeout,
		ErrorLog:            errorLog,
	})
	mux.Handle("GET /metrics", figures)
	if cfg.Health != nil {
		mux.Handle("GET /health", cfg.Health)
		mux.Handle("GET /{$}", figures)
	}
	mux.HandleFunc("GET /health/live", health(cfg.Live))
	mux.HandleFunc("GET /health/ready", health(cfg.Ready))
	bounded := connlimit.Listen(l, maxConnections, 0)
	cfg.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sealmq_metrics_connections_displaced_total",
		Help: "Connections to the port for metrics and health that were closed to make room for another one."},
		func() float64 { return float64(bounded.Displaced()) }))
	if cfg.Component != "" {
		cfg.Registry.MustRegister(newCheckCollector(cfg.Component, cfg.Ready))
	}
	return &Server{
		listener: bounded,
		http: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       2 * headerTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          errorLog,
			ConnState:         count,
		},
	}, nil
}

// count says whether a connection does something. If all places are taken, one that does not
// makes room for a new one, and after it the one that has been at a request for longest:
// requests are short here.
func count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		connlimit.Of(c).Busy()
	case http.StateIdle:
		connlimit.Of(c).Idle()
	}
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until Shutdown, and returns nil then.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// Shutdown finishes the open requests and stops.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.listener.Close() // also when Serve was never called
	return err
}

// levels are the values of checks as metrics.
var levels = map[Status]int{OK: 0, Degraded: 1, Failing: 2}

// checkCollector runs checks at each scrape.
type checkCollector struct {
	checks []Check
	desc   *prometheus.Desc
}

func newCheckCollector(component string, checks []Check) *checkCollector {
	return &checkCollector{checks, prometheus.NewDesc("sealmq_health_check", "What a check of /health found: 0 healthy, 1 degraded, 2 unhealthy.",
		[]string{"check"}, prometheus.Labels{"component": component})}
}

// Describe implements prometheus.Collector.
func (c *checkCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *checkCollector) Collect(ch chan<- prometheus.Metric) {
	for _, check := range c.checks {
		status, _ := check.Run()
		gauge(ch, c.desc, levels[status], check.Name)
	}
}

func health(checks []Check) http.HandlerFunc {
	type result struct {
		Name   string `json:"name"`
		Status Status `json:"status"`
		Reason string `json:"reason,omitempty"`
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		r := struct {
			Status Status   `json:"status"`
			Checks []result `json:"checks"`
		}{OK, []result{}}
		for _, c := range checks {
			status, reason := c.Run()
			r.Checks = append(r.Checks, result{c.Name, status, reason})
			if status == Failing || r.Status == OK {
				r.Status = status
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if r.Status == Failing {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(r) // fails only if the client has gone
	}
}
