package enginetest

import (
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var durabilityChecks = []restartCheck{
	{name: "nothing", run: func(h *harness, restart func()) {
		restart()
		restart()
		if all := h.all(); len(all) != 0 {
			h.Errorf("%d queues in an empty store", len(all))
		}
	}},
	{name: "messages keep content and order", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		var want []sealmq.Message
		for round := range 3 {
			for i := range 10 {
				m := message(fmt.Sprintf("%d-%d", round, i))
				m.Publisher, m.Key = "p"+m.ID, "k"+m.ID
				m.Published = start.Add(time.Duration(i) * time.Millisecond)
				m.Properties = []byte("properties of " + m.ID)
				h.outcome(engine.Stored, "", m, "q")
				want = append(want, m)
			}
			restart()
			if n := h.info("q").Ready; n != len(want) {
				h.Fatalf("%d messages after the restart, want %d", n, len(want))
			}
		}
		c := h.consumer("q", 0)
		for i, d := range c.take(len(want)) {
			h.content(d, want[i])
		}
		c.getsNothing()
	}},
	{name: "queues keep their options", run: func(h *harness, restart func()) {
		full := sealmq.QueueOptions{MaxMessages: 5, MaxBytes: 6000, TTL: time.Hour, DeliveryLimit: 3,
			AckTimeout: time.Minute, Prefetch: 7, MaxLineBytes: 2048, DropOldest: true, Sealed: sealmq.SealedSuites("one", "two")}
		h.queue("full", full)
		h.queue("plain", sealmq.QueueOptions{})
		restart()
		if diff := cmp.Diff(full, h.info("full").Options); diff != "" {
			h.Errorf("options (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(sealmq.QueueOptions{}.Normalize(), h.info("plain").Options); diff != "" {
			h.Errorf("defaults (-want +got):\n%s", diff)
		}
		if h.declare("full", &full).must() {
			h.Error("declare created the queue again")
		}
		h.declare("full", &sealmq.QueueOptions{}).fails(sealmq.Mismatch)
	}},
	{name: "acked means gone", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("r", sealmq.QueueOptions{})
		for _, id := range ids("m", 8) {
			h.outcome(engine.Stored, "", message(id), "q", "r")
		}
		c := h.consumer("q", 0)
		list := c.take(8)
		c.ack(list[0], list[3], list[7])
		c.nack(list[1])
		c.ack(list[1]) // late
		restart()
		c = h.consumer("q", 0)
		again := c.take(4)
		if h.engine.Abilities().StrictRedelivery {
			h.sameIDs(again, "m-0002", "m-0004", "m-0005", "m-0006")
		}
		c.ack(again...)
		h.holds("r", 8, 0)
		restart()
		h.holds("q", 0, 0)
		h.consumer("r", 0).gets(ids("m", 8)...)
	}},
	{name: "what was in hand comes again", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b", "c")
		h.consumer("q", 2).gets("a", "b")
		restart()
		h.holds("q", 3, 0)
		h.consumer("q", 0).gets("a", "b", "c")
	}},
	{name: "delivery counts", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 4}, "a", "b")
		c := h.consumer("q", 0)
		for range 2 {
			c.nack(c.gets("a", "b")[0])
			c.close()
			c = h.consumer("q", 0)
		}
		c.close()
		h.settled()
		restart()
		c = h.consumer("q", 0)
		list := c.gets("a", "b")
		if list[0].Attempt != 3 || list[1].Attempt != 3 {
			h.Errorf("after the restart %s, want both with attempt 3", described(list))
		}
		c.nack(list...)
		c.nack(c.gets("a", "b")...)
		h.holds("q", 0, 0)
		h.holds("q.dead", 2, 0)
	}},
	{name: "dead letters keep their reason", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 1}, "a", "b", "c")
		c := h.consumer("q", 0)
		list := c.gets("a", "b", "c")
		c.settle(engine.Settlement{Tag: list[0].Tag, Verdict: engine.Dead, Reason: "unreadable"}).must()
		c.nack(list[1])
		c.ack(list[2])
		restart()
		h.holds("q", 0, 0)
		options := h.info("q.dead").Options
		if diff := cmp.Diff(sealmq.DeadLetterOptions(h.info("q").Options), options); diff != "" {
			h.Errorf("options of the dead-letter queue (-want +got):\n%s", diff)
		}
		dead := h.consumer("q.dead", 0)
		got := dead.gets("a", "b")
		for i, reason := range []string{"unreadable", sealmq.DeathDeliveryLimit} {
			h.content(got[i], message(got[i].ID))
			if got[i].DeathReason != reason || got[i].DeathQueue != "q" {
				h.Errorf("%s died in %q of %q, want of %q", got[i].ID, got[i].DeathQueue, got[i].DeathReason, reason)
			}
		}
		dead.ack(got...)
		restart()
		h.holds("q.dead", 0, 0)
	}},
	{name: "purge and delete", run: func(h *harness, restart func()) {
		h.queue("purged", sealmq.QueueOptions{})
		h.queue("deleted", sealmq.QueueOptions{})
		h.queue("both", sealmq.QueueOptions{})
		for _, q := range []string{"purged", "deleted", "both"} {
			h.put(q, ids(q, 5)...)
		}
		h.outcome(engine.Stored, "", message("everywhere"), "purged", "deleted", "both")
		h.purge("purged").must()
		h.put("purged", "after")
		h.remove("deleted").must()
		h.remove("both").must()
		h.queue("both", sealmq.QueueOptions{MaxMessages: 3}, "new")
		for range 2 {
			restart()
			if _, err := h.engine.Queue("deleted"); err == nil {
				h.Error("a deleted queue is back")
			}
			h.holds("purged", 1, 0)
			h.holds("both", 1, 0)
		}
		h.consumer("purged", 0).gets("after")
		h.consumer("both", 0).gets("new")
	}},
	{name: "drop_oldest and ttl", run: func(h *harness, restart func()) {
		h.queue("drops", sealmq.QueueOptions{MaxMessages: 3, DropOldest: true})
		h.queue("expires", sealmq.QueueOptions{TTL: time.Minute})
		all := ids("m", 6)
		h.put("drops", all...)
		h.put("expires", "old")
		h.clock.Advance(2 * time.Minute)
		h.holds("expires", 0, 0)
		h.put("expires", "new")
		h.settled()
		restart()
		h.holds("expires", 1, 0)
		h.holds("drops", 3, 0)
		h.consumer("drops", 0).gets(all[3:]...)
		h.clock.Advance(2 * time.Minute)
		h.holds("expires", 0, 0)
	}},
	{name: "moved messages", needs: func(a engine.Abilities) bool { return a.Move }, run: func(h *harness, restart func()) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{})
		h.put("from", ids("m", 4)...)
		h.put("to", "first")
		h.move("from", "to", 3).must()
		restart()
		h.holds("from", 1, 0)
		h.consumer("to", 0).gets("first", "m-0000", "m-0001", "m-0002")
	}},
	{name: "work goes on over many restarts", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		var want []string
		for round := range 10 {
			for _, id := range ids(fmt.Sprint(round), 6) {
				h.put("q", id)
				want = append(want, id)
			}
			c := h.consumer("q", 5)
			list := c.gets(want[:5]...)
			c.ack(list[0], list[2], list[4])
			c.close()
			want = append([]string{want[1], want[3]}, want[5:]...)
			restart()
		}
		h.consumer("q", 0).gets(want...)
	}, needs: strict},
}
