package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var deliveryChecks = []check{
	{name: "first in, first out", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		all := ids("m", 60)
		h.put("q", all[:20]...)
		c := h.consumer("q", 0)
		for _, id := range all[20:40] {
			h.put("q", id)
		}
		h.put("q", all[40:]...)
		c.gets(all...)
	}},
	{name: "a waiting session is notified", run: notified},
	{name: "backlog of several queues", run: func(h *harness) {
		for _, q := range []string{"a", "b"} {
			h.queue(q, sealmq.QueueOptions{}, ids(q, 3)...)
		}
		c := h.session()
		c.consume("a", 0).must()
		c.consume("b", 0).must()
		got := make(map[string][]sealmq.Delivery)
		for _, d := range c.take(6) {
			got[d.Queue] = append(got[d.Queue], d)
		}
		h.sameIDs(got["a"], ids("a", 3)...)
		h.sameIDs(got["b"], ids("b", 3)...)
		is(h, c.Unacked(), 6, "the session holds %d")
	}},
	{name: "take is bounded", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		var batch []engine.Publish
		for _, id := range ids("m", 6) {
			m := message(id)
			m.Body = make([]byte, 1000)
			batch = append(batch, engine.Publish{Message: m, Queues: []string{"q"}})
		}
		h.publish(batch...).must()
		c := h.consumer("q", 0)
		first, err := c.Take(nil, 2, everything)
		if err != nil || len(first) != 2 {
			h.Fatalf("two at most: took %d, error %v", len(first), err)
		}
		list, err := c.Take(first, everything, 1500)
		if err != nil || len(list) != 4 {
			h.Fatalf("1,500 bytes at most: %d more, error %v, want the second to reach it", len(list)-2, err)
		}
		if list, err = c.Take(list, everything, 1); err != nil || len(list) != 5 {
			h.Fatalf("one byte at most: %d more, error %v, want one message", len(list)-4, err)
		}
		h.sameIDs(list, ids("m", 5)...)
		if none, err := c.Take(nil, 0, everything); err != nil || len(none) != 0 {
			h.Errorf("none at most: took %d, error %v", len(none), err)
		}
	}},
	{name: "prefetch is a credit", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{Prefetch: 3}, ids("m", 10)...)
		c := h.consumer("q", 0)
		held := c.gets("m-0000", "m-0001", "m-0002")
		c.getsNothing()
		c.ack(held[1])
		c.gets("m-0003")
		c.getsNothing()
		c.ack(held[0], held[2])
		c.gets("m-0004", "m-0005")
		c.getsNothing()
		h.holds("q", 4, 3)
	}},
	{name: "prefetch of a subscription", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{Prefetch: 3}, ids("m", 10)...)
		c := h.consumer("q", 1)
		held := c.gets("m-0000")
		c.getsNothing()
		c.SetPrefetch(c.sub, 4)
		held = append(held, c.gets("m-0001", "m-0002", "m-0003")...)
		c.getsNothing()
		c.SetPrefetch(c.sub, 2)
		c.ack(held[:2]...)
		c.getsNothing()
		c.ack(held[2])
		c.gets("m-0004")
		c.getsNothing()
	}},
	{name: "prefetch of a session", run: func(h *harness) {
		h.queue("a", sealmq.QueueOptions{})
		h.queue("b", sealmq.QueueOptions{})
		h.put("a", ids("a", 5)...)
		h.put("b", ids("b", 5)...)
		c := h.consumer("a", 0)
		c.SetPrefetch(0, 2)
		c.gets("a-0000", "a-0001")
		c.getsNothing()
		c.consume("b", 1).must()
		c.gets("b-0000")
		c.SetPrefetch(c.sub, 2)
		c.gets("b-0001")
		c.getsNothing()
		c.SetPrefetch(0, 3)
		got := make(map[string]int)
		for _, d := range c.take(2) {
			got[d.Queue]++
		}
		if got["a"] != 1 || got["b"] != 1 {
			h.Errorf("took %v after one more of each", got)
		}
	}},
	{name: "a paused subscription", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 5)...)
		c := h.consumer("q", 0)
		c.SetPrefetch(0, 2)
		held := c.gets("m-0000", "m-0001")
		c.SetPrefetch(0, engine.Paused)
		c.ack(held[0])
		c.ack(held[1])
		c.getsNothing()
		c.SetPrefetch(0, 2)
		c.gets("m-0002", "m-0003")
		c.getsNothing()
	}},
	{name: "consumers compete and share", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		a, b := h.consumer("q", 5), h.consumer("q", 5)
		h.put("q", ids("m", 20)...)
		seen := make(map[string]bool)
		for round := range 2 {
			// Each has used its credit, so the rest is there for the other.
			for _, c := range []*consumer{a, b} {
				list := c.take(5)
				for _, d := range list {
					if seen[d.ID] {
						h.Fatalf("round %d: %s was delivered to both", round, d.ID)
					}
					seen[d.ID] = true
				}
				c.ack(list...)
			}
		}
		h.holds("q", 0, 0)
	}},
	{name: "a consumer that stops hurts no other", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		stalled, c := h.consumer("q", 4), h.consumer("q", 4)
		h.put("q", ids("m", 40)...)
		stalled.take(4)
		for range 9 {
			c.ack(c.take(4)...)
		}
		h.holds("q", 0, 4)
	}},
	{name: "fetch", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c := h.session()
		if f := c.fetchAny("q").must(); f.Found {
			h.Fatalf("fetched %s from an empty queue", f.Delivery.ID)
		}
		h.put("q", "a", "b", "c")
		a := c.fetch("q")
		b := c.fetch("q")
		h.sameIDs([]sealmq.Delivery{a, b}, "a", "b")
		h.content(a, message("a"))
		if n := c.Unacked(); n != 2 || a.Attempt != 1 {
			h.Errorf("the session holds %d after two fetches, attempt %d", n, a.Attempt)
		}
		h.holds("q", 1, 2)
		c.ack(a)
		c.close()
		h.holds("q", 2, 0)
	}},
	{name: "what comes back takes its place", needs: strict, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 6)...)
		c := h.consumer("q", 4)
		held := c.take(4)
		c.nack(held[3], held[1])
		c.ack(held[0])
		again := c.gets("m-0001", "m-0003", "m-0004")
		if again[0].Attempt != 2 || again[1].Attempt != 2 || again[2].Attempt != 1 {
			h.Errorf("attempts of %s, want 2, 2 and 1", described(again))
		}
		if again[0].Tag == held[1].Tag {
			h.Error("a redelivery has the tag of the first delivery")
		}
	}},
	{name: "a closed session gives back in order", needs: strict, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 8)...)
		a, b := h.consumer("q", 2), h.consumer("q", 2)
		a.gets("m-0000", "m-0001")
		b.gets("m-0002", "m-0003")
		c := h.consumer("q", 10)
		c.gets("m-0004", "m-0005", "m-0006", "m-0007")
		b.close()
		a.close()
		list := c.gets("m-0000", "m-0001", "m-0002", "m-0003")
		for _, d := range list {
			if d.Attempt != 2 || !d.Redelivered() {
				h.Errorf("%s: attempt %d after its session closed, want 2", d.ID, d.Attempt)
			}
		}
	}},
	{name: "a closed session gets nothing", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c := h.consumer("q", 0)
		c.close()
		c.Session.Close(true)
		for len(c.notified) > 0 {
			<-c.notified
		}
		h.put("q", "a")
		if list, _ := c.Take(nil, everything, everything); len(list) > 0 {
			h.Errorf("took %s after Close", described(list))
		}
		if len(c.notified) > 0 {
			h.Error("notified after Close")
		}
		is(h, h.info("q").Consumers, 0, "%d consumers")
		h.holds("q", 1, 0)
	}},
}

// awakes checks that a session is notified because of something that others do.
func (c *consumer) awakes(what string, cause func()) {
	c.h.Helper()
	c.h.settled()
	for len(c.notified) > 0 {
		<-c.notified
	}
	cause()
	select {
	case <-c.notified:
	case <-time.After(c.h.patience):
		c.h.Fatalf("not notified after %s", what)
	}
}

func notified(h *harness) {
	h.queue("q", sealmq.QueueOptions{AckTimeout: time.Minute})
	h.queue("r", sealmq.QueueOptions{})
	h.queue("r.dead", sealmq.QueueOptions{})
	c, other := h.consumer("q", 0), h.session()
	c.awakes("a publish", func() { h.put("q", "a") })
	c.awakes("a return by another session", func() { other.nack(other.fetch("q")) })
	other.fetch("q")
	c.awakes("the end of another session", other.close)
	other = h.session()
	other.fetch("q")
	c.awakes("another session's ack timeout", func() { h.clock.Advance(2 * time.Minute) })
	d := c.gets("a")
	if h.engine.Abilities().Delay {
		c.settle(engine.Settlement{Tag: d[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		c.awakes("the end of a delay", func() { h.clock.Advance(2 * time.Minute) })
		c.gets("a")
	}
	dead := h.consumer("r.dead", 0)
	h.put("r", "b")
	dead.awakes("a dead letter", func() { other.dead(other.fetch("r")) })
	if h.engine.Abilities().Move {
		c.awakes("a move", func() { h.move("r.dead", "q", 0).must() })
	}
}
