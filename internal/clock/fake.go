package clock

import (
	"container/heap"
	"sync"
	"time"
)

// Fake is a clock for tests: it stands still until Advance moves it.
type Fake struct {
	advancing sync.Mutex // held during Advance

	mu     sync.Mutex
	now    time.Time
	timers timerHeap
	order  uint64
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
	t := &fakeTimer{clock: f, fn: fn, index: -1}
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
	t := heap.Pop(&f.timers).(*fakeTimer)
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
	// The rest belongs to clock.mu.
	at    time.Time
	order uint64 // of the call that set it: equal times fire in this order
	index int    // in the heap, or -1
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stop()
}

func (t *fakeTimer) stop() bool {
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.timers, t.index)
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
	f.order++
	t.at, t.order = f.now.Add(d), f.order
	heap.Push(&f.timers, t)
	return was
}

type timerHeap []*fakeTimer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*fakeTimer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
