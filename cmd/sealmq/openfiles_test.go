package main

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/brokerproc"
)

func TestConnectionsWithin(t *testing.T) {
	for _, c := range []struct {
		wanted int
		files  uint64
		want   int // 0 is refused
	}{
		{10_000, 1 << 62, 10_000}, {10_000, 20_000, 10_000}, {10_000, 1024, 768}, {10_000, 128, 32}, {8, 128, 8},
		{10_000, 100, 0}, {1, 97, 1}, {1, 32, 0},
	} {
		got, err := connectionsWithin(c.wanted, c.files)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d connections within %d files: %d, %v", c.wanted, c.files, got, err)
		}
	}
}

// TestFewOpenFiles: where the system allows few open files, connections cannot take those that
// the health port and the store need, and the log says that there may be fewer.
func TestFewOpenFiles(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("it builds the program, starts a broker, and needs a shell")
	}
	cmd := exec.Command("sh", "-c", `ulimit -n 128 && exec "$@"`, "sh", builtBinary(t), "serve", "broker", "--ready-json",
		"--data", filepath.Join(t.TempDir(), "d"), "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var ready brokerproc.Ready
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		c, err := net.Dial("tcp", ready.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 20 {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + ready.MetricsAddr + "/health/ready")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("health answers %s", res.Status)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if !strings.Contains(log.String(), `"max_connections":32,"configured":10000,"open_files":128`) || strings.Contains(log.String(), "too many open files") {
		t.Errorf("the log says %s", log.String())
	}
}
