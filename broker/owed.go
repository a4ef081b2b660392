package broker

import (
	"errors"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// owed is the bindings that were removed for queues that are still there, because the
// engine refused to delete them. The zero value owes nothing.
type owed struct {
	mu   sync.Mutex
	list []Binding
}

func (o *owed) add(list []Binding) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, list...)
}

func (o *owed) take() []Binding {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list = nil
	return list
}

// owe notes what is to be bound again after err, unless the queue is gone or the store
// has stopped, which is for the next start to sort out. It may be called from the engine.
func (b *Broker) owe(list []Binding, err error) {
	switch sealmq.CodeOf(err) {
	case sealmq.NoQueue, sealmq.Unavailable:
		return
	}
	b.owed.add(list)
}

// bindAgain binds what is owed. What the engine refuses stays in effect and is tried
// again with the next change. The caller holds mu.
func (b *Broker) bindAgain() {
	list := b.owed.take()
	var batch []engine.Definition
	var again []Binding
	for _, one := range list {
		if _, err := b.engine.Queue(one.Queue); errors.Is(err, sealmq.ErrNoQueue) || b.topo.exchanges[one.Exchange] == nil {
			continue
		}
		if !b.topo.has(one) {
			b.rebind(one)
		}
		batch, again = append(batch, defineBinding(one)), append(again, one)
	}
	if len(batch) == 0 {
		return
	}
	b.define(batch, func(err error) {
		if err != nil {
			b.owe(again, err)
		}
	})
}
