// Package fakeclock is a time that a test drives.
package fakeclock

import (
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// Clock is a clock.Clock that stands still until Advance moves it. It is safe for concurrent
// use.
type Clock struct {
	advancing sync.Mutex // held during Advance

	mu     sync.Mutex
	now    time.Time
	set    time.Duration // by how much Set has moved now
	timers []*timer      // in the order of their times, equal times in the order in which they were set
}

// New returns a clock that shows t0.
func New(t0 time.Time) *Clock { return &Clock{now: t0} }

// Now is the time that Advance has reached.
func (f *Clock) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Set sets the clock ahead, or back, as somebody does who corrects it: no time passes.
func (f *Clock) Set(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(by)
	f.set += by
	for _, t := range f.timers {
		t.at = t.at.Add(by)
	}
}

// Elapsed is the monotonic clock: what has passed, without what Set has moved.
func (f *Clock) Elapsed() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.now.UnixNano()) - f.set
}

// AfterFunc sets a timer that Advance fires. If d is not positive, fn runs at once.
func (f *Clock) AfterFunc(d time.Duration, fn func()) clock.Timer {
	t := &timer{clock: f, fn: fn}
	t.Reset(d)
	return t
}

// Advance moves the clock by d. On the way it fires timers in the order of their times,
// also those that are set meanwhile. It runs their functions one after another, each in a
// goroutine of its own, and waits for each. So a timer's function must not wait for the
// goroutine that calls Advance.
func (f *Clock) Advance(d time.Duration) {
	f.advancing.Lock()
	defer f.advancing.Unlock()
	f.mu.Lock()
	end := f.now.Add(d)
	f.mu.Unlock()
	for {
		fn := f.due(end)
		if fn == nil {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			fn()
		}()
		<-ended
	}
}

// due moves the clock to the next timer up to end and returns its function, or moves
// the clock to end.
func (f *Clock) due(end time.Time) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.timers) == 0 || f.timers[0].at.After(end) {
		f.now = end
		return nil
	}
	t := f.timers[0]
	f.timers = f.timers[1:]
	if t.at.After(f.now) {
		f.now = t.at
	}
	return t.fn
}

// Timers is the number of timers that are set.
func (f *Clock) Timers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.timers)
}

type timer struct {
	clock *Clock
	fn    func()
	at    time.Time // guarded by clock.mu
}

func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *timer) stop() bool {
	i := slices.Index(t.clock.timers, t)
	if i < 0 {
		return false
	}
	t.clock.timers = slices.Delete(t.clock.timers, i, i+1)
	return true
}

func (t *timer) Reset(d time.Duration) bool {
	f := t.clock
	f.mu.Lock()
	defer f.mu.Unlock()
	was := t.stop()
	if d <= 0 {
		go t.fn()
		return was
	}
	t.at = f.now.Add(d)
	i := len(f.timers)
	for i > 0 && f.timers[i-1].at.After(t.at) {
		i--
	}
	f.timers = slices.Insert(f.timers, i, t)
	return was
}
