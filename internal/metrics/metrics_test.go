package metrics_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves cfg on a free port until the test ends and returns the base URL.
func start(t *testing.T, cfg metrics.Config) string {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	s, err := metrics.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func check(name string, status metrics.Status, reason string) metrics.Check {
	return metrics.Check{Name: name, Run: func() (metrics.Status, string) { return status, reason }}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	base := start(t, metrics.Config{
		Live:  []metrics.Check{check("storage", metrics.OK, "")},
		Ready: []metrics.Check{check("storage", metrics.Degraded, "the disk is full"), check("listener", metrics.Failing, "stopping")},
	})
	for _, tt := range []struct {
		path, want string
		code       int
	}{
		{"/health/live", `{"status":"ok","checks":[{"name":"storage","status":"ok"}]}`, 200},
		{"/health/ready", `{"status":"failing","checks":[{"name":"storage","status":"degraded","reason":"the disk is full"},{"name":"listener","status":"failing","reason":"stopping"}]}`, 503},
	} {
		code, body := get(t, base+tt.path)
		if code != tt.code || strings.TrimSpace(body) != tt.want {
			t.Errorf("%s: %d %s\nwant %d %s", tt.path, code, body, tt.code, tt.want)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%s: not JSON", tt.path)
		}
	}
}

func TestDegradedIsStillReady(t *testing.T) {
	base := start(t, metrics.Config{Ready: []metrics.Check{check("storage", metrics.Degraded, "the disk is full"), check("x", metrics.OK, "")}})
	code, body := get(t, base+"/health/ready")
	if code != 200 || !strings.HasPrefix(body, `{"status":"degraded"`) {
		t.Errorf("got %d %s", code, body)
	}
}

func TestUnknownPathsAndMethodsAreRefused(t *testing.T) {
	base := start(t, metrics.Config{})
	if code, _ := get(t, base+"/debug/pprof/"); code != 404 {
		t.Errorf("unknown path: %d, want 404", code)
	}
	resp, err := http.Post(base+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %d, want 405", resp.StatusCode)
	}
}

// TestNobodyBlocksHealth: peers that hold their connections are bounded, and health answers
// at once, however many there are. A test of synctest is not possible, because a peer that does
// not read needs a socket with buffers.
func TestNobodyBlocksHealth(t *testing.T) {
	series := prometheus.NewRegistry()
	for i := range 20_000 { // more than the buffers of a socket hold
		series.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: fmt.Sprint("gauge_", i), Help: strings.Repeat("x", 500)}))
	}
	base := start(t, metrics.Config{Registry: series})
	displaced := func() float64 { return gather(t, series)["sealmq_metrics_connections_displaced_total"] }
	gone := displaced()
	for _, tc := range []struct {
		name, sends string
		answered    bool // the peer reads one answer
	}{
		{"silent", "", false},
		{"keep-alive", "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", true},
		{"slow header", "GET /health/live HTTP/1.1\r\nHost:", false},
		{"slow body", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx", false},
		{"reads nothing", "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", false},
		{"reads none of many answers", strings.Repeat("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 1000), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 100 {
				c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = io.WriteString(c, tc.sends) // it may have been closed
				if tc.answered {
					if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 3 {
				if code, _ := get(t, base+"/health/live"); code != 200 {
					t.Errorf("health answers %d", code)
				}
			}
			// It took the places of others, and did not wait until they end by themselves.
			if now := displaced(); now == gone {
				t.Error("nobody made room")
			} else {
				gone = now
			}
		})
	}
}

func TestBusyPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := metrics.Listen(metrics.Config{Addr: l.Addr().String(), Registry: prometheus.NewRegistry()}); err == nil {
		t.Fatal("listened on a port in use")
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	s, err := metrics.Listen(metrics.Config{Addr: "127.0.0.1:0", Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// gather returns each series as name{queue} = value.
func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "{" + l.GetValue() + "}"
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out[name] = m.Counter.GetValue()
			default:
				out[name] = m.Gauge.GetValue()
			}
		}
	}
	return out
}

func TestQueueSeriesStayBounded(t *testing.T) {
	var all []engine.QueueInfo
	for i := range 10_000 {
		all = append(all, engine.QueueInfo{Name: fmt.Sprintf("q%05d", i), Ready: i, Unacked: 1, Bytes: 10, Consumers: 1, Published: 7, Delayed: 2, Oldest: time.Unix(int64(1000+i), 0)})
	}
	got := gather(t, metrics.NewQueues(func() ([]engine.QueueInfo, error) { return all, nil }, 10))
	if len(got) > 10*14+6 {
		t.Errorf("%d series for 10,000 queues", len(got))
	}
	want := map[string]float64{
		"sealmq_queues":                                 10_000,
		"sealmq_queue_ready_messages{q09999}":           9999,
		"sealmq_queue_ready_messages{q09990}":           9990,
		"sealmq_queue_published_total{q09990}":          7,
		"sealmq_queue_ready_messages{other queues}":     9989 * 9990 / 2,
		"sealmq_queue_unacked_messages{other queues}":   9990,
		"sealmq_queue_bytes{other queues}":              99900,
		"sealmq_queue_consumers{other queues}":          9990,
		"sealmq_queue_delayed_messages{other queues}":   19980,
		"sealmq_queue_oldest_timestamp_seconds{q09999}": 10999,
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s = %v, want %v", name, got[name], v)
		}
	}
	for _, name := range []string{"published_total", "oldest_timestamp_seconds"} {
		if _, ok := got["sealmq_queue_"+name+"{other queues}"]; ok {
			t.Errorf("%s of a changing set of queues is summed up", name)
		}
	}
	if all[0].Name != "q00000" {
		t.Error("the engine's slice was sorted")
	}
}

func TestFewQueuesHaveNoSumOfOthers(t *testing.T) {
	got := gather(t, metrics.NewQueues(func() ([]engine.QueueInfo, error) {
		return []engine.QueueInfo{{Name: "a", Refused: 2}, {Name: "b"}}, nil
	}, 2))
	keys := 0
	for name := range got {
		if strings.Contains(name, "other queues") {
			t.Errorf("unexpected %s", name)
		}
		keys++
	}
	if diff := cmp.Diff(2*14+1, keys); diff != "" {
		t.Error(diff)
	}
	if got["sealmq_queue_refused_total{a}"] != 2 || got["sealmq_queue_oldest_timestamp_seconds{a}"] != 0 {
		t.Errorf("refused: %v", got)
	}
}

func TestScrapeReadsWhatIsServed(t *testing.T) {
	r := prometheus.NewRegistry()
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealmq_test_total", Help: "x"}, []string{"reason"})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sealmq_test_seconds", Help: "x"})
	r.MustRegister(c, h)
	c.WithLabelValues("a {b} 1").Add(2)
	c.WithLabelValues("c").Add(3)
	h.Observe(0.5)
	base := start(t, metrics.Config{Registry: r})
	got, err := metrics.Scrape(t.Context(), strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{"sealmq_test_total": 5, "sealmq_test_seconds_count": 1, "sealmq_test_seconds_sum": 0.5} {
		if got[name] != want {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
	if _, err := metrics.Scrape(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("read metrics of nobody")
	}
}

// BenchmarkScrape answers a scrape of 10,000 queues, compressed as Prometheus asks for it.
func BenchmarkScrape(b *testing.B) {
	var all []engine.QueueInfo
	for i := range 10_000 {
		all = append(all, engine.QueueInfo{Name: fmt.Sprintf("a.queue.of.a.usual.length.%05d", i), Ready: i % 977, Published: uint64(i) * 1000})
	}
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.NewQueues(func() ([]engine.QueueInfo, error) { return all, nil }, 1000))
	s, err := metrics.Listen(metrics.Config{Addr: "127.0.0.1:0", Registry: r})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	for b.Loop() {
		req, _ := http.NewRequest(http.MethodGet, "http://"+s.Addr().String()+"/metrics", nil)
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "bytes/scrape")
	}
	client.CloseIdleConnections()
	if err := errors.Join(s.Shutdown(b.Context()), <-done); err != nil {
		b.Fatal(err)
	}
}
