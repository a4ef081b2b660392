package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sealmq/sealmq/internal/alert"
)

// This file holds deploy/monitoring against the program and the documentation. What Prometheus
// makes of it is in prometheus_test.go.

var (
	repository = filepath.Join("..", "..")
	monitoring = filepath.Join(repository, "deploy", "monitoring")
)

// copies are at the places that the design documents name.
var copies = map[string]string{
	"monitoring/prometheus.yml":                           "prometheus.yml",
	"monitoring/grafana/datasources/prometheus.yml":       "grafana/provisioning/datasources/prometheus.yml",
	"monitoring/grafana/dashboards/system_dashboard.json": "grafana/dashboards/system_dashboard.json",
	"portal/system_dashboard.json":                        "grafana/dashboards/system_dashboard.json",
}

func TestMonitoringCopies(t *testing.T) {
	for place, original := range copies {
		want := readFile(t, filepath.Join(monitoring, original))
		path := filepath.Join(repository, place)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, readFile(t, path)); diff != "" {
			t.Errorf("%s is a copy of deploy/monitoring/%s; make it again with -update (-original +copy):\n%s", place, original, diff)
		}
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ruleFile is a file of rules, or of their tests.
type ruleFile struct {
	Groups []struct {
		Rules []struct {
			Alert, Record, Expr string
			Annotations         map[string]string
		}
	}
	Tests []struct{ Name string }
}

func rules(t *testing.T, name string) (f ruleFile) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(monitoring, "rules", name))), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// dashboardFile is what tests look at of a dashboard.
type dashboardFile struct {
	UID        string
	Title      string
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []struct {
		ID         int
		Title      string
		Datasource struct{ UID string }
		Targets    []struct {
			Expr       string
			Datasource struct{ UID string }
		}
	}
}

func dashboards(t *testing.T) map[string]dashboardFile {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(monitoring, "grafana", "dashboards", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	found := make(map[string]dashboardFile)
	for _, path := range paths {
		var d dashboardFile
		if err := json.Unmarshal([]byte(readFile(t, path)), &d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		found[filepath.Base(path)] = d
	}
	return found
}

// TestDashboards: each can be imported by hand, because it names its data source by a variable.
func TestDashboards(t *testing.T) {
	uids := make(map[string]string)
	for name, d := range dashboards(t) {
		if uids[d.UID] != "" || d.UID == "" || d.Title == "" {
			t.Errorf("%s: uid %q, title %q", name, d.UID, d.Title)
		}
		uids[d.UID] = name
		if v := d.Templating.List; len(v) != 1 || v[0].Name != "datasource" || v[0].Type != "datasource" || v[0].Query != "prometheus" {
			t.Errorf("%s: variables %+v", name, v)
		}
		ids := make(map[int]bool)
		for _, p := range d.Panels {
			if ids[p.ID] || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %d %q: data source %q, %d queries", name, p.ID, p.Title, p.Datasource.UID, len(p.Targets))
			}
			ids[p.ID] = true
			for _, target := range p.Targets {
				if target.Datasource.UID != "${datasource}" {
					t.Errorf("%s: panel %q: data source %q", name, p.Title, target.Datasource.UID)
				}
			}
		}
	}
	var titles []string
	for _, p := range dashboards(t)["system_dashboard.json"].Panels {
		titles = append(titles, p.Title)
	}
	want := []string{"Request rate per endpoint", "Queue size over time", "Worker success/failure counts", "Average response latency"}
	if diff := cmp.Diff(want, titles); diff != "" {
		t.Error(diff)
	}
}

var (
	quotedText = regexp.MustCompile(`"[^"]*"`)
	groupedBy  = regexp.MustCompile(`\b(by|on|without|ignoring)\s*\([^)]*\)`)
	metricName = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*_[a-zA-Z0-9_:]*`)
	histogram  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// notOurs are functions of Prometheus and metrics that it or the Go library makes.
var notOurs = []string{"histogram_quantile", "clamp_max", "predict_linear", "process_start_time_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes", "fastapi_main_server", "worker_id", "client_id"}

// TestMonitoringNames: rules and dashboards ask for metrics that exist.
func TestMonitoringNames(t *testing.T) {
	page := readFile(t, filepath.Join(repository, "docs", "metrics.md"))
	known := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(page, -1) {
		known[m[1]] = true
	}
	exprs := make(map[string]string)
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		for _, g := range rules(t, name).Groups {
			for _, r := range g.Rules {
				known[r.Record] = true
				exprs[r.Record+r.Alert] = r.Expr
			}
		}
	}
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				exprs[name+": "+p.Title+": "+target.Expr] = target.Expr
			}
		}
	}
	for where, expr := range exprs {
		expr = groupedBy.ReplaceAllString(quotedText.ReplaceAllString(expr, ""), "")
		for _, name := range metricName.FindAllString(expr, -1) {
			if !known[name] && !known[histogram.ReplaceAllString(name, "")] && !slices.Contains(notOurs, name) && !strings.HasSuffix(name, "_over_time") {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
}

// TestEveryAlertHasItsPageAndTests: a page in docs/runbooks and, if Prometheus finds it, a test
// that it fires and one that it does not. Each page is about an alert.
func TestEveryAlertHasItsPageAndTests(t *testing.T) {
	tests := make(map[string]int)
	for _, test := range rules(t, "alerts_test.yml").Tests {
		tests[test.Name]++
	}
	alerts := make(map[string]bool)
	for _, g := range rules(t, "alerts.yml").Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			for _, name := range []string{r.Alert + " fires", r.Alert + " does not fire"} {
				if tests[name] != 1 {
					t.Errorf("alerts_test.yml has %d tests %q", tests[name], name)
				}
			}
			url := "https://github.com/sealmq/sealmq/blob/main/docs/runbooks/" + r.Alert + ".md"
			if r.Annotations["runbook_url"] != url || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: annotations %q", r.Alert, r.Annotations)
			}
		}
	}
	for _, name := range alert.Names() { // those that the product sends itself
		alerts[name] = true
	}
	for name := range alerts {
		page := readFile(t, filepath.Join(repository, "docs", "runbooks", name+".md"))
		for _, part := range []string{"# " + name + "\n", "\n## How to look\n", "\n## What to do\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("docs/runbooks/%s.md lacks %q", name, part)
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := strings.TrimSuffix(filepath.Base(page), ".md"); !alerts[name] {
			t.Errorf("docs/runbooks/%s.md is about no alert", name)
		}
	}
}

// TestRunbooksNameCommandsThatExist reads the commands in the runbooks as the program would.
func TestRunbooksNameCommandsThatExist(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	command, found := regexp.MustCompile("`sealmq ([^`]+)`"), 0
	for _, page := range pages {
		for _, m := range command.FindAllStringSubmatch(readFile(t, page), -1) {
			found++
			if err := understood(newRootCmd(), strings.Fields(m[1])); err != nil {
				t.Errorf("%s: sealmq %s: %v", filepath.Base(page), m[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("no command was found; does this test look in the right place?")
	}
}

// understood reports whether a program has a command with these flags.
func understood(root *cobra.Command, words []string) error {
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if !cmd.Runnable() || cmd == root { // a group alone does nothing
		return exec.ErrNotFound
	}
	return nil
}
