package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
)

var timeChecks = []check{
	{name: "ack timeout", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a", "b", "c")
		c := h.consumer("q", 0)
		c.gets("a", "b", "c")
		h.clock.Advance(8 * time.Second)
		c.getsNothing()
		h.holds("q", 0, 3)
		h.clock.Advance(4 * time.Second)
		h.holds("q", 3, 0)
		is(h, c.Unacked(), 0, "the session holds %d")
		list := c.take(3)
		if h.engine.Abilities().StrictRedelivery {
			h.sameIDs(list, "a", "b", "c")
		}
		for _, d := range list {
			h.isAttempt(d, 2)
		}
		is(h, h.info("q").Returned, 3, "%d counted as returned")
	}},
	{name: "the default ack timeout", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.session()
		c.fetch("q")
		h.clock.Advance(sealmq.DefaultAckTimeout - 5*time.Second)
		c.getsNothing()
		h.holds("q", 0, 1)
		h.clock.Advance(10 * time.Second)
		h.holds("q", 1, 0)
	}},
	{name: "ack timeout frees the credit and wakes others", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a")
		c, other := h.consumer("q", 1), h.consumer("q", 1)
		c.gets("a")
		other.getsNothing()
		h.clock.Advance(12 * time.Second)
		other.gets("a")
		h.put("q", "b")
		c.gets("b")
	}},
	{name: "a working consumer is left in peace", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, ids("m", 6)...)
		c := h.consumer("q", 0)
		list := c.take(6)
		for _, d := range list[:4] {
			h.clock.Advance(8 * time.Second)
			h.settled()
			if n := c.Unacked(); n == 0 {
				h.Fatalf("before the ack of %s everything went back", d.ID)
			}
			c.ack(d)
		}
		h.holds("q", 0, 2)
		h.clock.Advance(8 * time.Second)
		h.settled()
		h.holds("q", 0, 2)
		h.clock.Advance(4 * time.Second)
		h.holds("q", 2, 0)
	}},
	{name: "an ack of another queue shows that the connection works", run: func(h *harness) {
		h.queue("slow", sealmq.QueueOptions{AckTimeout: 10 * time.Second})
		h.queue("quick", sealmq.QueueOptions{})
		h.put("slow", "a")
		h.put("quick", "b")
		c := h.consumer("slow", 0)
		c.gets("a")
		quick := c.fetch("quick")
		h.clock.Advance(8 * time.Second)
		c.ack(quick)
		h.clock.Advance(8 * time.Second)
		h.settled()
		h.holds("slow", 0, 1)
		h.clock.Advance(4 * time.Second)
		h.holds("slow", 1, 0)
	}},
	{name: "an ack of another connection does not", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a", "b")
		c, other := h.consumer("q", 1), h.consumer("q", 1)
		c.gets("a")
		b := other.gets("b")
		h.clock.Advance(8 * time.Second)
		other.ack(b...)
		h.clock.Advance(4 * time.Second)
		other.gets("a")
	}},
	{name: "the timeout begins with the delivery", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second})
		c := h.consumer("q", 0)
		h.put("q", "a")
		h.clock.Advance(time.Minute)
		c.gets("a")
		h.clock.Advance(8 * time.Second)
		c.getsNothing()
		h.put("q", "b")
		c.gets("b")
		h.clock.Advance(4 * time.Second)
		h.holds("q", 1, 1)
		h.clock.Advance(8 * time.Second)
		h.holds("q", 2, 0)
	}},
	{name: "late ack after the timeout", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a")
		c := h.consumer("q", 0)
		d := c.gets("a")
		h.clock.Advance(12 * time.Second)
		h.holds("q", 1, 0)
		c.ack(d...)
		h.holds("q", 0, 0)
		c.getsNothing()
	}},
	{name: "ttl", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{TTL: 10 * time.Second})
		h.queue("lasting", sealmq.QueueOptions{}, "x")
		h.put("q", "a", "b")
		h.clock.Advance(8 * time.Second)
		h.put("q", "c")
		h.settled()
		h.holds("q", 3, 0)
		h.clock.Advance(4 * time.Second)
		h.holds("q", 1, 0)
		is(h, h.info("q").Expired, 2, "%d counted as expired")
		c := h.consumer("q", 0)
		c.gets("c")
		c.getsNothing()
		h.holds("lasting", 1, 0)
		if _, err := h.engine.Queue("q.dead"); err == nil {
			h.Error("expired messages became dead letters")
		}
	}},
	{name: "ttl spares what is in hand", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{TTL: 10 * time.Second, AckTimeout: time.Hour}, "a", "b")
		c := h.consumer("q", 0)
		list := c.gets("a", "b")
		h.clock.Advance(15 * time.Second)
		h.settled()
		h.holds("q", 0, 2)
		c.ack(list[0])
		c.nack(list[1])
		h.holds("q", 0, 0)
		if n := h.info("q").Expired; n != 1 {
			h.Errorf("%d counted as expired, want the one that came back", n)
		}
		c.getsNothing()
	}},
	{name: "what is over does not become a dead letter", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{TTL: 10 * time.Second, AckTimeout: time.Hour, DeliveryLimit: 1}, "a", "b")
		c := h.consumer("q", 0)
		list := c.gets("a", "b")
		h.clock.Advance(15 * time.Second)
		c.dead(list[0]) // unless somebody says so
		c.close()
		h.holds("q", 0, 0)
		h.holds("q.dead", 1, 0)
		is(h, h.info("q").Expired, 1, "%d counted as expired")
	}},
	{name: "an idle queue expires without a consumer", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{TTL: time.Minute, MaxMessages: 2}, "a", "b")
		h.clock.Advance(2 * time.Minute)
		h.eventually("there is room again", func() bool { return h.info("q").Ready == 0 })
		h.put("q", "c", "d")
	}},
}
