//go:build unix

package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/proxy"
)

// noQueue stores nothing, so that a benchmark measures the proxy.
type noQueue struct{ queue }

func (*noQueue) Enqueue(_ context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	out := make([]pipeline.EnqueueResult, len(items))
	for i := range out {
		out[i].Outcome = pipeline.Stored
	}
	return out, nil
}

// noMain registers nothing.
type noMain struct{ mainServer }

func (*noMain) Register(_ context.Context, items []pipeline.Item) ([]pipeline.Result, error) {
	return make([]pipeline.Result, len(items)), nil
}

// BenchmarkSubmit measures single submissions over HTTP/1.1 with TLS, on 64 connections
// that stay open. The client is another process, so what is reported is the proxy's.
func BenchmarkSubmit(b *testing.B) { benchmark(b, 64, 1, "/submit", good) }

// BenchmarkBatch measures messages in batches of 500.
func BenchmarkBatch(b *testing.B) {
	benchmark(b, 8, 500, "/api/v1/messages/batch", `{"messages":[`+strings.Repeat(good+",", 499)+good+`]}`)
}

func benchmark(b *testing.B, connections, messages int, path, body string) {
	w := newWorld(b, func(w *world, c *proxy.Config) {
		c.Queue, c.Main, c.Log = &noQueue{}, &noMain{mainServer{keys: w.main.keys, idKey: w.main.idKey}}, nil
		c.Rate = &httpkit.Rate{PerSecond: 1_000_000_000}
	})
	c := w.as("acme-01")
	w.eventually("it takes no messages", func() bool { return w.ask(c, "POST", "/submit", good).StatusCode == 202 })
	dir := b.TempDir()
	testca.WriteFile(b, filepath.Join(dir, "ca.crt"), w.ca.RootPEM())
	testca.WriteLeaf(b, dir, "acme-01", w.ca.Leaf("acme-01", sealmq.RoleClient))
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchmarkClient$")
	cmd.Env = append(os.Environ(), "PROXY_BENCH="+strings.TrimPrefix(w.url, "https://"), "PROXY_BENCH_DIR="+dir, "PROXY_BENCH_N="+strconv.Itoa((b.N+messages-1)/messages),
		"PROXY_BENCH_C="+strconv.Itoa(connections), "PROXY_BENCH_PATH="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	io.WriteString(in, body)
	in.Close()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		b.Fatalf("client: %q %v", line, err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	before, start := processorTime(b), time.Now()
	line, err := lines.ReadString('\n')
	took, used := time.Since(start), processorTime(b)-before
	b.StopTimer()
	io.Copy(io.Discard, out)
	if werr := cmd.Wait(); err != nil || werr != nil || line != "done\n" {
		b.Fatalf("client: %q %v %v", line, err, werr)
	}
	b.ReportMetric(float64(b.N)/took.Seconds(), "messages/s")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/message")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// TestBenchmarkClient is the client's end of a benchmark, and no test.
func TestBenchmarkClient(t *testing.T) {
	addr := os.Getenv("PROXY_BENCH")
	if addr == "" {
		t.Skip("it is the other process of a benchmark")
	}
	dir := os.Getenv("PROXY_BENCH_DIR")
	conf, err := mtls.ClientConfig(mtls.Files{Cert: filepath.Join(dir, "acme-01.crt"), Key: filepath.Join(dir, "acme-01.key"), CA: filepath.Join(dir, "ca.crt")},
		mtls.ClientOptions{ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.ParseInt(os.Getenv("PROXY_BENCH_N"), 10, 64)
	connections, _ := strconv.Atoi(os.Getenv("PROXY_BENCH_C"))
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", os.Getenv("PROXY_BENCH_PATH"), len(body), body)
	var left atomic.Int64
	left.Store(n)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range connections {
		conn, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wg.Go(func() {
			<-begin
			r := textproto.NewReader(bufio.NewReaderSize(conn, 64<<10))
			for left.Add(-1) >= 0 {
				if err := exchange(conn, r, request); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	fmt.Println("ready")
	close(begin)
	wg.Wait()
	fmt.Println("done")
}

func exchange(conn io.Writer, r *textproto.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	status, err := r.ReadLine()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status, "HTTP/1.1 20") {
		return fmt.Errorf("answer %s", status)
	}
	length := int64(0)
	for {
		line, err := r.ReadLineBytes()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.ParseInt(v, 10, 64); err != nil {
				return err
			}
		}
	}
	_, err = io.CopyN(io.Discard, r.R, length)
	return err
}
