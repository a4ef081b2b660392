package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func (h *harness) peek(queue string, n int) []sealmq.Delivery {
	h.Helper()
	list, err := h.engine.(engine.Peeker).Peek(queue, 0, n)
	if err != nil {
		h.Fatalf("peek: %v", err)
	}
	return list
}

func (h *harness) move(from, to string, n int) *pending[int] {
	return begin(h, "move", func(done func(int, error)) { h.engine.(engine.Mover).Move(from, to, n, done) })
}

func (h *harness) moveIDs(from, to string, ids ...string) *pending[int] {
	return begin(h, "move by ids", func(done func(int, error)) { h.engine.(engine.Mover).MoveMessages(from, to, ids, done) })
}

func canPeek(a engine.Abilities) bool { return a.Peek }
func canMove(a engine.Abilities) bool { return a.Move }

var abilityChecks = []check{
	{name: "abilities are what they say", run: func(h *harness) {
		a := h.engine.Abilities()
		if a.Guarantee < engine.Synced || a.Guarantee > engine.Buffered {
			h.Errorf("guarantee %d", a.Guarantee)
		}
		if _, ok := h.engine.(engine.Peeker); a.Peek && !ok {
			h.Error("says that it can peek and is no Peeker")
		}
		if _, ok := h.engine.(engine.Mover); a.Move && !ok {
			h.Error("says that it can move and is no Mover")
		}
		if _, ok := h.engine.(engine.Pauser); a.Pause && !ok {
			h.Error("says that it can pause and is no Pauser")
		}
		if err := h.engine.Health(); err != nil {
			h.Errorf("health of a new engine: %v", err)
		}
		if isClosed(h.engine.Failed()) {
			h.Error("a new engine has failed")
		}
	}},
	{name: "an absent ability is an error", needs: func(a engine.Abilities) bool { return !a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.session()
		d := c.fetch("q")
		c.settle(engine.Settlement{Tag: d.Tag, Verdict: engine.Return, Delay: time.Second}).fails(sealmq.Unsupported)
		h.holds("q", 0, 1)
	}},
	{name: "no uncounted return is an error", needs: func(a engine.Abilities) bool { return !a.Uncounted }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.session()
		d := c.fetch("q")
		c.settle(engine.Settlement{Tag: d.Tag, Verdict: engine.Return, Uncounted: true}).fails(sealmq.Unsupported)
		h.holds("q", 0, 1)
	}},
	{name: "no extension is an error", needs: func(a engine.Abilities) bool { return !a.Extend }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.session()
		c.extend(c.fetch("q")).fails(sealmq.Unsupported)
		h.holds("q", 0, 1)
	}},
	{name: "peek", needs: canPeek, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		if list := h.peek("q", 10); len(list) != 0 {
			h.Errorf("peeked %s in an empty queue", described(list))
		}
		h.put("q", ids("m", 5)...)
		c := h.consumer("q", 1)
		held := c.take(1)
		list := h.peek("q", 3)
		h.sameIDs(list, "m-0001", "m-0002", "m-0003")
		h.content(list[0], message("m-0001"))
		if n := len(h.peek("q", 100)); n != 4 {
			h.Errorf("peeked %d, want all 4", n)
		}
		h.holds("q", 4, 1)
		c.nack(held...)
		for _, d := range h.peek("q", 100) {
			if back := d.ID == "m-0000"; d.Queue != "q" || d.Attempt != 0 && !back || d.Attempt != 1 && back {
				h.Errorf("peeked %s of %q after %d deliveries", d.ID, d.Queue, d.Attempt)
			}
		}
		h.holds("q", 5, 0)
		c.take(1)
		if _, err := h.engine.(engine.Peeker).Peek("none", 0, 1); sealmq.CodeOf(err) != sealmq.NoQueue {
			h.Errorf("peek into nothing: error %v", err)
		}
	}},
	{name: "peek goes on at a place", needs: canPeek, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 5)...)
		page := func(from uint64, want ...string) (next uint64) {
			h.Helper()
			list, err := h.engine.(engine.Peeker).Peek("q", from, 2)
			if err != nil {
				h.Fatalf("peek: %v", err)
			}
			h.sameIDs(list, want...)
			if len(list) > 0 {
				next = list[len(list)-1].Tag.Seq + 1
			}
			return next
		}
		next := page(0, "m-0000", "m-0001")
		c := h.consumer("q", 0)
		c.ack(c.take(5)[:2]...)
		page(0)
		c.Session.Close(true)
		next = page(next, "m-0002", "m-0003")
		h.put("q", "later")
		next = page(next, "m-0004", "later")
		page(next)
	}},
	{name: "peek at dead letters", needs: canPeek, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		c.settle(engine.Settlement{Tag: c.gets("a")[0].Tag, Verdict: engine.Dead, Reason: "why"}).must()
		d := h.peek("q.dead", 1)
		h.sameIDs(d, "a")
		if d[0].DeathReason != "why" || d[0].DeathQueue != "q" {
			h.Errorf("died in %q of %q", d[0].DeathQueue, d[0].DeathReason)
		}
	}},
	{name: "move", needs: canMove, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 2}, ids("m", 4)...)
		c := h.consumer("q", 0)
		c.dead(c.take(4)...)
		h.put("q", "own")
		is(h, h.move("q.dead", "q", 2).must(), 2, "moved %d")
		h.holds("q.dead", 2, 0)
		list := c.gets("own", "m-0000", "m-0001")
		for _, d := range list {
			if d.Attempt != 1 || d.Queue != "q" || d.DeathReason != "" || d.DeathQueue != "" {
				h.Errorf("%s: attempt %d from %q, died in %q of %q, want 1 from q and no death",
					d.ID, d.Attempt, d.Queue, d.DeathQueue, d.DeathReason)
			}
		}
		h.content(list[1], message("m-0000"))
		c.ack(list[0], list[1])
		c.nack(list[2])
		c.ack(c.gets("m-0001")...)
		if n := h.move("q.dead", "q", 0).must(); n != 2 {
			h.Errorf("moved %d, want the rest", n)
		}
		is(h, h.move("q.dead", "q", 0).must(), 0, "moved %d out of an empty queue")
		c.gets("m-0002", "m-0003")
		h.move("none", "q", 0).fails(sealmq.NoQueue)
		h.move("q", "none", 0).fails(sealmq.NoQueue)
	}},
	{name: "move by ids", needs: canMove, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{})
		h.put("q", ids("m", 6)...)
		c := h.consumer("q", 3)
		held := c.take(3)
		c.nack(held[0])
		c.settle(engine.Settlement{Tag: held[1].Tag, Verdict: engine.Dead, Reason: "why"}).must()
		c.SetPrefetch(0, engine.Paused)
		if n := h.moveIDs("q", "to", "m-0004", "m-0000", "none", "m-0004", "m-0001", "m-0002").must(); n != 2 {
			h.Errorf("moved %d, want 2: one is dead, and one is in hand", n)
		}
		if n := h.moveIDs("q.dead", "to", "m-0001").must(); n != 1 {
			h.Errorf("moved %d, want the dead one", n)
		}
		h.holds("q", 2, 1)
		h.holds("q.dead", 0, 0)
		list := h.consumer("to", 0).gets("m-0000", "m-0004", "m-0001")
		for _, d := range list {
			if d.Attempt != 1 || d.Redelivered() || d.DeathReason != "" || d.DeathQueue != "" {
				h.Errorf("%s: attempt %d, died in %q of %q, want 1 and no death", d.ID, d.Attempt, d.DeathQueue, d.DeathReason)
			}
		}
		h.content(list[1], message("m-0004"))
		h.outcome(engine.Repeated, "", message("m-0004"), "q")
		is(h, h.moveIDs("q", "to").must(), 0, "moved %d without an id")
		h.moveIDs("none", "q", "m-0003").fails(sealmq.NoQueue)
		h.moveIDs("q", "none", "m-0003").fails(sealmq.NoQueue)
	}},
	{name: "move by ids ends at the target's limit", needs: canMove, run: func(h *harness) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{MaxMessages: 1})
		h.put("from", ids("m", 3)...)
		n, err := h.moveIDs("from", "to", "m-0001", "m-0002").wait()
		if n != 1 || sealmq.CodeOf(err) != sealmq.QueueFull {
			h.Errorf("moved %d, error %v, want 1 and code %s", n, err, sealmq.QueueFull)
		}
		h.consumer("to", 0).gets("m-0001")
		h.consumer("from", 0).gets("m-0000", "m-0002")
	}},
	{name: "move spares what is in hand", needs: canMove, run: func(h *harness) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{})
		h.put("from", "a", "b", "c")
		c := h.consumer("from", 1)
		a := c.gets("a")
		is(h, h.move("from", "to", 0).must(), 2, "moved %d")
		c.ack(a...)
		h.holds("from", 0, 0)
		h.consumer("to", 0).gets("b", "c")
	}},
	{name: "move ends at the target's limit", needs: canMove, run: func(h *harness) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{MaxMessages: 2})
		h.put("from", ids("m", 4)...)
		n, err := h.move("from", "to", 0).wait()
		if n != 2 || sealmq.CodeOf(err) != sealmq.QueueFull {
			h.Errorf("moved %d, error %v, want 2 and code %s", n, err, sealmq.QueueFull)
		}
		h.holds("from", 2, 0)
		h.consumer("to", 0).gets("m-0000", "m-0001")
		h.consumer("from", 0).gets("m-0002", "m-0003")
	}},
	{name: "a moved message keeps its id known", needs: canMove, run: func(h *harness) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{})
		h.put("from", "a")
		c := h.consumer("from", 0)
		old := c.gets("a")
		c.nack(old...)
		h.move("from", "to", 1).must()
		c.ack(old...) // what it held is somewhere else now
		h.holds("to", 1, 0)
		h.outcome(engine.Repeated, "", message("a"), "from")
		h.consumer("to", 0).gets("a")
	}},
	{name: "find", run: func(h *harness) {
		f, ok := h.engine.(engine.Finder)
		if !ok {
			h.Skip("the engine is no Finder")
		}
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		if m, ok := f.Find("a", ""); !ok {
			h.Error("a waiting message is not found")
		} else {
			h.content(sealmq.Delivery{Message: m}, message("a"))
		}
		if _, ok := f.Find("none", ""); ok {
			h.Error("found what never was")
		}
		c := h.consumer("q", 0)
		list := c.gets("a", "b")
		if _, ok := f.Find("b", ""); !ok {
			h.Error("an unacked message is not found")
		}
		c.ack(list...)
		if _, ok := f.Find("a", ""); ok {
			h.Error("an acked message is found")
		}
	}},
}
