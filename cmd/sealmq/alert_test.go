package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/alert"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/smtpserver"
)

// hook is a server that gets calls of a webhook.
type hook struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string // the alerts of each, or "test"
}

func newHook(t *testing.T, key string) *hook {
	h := new(hook)
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m struct {
			Test   bool
			Alerts []struct{ Name, Subject, Status string }
		}
		if err != nil || json.Unmarshal(body, &m) != nil {
			t.Errorf("a call that is no JSON: %q, %v", body, err)
		}
		if r.Header.Get(alert.SignatureHeader) != "sha256="+alert.Sign([]byte(key), r.Header.Get(alert.TimeHeader), body) {
			t.Error("the signature is wrong")
		}
		call := ""
		for _, a := range m.Alerts {
			call += a.Name + " " + a.Subject + " " + a.Status
		}
		if m.Test {
			call = "test"
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls = append(h.calls, call)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.calls, ", ")
}

// TestAlerts: a node sends mails and calls the webhook by itself, and after a restart tells nothing again.
func TestAlerts(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts a node")
	}
	t.Parallel() // it mostly waits
	const key = "a secret of more than 16 bytes"
	h := newHook(t, key)
	w := newRolesWorld(t, pipelineproc.Config{})
	keyFile := filepath.Join(w.dir, "webhook.key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mails := smtpserver.Start(t, nil)
	w.Set("SEALMQ_MAIL_HOST="+mails.Host, fmt.Sprint("SEALMQ_MAIL_PORT=", mails.Port), "SEALMQ_MAIL_SECURITY=off", "SEALMQ_MAIL_FROM=sealmq@example.org",
		"SEALMQ_ALERTS_MAIL_TO=anna@example.org, bob@example.org")
	mailed := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			m, err := mails.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, subject, _ := strings.Cut(m.Header.Get("Subject"), ": ")
			got = append(got, m.To+" "+subject)
			if !strings.Contains(subject, "test") && !strings.Contains(m.Text(), "docs/runbooks/DeadLetters.md") {
				t.Errorf("a mail without the way to help:\n%s", m.Text())
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("mails (-want +got):\n%s", diff)
		}
	}
	w.Set("SEALMQ_ALERTS_WEBHOOK="+h.URL+"/alerts", "SEALMQ_ALERTS_WEBHOOK_KEY_FILE="+keyFile)
	w.start(pipelineproc.All)
	if out := w.run("alert", "test"); !strings.Contains(out, "webhook") || h.all() != "test" {
		t.Errorf("a test: %q, the webhook got %q", out, h.all())
	}
	mailed("anna@example.org test", "bob@example.org test")
	w.run("bind", "letters.dead", "post", "dead")
	w.run("pub", "post", "dead", "hello", "--addr", w.Addr(pipelineproc.Broker))
	const want = "test, DeadLetters letters.dead firing"
	w.until("the webhook is told of a dead letter", func() bool { return h.all() == want })
	mailed("anna@example.org warning: DeadLetters letters.dead", "bob@example.org warning: DeadLetters letters.dead")
	w.until("it is kept that everybody was told", func() bool {
		data, err := os.ReadFile(filepath.Join(w.data, "alerts.json"))
		return err == nil && strings.Count(string(data), `"letters.dead"`) == 3
	})
	w.KillAll()
	w.start(pipelineproc.All)
	w.run("bind", "more.dead", "post", "more")
	w.run("pub", "post", "more", "hello", "--addr", w.Addr(pipelineproc.Broker))
	w.until("the webhook is told of another one, and of no more", func() bool { return h.all() == want+", DeadLetters more.dead firing" })
	mailed("anna@example.org warning: DeadLetters more.dead", "bob@example.org warning: DeadLetters more.dead")
}

func TestAlertsThatReachNobody(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := runCLI(t, "alert", "test"); err == nil || !strings.Contains(printed(err), "nobody is told of alerts") {
		t.Error(printed(err))
	}
	for setting, want := range map[string]string{
		"mail_to: anna@example.org":                                          "alerts.mail_to: needs a mail server",
		"mail_to: anna, bob@example.org":                                     `alerts.mail_to: "anna" is not an address`,
		"webhook: http://alerts.example.org":                                 "alerts.webhook: must begin with https://",
		"webhook_key_file: x":                                                "means nothing without alerts.webhook",
		"webhook: https://alerts.example.org\n  webhook_key_file: missing":   "alerts.webhook_key_file: ",
		"webhook: https://alerts.example.org\n  webhook_key_file: short.key": "short.key has 4 bytes",
	} {
		write(t, "sealmq.yaml", "alerts:\n  "+setting+"\n")
		if err := os.WriteFile("short.key", []byte("1234"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := runCLI(t, "config", "check"); err == nil || !strings.Contains(printed(err), want) {
			t.Errorf("%s: %s", setting, printed(err))
		}
	}
}
