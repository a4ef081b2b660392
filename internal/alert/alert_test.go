package alert

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/durable"
)

var limits = Limits{OldestMessage: 15 * time.Minute, Certificate: 14 * 24 * time.Hour, Revocations: time.Hour, Refusals: 100}

// at is a sample: value, then names and values of labels.
func at(value float64, labels ...string) sample {
	s := sample{labels: make(map[string]string), value: value}
	for i := 0; i < len(labels); i += 2 {
		s.labels[labels[i]] = labels[i+1]
	}
	return s
}

func TestRules(t *testing.T) {
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) float64 { return float64(now.Add(-d).Unix()) }
	for _, tt := range []struct {
		name string
		now  samples
		want string // "" is nothing
	}{
		{"an empty node", samples{}, ""},
		{"a fresh message", samples{"worker_oldest_message_age_seconds": {at(60)}}, ""},
		{"an old message", samples{"worker_oldest_message_age_seconds": {at(1000)}},
			"critical QueueNotDrained message_queue after 1m0s: The oldest message in the queue message_queue has waited for 16m0s."},
		{"an old message, seen by two roles", samples{"worker_oldest_message_age_seconds": {at(1000)}, "sealmq_queue_oldest_timestamp_seconds": {at(ago(1000*time.Second), "queue", "message_queue")}},
			"critical QueueNotDrained message_queue after 1m0s: The oldest message in the queue message_queue has waited for 16m0s."},
		{"an old message with a consumer", samples{"sealmq_queue_oldest_timestamp_seconds": {at(ago(time.Hour), "queue", "letters")}, "sealmq_queue_consumers": {at(1, "queue", "letters")}},
			"critical QueueNotDrained letters after 1m0s: The oldest message in the queue letters has waited for 1h0m0s."},
		{"a mailbox", samples{"sealmq_queue_oldest_timestamp_seconds": {at(ago(time.Hour), "queue", "letters")}, "sealmq_queue_consumers": {at(0, "queue", "letters")}}, ""},
		{"an empty queue", samples{"sealmq_queue_oldest_timestamp_seconds": {at(0, "queue", "message_queue")}}, ""},
		{"a dead letter", samples{"worker_queue_depth": {at(7, "queue", "ready"), at(2, "queue", "dead")}},
			"warning DeadLetters message_queue.dead after 0s: 2 messages were given up and wait in message_queue.dead for a decision."},
		{"a dead letter of another queue", samples{"sealmq_queue_ready_messages": {at(9, "queue", "letters"), at(1, "queue", "letters.dead"), at(0, "queue", "x.dead")}},
			"warning DeadLetters letters.dead after 0s: 1 messages were given up and wait in letters.dead for a decision."},
		{"no database", samples{"sealmq_health_check": {at(2, "component", "main_server", "check", "database")}},
			"critical DatabaseDown  after 1m0s: The main server cannot store messages: its database does not answer or has no room."},
		{"degraded", samples{"sealmq_health_check": {at(1, "component", "main_server", "check", "database")}}, ""},
		{"a failed store", samples{"sealmq_health_check": {at(2, "component", "broker", "check", "store")}},
			`critical Unhealthy broker store after 1m0s, fatal: The check "store" of the role broker fails.`},
		{"a worker is away", samples{"main_server_component_up": {at(1, "role", "proxy", "name", "p"), at(0, "role", "worker", "name", "w-1")}},
			"critical WorkerDown w-1 after 1m0s: The worker w-1 is away."},
		{"a proxy is away", samples{"main_server_component_up": {at(0, "role", "proxy", "name", "p")}},
			"critical ProxyDown p after 1m0s: The proxy p is away."},
		{"a certificate ends", samples{"broker_certificate_expiry_timestamp_seconds": {at(ago(-15*24*time.Hour), "name", "worker"), at(ago(-3*24*time.Hour), "name", "proxy")}},
			"warning CertificateExpiresSoon proxy after 1m0s: The certificate of the role proxy expires on 2030-05-04."},
		{"certificates with short lives", samples{"broker_certificate_expiry_timestamp_seconds": {at(ago(-9*time.Hour), "name", "worker"), at(ago(-7*time.Hour), "name", "proxy")},
			"sealmq_certificate_lifetime_seconds": {at(86400, "name", "worker"), at(86400, "name", "proxy")}},
			"warning CertificateExpiresSoon proxy after 1m0s: The certificate of the role proxy expires on 2030-05-01."},
		{"a certificate has ended", samples{"broker_certificate_expiry_timestamp_seconds": {at(ago(time.Hour), "name", "proxy")}},
			"critical CertificateExpiresSoon proxy after 0s: The certificate of the role proxy expired on 2030-05-01."},
		{"no certificate", samples{"broker_certificate_expiry_timestamp_seconds": {at(0, "name", "proxy")}},
			"critical CertificateExpiresSoon proxy after 1m0s: The certificate of the role proxy cannot be read."},
		{"old revocations", samples{"sealmq_revocations_age_seconds": {at(7200)}}, "warning RevocationsStale  after 0s: The main server last said 2h0m0s ago what is revoked."},
		{"a broken list", samples{"sealmq_revocation_list_problems": {at(1)}}, "critical RevocationListBroken  after 1m0s: 1 files or lines of revocations are not in force."},
		{"a full disk", samples{"sealmq_disk_free_bytes": {at(300 << 20), at(300 << 20)}, "sealmq_disk_min_free_bytes": {at(256 << 20), at(256 << 20)}},
			"critical DiskLow  after 1m0s: The disk of the data folder has 300 MiB left. Below 256 MiB the broker refuses messages."},
		{"a disk that cannot be read", samples{"sealmq_disk_free_bytes": {at(-1)}, "sealmq_disk_min_free_bytes": {at(256 << 20)}}, ""},
	} {
		j := judge{limits: limits}
		var got []string
		for _, f := range j.find(tt.now, now) {
			line := fmt.Sprintf("%s %s %s after %v", f.Severity, f.Name, f.Subject, f.hold)
			if f.fatal {
				line += ", fatal"
			}
			got = append(got, line+": "+f.Text)
			if !slices.Contains(Names(), f.Name) {
				t.Errorf("%s: Names lacks %s", tt.name, f.Name)
			}
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestRefusalsAreCountedInAWindow: not what was refused before, and no longer after it.
func TestRefusalsAreCountedInAWindow(t *testing.T) {
	j := judge{limits: limits}
	now := time.Unix(1e9, 0)
	look := func(after time.Duration, logins, certificates float64) string {
		now = now.Add(after)
		var names []string
		for _, f := range j.find(samples{"main_server_logins_total": {at(1e6, "result", "success"), at(logins, "result", "refused")},
			"proxy_messages_failed_total": {at(certificates, "reason", "revoked"), at(1e6, "reason", "conflict")}}, now) {
			names = append(names, f.Name)
		}
		return strings.Join(names, " ")
	}
	for i, step := range []struct {
		after                time.Duration
		logins, certificates float64
		want                 string
	}{
		{0, 5000, 5000, ""}, // a start
		{time.Minute, 5100, 5000, ""},
		{time.Minute, 5101, 5000, "ManyRefusedLogins"},
		{time.Minute, 5101, 5200, "ManyRefusedLogins ManyRefusedCertificates"},
		{3 * time.Minute, 5101, 5200, "ManyRefusedCertificates"},
		{10 * time.Minute, 5101, 5200, ""},
		{-time.Hour, 5101, 5200, ""}, // the clock is set back
		{time.Minute, 5300, 5200, "ManyRefusedLogins"},
	} {
		if got := look(step.after, step.logins, step.certificates); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	for range 1000 {
		look(time.Second, 0, 0)
	}
	if len(j.past) > 310 {
		t.Errorf("%d looks are remembered", len(j.past))
	}
}

func TestTracker(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := finding{Alert: Alert{Name: "X"}, hold: time.Minute}
	var tr tracker
	step := func(after time.Duration, found ...finding) int {
		now = now.Add(after)
		tr.update(found, now)
		return len(tr.firing())
	}
	for i, s := range []struct {
		after time.Duration
		found []finding
		want  int
	}{
		{0, []finding{f}, 0},
		{30 * time.Second, []finding{f}, 0},
		{15 * time.Second, nil, 0}, // it begins again
		{15 * time.Second, []finding{f}, 0},
		{time.Minute, []finding{f}, 1},
		{time.Minute, nil, 1}, // it may come back
		{time.Minute, []finding{f}, 1},
		{time.Minute, nil, 1},
		{time.Minute, nil, 0},
		{time.Minute, []finding{f}, 0},
	} {
		if got := step(s.after, s.found...); got != s.want {
			t.Errorf("step %d: %d alerts, want %d", i, got, s.want)
		}
	}
	for i := range 1000 {
		step(0, finding{Alert: Alert{Name: "X", Subject: fmt.Sprint(i)}})
	}
	if n := len(tr.list); n > maxTracked {
		t.Errorf("%d are tracked", n)
	}
}

// node is a node with one gauge, and a channel that remembers.
type node struct {
	free   prometheus.Gauge
	config Config

	mu    sync.Mutex
	sent  []string
	err   error
	tries int
}

// fail lets the channel fail from now on, or work again with nil.
func (n *node) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func newNode(t *testing.T) *node {
	n := &node{free: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealmq_disk_free_bytes"})}
	least := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealmq_disk_min_free_bytes"})
	least.Set(1 << 20)
	n.free.Set(1 << 30)
	reg := prometheus.NewRegistry()
	reg.MustRegister(n.free, least)
	n.config = Config{Node: "n1", File: filepath.Join(t.TempDir(), "alerts.json"), Metrics: reg, Limits: limits, Repeat: 4 * time.Hour,
		Channels: []Channel{{Name: "test", Send: func(_ context.Context, m Message) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.tries++
			if n.err == nil {
				n.sent = append(n.sent, m.Subject())
			}
			return n.err
		}}}}
	return n
}

// run runs a manager for a while.
func (n *node) run(t *testing.T, d time.Duration) {
	t.Helper()
	m, err := New(n.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := m.Run(ctx); err != nil {
		t.Error(err)
	}
}

func (n *node) check(t *testing.T, what string, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if diff := cmp.Diff(want, n.sent); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
	n.sent = nil
}

const (
	firing   = "[SealMQ] n1: critical: DiskLow"
	resolved = "[SealMQ] n1: resolved: DiskLow"
)

// TestToldOnce: an alert is told once, again after the repeat interval, and when it is
// resolved; a restart tells nothing twice.
func TestToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.run(t, time.Hour)
		n.check(t, "nothing is wrong")
		n.free.Set(1)
		n.run(t, 50*time.Second)
		n.check(t, "it has not lasted")
		n.run(t, time.Hour)
		n.check(t, "it lasts", firing)
		for range 20 {
			n.run(t, time.Minute)
		}
		n.check(t, "restarts")
		n.run(t, 4*time.Hour)
		n.check(t, "it was not repaired", firing)
		n.free.Set(1 << 30)
		n.run(t, time.Minute)
		n.check(t, "it may come back")
		n.run(t, 10*time.Minute)
		n.check(t, "it is repaired", resolved)
		n.run(t, 10*time.Hour)
		n.check(t, "it was repaired")
	})
}

// TestChannelThatFails: it is asked less and less often, and told once when it works. What is
// over by then is not told.
func TestChannelThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.fail(errors.New("away"))
		n.free.Set(1)
		m, err := New(n.config)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(10 * time.Hour)
		n.mu.Lock()
		tries := n.tries
		n.mu.Unlock()
		if tries < 50 || tries > 70 { // each ten minutes
			t.Errorf("%d attempts in ten hours", tries)
		}
		n.fail(nil)
		time.Sleep(longestGap + time.Minute)
		n.check(t, "it works", firing)
		n.fail(errors.New("away"))
		n.free.Set(1 << 30)
		time.Sleep(time.Hour)
		n.free.Set(1)
		time.Sleep(time.Hour)
		n.fail(nil)
		time.Sleep(time.Hour)
		n.check(t, "it came back before anybody was told that it had gone")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestWhatEndsTheProcessIsTold: without waiting for it to last.
func TestWhatEndsTheProcessIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		store := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealmq_health_check", ConstLabels: prometheus.Labels{"component": "broker", "check": "store"}})
		n.config.Metrics.(*prometheus.Registry).MustRegister(store)
		n.free.Set(1) // which does not end it
		n.run(t, time.Second)
		n.check(t, "a stop")
		store.Set(2)
		n.run(t, time.Second)
		n.check(t, "the store has failed", "[SealMQ] n1: critical: Unhealthy broker store")
	})
}

func TestFileThatMakesNoSense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		if err := durable.WriteFile(durable.OS(), n.config.File, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.free.Set(1)
		n.run(t, time.Hour)
		n.check(t, "it is begun again", firing)
	})
}

func TestText(t *testing.T) {
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	m := Message{Node: "n1", At: now, Open: 2, Firing: []Alert{{"DeadLetters", "letters.dead", Warning, "3 messages were given up.", now.Add(-time.Hour)}},
		Resolved: []Alert{{"DiskLow", "", Critical, "The disk is full.", now.Add(-2 * time.Hour)}}}
	want := `FIRING: DeadLetters letters.dead (warning), since 2030-05-01T11:00:00Z
3 messages were given up.
What to do: https://github.com/sealmq/sealmq/blob/main/docs/runbooks/DeadLetters.md

RESOLVED: DiskLow (critical), since 2030-05-01T10:00:00Z
The disk is full.
What to do: https://github.com/sealmq/sealmq/blob/main/docs/runbooks/DiskLow.md

Alerts that fire on the node n1 at 2030-05-01T12:00:00Z: 2
`
	if diff := cmp.Diff(want, m.Text()); diff != "" {
		t.Error(diff)
	}
	for range 500 {
		m.Firing = append(m.Firing, m.Firing[0])
	}
	if n := len(m.Text()); n > 50_000 || !strings.Contains(m.Text(), "451 more are not shown") {
		t.Errorf("%d bytes for 501 alerts", n)
	}
}
