package main

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var update = flag.Bool("update", false, "rewrite the pages that are made from the code")

// exposed are the help texts of all metrics that a broker registers, by name.
func exposed(t *testing.T) map[string]string {
	t.Helper()
	cfg := defaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Server.Addr, cfg.Metrics.Addr = "127.0.0.1:0", "127.0.0.1:0"
	log, sink := newLogger(cfg.Log, io.Discard)
	defer sink.close()
	n := &node{cfg: cfg, roles: []string{"broker"}, log: log, sink: sink, registry: prometheus.NewRegistry()}
	n.registry.MustRegister(sink.collector())
	descs := make(chan *prometheus.Desc, 1000)
	describe := part{name: "describe", start: func() error {
		n.registry.Describe(descs)
		close(descs)
		return nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := runParts(ctx, append(n.parts(), describe)); err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)"`)
	help := make(map[string]string)
	for d := range descs {
		if m := parts.FindStringSubmatch(d.String()); strings.HasPrefix(m[1], "sealmq_") {
			help[m[1]] = m[2]
		}
	}
	return help
}

// TestMetricsPageSaysWhatIsExposed compares the page with the program: it lists every
// metric, with its help text as the meaning. -update writes the help texts into the page.
func TestMetricsPageSaysWhatIsExposed(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "metrics.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	help := exposed(t)
	var listed []string
	row := regexp.MustCompile("(?m)^(\\| `(sealmq_[a-z_]+)` \\| (?:gauge|counter|histogram) \\|[^|]*\\| )(.*) \\|$")
	want := row.ReplaceAllStringFunc(string(page), func(line string) string {
		m := row.FindStringSubmatch(line)
		listed = append(listed, m[2])
		return m[1] + help[m[2]] + " |"
	})
	var names []string
	for name := range help {
		names = append(names, name)
	}
	slices.Sort(names)
	slices.Sort(listed)
	if diff := cmp.Diff(names, listed); diff != "" {
		t.Errorf("docs/metrics.md (-exposed +listed):\n%s", diff)
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(page), "\n")); diff != "" {
		t.Errorf("docs/metrics.md; write it with -update (-help texts +page):\n%s", diff)
	}
}
