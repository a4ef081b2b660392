package broker

import (
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// Describing all queues costs the engine time under its lock, and anybody may ask. So
// a description is used again: for describedFor at most, and no longer than the allowance
// for a new one takes to come. It grows by describedPerSecond queues a second up to
// that number, so that a few queues are always described as they are.
const (
	describedFor       = time.Second
	describedPerSecond = 20_000
	// describedAtLeast is what any description takes from the allowance.
	describedAtLeast = 10
)

// descriptions makes and keeps the last description of all queues.
type descriptions struct {
	mu    sync.Mutex
	last  *description
	at    time.Time
	left  float64
	added time.Time // when left was last raised
}

// description is all queues at one moment; it does not change.
type description struct {
	queues []engine.QueueInfo

	print   sync.Once
	printed []byte // JSON of one after the other
	ends    []int  // of each in printed
	err     error
}

// described returns a description that is new enough.
func (b *Broker) described() *description {
	d := &b.descriptions
	d.mu.Lock()
	defer d.mu.Unlock()
	now := b.clock.Now()
	if d.last == nil {
		d.left, d.added = describedPerSecond, now
	}
	d.left = min(describedPerSecond, d.left+now.Sub(d.added).Seconds()*describedPerSecond)
	d.added = now
	cost := float64(describedAtLeast)
	if d.last != nil {
		cost += float64(len(d.last.queues))
		if d.left < cost && now.Sub(d.at) < describedFor {
			return d.last
		}
	}
	d.left = max(0, d.left-cost)
	queues, err := b.engine.Queues()
	d.last, d.at = &description{queues: queues, err: err}, now
	return d.last
}

// visible gives what the caller may see, with its place.
func (d *description) visible(id Caller) iter.Seq2[int, *engine.QueueInfo] {
	return func(yield func(int, *engine.QueueInfo) bool) {
		for i := range d.queues {
			if authorize(id, actInspect, d.queues[i].Name) == nil && !yield(i, &d.queues[i]) {
				return
			}
		}
	}
}

// EachQueue gives the queues that the caller may see, sorted by name, as they were up
// to a second ago; with few queues, as they are. They must not be changed.
func (b *Broker) EachQueue(id Caller) iter.Seq[*engine.QueueInfo] {
	return func(yield func(*engine.QueueInfo) bool) {
		for _, q := range b.described().visible(id) {
			if !yield(q) {
				return
			}
		}
	}
}

// Queues lists what EachQueue gives.
func (b *Broker) Queues(id Caller) []engine.QueueInfo {
	list := []engine.QueueInfo{}
	for q := range b.EachQueue(id) {
		list = append(list, *q)
	}
	return list
}

// AppendQueues appends what EachQueue gives as a JSON array. A queue is printed once for
// all who ask.
func (b *Broker) AppendQueues(dst []byte, id Caller) ([]byte, error) {
	d := b.described()
	d.print.Do(func() {
		for i := range d.queues {
			one, err := json.Marshal(&d.queues[i])
			if err != nil {
				d.err = fmt.Errorf("print queue: %w", err)
				return
			}
			d.printed = append(d.printed, one...)
			d.ends = append(d.ends, len(d.printed))
		}
	})
	if d.err != nil {
		return dst, d.err
	}
	dst = append(dst, '[')
	separate := false
	for i := range d.visible(id) {
		if separate {
			dst = append(dst, ',')
		}
		separate = true
		from := 0
		if i > 0 {
			from = d.ends[i-1]
		}
		dst = append(dst, d.printed[from:d.ends[i]]...)
	}
	return append(dst, ']'), nil
}
