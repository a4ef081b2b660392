package enginetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func (w *World) at(queue, id string) *knownCopy {
	p := Place{queue, id}
	if w.copies[p] == nil {
		w.serial++
		w.copies[p] = &knownCopy{order: w.serial}
	}
	return w.copies[p]
}

func (w *World) declare(name string, o sealmq.QueueOptions) {
	q := w.queues[name]
	if q == nil || !q.may {
		q = &knownQueue{may: true, options: o.Normalize()}
		w.queues[name] = q
	}
	w.ask("declare "+name, func() { q.must = true }, w.refusal(func() { q.may = q.must }), func(done func(error)) {
		w.Engine.DeclareQueue(name, o, engine.AllFields, func(_ engine.QueueInfo, _ bool, err error) { done(err) })
	})
}

// refusal is for calls that a full disk may refuse.
func (w *World) refusal(then func()) func(error) {
	return func(err error) {
		if sealmq.CodeOf(err) != sealmq.NoStorage {
			w.tb.Errorf("refused with %v", err)
		}
		if then != nil {
			then()
		}
	}
}

func (w *World) deleteQueue(name string) {
	q := w.queues[name]
	q.must = false
	var was []*knownCopy
	for p, c := range w.copies {
		if p.Queue == name && c.may {
			c.leave()
			was = append(was, c)
		}
	}
	w.ask("delete "+name, func() {
		q.may = false
		for _, c := range was {
			c.left()
		}
	}, nil, func(done func(error)) { w.Engine.DeleteQueue(name, 0, func(_ int, err error) { done(err) }) })
}

// newMessage makes a message that is unlike any other.
func (w *World) newMessage() sealmq.Message {
	w.serial++
	n := w.rng.IntN(150)
	if w.rng.IntN(6) == 0 {
		n = 300 + w.rng.IntN(1800)
	}
	m := sealmq.Message{
		ID: fmt.Sprintf("id-%d", w.serial), Exchange: "x", Key: fmt.Sprint("k", w.serial%3), Publisher: "p",
		Published: w.clock.Now(),
		Body:      append([]byte(fmt.Sprintf("body-%d ", w.serial)), bytes.Repeat([]byte{byte(w.serial)}, n)...),
	}
	if w.serial%5 == 0 {
		m.Properties = []byte("props")
	}
	return m
}

// publish publishes messages to queues, all in one batch.
func (w *World) publish(n int, queues ...string) {
	var batch []engine.Publish
	var places [][]Place
	for range n {
		m := w.newMessage()
		w.messages[m.ID] = m
		var list []Place
		for _, q := range queues {
			w.at(q, m.ID).may = true
			list = append(list, Place{q, m.ID})
		}
		batch = append(batch, engine.Publish{Message: m, Queues: queues})
		places = append(places, list)
		w.groups = append(w.groups, list)
	}
	var results []engine.PublishResult
	w.ask(fmt.Sprintf("publish %d to %s", n, queues), func() {
		for i, r := range results {
			for _, p := range places[i] {
				c := w.copies[p]
				switch r.Outcome {
				case engine.Stored:
					c.stored()
					w.stored[p.ID] = true
				case engine.Refused:
					c.may = false
					if code := sealmq.CodeOf(r.Err); code != sealmq.QueueFull && code != sealmq.NoStorage {
						w.tb.Errorf("publish %s: %v", p.ID, r.Err)
					}
				default:
					w.tb.Errorf("publish %s: outcome %d, %v", p.ID, r.Outcome, r.Err)
				}
			}
		}
	}, nil, func(done func(error)) {
		taken := w.Engine.Publish(batch, func(r []engine.PublishResult) {
			results = slices.Clone(r)
			for _, one := range r {
				if isDown(one.Err) {
					done(one.Err)
					return
				}
			}
			done(nil)
		})
		for _, list := range places[taken:] { // a queue is missing: its declaration was refused
			for _, p := range list {
				w.copies[p].may = false
				if w.queues[p.Queue].must {
					w.tb.Errorf("publish %s: queue %s is missing", p.ID, p.Queue)
				}
			}
		}
	})
}

// define writes one to three definitions at once.
func (w *World) define() {
	var batch []engine.Definition
	want := map[string]string{}
	for range 1 + w.rng.IntN(3) {
		key := fmt.Sprintf("def/%d", w.rng.IntN(8))
		w.serial++
		d := engine.Definition{Key: key, Value: fmt.Appendf(nil, "v%d", w.serial)}
		if w.rng.IntN(4) == 0 {
			d.Value = nil
		}
		batch = append(batch, d)
		want[key] = string(d.Value)
	}
	for key, v := range want {
		if w.defs[key] == nil {
			w.defs[key] = &knownDefinition{values: []string{""}}
		}
		w.defs[key].values = append(w.defs[key].values, v)
	}
	w.ask("define", func() {
		for key, v := range want {
			d := w.defs[key]
			i := slices.Index(d.values, v)
			d.values = d.values[i:]
		}
	}, w.refusal(nil), func(done func(error)) { w.Engine.Define(batch, done) })
}

// settleSome ends a part of what the session holds.
func (w *World) settleSome(v engine.Verdict, share float64) {
	var batch []engine.Settlement
	var keep []sealmq.Delivery
	var after []func()
	var undo []func()
	for _, d := range w.client.held {
		if w.rng.Float64() > share {
			keep = append(keep, d)
			continue
		}
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: v, Reason: "test"})
		c := w.copies[Place{d.Queue, d.ID}]
		was := c.must
		switch {
		case v == engine.Ack || v == engine.Drop:
			c.leave()
			after = append(after, c.left)
			undo = append(undo, func() { c.stay(was) })
		case w.dies(v, d):
			ok, no := w.moveDead(d)
			after, undo = append(after, ok), append(undo, no)
		default:
			attempt := d.Attempt
			after = append(after, func() { c.returned = max(c.returned, attempt) })
		}
	}
	held := w.client.held
	w.client.held = keep
	if len(batch) == 0 {
		return
	}
	s := w.client
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
func (w *World) dies(v engine.Verdict, d sealmq.Delivery) bool {
	if strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
		return false
	}
	q := w.queues[d.Queue]
	return v == engine.Dead || d.Attempt >= q.options.DeliveryLimit
}

// moveDead notes that a delivery goes to the dead-letter queue. The functions it returns
// say that the call was answered, or refused.
func (w *World) moveDead(d sealmq.Delivery) (ok, no func()) {
	dead := d.Queue + sealmq.DeadSuffix
	if q := w.queues[dead]; q == nil || !q.may {
		w.queues[dead] = &knownQueue{may: true, options: sealmq.DeadLetterOptions(w.queues[d.Queue].options)}
	}
	return w.transfer(Place{d.Queue, d.ID}, Place{dead, d.ID})
}

func (w *World) transfer(from, to Place) (ok, no func()) {
	src, dst := w.copies[from], w.at(to.Queue, to.ID)
	p := transit{from, to, src.must}
	if !dst.may { // it comes to the end, also if it was to come before
		w.serial++
		dst.order = w.serial
	}
	src.leave()
	dst.may = true
	w.transits = append(w.transits, p)
	drop := func() { w.transits = slices.DeleteFunc(w.transits, func(q transit) bool { return q == p }) }
	ok = func() {
		drop()
		src.left()
		dst.stored()
		if q := w.queues[to.Queue]; q != nil {
			q.must = true
		}
	}
	return ok, func() { drop(); src.stay(p.must); dst.may = false }
}

// move moves waiting messages. Until it is answered each may be in either queue. It is
// waited for, because it works beside other calls.
func (w *World) move(from, to string, n int) error {
	if err := w.settle(); err != nil || !w.Engine.Abilities().Move {
		return err
	}
	waiting, err := w.Engine.(engine.Peeker).Peek(from, 0, n)
	if err != nil {
		return fmt.Errorf("peek: %w", err)
	}
	var oks, nos []func()
	for _, d := range waiting {
		ok, no := w.transfer(Place{from, d.ID}, Place{to, d.ID})
		oks, nos = append(oks, ok), append(nos, no)
	}
	var moved int
	answered := func() {
		for i := range oks {
			if i < moved {
				oks[i]()
			} else {
				nos[i]()
			}
		}
	}
	byID := w.serial%2 == 0
	w.ask(fmt.Sprintf("move %d", n), answered, w.refusal(answered), func(done func(error)) {
		count := func(k int, err error) { moved = k; done(err) }
		if !byID {
			w.Engine.(engine.Mover).Move(from, to, n, count)
			return
		}
		var ids []string
		for _, d := range waiting {
			ids = append(ids, d.ID)
		}
		w.Engine.(engine.Mover).MoveMessages(from, to, ids, count)
	})
	return w.settle()
}

// purge removes what waits in a queue, synced or not.
func (w *World) purge(name string) {
	held := map[string]bool{}
	for _, d := range w.client.held {
		held[d.ID] = held[d.ID] || d.Queue == name
	}
	var gone []*knownCopy
	for p, c := range w.copies {
		if p.Queue == name && c.may && !held[p.ID] {
			c.leave()
			gone = append(gone, c)
		}
	}
	w.ask("purge "+name, func() {
		for _, c := range gone {
			c.left()
		}
	}, w.refusal(func() {
		for _, c := range gone {
			c.stay(false) // some may be gone
		}
	}), func(done func(error)) { w.Engine.PurgeQueue(name, func(_ int, err error) { done(err) }) })
}

// closeSession ends the session. What it holds goes back, or dies of being delivered too
// often, and nobody is told.
func (w *World) closeSession() {
	if w.client == nil {
		return
	}
	_ = w.settle()
	counted := !w.Engine.Abilities().Uncounted || w.rng.IntN(3) > 0
	for _, d := range w.client.held {
		if c := w.copies[Place{d.Queue, d.ID}]; counted && c.may && w.dies(engine.Return, d) {
			w.moveDead(d)
		}
	}
	w.client.Close(counted)
	w.client = nil
}
