package broker

import (
	"iter"
	"sync"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// Describing all queues costs the engine time under its lock, and any client may ask. So
// each description runs up a debt, which time pays off. While it is describedFor or more,
// the last description serves again, for describedFor at most. A few queues are always
// described as they are.
const (
	describedFor = time.Second
	describeCost = 50 * time.Microsecond // a queue
	// describeAtLeast is the number of queues that any description counts as.
	describeAtLeast = 10
)

// descriptions keeps the last description of all queues.
type descriptions struct {
	mu   sync.Mutex
	last []engine.QueueInfo
	at   time.Time
	debt time.Duration // at that time
}

// described returns a description that is new enough.
func (b *Broker) described() ([]engine.QueueInfo, error) {
	d := &b.descriptions
	d.mu.Lock()
	defer d.mu.Unlock()
	now := b.clock.Now()
	age := now.Sub(d.at)
	debt := max(0, d.debt-age)
	if debt >= describedFor && age < describedFor {
		return d.last, nil
	}
	list, err := b.engine.Queues()
	if err != nil {
		return nil, err
	}
	d.last, d.at = list, now
	d.debt = min(debt+describeCost*time.Duration(describeAtLeast+len(list)), 2*describedFor)
	return list, nil
}

// Queues gives the queues that the caller may see, sorted by name, as they were up to a
// second ago; with few queues, as they are. They must not be changed.
func (b *Broker) Queues(c Caller) (iter.Seq[*engine.QueueInfo], error) {
	list, err := b.described()
	return func(yield func(*engine.QueueInfo) bool) {
		for i := range list {
			if b.grants.authorize(c, actInspect, list[i].Name) == nil && !yield(&list[i]) {
				return
			}
		}
	}, err
}
