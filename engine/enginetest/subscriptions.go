package enginetest

import (
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// through counts deliveries by the subscription that they came through.
func through(list []sealmq.Delivery) map[sealmq.SubscriptionID]int {
	got := make(map[sealmq.SubscriptionID]int)
	for _, d := range list {
		got[d.Subscription]++
	}
	return got
}

// subscribed subscribes and returns the subscription's id.
func (c *consumer) subscribed(queue string, o engine.ConsumeOptions) sealmq.SubscriptionID {
	c.h.Helper()
	c.subscribe(queue, o).must()
	return c.sub
}

var subscriptionChecks = []check{
	{name: "several on one queue", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c := h.session()
		a := c.subscribed("q", engine.ConsumeOptions{Prefetch: 2})
		b := c.subscribed("q", engine.ConsumeOptions{Prefetch: 3})
		if a == 0 || b == 0 || a == b {
			h.Fatalf("subscriptions %d and %d", a, b)
		}
		is(h, h.info("q").Consumers, 2, "%d consumers")
		h.put("q", ids("m", 10)...)
		list := c.take(5)
		c.getsNothing()
		if got := through(list); got[a] != 2 || got[b] != 3 {
			h.Errorf("deliveries by subscription %v, want 2 of %d and 3 of %d", got, a, b)
		}
		for _, d := range list {
			if d.Subscription == a {
				c.ack(d)
			}
		}
		if got := through(c.take(2)); got[a] != 2 {
			h.Errorf("deliveries by subscription %v, want 2 of %d", got, a)
		}
	}},
	{name: "each has its own prefetch", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{Prefetch: 2})
		c := h.session()
		a := c.subscribed("q", engine.ConsumeOptions{Prefetch: 1})
		own := c.subscribed("q", engine.ConsumeOptions{})
		paused := c.subscribed("q", engine.ConsumeOptions{Prefetch: engine.Paused})
		h.put("q", ids("m", 10)...)
		if got := through(c.take(3)); got[a] != 1 || got[own] != 2 {
			h.Errorf("deliveries by subscription %v, want 1 of %d and 2 of %d", got, a, own)
		}
		c.getsNothing()
		c.SetPrefetch(paused, 1)
		c.SetPrefetch(a, engine.QueuesOwn)
		if got := through(c.take(2)); got[paused] != 1 || got[a] != 1 {
			h.Errorf("deliveries by subscription %v, want 1 of %d and 1 of %d", got, paused, a)
		}
		c.getsNothing()
		c.SetPrefetch(paused, engine.NoLimit)
		c.take(5)
	}},
	{name: "cancel", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c, other := h.session(), h.session()
		gone := c.subscribed("q", engine.ConsumeOptions{Prefetch: 2})
		stays := c.subscribed("q", engine.ConsumeOptions{Prefetch: engine.Paused})
		h.put("q", ids("m", 4)...)
		held := c.gets("m-0000", "m-0001")
		c.cancel(gone).must()
		c.cancel(gone).must()
		c.cancel(gone + stays).must()
		is(h, h.info("q").Consumers, 1, "%d consumers")
		if n := c.Unacked(); n != 2 {
			h.Errorf("the session holds %d, want what it held", n)
		}
		c.ack(held[0])
		c.getsNothing()
		h.holds("q", 2, 1)
		c.nack(held[1])
		other.subscribed("q", engine.ConsumeOptions{})
		other.take(3)
		if len(c.ended) > 0 {
			h.Error("told that a subscription has ended that was cancelled")
		}
	}},
	{name: "cancel leaves what it was told of to others", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c, other := h.session(), h.consumer("q", 0)
		gone := c.subscribed("q", engine.ConsumeOptions{})
		h.put("q", ids("m", 10)...)
		c.cancel(gone).must()
		other.take(10)
	}},
	{name: "credit is shared", run: func(h *harness) {
		for _, q := range []string{"q", "r", "s"} {
			h.queue(q, sealmq.QueueOptions{}, ids(q, 5)...)
		}
		c := h.session()
		c.SetCredit(3)
		first := c.subscribed("q", engine.ConsumeOptions{Prefetch: 2})
		c.consume("r", 2).must()
		held := c.take(3)
		c.getsNothing()
		c.fetch("s") // counts for no credit
		c.cancel(first).must()
		c.getsNothing() // what came through it still counts
		c.SetCredit(1)
		c.ack(held[0], held[1])
		c.getsNothing()
		c.ack(held[2])
		c.take(1)
		c.getsNothing()
		c.SetCredit(engine.NoLimit)
		c.take(1)
		c.getsNothing() // the prefetch of the subscription
	}},
	{name: "credit of none", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c := h.session()
		c.SetCredit(0)
		c.consume("q", 0).must()
		h.put("q", "a")
		c.getsNothing()
		c.SetCredit(1)
		c.gets("a")
	}},
	{name: "without acknowledgement", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{Prefetch: 2}, ids("m", 5)...)
		c := h.session()
		c.SetCredit(1)
		sub := c.subscribed("q", engine.ConsumeOptions{NoAck: true})
		list := c.gets(ids("m", 5)...) // neither prefetch nor credit matter
		h.content(list[4], message("m-0004"))
		h.holds("q", 0, 0)
		is(h, c.Unacked(), 0, "the session holds %d")
		if info := h.info("q"); info.Delivered != 5 || info.Acked != 5 {
			h.Errorf("%d delivered, %d acked, want 5 of each", info.Delivered, info.Acked)
		}
		c.nack(list...) // they are gone
		h.holds("q", 0, 0)
		c.SetPrefetch(sub, engine.Paused)
		h.put("q", "new")
		c.getsNothing()
		c.SetPrefetch(sub, engine.QueuesOwn)
		c.gets("new")
		c.close()
		h.holds("q", 0, 0)
	}},
	{name: "fetch without acknowledgement", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b", "c")
		c := h.session()
		fetch := func(noAck bool) engine.Fetched {
			return begin(h, "fetch", func(done func(engine.Fetched, error)) { c.Fetch("q", noAck, done) }).must()
		}
		for want := 2; want >= 1; want-- {
			f := fetch(true)
			if !f.Found || f.Waiting != want || f.Delivery.Subscription != 0 {
				h.Errorf("fetched %+v, want a message with %d behind it", f, want)
			}
		}
		h.holds("q", 1, 0)
		if f := fetch(false); f.Delivery.ID != "c" || f.Waiting != 0 {
			h.Errorf("fetched %+v, want the last message", f)
		}
		if f := fetch(false); f.Found || f.Delivery.ID != "" {
			h.Errorf("fetched %+v, want nothing", f)
		}
		h.holds("q", 0, 1)
	}},
}

var subscriptionRestartChecks = []restartCheck{
	{name: "what needs no acknowledgement is gone", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 4)...)
		c := h.session()
		c.subscribed("q", engine.ConsumeOptions{NoAck: true})
		if list, err := c.Take(nil, 2, everything); err != nil || len(list) != 2 {
			h.Fatalf("took %s, error %v", described(list), err)
		}
		begin(h, "fetch", func(done func(engine.Fetched, error)) { c.Fetch("q", true, done) }).must()
		h.settled()
		restart()
		h.consumer("q", 0).gets("m-0003")
	}},
}
