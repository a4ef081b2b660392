package enroll

import (
	"context"
	"time"
)

// Step is step for tests.
func (w *Watcher) Step(ctx context.Context, jitter float64) (time.Duration, bool) {
	return w.step(ctx, jitter)
}
