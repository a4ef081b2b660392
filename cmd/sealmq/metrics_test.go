package main

import (
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
	for _, start := range []func() error{n.openTrust, n.openStore, n.openServer, n.openMetrics} {
		if err := start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	descs := make(chan *prometheus.Desc, 1000)
	n.registry.Describe(descs)
	close(descs)
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
