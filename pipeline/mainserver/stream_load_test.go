//go:build unix

package mainserver_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// What 500 streams may cost. The test allows twice as much, because the same work takes more time
// on a machine whose cores are busy with something else.
const (
	loadStreams  = 500
	loadTime     = 10 * time.Second
	loadCPU      = 0.05 // of a core
	loadMemory   = 50 << 20
	loadSettings = "SEALMQ_TEST_STREAMS"
)

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// TestManyStreams: 500 open streams over HTTPS, with a change each second, cost less than 5 %
// of a core and 50 MiB. The readers are another process.
func TestManyStreams(t *testing.T) {
	if settings := os.Getenv(loadSettings); settings != "" {
		readStreams(t, settings)
		return
	}
	if testing.Short() {
		t.Skip("it takes 15 seconds")
	}
	s := newServer(t, func(_ *server, cfg *mainserver.HandlerConfig) { cfg.MaxStreamsPerCaller = loadStreams })
	cert, err := s.authority.Issue(ca.Request{Name: "admin-load", Role: sealmq.RoleAdmin})
	s.must(err)
	dir := t.TempDir()
	s.must(os.WriteFile(filepath.Join(dir, "cert.pem"), cert.CertPEM, 0o600))
	s.must(os.WriteFile(filepath.Join(dir, "key.pem"), cert.KeyPEM, 0o600))
	before := memory()
	readers := exec.Command(os.Args[0], "-test.run=^TestManyStreams$")
	readers.Env = append(os.Environ(), strings.Join([]string{loadSettings + "=" + s.url, dir, s.authority.Paths().Root}, "\n"))
	stop, err := readers.StdinPipe()
	s.must(err)
	out, err := readers.StdoutPipe()
	s.must(err)
	readers.Stderr = os.Stderr
	s.must(readers.Start())
	defer readers.Wait() //nolint:errcheck // what it found is in its output
	defer stop.Close()
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("%q %v", line, err)
	}
	used, began, changes := processorTime(t), time.Now(), 0
	for ; time.Since(began) < loadTime; changes++ {
		s.register("acme-01", fmt.Sprint("m-", changes)) // so that there is an event each second
		<-time.After(time.Second)
	}
	cpu := float64(processorTime(t)-used) / float64(time.Since(began))
	grown := memory() - before
	stop.Close()
	line, err := lines.ReadString('\n')
	s.must(err)
	var events int
	if _, err := fmt.Sscanf(line, "%d events", &events); err != nil || events < loadStreams*changes/2 {
		t.Errorf("the readers got %q, %v", line, err)
	}
	t.Logf("%d streams, %s: %.1f %% of a core, %.1f MiB", loadStreams, strings.TrimSpace(line), 100*cpu, float64(grown)/(1<<20))
	if cpu > 2*loadCPU || grown > 2*loadMemory {
		t.Errorf("that is more than twice %.0f %% of a core or %d MiB", 100*loadCPU, loadMemory>>20)
	}
}

// readStreams opens the streams and reads from them until its input ends.
func readStreams(t *testing.T, settings string) {
	words := strings.Split(settings, "\n")
	cert, err := tls.LoadX509KeyPair(filepath.Join(words[1], "cert.pem"), filepath.Join(words[1], "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(words[2])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	var events atomic.Int64
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}}}}
	defer client.CloseIdleConnections()
	for range loadStreams {
		r, err := client.Get(words[0] + "/api/v1/overview/events")
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", r, err)
		}
		defer r.Body.Close()
		go func() {
			for lines := bufio.NewScanner(r.Body); lines.Scan(); {
				if lines.Text() == "event: overview" {
					events.Add(1)
				}
			}
		}()
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end is what counts
	fmt.Println(events.Load(), "events")
}
