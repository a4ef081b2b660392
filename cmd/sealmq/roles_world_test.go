package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
)

// lookEvery is how often a condition is looked at that another process makes true.
const lookEvery = 20 * time.Millisecond

// rolesWorld is a pipeline whose roles are processes, in a folder of its own.
type rolesWorld struct {
	*testing.T
	*pipelineproc.Pipeline
	dir, data string
	logs      map[string]*lockedBuffer // by role
}

// newRolesWorld chooses addresses; nothing runs yet. Program, folder and logs are added to
// the configuration.
func newRolesWorld(t *testing.T, cfg pipelineproc.Config) *rolesWorld {
	t.Helper()
	w := &rolesWorld{T: t, dir: t.TempDir(), logs: make(map[string]*lockedBuffer)}
	w.data = filepath.Join(w.dir, "sealmq-data")
	if err := os.WriteFile(filepath.Join(w.dir, "sealmq.yaml"), []byte("# a test may write its settings here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Exe, cfg.Data = program.Path(t), w.data
	cfg.Log = func(role string) io.Writer { return w.logs[role] }
	cfg.Env = append(cfg.Env, "SEALMQ_DATA="+w.data, "SEALMQ_CONFIG="+filepath.Join(w.dir, "sealmq.yaml"))
	for _, role := range append([]string{pipelineproc.All, pipelineproc.Portal}, pipelineproc.Roles...) {
		w.logs[role] = new(lockedBuffer)
	}
	var err error
	if w.Pipeline, err = pipelineproc.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.KillAll()
		for role, log := range w.logs {
			if t.Failed() && len(log.Bytes()) > 0 {
				t.Logf("log of the %s:\n%s", role, log.Bytes())
			}
		}
	})
	return w
}

// newNodeWorld runs all roles in one process.
func newNodeWorld(t *testing.T) *rolesWorld {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the program and starts a node")
	}
	w := newRolesWorld(t, pipelineproc.Config{})
	w.start(pipelineproc.All)
	return w
}

// run runs sealmq with the settings of the roles, and returns what it prints.
func (w *rolesWorld) run(args ...string) string {
	w.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.Fatalf("sealmq %v: %v\n%s", args, err, out)
	}
	return out
}

// try is run for a command that may fail.
func (w *rolesWorld) try(args ...string) (string, error) {
	w.Helper()
	cmd := exec.CommandContext(w.Context(), program.Path(w), args...)
	cmd.Env = append(os.Environ(), w.Env()...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// start starts a role, which must become ready.
func (w *rolesWorld) start(role string) {
	w.Helper()
	if err := w.Start(w.Context(), role); err != nil {
		w.Fatal(err)
	}
}

// until waits for a condition.
func (w *rolesWorld) until(what string, is func() bool) {
	w.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; {
		if is() {
			return
		}
		<-time.After(lookEvery)
	}
	w.Fatalf("this was never so: %s", what)
}

// eventually waits until an administrator's GET at the main server has a status.
func (w *rolesWorld) eventually(status int, path string) {
	w.Helper()
	c := w.client(ca.AdminName)
	w.until(fmt.Sprintf("GET %s is answered %d", path, status), func() bool {
		answer, err := c.Get(w.URL(pipelineproc.Main) + path)
		if err != nil {
			w.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode == status
	})
}

// client makes calls with the certificate of a name, which is issued if there is none, or
// without one if it is empty.
func (w *rolesWorld) client(name string) *http.Client {
	w.Helper()
	conf, err := w.TLS(cmp.Or(name, ca.AdminName))
	if err != nil {
		w.Fatal(err)
	}
	if name == "" {
		conf.GetClientCertificate = nil
	}
	return w.httpClient(conf)
}

func (w *rolesWorld) httpClient(conf *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf}
	w.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// lockedBuffer is a log that grows while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}
