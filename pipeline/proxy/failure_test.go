package proxy_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/proxy"
)

var unreachable = &sealmq.Error{Code: sealmq.Unavailable, Message: "Failed to enqueue message. The queue cannot be reached"}

// TestQueueIsAway: 503 within two seconds, nothing half-accepted, and it recovers by itself.
func TestQueueIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	w.queue.set(func() { w.queue.err = unreachable })
	if a := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k"); a.StatusCode != 503 || a.m["error"] != "service_unavailable" || !strings.HasPrefix(a.m["message"].(string), "It is not known") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	w.eventually("health does not say it", func() bool {
		a := w.ask(c, "GET", "/health", "")
		return a.StatusCode == 503 && a.m["status"] == "unhealthy" && a.m["checks"].(map[string]any)["redis"] == "unhealthy"
	})
	if a := w.ask(c, "GET", "/health/live", ""); a.StatusCode != 200 {
		t.Errorf("live: %d", a.StatusCode)
	}
	w.queue.set(func() { w.queue.err, w.queue.hold = nil, make(chan struct{}) })
	if a := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k"); a.StatusCode != 503 {
		t.Errorf("a queue that hangs: %d %s", a.StatusCode, a.body)
	}
	w.queue.set(func() {
		if w.queue.patience == 0 || w.queue.patience > 2*time.Second {
			t.Errorf("a queue that hangs has %v", w.queue.patience)
		}
		w.queue.hold = nil
		w.queue.refuse = &sealmq.Error{Code: sealmq.NoStorage, Message: "the disk is full"}
	})
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 503 || a.m["message"] != "the disk is full" {
		t.Errorf("no room: %d %s", a.StatusCode, a.body)
	}
	w.eventually("health does not say that there is no room", func() bool {
		a := w.ask(c, "GET", "/health", "")
		return a.StatusCode == 200 && a.m["status"] == "degraded" && a.m["checks"].(map[string]any)["redis"] == "full"
	})
	if n := len(w.main.rows()); n != 0 {
		t.Errorf("%d messages are registered that were not accepted", n)
	}
	w.queue.set(func() { w.queue.refuse = nil })
	if a := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k"); a.StatusCode != 202 || a.m["duplicate"] != nil {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
	w.eventually("health does not say that there is room again", func() bool {
		return w.ask(c, "GET", "/health", "").m["checks"].(map[string]any)["redis"] == "healthy"
	})
	if n := w.count("proxy_messages_failed_total", "redis_error"); n != 3 {
		t.Errorf("%v counted", n)
	}
}

// TestUnknownOutcome: a message that the queue may have is not called refused. Its client
// repeats it with the same key, and it is recognised and registered.
func TestUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	batch := `{"messages":[{"sender_number":"+4915200000000","message_body":"one","message_id":"b-1"},{"sender_number":"+4915200000000","message_body":"two","message_id":"b-2"}]}`
	w.queue.set(func() { w.queue.lose = func(pipeline.Item) bool { return true } })
	for path, body := range map[string]string{"/submit": good, "/api/v1/messages": good, "/api/v1/messages/batch": batch} {
		a := w.ask(c, "POST", path, body, "Idempotency-Key", "k")
		if a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "not known") || !strings.Contains(a.body, "same key") {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
	w.queue.set(func() { w.queue.lose = func(it pipeline.Item) bool { return it.ClientKey == "b-2" } })
	a := w.ask(c, "POST", "/api/v1/messages/batch", batch)
	if list := a.m["results"].([]any); a.StatusCode != 200 || list[0].(map[string]any)["duplicate"] != true || list[1].(map[string]any)["status"] != "unknown" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	w.queue.set(func() { w.queue.lose = nil })
	if a := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k"); a.StatusCode != 202 || a.m["duplicate"] != true {
		t.Errorf("a repeat: %d %s", a.StatusCode, a.body)
	}
	w.eventually("the messages are not registered", func() bool { return len(w.main.rows()) == 2 })
}

// TestQueueRefusesTheProxy: that is none of the client's faults.
func TestQueueRefusesTheProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).ready()
	w.queue.set(func() {
		w.queue.refuse = &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to publish to 'message_queue'"}
	})
	if a := w.ask(w.as("acme-01"), "POST", "/submit", good); a.StatusCode != 503 || strings.Contains(a.body, "allowed") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestMainServerIsAway: clients do not notice, and messages are registered when it is back.
func TestMainServerIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cache := func(_ *world, c *proxy.Config) {
		c.KeyCache, c.IDKeyFile = filepath.Join(dir, "main.key"), filepath.Join(dir, "ids.key")
	}
	w := newWorld(t, cache).ready()
	c := w.as("acme-01")
	hold := make(chan struct{})
	w.main.set(func() { w.main.hold = hold })
	for range 3 {
		start := time.Now()
		if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 || time.Since(start) > 30*time.Second {
			t.Errorf("it hangs: %d after %v", a.StatusCode, time.Since(start))
		}
	}
	w.main.set(func() { w.main.hold, w.main.err = nil, unreachable })
	close(hold)
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
		t.Errorf("away: %d %s", a.StatusCode, a.body)
	}
	w.eventually("health does not say it", func() bool {
		a := w.ask(c, "GET", "/api/v1/health", "")
		return a.StatusCode == 200 && a.m["status"] == "degraded" && a.m["checks"].(map[string]any)["main_server"] == "unhealthy"
	})
	if w.count("proxy_registration_backlog", "") == 0 {
		t.Error("there is no backlog")
	}
	w.main.set(func() { w.main.err = nil })
	w.eventually("the messages are not registered", func() bool { return len(w.main.rows()) == 4 })

	// A start without the main server uses the keys that were kept.
	for _, name := range []string{"main.key", "ids.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
	w.stop()
	w.main.set(func() { w.main.err = unreachable })
	cfg := minimal(w)
	cache(w, &cfg)
	again, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.proxy = again
	w.listenWith(nil)
	if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
		t.Errorf("after a start: %d %s", a.StatusCode, a.body)
	}
	w.open(w.queue.stored()[4])

	testca.WriteFile(t, cfg.KeyCache, []byte("damaged"))
	if _, err := proxy.New(cfg); err != nil {
		t.Errorf("a damaged cache stops the proxy: %v", err)
	}
}

// TestWithoutAKey: nothing is taken that the main server could not open, or that somebody
// else could.
func TestWithoutAKey(t *testing.T) {
	for name, change := range map[string]func(*world){
		"none":                 func(w *world) { w.main.keys = nil },
		"no key of ids":        func(w *world) { w.main.idKey = nil },
		"no entry":             func(w *world) { w.main.keys = [][]byte{[]byte("x")} },
		"of a client":          func(w *world) { w.newKey(sealmq.RoleClient) },
		"of a proxy":           func(w *world) { w.newKey(sealmq.RoleProxy) },
		"revoked":              func(w *world) { w.revoked.revoke(w.ca.Leaf("server", sealmq.RoleServer).Leaf) },
		"of another authority": func(w *world) { ours := w.ca; w.ca = testca.New(w.t); w.newKey(sealmq.RoleServer); w.ca = ours },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(w *world, _ *proxy.Config) { change(w) })
			w.eventually("it does not ask", func() bool {
				return strings.Contains(w.log.String(), "the main server's key is not current")
			})
			c := w.as("acme-01")
			if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if a := w.ask(c, "GET", "/health", ""); a.StatusCode != 503 || a.m["checks"].(map[string]any)["sealing_key"] != "unhealthy" {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			if n := len(w.queue.stored()); n != 0 {
				t.Errorf("%d messages", n)
			}
			w.opener = w.newKey(sealmq.RoleServer)
			w.main.set(func() { w.main.idKey = bytes.Repeat([]byte{7}, pipeline.IDKeyBytes) })
			if name == "revoked" {
				return
			}
			w.ready()
			if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
				t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
			}
			w.open(w.queue.stored()[0])
		})
	}
}

// TestKeyIsTakenOutOfUse: a main server whose certificate is revoked is not sealed for. Its next key
// is asked for at once.
func TestKeyIsTakenOutOfUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil).ready()
	w.revoked.revoke(w.ca.Leaf("server", sealmq.RoleServer).Leaf)
	leaf := w.ca.Issue(w.ca.Template("server", sealmq.RoleServer))
	w.newKeyOf(leaf)
	w.eventually("it is still in use", func() bool { return strings.Contains(w.log.String(), "taken out of use") })
	w.eventually("the next key is not used", func() bool { return w.ask(w.as("acme-01"), "POST", "/submit", good).StatusCode == 202 })
}

// TestKeyStaysWhenTheClockIsSetBack: a main server's key that is new is not of the future then.
func TestKeyStaysWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	var back atomic.Int64
	w := newWorld(t, func(_ *world, c *proxy.Config) {
		c.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
	}).ready()
	back.Store(int64(30 * time.Minute))
	w.proxy.Recheck()
	if a := w.ask(w.as("acme-01"), "POST", "/submit", good); a.StatusCode != 202 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestRegistrarIsBounded: the newest are left out, counted, and what waits goes out when
// the proxy stops.
func TestRegistrarIsBounded(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) { c.MaxBacklog = 3 }).ready()
	hold := make(chan struct{})
	w.main.set(func() { w.main.hold = hold })
	c := w.as("acme-01")
	for range 5 {
		if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
			t.Errorf("%d", a.StatusCode)
		}
	}
	if n := w.count("proxy_registrations_total", "dropped"); n != 2 {
		t.Errorf("%v dropped", n)
	}
	if n := w.count("proxy_registration_backlog", ""); n != 3 {
		t.Errorf("backlog %v", n)
	}
	close(hold)
	w.stop()
	got, want := w.main.rows(), w.queue.stored()
	if len(got) != 3 {
		t.Fatalf("%d rows", len(got))
	}
	for i := range got {
		if got[i].MessageID != want[i].MessageID {
			t.Errorf("row %d is of %s, want %s", i, got[i].MessageID, want[i].MessageID)
		}
	}
}

// TestRegistrationsAreRetried: with growing pauses, each message once, while the proxy runs.
func TestRegistrationsAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testca.New(t)
		w := &world{t: t, ca: ca, queue: &queue{}, main: &mainServer{err: errors.New("away")}, revoked: &revocations{}, own: ca.Leaf("proxy", sealmq.RoleProxy)}
		p, err := proxy.New(minimal(w))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.Run(ctx) }()
		p.AddRegistration(pipeline.Item{MessageID: "m-1"})
		time.Sleep(200 * time.Millisecond)
		p.AddRegistration(pipeline.Item{MessageID: "m-2"})
		time.Sleep(3 * time.Second)
		w.main.set(func() { w.main.err = nil })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if rows := w.main.rows(); len(rows) != 2 || rows[0].MessageID != "m-1" {
			t.Errorf("%d rows", len(rows))
		}
		p.AddRegistration(pipeline.Item{MessageID: "m-3"})
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if rows := w.main.rows(); len(rows) != 3 {
			t.Errorf("%d rows, want the third within 300 ms", len(rows))
		}
		cancel()
		<-done
	})
}

func TestConfigIsChecked(t *testing.T) {
	w := &world{t: t, ca: testca.New(t), queue: &queue{}, main: &mainServer{}, revoked: &revocations{}}
	for name, change := range map[string]func(*proxy.Config){
		"no queue":    func(c *proxy.Config) { c.Queue = nil },
		"no verifier": func(c *proxy.Config) { c.Verifier = nil },
		"damaged key of ids": func(c *proxy.Config) {
			c.IDKeyFile = filepath.Join(t.TempDir(), "ids.key")
			testca.WriteFile(t, c.IDKeyFile, []byte("short"))
		},
		"long texts": func(c *proxy.Config) { c.MaxBody = pipeline.MaxBody + 1 },
	} {
		cfg := minimal(w)
		change(&cfg)
		if _, err := proxy.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCertificateHealth(t *testing.T) {
	for name, tc := range map[string]struct {
		in    time.Duration
		code  int
		value string
	}{"a year": {365 * 24 * time.Hour, 200, "valid"}, "a week": {7 * 24 * time.Hour, 200, "expiring"}, "over": {-time.Hour, 503, "expired"}} {
		w := newWorld(t, func(w *world, c *proxy.Config) {
			template := w.ca.Template("proxy", sealmq.RoleProxy)
			template.NotBefore, template.NotAfter = time.Now().AddDate(0, 0, -30), time.Now().Add(tc.in)
			leaf := w.ca.Issue(template).Leaf
			c.Certificate = func() []*x509.Certificate { return []*x509.Certificate{leaf, w.ca.Root()} }
		}).ready()
		c := w.client(w.ca.WithoutCertificate(), true)
		a := w.ask(c, "GET", "/health", "")
		checks, _ := a.m["checks"].(map[string]any)
		if a.StatusCode != tc.code || checks["certificate"] != tc.value || checks["redis"] != "healthy" || checks["main_server"] != "healthy" || a.m["version"] != "1.2.3" || a.m["uptime_seconds"] == nil || a.m["errors"] == nil {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
		if status := map[string]string{"valid": "healthy", "expiring": "degraded", "expired": "unhealthy"}[tc.value]; a.m["status"] != status {
			t.Errorf("%s: %v, want %s", name, a.m["status"], status)
		}
	}
}
