package enroll_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// enrolled enrolls a machine.
func (m *mainServer) enrolled(f enroll.Files) {
	m.Helper()
	if _, err := enroll.Enroll(m.Context(), enroll.Request{Token: m.token(), Files: f}); err != nil {
		m.Fatal(err)
	}
}

func TestRenew(t *testing.T) {
	m := newMain(t)
	f := filesIn(t.TempDir(), durable.OS())
	m.enrolled(f)
	first, _ := checkPair(t, f)
	if _, err := enroll.Renew(t.Context(), f, m.URL, nil); err != nil {
		t.Fatal(err)
	}
	second, _ := checkPair(t, f)
	if ca.KeyHash(second.PublicKey) == ca.KeyHash(first.PublicKey) || second.Subject.CommonName != "acme-01" {
		t.Errorf("%v", second.Subject)
	}
	late := func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := enroll.Renew(t.Context(), f, m.URL, late); err != nil {
		t.Errorf("an expired one: %v", err)
	}
	m.refuse = 409
	if _, err := enroll.Renew(t.Context(), f, m.URL, nil); err == nil || !strings.Contains(err.Error(), "gives no certificate") {
		t.Errorf("%v", err)
	}
	checkPair(t, f)
}

func TestRenewSurvivesCrashes(t *testing.T) {
	eachCrash(t, func(ctx context.Context, m *mainServer, f enroll.Files) error {
		_, err := enroll.Renew(ctx, f, m.URL, nil)
		return err
	}, (*mainServer).enrolled)
}

func TestWatcherRenewsAndGoesOnAfterAnOutage(t *testing.T) {
	m := newMain(t)
	m.life = time.Minute
	f := filesIn(t.TempDir(), durable.OS())
	m.enrolled(f)
	leaf, _ := checkPair(t, f)
	from, _ := mtls.Life(leaf)
	var ahead atomic.Int64
	w := &enroll.Watcher{Files: f, Server: m.URL, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return from.Add(time.Duration(ahead.Load())) }}
	if wait, renewed := w.Step(t.Context(), 0); renewed || wait != 40*time.Second || w.Status().Until.IsZero() {
		t.Errorf("fresh: look again after %v", wait)
	}
	if wait, _ := w.Step(t.Context(), 1); wait != 36*time.Second {
		t.Errorf("with jitter: %v", wait)
	}
	ahead.Store(int64(41 * time.Second))
	m.mu.Lock()
	m.refuse = 503
	m.mu.Unlock()
	if wait, renewed := w.Step(t.Context(), 0); renewed || wait != 2*time.Second || w.Status().Err == nil {
		t.Errorf("while the server is away: look again after %v, %v", wait, w.Status().Err)
	}
	m.mu.Lock()
	m.refuse, m.life = 0, time.Hour
	m.mu.Unlock()
	if _, renewed := w.Step(t.Context(), 0); !renewed || w.Status().Err != nil || w.Status().Renewed != 1 || w.Status().Failures != 1 {
		t.Errorf("%+v", w.Status())
	}
	ahead.Store(int64(2 * time.Hour))
	m.mu.Lock()
	m.refuse = 403
	m.mu.Unlock()
	if _, renewed := w.Step(t.Context(), 0); renewed || !strings.Contains(w.Status().Err.Error(), "expired on") {
		t.Errorf("%+v", w.Status())
	}
}

func TestWatcherEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &enroll.Watcher{Files: filesIn(t.TempDir(), durable.OS()), Server: "https://127.0.0.1:1", Log: slog.New(slog.DiscardHandler)}
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		time.Sleep(3 * time.Minute)
		if s := w.Status(); s.Err == nil || s.Failures < 2 {
			t.Errorf("%+v", s)
		}
		cancel()
		<-done
	})
}
