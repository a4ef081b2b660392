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

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

func TestConnectionsWithin(t *testing.T) {
	for _, c := range []struct {
		wanted, listeners int
		files             uint64
		want              int // 0 is refused
	}{
		{10_000, 0, 1 << 62, 10_000}, {10_000, 0, 20_000, 10_000}, {10_000, 0, 1024, 768}, {10_000, 0, 128, 32}, {8, 0, 128, 8},
		{10_000, 0, 100, 0}, {1, 0, 97, 1}, {1, 0, 32, 0},
		{10_000, 2, 1 << 62, 10_000}, {10_000, 2, 20_000, 10_000}, {10_000, 2, 1024, 640}, {10_000, 2, 128, 16}, {10_000, 2, 112, 0},
	} {
		got, err := connectionsWithin(c.wanted, c.listeners, c.files)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d connections within %d files: %d, %v", c.wanted, c.files, got, err)
		}
	}
}

// TestFewOpenFiles: where the system allows few open files, connections cannot take those that
// the health port, administrators and the store need, and the log says that there may be fewer.
// Neither strangers nor clients shut an administrator out.
func TestFewOpenFiles(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("it builds the program, starts a broker, and needs a shell")
	}
	data := filepath.Join(t.TempDir(), "d")
	cmd := exec.Command("sh", "-c", `ulimit -n 128 && exec "$@"`, "sh", program.Path(t), "serve", "broker", "--ready-json",
		"--data", data, "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")
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
	if out, err := exec.Command(program.Path(t), "cert", "issue", "alice", "--data", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dial := func(name string) error {
		conf, err := mtls.ClientConfig(mtls.FindFiles(data, name), mtls.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Dial(t.Context(), client.Config{Addr: ready.Addr, TLS: conf})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}
	for _, name := range []string{"alice", "admin"} {
		for n := 0; ; n++ {
			if err := dial(name); err != nil {
				if n < 8 || sealmq.CodeOf(err) != sealmq.LimitReached {
					t.Errorf("connection %d of %s: %v", n, name, err)
				}
				break
			}
		}
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
