package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/pipeline/redisqueue"
)

var update = flag.Bool("update", false, "rewrite the pages that are made from the code")

// metric is what a role exposes under a name.
type metric struct {
	name, kind, help string
	labels           []string
	at               []string // the roles
}

var (
	descParts  = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "([^"]*)", (?:unit: "[^"]*", )?constLabels: \{(.*?)\}, variableLabels: \{(.*)\}\}$`)
	constLabel = regexp.MustCompile(`(\w+)="`)
)

// exposed starts a node with every role and returns what their registries have, by name.
// Metrics of Go and the process, which the library documents, are left out.
func exposed(t *testing.T) map[string]*metric {
	t.Helper()
	cfg := defaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	for _, addr := range []*string{&cfg.Server.Addr, &cfg.Metrics.Addr, &cfg.Proxy.Addr, &cfg.Worker.Addr, &cfg.Main.Addr, &cfg.Portal.Addr} {
		*addr = "127.0.0.1:0"
	}
	logs := openLogs(cfg, roles, io.Discard)
	defer logs.close()
	n := &node{cfg: cfg, roles: roles, log: logs.node, logs: logs}
	found := make(map[string]*metric)
	describe := part{name: "describe", start: func() error {
		q, err := redisqueue.Open(t.Context(), redisqueue.Config{Addr: "127.0.0.1:1"}) // its metrics need no server
		if err != nil {
			return err
		}
		for _, role := range []string{"proxy", "worker", "main"} {
			n.registries[role].MustRegister(q.Metrics())
		}
		defer q.Close()
		for _, role := range roles {
			describeMetrics(t, found, role, n.registries[role])
		}
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := runParts(ctx, append(n.parts(), describe)); err != nil {
		t.Fatal(err)
	}
	return found
}

// describeMetrics adds the metrics of a role. A metric without a series has no type: its name says
// whether it is a counter.
func describeMetrics(t *testing.T, found map[string]*metric, role string, reg *prometheus.Registry) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]string)
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc, 1000)
	reg.Describe(descs)
	close(descs)
	for d := range descs {
		p := descParts.FindStringSubmatch(d.String())
		if p == nil {
			t.Fatalf("a description that this test cannot read: %s", d)
		}
		if strings.HasPrefix(p[1], "go_") || strings.HasPrefix(p[1], "process_") {
			continue
		}
		m := found[p[1]]
		if m == nil {
			m = &metric{name: p[1], help: p[2]}
			found[p[1]] = m
		}
		kind := kinds[p[1]]
		if kind == "" && strings.HasSuffix(p[1], "_total") {
			kind = "counter"
		}
		if kind == "" {
			t.Errorf("%s has no series at the start, so its type cannot be seen", p[1])
		}
		if m.help != p[2] || m.kind != "" && m.kind != kind {
			t.Errorf("%s is described in two ways: %q and %q", p[1], m.help, p[2])
		}
		m.kind = kind
		for _, l := range constLabel.FindAllStringSubmatch(p[3], -1) {
			m.labels = append(m.labels, l[1])
		}
		m.labels = append(m.labels, strings.FieldsFunc(p[4], func(r rune) bool { return r == ',' || r == ' ' })...)
		m.at = append(m.at, role)
		slices.Sort(m.labels)
		m.labels, m.at = slices.Compact(m.labels), slices.Compact(m.at)
	}
}

func (m *metric) row() string {
	labels := ""
	if len(m.labels) > 0 {
		labels = "`" + strings.Join(m.labels, "`, `") + "` "
	}
	return fmt.Sprintf("| `%s` | %s | %s| %s | %s |", m.name, m.kind, labels, strings.Join(m.at, ", "), m.help)
}

// A place for a table on the page names the metrics by how their names begin.
var metricsPlace = regexp.MustCompile(`(?m)^<!-- metrics: (.*) -->\n(\n(\|.*\n)*)?`)

// TestMetricsPage compares docs/metrics.md with what all roles expose. -update writes the
// tables.
func TestMetricsPage(t *testing.T) {
	found := exposed(t)
	checkSpecified(t, found)
	path := filepath.Join("..", "..", "docs", "metrics.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The longest beginning decides, so that a place for the rest is possible.
	best := make(map[string]string)
	for _, place := range metricsPlace.FindAllStringSubmatch(string(page), -1) {
		for _, prefix := range strings.Fields(place[1]) {
			for name := range found {
				if strings.HasPrefix(name, prefix) && len(prefix) > len(best[name]) {
					best[name] = prefix
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if best[name] == "" {
			t.Errorf("docs/metrics.md has no place for %s: add how it begins to a line <!-- metrics: … -->", name)
		}
	}
	want := metricsPlace.ReplaceAllStringFunc(string(page), func(text string) string {
		var b strings.Builder
		prefixes := metricsPlace.FindStringSubmatch(text)[1]
		fmt.Fprintf(&b, "<!-- metrics: %s -->\n\n| metric | type | labels | roles | meaning |\n| --- | --- | --- | --- | --- |\n", prefixes)
		for _, prefix := range strings.Fields(prefixes) {
			for _, name := range slices.Sorted(maps.Keys(found)) {
				if best[name] == prefix {
					b.WriteString(found[name].row() + "\n")
				}
			}
		}
		return b.String()
	})
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(page), "\n")); diff != "" {
		t.Errorf("docs/metrics.md is stale; write it with -update (-code +page):\n%s", diff)
	}
}

// specified are the metrics that dashboards of others rely on: name, type and labels.
const specified = `
proxy_requests_total counter endpoint method status
proxy_request_duration_seconds histogram endpoint method
redis_queue_size gauge
proxy_messages_enqueued_total counter
proxy_messages_failed_total counter reason
proxy_certificate_validations_total counter result
proxy_rate_limited_total counter
proxy_registrations_total counter result
proxy_registration_backlog gauge
main_server_requests_total counter endpoint method status
main_server_request_duration_seconds histogram endpoint method
main_server_messages_registered_total counter client_id
main_server_messages_delivered_total counter client_id
main_server_messages_failed_total counter client_id reason
main_server_db_connections gauge
main_server_certificates_issued_total counter
main_server_certificates_revoked_total counter
main_server_messages_by_status gauge status
main_server_logins_total counter result
main_server_db_query_duration_seconds histogram operation
main_server_certificates_expiring gauge within
main_server_crl_entries gauge
main_server_crl_load_failures_total counter
worker_messages_processed_total counter status worker_id
worker_messages_delivered_total counter worker_id
worker_messages_failed_total counter reason worker_id
worker_messages_retried_total counter worker_id
worker_delivery_duration_seconds histogram worker_id
worker_queue_wait_seconds histogram worker_id
worker_active_workers gauge
worker_processing_messages gauge worker_id
worker_queue_depth gauge queue
worker_oldest_message_age_seconds gauge
portal_requests_total counter endpoint method status
portal_request_duration_seconds histogram endpoint method
portal_logins_total counter result
broker_build_info gauge component version
broker_certificate_expiry_timestamp_seconds gauge name
`

func checkSpecified(t *testing.T, found map[string]*metric) {
	t.Helper()
	for line := range strings.Lines(strings.TrimSpace(specified)) {
		want := strings.Fields(line)
		m := found[want[0]]
		if m == nil {
			t.Errorf("there is no metric %s", want[0])
			continue
		}
		if got := append([]string{m.name, m.kind}, m.labels...); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}
