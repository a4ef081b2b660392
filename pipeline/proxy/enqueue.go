package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

const (
	// maxPending bounds the messages that wait for the queue in memory.
	maxPending = 20 * pipeline.MaxBatch
	// maxCallBytes bounds one call, unless a submission is larger alone: a call has to be
	// done within enqueueTimeout.
	maxCallBytes = 8 << 20
)

// enqueuer groups submissions into calls of Queue.Enqueue. There is one call at a time and
// no timer: what arrives while it runs is the next one.
type enqueuer struct {
	queue pipeline.Queue

	full atomic.Int64 // when the queue last refused for want of room, in Unix nanoseconds; 0 after it has stored something

	mu      sync.Mutex
	pending []*submission
	waiting int // messages in pending
	busy    bool
}

// submission is what one request enqueues.
type submission struct {
	items   []pipeline.Item
	bytes   int
	results []pipeline.EnqueueResult
	since   time.Time
	done    chan struct{}
}

// enqueue returns when the queue has stored the items, or has not. An error says that they
// were not handed to it. A caller that finds the queue idle makes the call itself, and does not
// pass it to another goroutine.
func (e *enqueuer) enqueue(items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	s := &submission{items: items, since: time.Now()}
	for i := range items {
		s.bytes += len(items[i].Sealed)
	}
	e.mu.Lock()
	if e.busy {
		if e.waiting+len(items) > maxPending {
			e.mu.Unlock()
			return nil, &sealmq.Error{Code: sealmq.Unavailable, Message: "Too many messages are waiting for the queue; try again"}
		}
		s.done = make(chan struct{})
		e.pending = append(e.pending, s)
		e.waiting += len(items)
		e.mu.Unlock()
		<-s.done
		return s.results, nil
	}
	e.busy = true
	e.mu.Unlock()
	defer e.next() // also if the queue panics
	e.call([]*submission{s})
	return s.results, nil
}

// next goes on with what has arrived meanwhile, in a goroutine of its own.
func (e *enqueuer) next() {
	e.mu.Lock()
	e.busy = len(e.pending) > 0
	busy := e.busy
	e.mu.Unlock()
	if busy {
		go e.drain()
	}
}

func (e *enqueuer) drain() {
	for {
		e.mu.Lock()
		if len(e.pending) == 0 {
			e.busy = false
			e.mu.Unlock()
			return
		}
		n, size, bytes := 0, 0, 0
		for ; n < len(e.pending); n++ {
			s := e.pending[n]
			if n > 0 && (size+len(s.items) > pipeline.MaxBatch || bytes+s.bytes > maxCallBytes) {
				break
			}
			size, bytes = size+len(s.items), bytes+s.bytes
		}
		group := e.pending[:n:n]
		e.pending = e.pending[n:]
		if len(e.pending) == 0 {
			e.pending = nil
		}
		e.waiting -= size
		e.mu.Unlock()
		e.call(group)
	}
}

// call enqueues the items of a group. All are answered within submitTimeout of the arrival
// of the oldest.
func (e *enqueuer) call(group []*submission) {
	items := group[0].items
	if len(group) > 1 {
		items = nil
		for _, s := range group {
			items = append(items, s.items...)
		}
	}
	deadline := time.Now().Add(enqueueTimeout)
	if end := group[0].since.Add(submitTimeout); end.Before(deadline) {
		deadline = end
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	results, err := e.queue.Enqueue(ctx, items)
	cancel()
	if err == nil && len(results) != len(items) {
		err = fmt.Errorf("the queue has answered for %d of %d messages", len(results), len(items))
	}
	if err != nil {
		results = slices.Repeat([]pipeline.EnqueueResult{{Outcome: pipeline.Unknown, Err: err}}, len(items))
	}
	e.noteRoom(results)
	for _, s := range group {
		s.results, results = results[:len(s.items):len(s.items)], results[len(s.items):]
		if s.done != nil {
			close(s.done)
		}
	}
}

// noteRoom notes whether the queue has room.
func (e *enqueuer) noteRoom(results []pipeline.EnqueueResult) {
	for i := range results {
		if results[i].Err == nil {
			e.full.Store(0)
			return
		}
		if sealmq.CodeOf(results[i].Err) == sealmq.NoStorage {
			e.full.Store(time.Now().UnixNano())
		}
	}
}

// fullShown is how long health tells of a queue without room. Then it is asked again.
const fullShown = 30 * time.Second

// isFull reports whether the queue refused messages lately for want of room.
func (e *enqueuer) isFull() bool { return time.Since(time.Unix(0, e.full.Load())) < fullShown }

// counts knows roughly how much waits in the queue.
type counts struct {
	queue pipeline.Queue
	now   func() time.Time

	ready  atomic.Int64
	added  atomic.Int64 // since ready was read
	at     atomic.Int64 // Unix nanoseconds of the last reading
	asking atomic.Bool
}

// countsAge is how old a reading may be.
const countsAge = time.Second

// position is where a message that was just enqueued stands. Nobody waits for a new reading.
func (c *counts) position(n int) int64 {
	added := c.added.Add(int64(n))
	if c.stale() && !c.asking.Load() {
		go c.read()
	}
	return c.ready.Load() + added
}

func (c *counts) stale() bool { return c.now().UnixNano()-c.at.Load() > int64(countsAge) }

// read asks the queue, unless somebody else does, or did just now.
func (c *counts) read() {
	if !c.stale() || !c.asking.CompareAndSwap(false, true) {
		return
	}
	defer c.asking.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), countsAge)
	defer cancel()
	if n, err := c.queue.Counts(ctx); err == nil {
		c.ready.Store(int64(n.Ready))
		c.added.Store(0)
	}
	c.at.Store(c.now().UnixNano())
}

// current is for a scrape: at most countsAge old.
func (c *counts) current() float64 {
	c.read()
	return float64(c.ready.Load())
}
