package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func canRelease(a engine.Abilities) bool { return a.Uncounted }
func canExtend(a engine.Abilities) bool  { return a.Extend }

// release gives deliveries back uncounted.
func (c *consumer) release(list ...sealmq.Delivery) {
	c.h.Helper()
	var batch []engine.Settlement
	for _, d := range list {
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: engine.Return, Uncounted: true})
	}
	c.settle(batch...).must()
}

func (c *consumer) extend(list ...sealmq.Delivery) *pending[nothing] {
	var batch []engine.Settlement
	for _, d := range list {
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: engine.Extend})
	}
	return c.settle(batch...)
}

// isAttempt checks what a delivery says of those before it.
func (h *harness) isAttempt(d sealmq.Delivery, n uint32) {
	h.Helper()
	if d.Attempt != n || !d.Redelivered() {
		h.Errorf("%s: attempt %d, redelivered %v, want %d of what came back", d.ID, d.Attempt, d.Redelivered(), n)
	}
}

var releaseChecks = []check{
	{name: "what is released does not count", needs: canRelease, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 2}, "a")
		c := h.consumer("q", 1)
		d := c.gets("a")
		for range 5 {
			c.release(d...)
			h.holds("q", 1, 0)
			d = c.gets("a")
			h.isAttempt(d[0], 1)
		}
		is(h, h.info("q").Returned, 5, "%d counted as returned")
		c.nack(d...)
		d = c.take(1)
		h.isAttempt(d[0], 2)
		c.release(d...)
		d = c.take(1)
		h.isAttempt(d[0], 2)
		c.nack(d...)
		h.holds("q", 0, 0)
		h.holds("q.dead", 1, 0)
	}},
	{name: "only a release does not count", needs: canRelease, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a")
		c := h.consumer("q", 1)
		c.release(c.gets("a")...)
		c.gets("a")
		h.clock.Advance(12 * time.Second)
		h.holds("q", 1, 0)
		h.isAttempt(c.gets("a")[0], 2)
		c.close()
		h.isAttempt(h.consumer("q", 1).gets("a")[0], 3)
	}},
	{name: "a release by somebody else", needs: canRelease, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c, other := h.consumer("q", 1), h.session()
		d := c.gets("a")
		other.release(d...)
		h.holds("q", 0, 1)
		c.release(d...)
		again := other.fetch("q")
		h.isAttempt(again, 1)
		c.release(d...)
		c.ack(d...)
		h.holds("q", 0, 1)
		other.ack(again)
		h.holds("q", 0, 0)
	}},
	{name: "late ack of what was released", needs: canRelease, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 1)
		d := c.gets("a")
		c.release(d...)
		c.release(d...) // it waits already
		c.ack(d...)
		h.holds("q", 0, 0)
		c.getsNothing()
	}},
	{name: "closing a session need not count", needs: canRelease, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 2}, "a", "b")
		for range 4 {
			c := h.consumer("q", 1)
			fetches := h.session()
			c.take(1)
			fetches.fetch("q")
			c.closeCounted(false)
			fetches.closeCounted(false)
			h.holds("q", 2, 0)
		}
		c := h.consumer("q", 2)
		for _, d := range c.take(2) {
			h.isAttempt(d, 1)
		}
		c.closeCounted(true)
		c = h.consumer("q", 2)
		for _, d := range c.take(2) {
			h.isAttempt(d, 2)
		}
		c.closeCounted(false)
		h.holds("q", 2, 0)
		c = h.consumer("q", 2)
		c.take(2)
		c.closeCounted(true)
		h.holds("q.dead", 2, 0)
	}},
	{name: "a release with a delay", needs: func(a engine.Abilities) bool { return a.Uncounted && a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 1}, "a")
		c := h.consumer("q", 1)
		for range 2 {
			c.settle(engine.Settlement{Tag: c.take(1)[0].Tag, Verdict: engine.Return, Uncounted: true, Delay: time.Minute}).must()
			h.clock.Advance(50 * time.Second)
			c.getsNothing()
			h.holds("q", 1, 0)
			h.clock.Advance(20 * time.Second)
		}
		h.isAttempt(c.gets("a")[0], 1)
	}},
}

var releaseRestartChecks = []restartCheck{
	{name: "what is released does not count", needs: canRelease, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 3}, "a", "b")
		c := h.consumer("q", 0)
		list := c.gets("a", "b")
		c.nack(list[1])
		list[1] = c.take(1)[0]
		for range 3 {
			c.release(list...)
			restart()
			c = h.consumer("q", 0)
			list = c.gets("a", "b")
			h.isAttempt(list[0], 1)
			h.isAttempt(list[1], 2)
		}
		c.nack(list...)
		c.nack(c.gets("a", "b")...)
		h.holds("q", 1, 0)
		h.holds("q.dead", 1, 0)
	}},
}

var extendChecks = []check{
	{name: "the ack timeout starts again", needs: canExtend, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a")
		c := h.consumer("q", 0)
		d := c.gets("a")
		for range 4 {
			h.clock.Advance(8 * time.Second)
			c.extend(d...).must()
			h.holds("q", 0, 1)
		}
		h.clock.Advance(8 * time.Second)
		h.settled()
		h.holds("q", 0, 1)
		h.clock.Advance(4 * time.Second)
		h.holds("q", 1, 0)
		h.isAttempt(c.gets("a")[0], 2) // an extension is no delivery
	}},
	{name: "the ack timeout of one delivery", needs: canExtend, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a", "b", "c")
		c := h.session()
		a, b := c.fetch("q"), c.fetch("q")
		h.clock.Advance(6 * time.Second)
		third := c.fetch("q")
		c.extend(a).must()
		h.clock.Advance(6 * time.Second)
		h.holds("q", 1, 2)
		h.clock.Advance(2 * time.Second)
		c.extend(third).must()
		h.clock.Advance(4 * time.Second)
		h.holds("q", 2, 1)
		c.ack(a, b, third)
		h.holds("q", 0, 0)
	}},
	{name: "only of what is held", needs: canExtend, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 10 * time.Second}, "a", "b", "c")
		c, other := h.consumer("q", 2), h.session()
		list := c.gets("a", "b")
		foreign := other.fetch("q")
		c.extend(sealmq.Delivery{}).fails(sealmq.NotHeld)
		c.extend(foreign).fails(sealmq.NotHeld)
		c.ack(list[0])
		c.extend(list[0]).fails(sealmq.NotHeld)
		c.extend(list[0], foreign).fails(sealmq.NotHeld)
		c.extend(list[0], foreign, list[1]).must()
		c.settle(engine.Settlement{Tag: list[0].Tag, Verdict: engine.Extend}, engine.Settlement{Tag: list[1].Tag, Verdict: engine.Return}).fails(sealmq.NotHeld)
		h.holds("q", 1, 1) // what else is in the batch has its effect
		c.extend(list[1]).fails(sealmq.NotHeld)
		h.clock.Advance(8 * time.Second)
		c.gets("b")
		h.clock.Advance(4 * time.Second)
		h.holds("q", 1, 1) // the foreign one was not prolonged
		other.extend(foreign).fails(sealmq.NotHeld)
		c.close()
		c.extend(list[1]).fails(sealmq.NotHeld)
		h.holds("q", 2, 0)
	}},
}
