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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/metrics"
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

// TestLogThatNobodyReads: logging never waits for the sink. What finds no room is counted, health
// tells of it, and so does the log when it is read again.
func TestLogThatNobodyReads(t *testing.T) {
	w := &heldWriter{release: make(chan struct{})}
	log, sink := newLogger(defaultConfig().Log, w)
	for i := range 2 * maxLogLines {
		log.Info("line", "n", i)
	}
	log.Info(strings.Repeat("x", maxLogBytes))
	if status, reason := sink.status(); status != metrics.Degraded || !strings.Contains(reason, "log lines were dropped") {
		t.Errorf("health says %s, %q", status, reason)
	}
	if n := sink.dropped.Load(); n < maxLogLines || sink.waiting.Load() > maxLogBytes {
		t.Errorf("%d lines were dropped, %d bytes wait", n, sink.waiting.Load())
	}
	close(w.release)
	sink.close()
	if got := w.text.String(); !strings.Contains(got, `"n":0}`) || strings.Count(got, "log lines were dropped") != 1 {
		t.Errorf("the log has %d lines, %d of which tell of lost ones", strings.Count(got, "\n"), strings.Count(got, "log lines were dropped"))
	}
}

// TestNodeOutlivesItsLog: a broker whose standard error has no reader, or one that has stopped
// reading, serves on and can be stopped.
func TestNodeOutlivesItsLog(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts brokers")
	}
	exe := builtBinary(t)
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
