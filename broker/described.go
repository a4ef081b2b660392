package broker

import (
	"iter"
	"sync"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// Describing all queues costs the engine time under its lock, and any client may ask. So a
// description of many queues serves again, the longer the more there are. A few queues are
// always described as they are.
const (
	describedFor = time.Second           // at most
	describeCost = 50 * time.Microsecond // a queue
	fewQueues    = 100
)

// descriptions keeps the last description of all queues.
type descriptions struct {
	mu   sync.Mutex
	last []engine.QueueInfo
	at   time.Time
}

// described returns a description that is new enough.
func (b *Broker) described() ([]engine.QueueInfo, error) {
	d := &b.descriptions
	d.mu.Lock()
	defer d.mu.Unlock()
	now, n := b.clock.Now(), len(d.last)
	if age := now.Sub(d.at); n > fewQueues && age >= 0 && age < min(describedFor, describeCost*time.Duration(n)) {
		return d.last, nil
	}
	list, err := b.engine.Queues()
	for i := range list {
		list[i].Owner = list[i].Options.Owner.ID
	}
	if err == nil {
		d.last, d.at = list, now
	}
	return list, err
}

// Queues gives the queues that the caller may see, sorted by name, as they were up to a
// second ago; with few queues, as they are. They must not be changed.
func (b *Broker) Queues(c Caller) (iter.Seq[*engine.QueueInfo], error) {
	list, err := b.described()
	return func(yield func(*engine.QueueInfo) bool) {
		for i := range list {
			if b.grants.allows(c, actInspect, list[i].Name, owned{}) && !yield(&list[i]) {
				return
			}
		}
	}, err
}
