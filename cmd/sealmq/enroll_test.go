package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

// TestEnrolledMachineIsCutOff: a machine enrolls, renews twice by itself, is let in everywhere, and
// after a revocation nowhere. It cannot renew then.
func TestEnrolledMachineIsCutOff(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newNodeWorld(t)
	out := filepath.Join(w.dir, "machine")
	made := w.run("cert", "token", "acme-01", "--lifetime", "24s", "--main-url", w.URL(pipelineproc.Main))
	token := made[strings.LastIndex(made, "smqe_"):]
	w.run("cert", "enroll", "--token", strings.TrimSpace(token), "--out", out)
	files := mtls.FindFiles(out, "acme-01")
	serial := func() string {
		certs, _, err := mtls.ReadPair(files) // they fit each other at every moment
		if err != nil {
			t.Fatal(err)
		}
		if time.Now().After(certs[0].NotAfter) { // the machine was too busy
			allow := exec.CommandContext(t.Context(), program.Path(w), "cert", "allow-renewal", "acme-01", "--main-url", w.URL(pipelineproc.Main))
			allow.Env = append(os.Environ(), w.Env()...)
			_ = allow.Run()
		}
		return mtls.Serial(certs[0])
	}
	seen := map[string]bool{serial(): true}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watch := exec.CommandContext(ctx, program.Path(w), "cert", "renew", "acme-01", "--watch", "--out", out)
	watch.Env = append(os.Environ(), w.Env()...)
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = watch.Wait() }()
	w.until("it has renewed twice", func() bool { seen[serial()] = true; return len(seen) >= 3 })
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := w.httpClient(conf)
	isRevoked := func(role string) bool {
		a, err := c.Get(w.URL(role) + "/api/v1/messages/0")
		if err != nil {
			return false // the certificate changes meanwhile
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		// It may also expire before a busy machine asks.
		return err == nil && (a.StatusCode == 403 && strings.Contains(string(body), "revoked") || a.StatusCode == 401)
	}
	dial := func() error {
		b, err := client.Dial(t.Context(), client.Config{Addr: w.Addr(pipelineproc.Broker), TLS: conf.Clone()})
		if err == nil {
			b.Close()
		}
		return err
	}
	w.until("the broker lets it in", func() bool { return dial() == nil })
	if isRevoked(pipelineproc.Proxy) || isRevoked(pipelineproc.Main) {
		t.Error("it is refused before the revocation")
	}
	w.run("cert", "revoke", "acme-01", "--force")
	began := time.Now()
	w.until("proxy, main server and broker refuse it", func() bool {
		return isRevoked(pipelineproc.Proxy) && isRevoked(pipelineproc.Main) && dial() != nil
	})
	t.Logf("refused after %v", time.Since(began))
	renew := exec.CommandContext(t.Context(), program.Path(w), "cert", "renew", "acme-01", "--out", out)
	renew.Env = append(os.Environ(), w.Env()...)
	if said, err := renew.CombinedOutput(); err == nil || !strings.Contains(string(said), "revoked") && !strings.Contains(string(said), "expired") {
		t.Errorf("%v %s", err, said)
	}
}
