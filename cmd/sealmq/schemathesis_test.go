package main

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/mtls"
)

// TestAPIHoldsAgainstSchemathesis lets a program that has read nothing but /openapi.json call
// the proxy and the main server, with good values and with bad ones. The program is in the
// path, or the variable SCHEMATHESIS names it.
func TestAPIHoldsAgainstSchemathesis(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes some thousand calls")
	}
	t.Parallel() // it mostly waits
	schemathesis := tool(t, "schemathesis", "SCHEMATHESIS")
	config, err := filepath.Abs(filepath.Join("testdata", "schemathesis.toml"))
	if err != nil {
		t.Fatal(err)
	}
	w := newNodeWorld(t)
	paths := ca.In(w.data)
	for _, name := range []string{"acme-01", "acme-02"} {
		w.run("cert", "issue", name)
	}
	w.run("cert", "issue", "worker-9", "--role", "worker")
	revocable, err := tls.LoadX509KeyPair(paths.Cert("acme-02"), paths.Key("acme-02"))
	if err != nil {
		t.Fatal(err)
	}
	const internal = "^/api/v1/internal/"
	for _, r := range []struct {
		name, url, as string
		args          []string
	}{
		{"proxy", w.URL(pipelineproc.Proxy), "acme-01", nil},
		{"internal", w.URL(pipelineproc.Main), "worker-9", []string{"--include-path-regex", internal}},
		{"main", w.URL(pipelineproc.Main), ca.AdminName, []string{"--exclude-path-regex", internal}},
	} {
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, schemathesis, append([]string{"--config-file", config, "--no-color", "run", r.url + "/openapi.json",
				"--tls-verify", paths.CA, "--request-cert", paths.Cert(r.as), "--request-cert-key", paths.Key(r.as),
				"--phases", "examples,coverage,fuzzing"}, r.args...)...)
			cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "FINGERPRINT="+mtls.Fingerprint(revocable.Leaf))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v", err)
			}
			t.Logf("%s", out)
		})
	}
}
