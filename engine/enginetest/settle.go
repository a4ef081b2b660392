package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var settleChecks = []check{
	{name: "acked means gone", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 4)...)
		c := h.consumer("q", 0)
		list := c.take(4)
		c.ack(list[0], list[2])
		h.holds("q", 0, 2)
		is(h, c.Unacked(), 2, "the session holds %d")
		c.close()
		h.consumer("q", 0).gets("m-0001", "m-0003")
	}},
	{name: "dropped means gone", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b", "c")
		c := h.consumer("q", 0)
		list := c.take(3)
		c.verdict(engine.Drop, list[:1])
		c.nack(list[1])
		c.verdict(engine.Drop, list[1:2]) // it waits again
		h.holds("q", 0, 1)
		if info := h.info("q"); info.Dropped != 2 || info.Acked != 0 || info.DeadLettered != 0 {
			h.Errorf("%d dropped, %d acked, %d dead, want 2, 0 and 0", info.Dropped, info.Acked, info.DeadLettered)
		}
		h.outcome(engine.Repeated, "", message("a"), "q")
		c.close()
		h.consumer("q", 0).gets("c")
	}},
	{name: "acks without effect", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 0)
		list := c.take(2)
		c.ack(list[0], list[0])
		c.ack(list[0])
		for _, tag := range []sealmq.DeliveryTag{
			{}, {Queue: 77, Attempt: 1, Seq: 1},
			{Queue: list[1].Tag.Queue, Attempt: list[1].Tag.Attempt, Seq: list[1].Tag.Seq + 1000},
			{Queue: list[1].Tag.Queue, Attempt: list[1].Tag.Attempt + 1, Seq: list[1].Tag.Seq},
			{Queue: list[1].Tag.Queue + 1, Attempt: list[1].Tag.Attempt, Seq: list[1].Tag.Seq},
		} {
			for _, v := range []engine.Verdict{engine.Ack, engine.Return, engine.Dead} {
				c.settle(engine.Settlement{Tag: tag, Verdict: v}).must()
			}
		}
		h.holds("q", 0, 1)
		is(h, h.info("q").Acked, 1, "%d messages counted as acked")
	}},
	{name: "ack by somebody else", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		holder, other := h.consumer("q", 1), h.consumer("q", 1)
		mine := holder.gets("a")
		for _, v := range []engine.Verdict{engine.Ack, engine.Return, engine.Dead} {
			other.verdict(v, mine)
		}
		h.holds("q", 1, 1)
		holder.close()
		other.verdict(engine.Ack, mine)
		h.holds("q", 2, 0)
		h.session().verdict(engine.Ack, mine)
		h.holds("q", 2, 0)
	}},
	{name: "late ack by the last holder", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 0)
		list := c.take(2)
		c.nack(list...)
		h.holds("q", 2, 0)
		c.ack(list[1])
		h.holds("q", 1, 0)
		again := c.gets("a")
		c.ack(list[0]) // of the delivery before
		h.holds("q", 0, 1)
		c.ack(again...)
		h.holds("q", 0, 0)
	}},
	{name: "late ack after another delivery", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		first, second := h.consumer("q", 1), h.session()
		late := first.gets("a")
		first.nack(late...)
		d := second.fetch("q")
		first.ack(late...)
		h.holds("q", 0, 1)
		second.nack(d)
		h.holds("q", 1, 0)
		first.ack(late...)
		h.holds("q", 1, 0)
		second.ack(d)
		h.holds("q", 0, 0)
	}},
	{name: "late dead by the last holder", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 1)
		d := c.gets("a")
		c.nack(d...)
		c.dead(d...)
		h.holds("q", 0, 0)
		h.holds("q.dead", 1, 0)
	}},
	{name: "a returned message waits for another consumer too", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c, other := h.consumer("q", 1), h.consumer("q", 1)
		c.nack(c.gets("a")...)
		h.isAttempt(other.gets("a")[0], 2)
	}},
	{name: "delay", needs: func(a engine.Abilities) bool { return a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		c.settle(engine.Settlement{Tag: a[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		b := c.gets("b")
		c.getsNothing()
		h.holds("q", 1, 1)
		h.clock.Advance(50 * time.Second)
		c.ack(b...)
		c.getsNothing()
		h.clock.Advance(20 * time.Second)
		h.isAttempt(c.gets("a")[0], 2)
	}},
	{name: "what is delayed keeps its place", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		c.settle(engine.Settlement{Tag: a[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		h.clock.Advance(70 * time.Second)
		h.put("q", "c")
		h.eventually("the delay is over", func() bool {
			f := c.fetchAny("q").must()
			if f.Found && f.Delivery.ID != "a" {
				c.nack(f.Delivery)
			}
			return f.Delivery.ID == "a"
		})
	}, needs: func(a engine.Abilities) bool { return a.Delay && a.StrictRedelivery }},
	{name: "what is delayed is set aside", needs: func(a engine.Abilities) bool { return a.Delay && a.Peek && a.Move }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 2, DropOldest: true, TTL: 30 * time.Second})
		h.queue("r", sealmq.QueueOptions{})
		h.put("q", "a", "b")
		c := h.consumer("q", 0)
		held := c.gets("a", "b")
		c.settle(engine.Settlement{Tag: held[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		c.nack(held[1])
		h.sameIDs(h.peek("q", 10), "b")
		h.put("q", "c")
		h.sameIDs(h.peek("q", 10), "c")
		if n := h.move("q", "r", 0).must(); n != 1 {
			h.Errorf("moved %d, want the one that is not delayed", n)
		}
		h.clock.Advance(45 * time.Second)
		h.settled()
		h.holds("q", 1, 0)
		h.clock.Advance(30 * time.Second)
		h.holds("q", 0, 0)
		if n := h.info("q").Expired; n != 1 {
			h.Errorf("%d counted as expired, want the delayed one", n)
		}
	}},
	{name: "purge takes what is delayed", needs: func(a engine.Abilities) bool { return a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		c.settle(engine.Settlement{Tag: c.gets("a")[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		is(h, h.purge("q").must(), 2, "removed %d")
		h.clock.Advance(2 * time.Minute)
		c.getsNothing()
	}},
	{name: "late ack of a delayed message", needs: func(a engine.Abilities) bool { return a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 1)
		d := c.gets("a")
		c.settle(engine.Settlement{Tag: d[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		c.ack(d...)
		h.holds("q", 0, 0)
		h.clock.Advance(2 * time.Minute)
		c.getsNothing()
	}},
	{name: "many settlements in one batch", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 30)...)
		c := h.consumer("q", 0)
		var batch []engine.Settlement
		for i, d := range c.take(30) {
			batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: engine.Verdict(i%3) + engine.Ack})
		}
		c.settle(batch...).must()
		h.holds("q", 10, 0)
		h.holds("q.dead", 10, 0)
	}},
}
