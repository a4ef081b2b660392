package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
)

// monitoringFolder is a copy of deploy/monitoring, with a certificate and the addresses of the
// roles, which are scraped every second.
func (w *rolesWorld) monitoringFolder() string {
	w.Helper()
	dir := filepath.Join(w.dir, "monitoring")
	if err := os.CopyFS(dir, os.DirFS(monitoring)); err != nil {
		w.Fatal(err)
	}
	w.run("cert", "issue", "prometheus", "--role", "monitor", "--out", filepath.Join(dir, "certs"))
	addr := func(role string) string { return "localhost" + portOf(w.Addr(role)) }
	path := filepath.Join(dir, "prometheus.yml")
	config := strings.NewReplacer("localhost:8001", addr(pipelineproc.Proxy), "localhost:8000", addr(pipelineproc.Main), "localhost:8080", addr(pipelineproc.Portal),
		"localhost:9100", addr(pipelineproc.Worker), "interval: 10s", "interval: 1s").Replace(readFile(w.T, path))
	for _, role := range []string{pipelineproc.All, pipelineproc.Broker} {
		if p := w.Process(role); p != nil {
			config = strings.ReplaceAll(config, "localhost:15692", p.MetricsAddr)
		}
	}
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		w.Fatal(err)
	}
	return dir
}

// promtool runs Debian's program in a folder.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "promtool", ""), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

// TestRules lets promtool check the rules, and try each alert.
func TestRules(t *testing.T) {
	t.Parallel() // it mostly waits
	tool(t, "promtool", "")
	dir := filepath.Join(monitoring, "rules")
	promtool(t, dir, "check", "rules", "recording.yml", "alerts.yml")
	promtool(t, dir, "test", "rules", "alerts_test.yml")
}

// startPrometheus runs Prometheus until the test ends, and returns its address.
func startPrometheus(t *testing.T, dir string) string {
	t.Helper()
	addr := freeAddr(t)
	log := new(lockedBuffer)
	cmd := exec.CommandContext(t.Context(), tool(t, "prometheus", ""), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log.Bytes())
		}
	})
	return "http://" + addr
}

// ask returns how many series with a number an expression has, and the first one's labels and
// value.
func ask(base, expr string) (n int, first string, err error) {
	resp, err := http.Get(base + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  []any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, "", err
	}
	if answer.Status != "success" {
		return 0, "", fmt.Errorf("%s", answer.Error)
	}
	for _, r := range answer.Data.Result {
		if slices.Contains(r.Value, any("NaN")) {
			continue
		}
		if n++; n == 1 {
			first = fmt.Sprint(r.Metric, r.Value)
		}
	}
	return n, first, nil
}

// traffic is what a healthy system does: messages of the pipeline and of the broker.
func (w *rolesWorld) traffic(c *http.Client) {
	w.Helper()
	for i := range 5 {
		body := fmt.Sprintf(`{"sender_number":"+49152%08d","message_body":"hello"}`, i)
		w.until("a message is accepted", func() bool { // 503 if the queue is slow
			resp, err := c.Post(w.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(body))
			if err != nil {
				w.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusAccepted
		})
	}
	pub := exec.CommandContext(w.Context(), program.Path(w), "pub", "--addr", w.Addr(pipelineproc.Broker), "post", "bob")
	pub.Env, pub.Stdin = append(os.Environ(), w.Env()...), bytes.NewBufferString("hello\n")
	if out, err := pub.CombinedOutput(); err != nil {
		w.Fatalf("pub: %v\n%s", err, out)
	}
	w.run("queue", "get", "letters")
}

// TestPrometheus lets Prometheus scrape a node over TLS while messages flow. Every target
// answers, every expression of every dashboard returns data, and no alert fires.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	tool(t, "prometheus", "")
	w := newNodeWorld(t)
	dir := w.monitoringFolder()
	promtool(t, dir, "check", "config", "prometheus.yml")
	w.run("bind", "letters", "post", "bob")
	base := startPrometheus(t, dir)
	c := w.client(ca.AdminName)

	w.until("every target answers", func() bool {
		n, _, err := ask(base, "up == 1")
		return err == nil && n == strings.Count(readFile(t, filepath.Join(dir, "prometheus.yml")), "job_name:")
	})
	missing := make(map[string]string)
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				missing[target.Expr] = name + ": " + p.Title
			}
		}
	}
	all := len(missing)
	for began := time.Now(); len(missing) > 0 && time.Since(began) < time.Minute; {
		w.traffic(c)
		for expr, where := range missing {
			n, first, err := ask(base, expr)
			if err != nil {
				t.Errorf("%s: %s: %v", where, expr, err)
			}
			if n > 0 || err != nil {
				t.Logf("%s: %s: %d series, %s", where, expr, n, first)
				delete(missing, expr)
			}
		}
	}
	for expr, where := range missing {
		t.Errorf("%s returns nothing: %s", where, expr)
	}
	t.Logf("%d expressions", all)
	for _, alerts := range []string{`ALERTS{alertstate="firing"}`, `ALERTS{severity="critical"}`} {
		w.until("a healthy system has no "+alerts, func() bool {
			n, first, err := ask(base, alerts)
			if n > 0 {
				t.Log(first)
			}
			return n == 0 && err == nil
		})
	}
	for _, job := range []string{"fastapi_proxy", "fastapi_main_server", "worker_metrics", "broker", "portal"} {
		w.until(job+" has samples", func() bool {
			n, _, err := ask(base, fmt.Sprintf(`scrape_samples_scraped{job=%q} > 0`, job))
			return n == 1 && err == nil
		})
	}
}

// shown repeats a query until so many series are 1: a scrape may be late on a busy machine.
const shown = `shown() {
	until promtool query instant "$1" "$2" > shown.txt && test "$(grep -c '=> 1 @' shown.txt)" = "$3"; do sleep 0.2; done
	cat shown.txt
}
`

// TestMonitoringWalk follows the page literally, with other ports and a shorter interval.
func TestMonitoringWalk(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts a node")
	}
	t.Parallel()
	tool(t, "prometheus", "")
	ports := map[string]string{"9090": freeAddr(t)}
	script := "set -eo pipefail\n" + endJobs + shown
	edit := "sed -i -e 's/interval: 10s/interval: 1s/'"
	for port, setting := range map[string]string{"8000": "MAIN", "8001": "PROXY", "9100": "WORKER", "15692": "METRICS", "8080": "PORTAL"} {
		ports[port] = freeAddr(t)
		script += fmt.Sprintf("export SEALMQ_%s_ADDR=%s\n", setting, ports[port])
		edit += fmt.Sprintf(" -e 's/:%s/%s/'", port, portOf(ports[port]))
	}
	script += commands(t, "docs/operations/monitoring.md")
	at := "http://localhost" + portOf(ports["9090"])
	script = strings.NewReplacer("sleep 30\n", "",
		"promtool query instant http://localhost:9090 up\n", "shown "+at+" up 5\n",
		"promtool query instant http://localhost:9090 proxy_messages_enqueued_total\n", "shown "+at+" proxy_messages_enqueued_total 1\n",
		":9090", portOf(ports["9090"]), "/deploy/monitoring\" monitoring\n", "/deploy/monitoring\" monitoring\n"+edit+" monitoring/prometheus.yml\n").Replace(script)
	out, err := paste(t, script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "SUCCESS: monitoring/prometheus.yml is valid") || strings.Count(string(out), "=> 1 @") != 6 || strings.Contains(string(out), "ALERTS") {
		t.Errorf("the page shows another result:\n%s", out)
	}
}
