package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
)

// How often a renewal is tried again, and a certificate is looked at.
const (
	minRetry  = time.Second
	maxRetry  = 5 * time.Minute
	lookEvery = time.Minute
)

// Watcher renews a certificate when about two thirds of its life are over, and whenever it can
// after that.
type Watcher struct {
	Files  Files
	Server string
	Log    *slog.Logger
	// Now is the time of day (default time.Now).
	Now func() time.Time

	mu     sync.Mutex
	status Status
}

// Status is what a Watcher knows.
type Status struct {
	// Until is when the certificate expires. It is zero before it was read.
	Until time.Time
	// Err says why the last attempt to renew it failed; nil if none was needed or it succeeded.
	Err error
	// Renewed and Failures count attempts since the start.
	Renewed, Failures int
}

// Status returns a snapshot.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

// Run renews until the context ends. Nothing that goes wrong ends it: the next attempt may succeed.
func (w *Watcher) Run(ctx context.Context) {
	if w.Now == nil {
		w.Now = time.Now
	}
	// Machines that were enrolled together do not come back together.
	jitter := rand.Float64() //nolint:gosec // nothing is secret about it
	for ctx.Err() == nil {
		wait, renewed := w.step(ctx, jitter)
		if renewed {
			jitter = rand.Float64() //nolint:gosec // see above
		}
		_ = clock.Sleep(ctx, clock.System, wait)
	}
}

// due is when a certificate is renewed: between 3/5 and 2/3 of its life.
func due(c *x509.Certificate, jitter float64) time.Time {
	from, to := mtls.Life(c)
	life := to.Sub(from)
	return from.Add(life*2/3 - time.Duration(jitter*float64(life)/15))
}

// step looks at the certificate, renews it if it is due, and says when to look again.
func (w *Watcher) step(ctx context.Context, jitter float64) (wait time.Duration, renewed bool) {
	cert, err := w.Files.readCert()
	if err != nil {
		w.note(nil, err)
		return lookEvery, false
	}
	if left := due(cert, jitter).Sub(w.Now()); left > 0 {
		w.note(cert, nil) // another program may have renewed it
		return min(left, lookEvery), false
	}
	next, err := Renew(ctx, w.Files, w.Server, w.Now)
	if ctx.Err() != nil {
		return 0, false
	}
	if err == nil {
		w.note(next, nil)
		w.mu.Lock()
		w.status.Renewed++
		w.mu.Unlock()
		w.Log.Info("the certificate was renewed", "file", w.Files.Cert, "not_after", next.NotAfter)
		return min(max(due(next, jitter).Sub(w.Now()), minRetry), lookEvery), true
	}
	from, to := mtls.Life(cert)
	wait = min(max(to.Sub(from)/30, minRetry), maxRetry)
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.RetryAfter > 0 {
		wait = min(max(wait, refused.RetryAfter), maxRetry)
	}
	if w.Now().After(to) {
		err = fmt.Errorf("the certificate expired on %s: %w", to.UTC().Format(time.RFC3339), err)
	}
	w.note(cert, err)
	return wait, false
}

// note keeps what was found, and logs an error once until it changes.
func (w *Watcher) note(cert *x509.Certificate, err error) {
	w.mu.Lock()
	before := w.status.Err
	w.status.Err = err
	if cert != nil {
		w.status.Until = cert.NotAfter
	}
	if err != nil {
		w.status.Failures++
	}
	w.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		w.Log.Error("the certificate cannot be renewed, and is tried again", "file", w.Files.Cert, "error", err)
	}
}
