package clock

import (
	"slices"
	"sync"
	"time"
)

// Fake is a clock for tests: it stands still until Advance moves it.
type Fake struct {
	advancing sync.Mutex // held during Advance

	mu     sync.Mutex
	now    time.Time
	timers []*fakeTimer // in the order of their times, equal times in the order in which they were set
}

// NewFake returns a clock that shows t0.
func NewFake(t0 time.Time) *Fake { return &Fake{now: t0} }

// Now is the time that Advance has reached.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// AfterFunc sets a timer that Advance fires. If d is not positive, fn runs at once.
func (f *Fake) AfterFunc(d time.Duration, fn func()) Timer {
	t := &fakeTimer{clock: f, fn: fn}
	t.Reset(d)
	return t
}

// Advance moves the clock by d. On the way it fires timers in the order of their times,
// also those that are set meanwhile. It runs their functions one after another, each in a
// goroutine of its own, and waits for each. So a timer's function must not wait for the
// goroutine that calls Advance.
func (f *Fake) Advance(d time.Duration) {
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
func (f *Fake) due(end time.Time) func() {
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
func (f *Fake) Timers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.timers)
}

type fakeTimer struct {
	clock *Fake
	fn    func()
	at    time.Time // guarded by clock.mu
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *fakeTimer) stop() bool {
	i := slices.Index(t.clock.timers, t)
	if i < 0 {
		return false
	}
	t.clock.timers = slices.Delete(t.clock.timers, i, i+1)
	return true
}

func (t *fakeTimer) Reset(d time.Duration) bool {
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
