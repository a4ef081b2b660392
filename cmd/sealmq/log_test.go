package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
)

// heldWriter does not return from Write before it is released.
type heldWriter struct {
	release chan struct{}
	mu      sync.Mutex
	text    strings.Builder
}

func (w *heldWriter) Write(p []byte) (int, error) {
	<-w.release
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *heldWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// TestLogThatNobodyReads: logging never waits for the sink. What finds no room is counted, health
// tells of it, and so does the log when it is read again.
func TestLogThatNobodyReads(t *testing.T) {
	w := &heldWriter{release: make(chan struct{})}
	cfg := defaultConfig()
	cfg.Log.Folder = "off"
	logs := openLogs(cfg, []string{"broker"}, w)
	log, sink := logs.node, logs.sinks[0]
	for i := range 2 * maxLogLines {
		log.Info("line", "n", i)
	}
	log.Info(strings.Repeat("x", maxLogBytes))
	if reason := sink.trouble(); !strings.Contains(reason, "log lines were dropped") {
		t.Errorf("health says %q", reason)
	}
	if n := sink.dropped.Load(); n < maxLogLines || sink.waiting.Load() > maxLogBytes {
		t.Errorf("%d lines were dropped, %d bytes wait", n, sink.waiting.Load())
	}
	close(w.release)
	for until := time.Now().Add(time.Minute); !strings.Contains(w.String(), "log lines were dropped") && time.Now().Before(until); {
		<-time.After(lookEvery)
	}
	logs.close()
	if got := w.String(); !strings.Contains(got, `"n":0}`) || strings.Count(got, "log lines were dropped") != 1 {
		t.Errorf("the log has %d lines, %d of which tell of lost ones", strings.Count(got, "\n"), strings.Count(got, "log lines were dropped"))
	}
}

// TestNodeOutlivesItsLog: a broker whose standard error has no reader, or one that has stopped
// reading, serves on and can be stopped.
func TestNodeOutlivesItsLog(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts brokers")
	}
	t.Parallel()
	exe := program.Path(t)
	for _, gone := range []bool{true, false} {
		t.Run(fmt.Sprint("gone ", gone), func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd := exec.Command(exe, "serve", "broker", "--ready-json", "--data", filepath.Join(t.TempDir(), "d"), "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")
			cmd.Env = append(os.Environ(), "SEALMQ_LOG_LEVEL=debug")
			cmd.Stderr = w
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			w.Close()
			if gone {
				r.Close()
			}
			line, err := bufio.NewReader(out).ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			var ready brokerproc.Ready
			if err := json.Unmarshal(line, &ready); err != nil {
				t.Fatal(err)
			}
			health := func() string {
				res, err := http.Get("http://" + ready.MetricsAddr + "/health/live")
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				return string(b)
			}
			deadline := time.Now().Add(time.Minute)
			for !strings.Contains(health(), "log lines were dropped") {
				if time.Now().After(deadline) {
					t.Fatal("health does not tell that the log is not read:", health())
				}
				for range 100 { // strangers that speak no TLS
					if c, err := net.Dial("tcp", ready.Addr); err == nil {
						fmt.Fprint(c, "hello\n")
						_, _ = io.Copy(io.Discard, c)
						c.Close()
					}
				}
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

// TestLogFiles: each role of a node has a file for its lines. The level follows "sealmq log level" and,
// on SIGHUP, the configuration.
func TestLogFiles(t *testing.T) {
	t.Parallel()
	w := newNodeWorld(t)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(w.data, "logs", name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(b)
	}
	count := func(text string) int { return strings.Count(read("main_server.log"), text) }
	admin := w.client("admin")
	debugs := func() bool { // a request that fails is logged always, and others at level debug
		const access, failure = `"level":"DEBUG","msg":"request"`, `"status":404`
		accesses, failures := count(access), count(failure)
		for _, path := range []string{"/health", "/nosuch"} {
			resp, err := admin.Get(w.URL(pipelineproc.Main) + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		w.until("a failure is logged", func() bool { return count(failure) > failures })
		return count(access) > accesses
	}
	w.until("the node says in a file that it runs", func() bool { return strings.Contains(read("broker.log"), "accepting clients") })
	if debugs() {
		t.Error("the level is not info")
	}
	w.run("log", "level", "debug")
	w.until("the main server logs accesses", debugs)
	for name, component := range map[string]string{"main_server.log": "main_server", "broker.log": "broker"} {
		w.until(name+" has its component", func() bool { return strings.Contains(read(name), `"component":"`+component+`"`) })
	}
	for _, line := range strings.Split(strings.TrimSpace(read("main_server.log")), "\n") {
		if !strings.Contains(line, `"component":"main_server"`) {
			t.Errorf("main_server.log has a line of another component: %s", line)
		}
	}
	if got := w.run("log", "level"); !strings.Contains(got, "debug") {
		t.Errorf("sealmq log level prints %q", got)
	}
	reset, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.URL(pipelineproc.Main)+"/api/v1/log-level", strings.NewReader(`{"level":"default"}`))
	if err != nil {
		t.Fatal(err)
	}
	reset.Header.Set("Content-Type", "application/json")
	if resp, err := admin.Do(reset); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("over the API: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	w.until("accesses are not logged any more", func() bool { return !debugs() })

	if runtime.GOOS == "windows" {
		return
	}
	if err := os.WriteFile(filepath.Join(w.dir, "sealmq.yaml"), []byte("log:\n  level: debug\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node, err := os.FindProcess(w.Process(pipelineproc.All).PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.until("the configuration's level counts", debugs)
	for _, name := range []string{"main_server.log", "broker.log"} {
		if info, err := os.Stat(filepath.Join(w.data, "logs", name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
