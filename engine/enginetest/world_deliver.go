package enginetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// consume opens a session on some queues.
func (w *World) consume(queues ...string) {
	c := &client{last: map[string]int{}}
	c.Session = w.Engine.NewSession(engine.SessionConfig{})
	w.client = c
	for _, q := range queues {
		c.Consume(q, engine.ConsumeOptions{Prefetch: 5 + w.rng.IntN(40)}, func(error) {})
	}
}

// take takes deliveries and checks each.
func (w *World) take(n int) {
	list, err := w.client.Take(nil, n, 1<<20)
	if err != nil {
		w.tb.Errorf("take: %v", err)
	}
	for _, d := range list {
		if err := w.judge(d); err != nil {
			w.tb.Error(err)
			continue
		}
		c := w.arrived(d)
		if d.Attempt == 1 && !strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
			if c.order < w.client.last[d.Queue] {
				w.tb.Errorf("%s came too late in queue %s", d.ID, d.Queue)
			}
			w.client.last[d.Queue] = c.order
		}
		w.client.held = append(w.client.held, d)
	}
}

// takeForGood fetches messages that need no acknowledgement. Nobody is told when that is
// stored, so after a crash they may be there again.
func (w *World) takeForGood(n int) {
	for range n {
		fetched := make(chan engine.Fetched, 1)
		w.client.Fetch("a", true, func(f engine.Fetched, _ error) { fetched <- f })
		f := <-fetched
		if !f.Found {
			return
		}
		if err := w.judge(f.Delivery); err != nil {
			w.tb.Error(err)
			continue
		}
		w.arrived(f.Delivery).leave()
	}
}

// arrived notes that a delivery is where it was seen.
func (w *World) arrived(d sealmq.Delivery) *knownCopy {
	at := Place{d.Queue, d.ID}
	w.transits = slices.DeleteFunc(w.transits, func(p transit) bool {
		if p.to == at {
			w.copies[p.from].left()
		}
		return p.to == at
	})
	c := w.copies[at]
	c.stored()
	return c
}

// judge checks what can be said of one message in a queue.
func (w *World) judge(d sealmq.Delivery) error {
	m, known := w.messages[d.ID]
	c := w.copies[Place{d.Queue, d.ID}]
	switch {
	case !known || c == nil:
		return fmt.Errorf("%s in queue %s was invented", d.ID, d.Queue)
	case !c.may:
		return fmt.Errorf("%s is in queue %s again, where it was gone for good", d.ID, d.Queue)
	case !bytes.Equal(m.Body, d.Body) || m.Exchange != d.Exchange || m.Key != d.Key || m.Publisher != d.Publisher ||
		!bytes.Equal(m.Properties, d.Properties) || !m.Published.Equal(d.Published):
		return fmt.Errorf("%s in queue %s has another content", d.ID, d.Queue)
	}
	return nil
}
