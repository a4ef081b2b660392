package main

import (
	"context"
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

// exposed are the names of all metrics that a broker registers.
func exposed(t *testing.T) []string {
	t.Helper()
	cfg := defaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Server.Addr, cfg.Metrics.Addr = "127.0.0.1:0", "127.0.0.1:0"
	n := &node{cfg: cfg, log: newLogger(cfg.Log, io.Discard), registry: prometheus.NewRegistry()}
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
	var names []string
	for d := range descs {
		name := regexp.MustCompile(`fqName: "([^"]*)"`).FindStringSubmatch(d.String())[1]
		if strings.HasPrefix(name, "sealmq_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestMetricsPageListsWhatIsExposed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(sealmq_[a-z_]+)` \\| (?:gauge|counter|histogram) \\|").FindAllStringSubmatch(string(page), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	if diff := cmp.Diff(exposed(t), listed); diff != "" {
		t.Errorf("docs/metrics.md (-exposed +listed):\n%s", diff)
	}
}
