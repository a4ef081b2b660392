package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Check compares the opened engine with what was promised. What dies may still be on its
// way, so it looks again until that has arrived, or will not: the power is off, or the store
// says that something is wrong.
func (w *World) Check() error {
	err := w.compare()
	for range 2000 { // mostly it has arrived
		if err == nil || w.isOff() {
			return err
		}
		w.clock.Advance(time.Second)
		err = w.compare()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(w.patience); err != nil && !w.isOff() && w.Engine.Health() == nil; err = w.compare() {
		select {
		case <-tick.C: // the store has the processor meanwhile
		case <-end:
			return err
		}
		w.clock.Advance(time.Second)
	}
	return err
}

// peek lists what waits in a queue.
func (w *World) peek(queue string) ([]sealmq.Delivery, error) {
	list, err := w.Engine.(engine.Peeker).Peek(queue, 0, 1000)
	if err != nil {
		return nil, fmt.Errorf("peek %s: %w", queue, err)
	}
	return list, nil
}

// contents lists what is in all queues and checks what each queue can tell by itself.
func (w *World) contents() (map[Place]int, error) {
	got := map[Place]int{}
	all, err := w.Engine.Queues()
	if err != nil {
		return nil, err
	}
	for _, info := range all {
		q := w.queues[info.Name]
		switch {
		case q == nil || !q.may:
			return nil, fmt.Errorf("queue %s should not exist", info.Name)
		case q.options != info.Options:
			return nil, fmt.Errorf("queue %s has options %+v, want %+v", info.Name, info.Options, q.options)
		}
		list, err := w.peek(info.Name)
		if err != nil {
			return nil, err
		}
		last := 0
		for _, d := range list {
			if err := w.judge(d); err != nil {
				return nil, err
			}
			c := w.copies[Place{d.Queue, d.ID}]
			if c.order < last && strict(w.Engine.Abilities()) && !strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
				return nil, fmt.Errorf("%s is out of its place in queue %s", d.ID, d.Queue)
			}
			if d.Attempt < c.returned {
				return nil, fmt.Errorf("%s in queue %s came back %d times, %d are known", d.ID, d.Queue, c.returned, d.Attempt)
			}
			last = c.order
			got[Place{d.Queue, d.ID}]++
		}
		if len(list) != info.Ready {
			return nil, fmt.Errorf("queue %s has %d ready, %d can be seen", info.Name, info.Ready, len(list))
		}
	}
	return got, nil
}

func (w *World) compare() error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	for p, n := range got {
		if n > 1 {
			return fmt.Errorf("%s is %d times in queue %s", p.ID, n, p.Queue)
		}
	}
	for p, c := range w.copies {
		if c.must && got[p] == 0 {
			return fmt.Errorf("%s is gone from queue %s", p.ID, p.Queue)
		}
	}
	for _, p := range w.transits {
		if n := got[p.from] + got[p.to]; n > 1 || p.must && n == 0 {
			return fmt.Errorf("%s went from %s to %s and is %d times there", p.from.ID, p.from.Queue, p.to.Queue, n)
		}
	}
	for _, g := range w.groups {
		for _, p := range g[1:] {
			first, this := w.copies[g[0]], w.copies[p]
			if !w.stored[p.ID] && first.may && this.may && !first.must && !this.must && got[p] != got[g[0]] && w.unsettled(g) {
				return fmt.Errorf("%s is in %s and not in %s", p.ID, p.Queue, g[0].Queue)
			}
		}
	}
	for name, q := range w.queues {
		if _, err := w.Engine.Queue(name); q.must && err != nil {
			return fmt.Errorf("queue %s is gone", name)
		}
	}
	return w.compareDefinitions()
}

// unsettled reports whether nothing was done to the copies of a message since it was
// published, so that they are all there or none.
func (w *World) unsettled(g []Place) bool {
	for _, p := range g {
		for _, q := range w.transits {
			if q.from == p {
				return false
			}
		}
		if q := w.queues[p.Queue]; q == nil || !q.must {
			return false
		}
	}
	return true
}

func (w *World) compareDefinitions() error {
	got := map[string]string{}
	for _, d := range w.Engine.Definitions() {
		if w.defs[d.Key] == nil {
			return fmt.Errorf("definition %s was invented", d.Key)
		}
		got[d.Key] = string(d.Value)
	}
	for key, d := range w.defs {
		if !slices.Contains(d.values, got[key]) {
			return fmt.Errorf("definition %s is %q, want one of %q", key, got[key], d.values)
		}
	}
	return nil
}

// adopt takes what is there as the truth from now on, once nothing moves any more.
func (w *World) adopt() error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	for p, c := range w.copies {
		there := got[p] > 0
		c.must, c.may, c.leaving = there, there, false
	}
	for name, q := range w.queues {
		_, err := w.Engine.Queue(name)
		q.must, q.may = err == nil, err == nil
	}
	for key, d := range w.defs {
		d.values = []string{""}
		for _, g := range w.Engine.Definitions() {
			if g.Key == key {
				d.values = []string{string(g.Value)}
			}
		}
	}
	w.transits, w.groups = nil, nil
	return nil
}

// Republish publishes known messages again. What was confirmed, or is there, must be
// known by its id.
func (w *World) Republish(n int) error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for p := range got {
		there[p.ID] = true
	}
	for id, m := range w.messages {
		if n--; n < 0 {
			break
		}
		if !w.stored[id] && !there[id] {
			continue
		}
		other := m
		other.Body = []byte("other content")
		done := make(chan []engine.PublishResult, 1)
		w.Engine.Publish([]engine.Publish{{Message: m, Queues: []string{"a"}}, {Message: other, Queues: []string{"a"}}},
			func(r []engine.PublishResult) { done <- slices.Clone(r) })
		if r := <-done; len(r) != 2 || r[0].Outcome != engine.Repeated || r[1].Outcome != engine.Conflict {
			return fmt.Errorf("%s and other content under its id were published again: %+v", id, r)
		}
	}
	return nil
}
