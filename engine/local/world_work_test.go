package local_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// The queues of a world.
var worldQueues = map[string]sealmq.QueueOptions{
	"a":       {},
	"b":       {DeliveryLimit: 3},
	"limited": {MaxMessages: 25},
	"target":  {},
}

// setUp declares the queues, as a first start would.
func (w *world) setUp() error {
	for _, name := range []string{"a", "b", "limited", "target"} {
		w.declare(name, worldQueues[name])
	}
	w.define()
	return w.settle()
}

// work does random operations until n are done or the store has stopped.
func (w *world) work(n int) error {
	for range n {
		if w.session == nil {
			w.consume("a", "b", "limited", "target", "b.dead")
		}
		switch w.rng.IntN(20) {
		case 0, 1, 2, 3, 4:
			w.publish(1+w.rng.IntN(4), "a")
		case 5, 6:
			w.publish(1+w.rng.IntN(3), "a", "b")
		case 7:
			w.publish(1+w.rng.IntN(5), "limited")
		case 8, 9, 10, 11:
			w.take(1 + w.rng.IntN(12))
			w.settleSome(engine.Ack, 0.8)
		case 12:
			w.take(1 + w.rng.IntN(6))
			w.settleSome(engine.Return, 0.5)
		case 13:
			w.take(1 + w.rng.IntN(3))
			w.settleSome(engine.Dead, 0.3)
		case 14:
			w.define()
		case 15:
			w.temporary()
		case 16:
			if err := w.move("a", "target", 1+w.rng.IntN(4)); err != nil {
				return err
			}
		case 17:
			if w.rng.IntN(3) == 0 {
				w.purge("target")
			}
		case 18:
			w.closeSession()
		case 19:
			w.clockTick()
		}
		if w.rng.IntN(3) > 0 {
			if err := w.settle(); err != nil {
				return err
			}
		}
		select {
		case <-w.e.Failed():
			return errors.Join(errStopped, w.settle())
		default:
		}
	}
	return w.settle()
}

func (w *world) clockTick() { w.clock.Advance(1_500_000_000) }

// temporary declares or deletes a queue that comes and goes.
func (w *world) temporary() {
	name := fmt.Sprintf("temp-%d", w.rng.IntN(3))
	if q := w.queues[name]; q != nil && q.must {
		w.deleteQueue(name)
		return
	}
	if q := w.queues[name]; q != nil && q.may {
		return // nobody knows whether it is there
	}
	w.declare(name, sealmq.QueueOptions{MaxMessages: int64(10 + w.serial)})
	w.publish(1+w.rng.IntN(3), name)
}

// settleSome ends a part of what the session holds.
func (w *world) settleSome(v engine.Verdict, share float64) {
	var batch []engine.Settlement
	var keep []sealmq.Delivery
	var after []func()
	var undo []func()
	for _, d := range w.session.held {
		if w.rng.Float64() > share {
			keep = append(keep, d)
			continue
		}
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: v, Reason: "test"})
		c := w.copies[place{d.Queue, d.ID}]
		was := c.must
		switch {
		case v == engine.Ack:
			c.leave()
			after = append(after, c.left)
			undo = append(undo, func() { c.stay(was) })
		case w.dies(v, d):
			ok, no := w.bury(d)
			after, undo = append(after, ok), append(undo, no)
		default:
			attempt := d.Attempt
			after = append(after, func() { c.returned = max(c.returned, attempt) })
		}
	}
	held := w.session.held
	w.session.held = keep
	if len(batch) == 0 {
		return
	}
	s := w.session
	w.ask(fmt.Sprintf("settle %d with %d", len(batch), v), func() {
		for _, f := range after {
			f()
		}
	}, w.refusal(func() {
		s.held = held
		for _, f := range undo {
			f()
		}
	}), func(done func(error)) { s.Settle(batch, done) })
}

// dies reports whether a verdict moves a delivery to the dead-letter queue.
func (w *world) dies(v engine.Verdict, d sealmq.Delivery) bool {
	if strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
		return false
	}
	q := w.queues[d.Queue]
	return v == engine.Dead || d.Attempt >= q.options.DeliveryLimit
}

// bury notes that a delivery goes to the dead-letter queue. The functions it returns
// say that the call was answered, or refused.
func (w *world) bury(d sealmq.Delivery) (ok, no func()) {
	dead := d.Queue + sealmq.DeadSuffix
	if q := w.queues[dead]; q == nil || !q.may {
		w.queues[dead] = &named{may: true, options: sealmq.DeadLetterOptions(w.queues[d.Queue].options)}
	}
	return w.transfer(place{d.Queue, d.ID}, place{dead, d.ID})
}

func (w *world) transfer(from, to place) (ok, no func()) {
	src, dst := w.copies[from], w.at(to.queue, to.id)
	p := pair{from, to, src.must}
	if !dst.may { // it comes to the end, also if it was to come before
		w.serial++
		dst.order = w.serial
	}
	src.leave()
	dst.may = true
	w.pairs = append(w.pairs, p)
	drop := func() { w.pairs = slices.DeleteFunc(w.pairs, func(q pair) bool { return q == p }) }
	ok = func() {
		drop()
		src.left()
		dst.stored()
		if q := w.queues[to.queue]; q != nil {
			q.must = true
		}
	}
	return ok, func() { drop(); src.stay(p.must); dst.may = false }
}

// move moves waiting messages. Until it is answered each may be in either queue. It is
// waited for, because it works beside other calls.
func (w *world) move(from, to string, n int) error {
	if err := w.settle(); err != nil {
		return err
	}
	waiting, err := w.e.Peek(from, n)
	if err != nil {
		return fmt.Errorf("peek: %w", err)
	}
	var oks, nos []func()
	for _, d := range waiting {
		ok, no := w.transfer(place{from, d.ID}, place{to, d.ID})
		oks, nos = append(oks, ok), append(nos, no)
	}
	var moved int
	w.ask(fmt.Sprintf("move %d", n), func() {
		for i := range oks {
			if i < moved {
				oks[i]()
			} else {
				nos[i]()
			}
		}
	}, w.refusal(func() {
		for i := range oks {
			if i < moved {
				oks[i]()
			} else {
				nos[i]()
			}
		}
	}), func(done func(error)) {
		w.e.Move(from, to, n, func(k int, err error) { moved = k; done(err) })
	})
	return w.settle()
}

// purge removes what waits in a queue.
func (w *world) purge(name string) {
	if w.settle() != nil {
		return
	}
	waiting, err := w.e.Peek(name, 1000)
	if err != nil {
		w.tb.Errorf("peek: %v", err)
		return
	}
	for _, d := range waiting {
		w.copies[place{name, d.ID}].leave()
	}
	w.ask("purge", func() {
		for _, d := range waiting {
			w.copies[place{name, d.ID}].left()
		}
	}, w.refusal(func() {
		for _, d := range waiting {
			w.copies[place{name, d.ID}].stay(false) // some may be gone
		}
	}), func(done func(error)) { w.e.PurgeQueue(name, func(_ int, err error) { done(err) }) })
}

// closeSession ends the session; what it holds goes back, or dies of being delivered too
// often, and nobody is told.
func (w *world) closeSession() {
	if w.session == nil {
		return
	}
	_ = w.settle()
	for _, d := range w.session.held {
		if c := w.copies[place{d.Queue, d.ID}]; c.may && w.dies(engine.Return, d) {
			w.bury(d)
		}
	}
	w.session.Session.Close(true)
	w.session = nil
}

// check compares an opened store with what was promised. What dies may still be on its
// way, so it looks again until that has arrived, or will not: the power is off, or the store
// says that something is wrong.
func (w *world) check() error {
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
	for end := time.After(time.Minute); err != nil && !w.isOff() && w.e.Health() == nil; err = w.compare() {
		select {
		case <-tick.C: // the store has the processor meanwhile
		case <-end:
			return err
		}
		w.clock.Advance(time.Second)
	}
	return err
}

// contents lists what is in all queues and checks what each queue can tell by itself.
func (w *world) contents() (map[place]int, error) {
	got := map[place]int{}
	all, err := w.e.Queues()
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
		list, err := w.e.Peek(info.Name, 1000)
		if err != nil {
			return nil, fmt.Errorf("peek %s: %w", info.Name, err)
		}
		last := 0
		for _, d := range list {
			if err := w.judge(d); err != nil {
				return nil, err
			}
			c := w.copies[place{d.Queue, d.ID}]
			if c.order < last && !strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
				return nil, fmt.Errorf("%s is out of its place in queue %s", d.ID, d.Queue)
			}
			if d.Attempt < c.returned {
				return nil, fmt.Errorf("%s in queue %s came back %d times, %d are known", d.ID, d.Queue, c.returned, d.Attempt)
			}
			last = c.order
			got[place{d.Queue, d.ID}]++
		}
		if len(list) != info.Ready {
			return nil, fmt.Errorf("queue %s has %d ready, %d can be seen", info.Name, info.Ready, len(list))
		}
	}
	return got, nil
}

func (w *world) compare() error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	for p, n := range got {
		if n > 1 {
			return fmt.Errorf("%s is %d times in queue %s", p.id, n, p.queue)
		}
	}
	for p, c := range w.copies {
		if c.must && got[p] == 0 {
			return fmt.Errorf("%s is gone from queue %s", p.id, p.queue)
		}
	}
	for _, p := range w.pairs {
		if n := got[p.from] + got[p.to]; n > 1 || p.must && n == 0 {
			return fmt.Errorf("%s went from %s to %s and is %d times there", p.from.id, p.from.queue, p.to.queue, n)
		}
	}
	for _, g := range w.groups {
		for _, p := range g[1:] {
			first, this := w.copies[g[0]], w.copies[p]
			if !w.stored[p.id] && first.may && this.may && !first.must && !this.must && got[p] != got[g[0]] && w.unsettled(g) {
				return fmt.Errorf("%s is in %s and not in %s", p.id, p.queue, g[0].queue)
			}
		}
	}
	for name, q := range w.queues {
		if _, err := w.e.Queue(name); q.must && err != nil {
			return fmt.Errorf("queue %s is gone", name)
		}
	}
	return w.compareDefinitions()
}

// unsettled reports whether nothing was done to the copies of a message since it was
// published, so that they are all there or none.
func (w *world) unsettled(g []place) bool {
	for _, p := range g {
		for _, q := range w.pairs {
			if q.from == p {
				return false
			}
		}
		if q := w.queues[p.queue]; q == nil || !q.must {
			return false
		}
	}
	return true
}

func (w *world) compareDefinitions() error {
	got := map[string]string{}
	for _, d := range w.e.Definitions() {
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
func (w *world) adopt() error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	for p, c := range w.copies {
		there := got[p] > 0
		c.must, c.may, c.leaving = there, there, false
	}
	for name, q := range w.queues {
		_, err := w.e.Queue(name)
		q.must, q.may = err == nil, err == nil
	}
	for key, d := range w.defs {
		d.values = []string{""}
		for _, g := range w.e.Definitions() {
			if g.Key == key {
				d.values = []string{string(g.Value)}
			}
		}
	}
	w.pairs, w.groups = nil, nil
	return nil
}

// republish publishes known messages again. What was confirmed, or is there, must be
// known by its id.
func (w *world) republish(n int) error {
	got, err := w.contents()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for p := range got {
		there[p.id] = true
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
		w.e.Publish([]engine.Publish{{Message: m, Queues: []string{"a"}}, {Message: other, Queues: []string{"a"}}},
			func(r []engine.PublishResult) { done <- slices.Clone(r) })
		if r := <-done; r[0].Outcome != engine.Repeated || r[1].Outcome != engine.Conflict {
			return fmt.Errorf("%s was published again: outcomes %d and %d, %v", id, r[0].Outcome, r[1].Outcome, r[0].Err)
		}
	}
	return nil
}

// survives opens the store and checks it, goes on working, and opens it once more.
func (w *world) survives() error {
	for round, n := range []int{40, 0} {
		if err := w.open(); err != nil {
			return err
		}
		err := errors.Join(w.check(), w.republish(40))
		if r := w.e.Report(); round > 0 && len(r.Damage)+len(r.Dropped)+len(r.Repaired) > 0 {
			err = errors.Join(err, fmt.Errorf("after a clean stop: %+v is reported", r))
		}
		if err == nil {
			err = w.adopt()
		}
		if err == nil && n > 0 {
			err = errors.Join(w.setUp(), w.work(n))
		}
		if err := errors.Join(err, w.close()); err != nil {
			return fmt.Errorf("opening %d: %w", round+1, err)
		}
		w.e = nil
	}
	return nil
}
