package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// configure writes the configuration of a world's roles, as a person would: at once.
func (w *rolesWorld) configure(format string, args ...any) {
	w.Helper()
	file := filepath.Join(w.dir, "sealmq.yaml")
	if err := os.WriteFile(file+".new", fmt.Appendf(nil, format, args...), 0o600); err != nil {
		w.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		w.Fatal(err)
	}
}

// reload runs "sealmq reload" and returns the answer of the only node.
func (w *rolesWorld) reload() reloadAnswer {
	w.Helper()
	var list []nodeAnswer
	if err := json.Unmarshal([]byte(w.run("reload", "--json")), &list); err != nil || len(list) != 1 {
		w.Fatalf("%d nodes answered, %v", len(list), err)
	}
	return list[0].reloadAnswer
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestReloadReachesReadyNode: what waits for the ready line can say "sealmq reload" at once.
func TestReloadReachesReadyNode(t *testing.T) {
	t.Parallel()
	n := &node{cfg: Config{Data: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	ready := false
	n.readyJSON = writerFunc(func(b []byte) (int, error) {
		ready = true
		if !exists(n.answerFile()) {
			t.Error("the ready line is printed before \"sealmq reload\" knows of the node")
		}
		return len(b), nil
	})
	if err := n.announce(); err != nil || !ready {
		t.Errorf("the node is not announced: %v", err)
	}
}

// TestReload: what can change without a restart does so at once, and what is wrong changes
// nothing.
func TestReload(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newNodeWorld(t)
	w.eventually(http.StatusOK, "/health")
	acme := w.client("acme-01")
	submit := func() int {
		resp, err := acme.Post(w.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(`{"sender_number":"+4915200000000","message_body":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	logged := func(text string) func() bool {
		return func() bool { return strings.Contains(string(w.logs[pipelineproc.All].Bytes()), text) }
	}
	w.until("a message is accepted", func() bool { return submit() == http.StatusAccepted })

	w.configure("proxy: {rate: 0}\nworker: {batch: 7}\nserver: {max_connections: 77}\n")
	a := w.reload()
	if got := fmt.Sprint(a.Restart, a.Errors); got != "[worker.batch] []" {
		t.Errorf("the answer is %+v", a)
	}
	if status := submit(); status != http.StatusTooManyRequests {
		t.Errorf("a client that is blocked gets %d", status)
	}

	resp, err := http.Get("http://" + w.Process(pipelineproc.All).MetricsAddr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(metrics), "_connections_limit 77\n") {
		t.Errorf("the limit of connections has not changed: %v", err)
	}

	w.configure("proxy: {rate: 10, burst: many}\nlog: {level: debug}\n")
	out, err := w.try("reload")
	if err == nil || !strings.Contains(out, `proxy.burst: "many" is not a whole number`) {
		t.Errorf("a wrong configuration: %v, %s", err, out)
	}
	w.until("the log says so", logged("everything stays as it was"))
	if status := submit(); status != http.StatusTooManyRequests || logged(`"level":"DEBUG"`)() {
		t.Errorf("half of a wrong configuration is in effect: %d", status)
	}

	w.configure("proxy: {rate: 10}\n")
	w.until("a changed file is noticed", func() bool { return submit() == http.StatusAccepted })
	if runtime.GOOS == "windows" {
		return
	}
	w.configure("log: {level: debug}\n")
	w.hangup()
	w.until("SIGHUP reads it", func() bool { return submit() == http.StatusAccepted && logged(`"level":"DEBUG"`)() })
}

func (w *rolesWorld) hangup() {
	w.Helper()
	node, err := os.FindProcess(w.Process(pipelineproc.All).PID)
	if err == nil {
		err = node.Signal(syscall.SIGHUP)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// TestReloadUnderLoad reloads a hundred times, with a changed configuration each time and
// a renewed certificate now and then, while messages are submitted. No request fails.
func TestReloadUnderLoad(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no hangups")
	}
	t.Parallel()
	w := newNodeWorld(t)
	w.eventually(http.StatusOK, "/health")
	acme := w.client("acme-01")
	var accepted, sent, failed atomic.Int64
	var end atomic.Bool
	var senders sync.WaitGroup
	defer senders.Wait()
	defer end.Store(true)
	post := func() {
		resp, err := acme.Post(w.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(`{"sender_number":"+4915200000000","message_body":"x"}`))
		sent.Add(1)
		if err != nil {
			failed.Add(1)
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		switch {
		case err == nil && resp.StatusCode == http.StatusAccepted:
			accepted.Add(1)
		case err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(answer), "It is not known"): // the queue is slow
		case accepted.Load() > 0:
			failed.Add(1)
			t.Errorf("answered %d: %s, %v", resp.StatusCode, answer, err)
		}
	}
	w.until("a message is accepted", func() bool { post(); return accepted.Load() > 0 })
	for range 4 {
		senders.Go(func() {
			for !end.Load() && failed.Load() == 0 {
				post()
			}
		})
	}
	reloads := func() int {
		return strings.Count(string(w.logs[pipelineproc.All].Bytes()), "the configuration was read again")
	}
	for i := range 100 {
		w.configure("proxy: {rate: %d}\nserver: {max_connections: %d}\n", 100_000+i, 1000+i)
		before, messages := reloads(), accepted.Load()
		w.hangup()
		w.until("the node has read it", func() bool { return reloads() > before && (accepted.Load() > messages || failed.Load() > 0) })
		if i%40 == 20 {
			w.run("cert", "renew", "server")
		}
	}
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
	t.Logf("%d requests during 100 reloads, %d of them accepted", sent.Load(), accepted.Load())
}
