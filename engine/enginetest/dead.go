package enginetest

import (
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var deadChecks = []check{
	{name: "dead with a reason", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 0)
		list := c.take(2)
		c.settle(
			engine.Settlement{Tag: list[1].Tag, Verdict: engine.Dead, Reason: "cannot be opened"},
			engine.Settlement{Tag: list[0].Tag, Verdict: engine.Dead},
		).must()
		h.holds("q", 0, 0)
		got := h.consumer("q.dead", 0).gets("b", "a")
		h.content(got[0], message("b"))
		for i, reason := range []string{"cannot be opened", sealmq.DeathRejected} {
			d := got[i]
			if d.DeathReason != reason || d.DeathQueue != "q" || d.Queue != "q.dead" || d.Attempt != 1 {
				h.Errorf("%s: died in %q of %q, now attempt %d from %q; want of %q in q, attempt 1 from q.dead",
					d.ID, d.DeathQueue, d.DeathReason, d.Attempt, d.Queue, reason)
			}
		}
		is(h, h.info("q").DeadLettered, 2, "%d counted")
	}},
	{name: "the dead-letter queue is made when needed", run: func(h *harness) {
		o := sealmq.QueueOptions{MaxLineBytes: 128 << 10, TTL: time.Hour, MaxMessages: 7}
		h.queue("q", o)
		m := message("large")
		m.Body = make([]byte, 100<<10)
		h.outcome(engine.Stored, "", m, "q")
		if _, err := h.engine.Queue("q.dead"); err == nil {
			h.Fatal("it is there before anything died")
		}
		c := h.consumer("q", 0)
		c.dead(c.gets("large")...)
		h.holds("q.dead", 1, 0)
		if diff := cmp.Diff(sealmq.DeadLetterOptions(o.Normalize()), h.info("q.dead").Options); diff != "" {
			h.Errorf("its options (-want +got):\n%s", diff)
		}
	}},
	{name: "a dead-letter queue that the engine makes is reported", run: func(h *harness) {
		var made []string
		var of []sealmq.Owner
		h.engine.ReportDeadQueues(func(name string, o sealmq.QueueOptions) {
			made, of = append(made, name), append(of, o.Owner)
		})
		h.queue("declared.dead", sealmq.QueueOptions{})
		for _, name := range []string{"declared", "q"} {
			h.queue(name, sealmq.QueueOptions{DeliveryLimit: 1, Owner: sealmq.Owner{ID: "alice"}}, name+" a", name+" b")
			c := h.consumer(name, 1)
			c.dead(c.gets(name + " a")...)
			c.nack(c.gets(name + " b")...)
			h.holds(name+".dead", 2, 0)
		}
		if !slices.Equal(made, []string{"q.dead"}) || of[0].ID != "alice" {
			h.Errorf("reported %v of %v, want q.dead of alice, once", made, of)
		}
	}},
	{name: "a dead-letter queue that is there keeps its options", run: func(h *harness) {
		h.queue("q.dead", sealmq.QueueOptions{Prefetch: 9})
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		c.dead(c.gets("a")...)
		h.holds("q.dead", 1, 0)
		if got := h.info("q.dead").Options; got != (sealmq.QueueOptions{Prefetch: 9}).Normalize() {
			h.Errorf("options %+v", got)
		}
	}},
	{name: "delivery limit", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 3}, "a")
		c := h.consumer("q", 0)
		for attempt := uint32(1); attempt <= 3; attempt++ {
			d := c.gets("a")
			if d[0].Attempt != attempt {
				h.Fatalf("attempt %d, want %d", d[0].Attempt, attempt)
			}
			c.nack(d...)
		}
		h.holds("q", 0, 0)
		d := h.consumer("q.dead", 0).gets("a")[0]
		if d.DeathReason != sealmq.DeathDeliveryLimit || d.DeathQueue != "q" || d.Attempt != 1 {
			h.Errorf("died in %q of %q, attempt %d", d.DeathQueue, d.DeathReason, d.Attempt)
		}
	}},
	{name: "every way back counts towards the delivery limit", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 3, AckTimeout: 10 * time.Second}, "a")
		c := h.consumer("q", 0)
		c.gets("a")
		c.close()
		c = h.consumer("q", 0)
		c.nack(c.gets("a")...)
		c.gets("a")
		h.clock.Advance(15 * time.Second)
		h.holds("q", 0, 0)
		h.holds("q.dead", 1, 0)
	}},
	{name: "a limit of one delivery", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 1}, "a", "b")
		c := h.consumer("q", 0)
		c.take(2)
		c.close()
		h.holds("q", 0, 0)
		h.consumer("q.dead", 0).gets("a", "b")
	}},
	{name: "dead letters stay", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		c.dead(c.gets("a")...)
		dead := h.consumer("q.dead", 0)
		for range sealmq.DefaultDeliveryLimit + 1 {
			dead.nack(dead.gets("a")...)
		}
		dead.dead(dead.gets("a")...)
		h.holds("q.dead", 1, 0)
		if _, err := h.engine.Queue("q.dead.dead"); err == nil {
			h.Error("a dead-letter queue has a dead-letter queue")
		}
		d := dead.gets("a")
		if d[0].DeathQueue != "q" {
			h.Errorf("died in %q, want the first death", d[0].DeathQueue)
		}
		dead.ack(d...)
		h.holds("q.dead", 0, 0)
	}},
	{name: "the oldest dead letters go at the limit", run: func(h *harness) {
		h.queue("q.dead", sealmq.QueueOptions{MaxMessages: 3, DropOldest: true})
		h.queue("q", sealmq.QueueOptions{})
		all := ids("m", 5)
		h.put("q", all...)
		c := h.consumer("q", 0)
		c.dead(c.take(5)...)
		h.holds("q.dead", 3, 0)
		h.consumer("q.dead", 0).gets(all[2:]...)
		is(h, h.info("q.dead").Dropped, 2, "%d counted as dropped")
	}},
	{name: "the limits of a dead-letter queue hold", run: func(h *harness) {
		h.queue("q.dead", sealmq.QueueOptions{MaxMessages: 1})
		h.queue("q", sealmq.QueueOptions{}, "a", "b", "c")
		c := h.consumer("q", 0)
		c.dead(c.take(3)...)
		h.holds("q.dead", 1, 0)
		h.holds("q", 2, 0)
		c.getsNothing()
		dead := h.consumer("q.dead", 0)
		for _, id := range []string{"a", "b", "c"} {
			dead.ack(dead.gets(id)...)
			h.clock.Advance(5 * time.Second)
		}
		h.holds("q", 0, 0)
		h.put("q", "d", "e")
		c.dead(c.take(2)...)
		h.holds("q", 1, 0)
		h.purge("q").must() // what waits to die, too
		h.holds("q", 0, 0)
		h.holds("q.dead", 1, 0)
	}},
	{name: "a dead letter is no longer than its queue delivers", run: func(h *harness) {
		h.queue("q.dead", sealmq.QueueOptions{MaxLineBytes: 1024})
		h.queue("q", sealmq.QueueOptions{})
		m := message("large")
		m.Body = make([]byte, 2000)
		h.outcome(engine.Stored, "", m, "q")
		h.put("q", "small")
		c := h.consumer("q", 0)
		c.dead(c.take(2)...)
		h.consumer("q.dead", 0).gets("small")
		h.holds("q", 1, 0)
		c.getsNothing()
		h.remove("q.dead").must()
		h.clock.Advance(5 * time.Second)
		h.eventually("there is room again", func() bool { _, err := h.engine.Queue("q.dead"); return err == nil })
		h.consumer("q.dead", 0).gets("large")
	}},
	{name: "the holder is rid of what died", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		c.dead(a...)
		is(h, c.Unacked(), 0, "the session still holds %d")
		c.ack(a...)
		h.holds("q.dead", 1, 0)
		c.gets("b")
	}},
}
