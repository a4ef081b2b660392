// Package clock gives parts of the product their time, so that a test can drive it. It
// offers the two things that they need, the time and a timer, and nothing else.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and runs timers.
type Clock interface {
	// Now is the wall clock with Go's monotonic reading where there is one.
	Now() time.Time
	// AfterFunc runs f in a goroutine of its own once d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending AfterFunc.
type Timer interface {
	// Stop reports whether it prevented f from running.
	Stop() bool
	// Reset starts the timer again with d. It reports whether the timer was set.
	Reset(d time.Duration) bool
}

// Until is the time from now until then. A machine that sleeps stops its monotonic clock, and
// one whose clock is set shows another time of day: the one that says less counts.
func Until(then, now time.Time) time.Duration {
	return min(then.Sub(now), then.Round(0).Sub(now.Round(0)))
}

// Sleep waits for d by a clock, or until ctx ends, and then returns its error.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	over := make(chan struct{})
	t := c.AfterFunc(d, func() { close(over) })
	defer t.Stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// System is the machine's clock.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time                            { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
