package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
)

// pipelineWorld is a node with all roles in a process of its own, and certificates for whom
// a test plays.
type pipelineWorld struct {
	*testing.T
	*brokerproc.Process
	paths ca.Paths
}

// newPipelineWorld starts the node. Its log is shown if the test fails.
func newPipelineWorld(t *testing.T) *pipelineWorld {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds the program and starts a node")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "node.yaml")
	if err := os.WriteFile(config, []byte("proxy: {addr: \"127.0.0.1:0\"}\nmain: {addr: \"127.0.0.1:0\"}\nworker: {addr: \"127.0.0.1:0\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &pipelineWorld{T: t, paths: ca.In(filepath.Join(dir, "sealmq-data"))}
	w.run("init")
	var log bytes.Buffer
	var err error
	w.Process, err = brokerproc.Start(t.Context(), brokerproc.Config{Exe: builtBinary(t), Data: w.paths.Dir, Log: &log,
		Args: []string{"broker", "proxy", "worker", "main", "--config", config}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		if t.Failed() {
			t.Logf("the log of the node:\n%s", log.Bytes())
		}
	})
	return w
}

// run runs sealmq on the node's data folder, and returns what it prints.
func (w *pipelineWorld) run(args ...string) string {
	w.Helper()
	out, err := exec.Command(builtBinary(w), append(args, "--data", w.paths.Dir)...).CombinedOutput()
	if err != nil {
		w.Fatalf("sealmq %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// client is an HTTPS client with the certificate of a name, "" for none.
func (w *pipelineWorld) client(name string) *http.Client {
	w.Helper()
	conf := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	root, err := os.ReadFile(w.paths.CA)
	if err != nil || !conf.RootCAs.AppendCertsFromPEM(root) {
		w.Fatal("no authority: ", err)
	}
	if name != "" {
		cert, err := tls.LoadX509KeyPair(w.paths.Cert(name), w.paths.Key(name))
		if err != nil {
			w.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	tr := &http.Transport{TLSClientConfig: conf}
	w.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// eventually waits until an administrator's GET at the main server has a status.
func (w *pipelineWorld) eventually(status int, path string) {
	w.Helper()
	c := w.client(ca.AdminName)
	for until := time.Now().Add(time.Minute); ; {
		answer, err := c.Get("https://" + w.MainAddr + path)
		if err != nil {
			w.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == status {
			return
		}
		if time.Now().After(until) {
			w.Fatalf("GET %s: %s, want %d", path, answer.Status, status)
		}
	}
}

// program is the path of a program that is not ours. Without it the test is skipped, and
// fails where continuous integration promises to have it.
func program(t *testing.T, name, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if variable == "" || path == "" {
		var err error
		if path, err = exec.LookPath(name); err != nil {
			if os.Getenv(mariadb.RequireEnv) == "1" && runtime.GOOS == "linux" {
				t.Fatalf("%s is not installed", name)
			}
			t.Skipf("%s is not installed; with %s=1 this is a failure", name, mariadb.RequireEnv)
		}
	}
	return path
}
