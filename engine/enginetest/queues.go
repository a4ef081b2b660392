package enginetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var queueChecks = []check{
	{name: "declare is idempotent", run: func(h *harness) {
		o := &sealmq.QueueOptions{MaxMessages: 5}
		h.queue("q", *o)
		for name, again := range map[string]*sealmq.QueueOptions{
			"same options":       o,
			"no options":         nil,
			"defaults spelt out": {MaxMessages: 5, Prefetch: sealmq.DefaultPrefetch, AckTimeout: sealmq.DefaultAckTimeout},
		} {
			if h.declare("q", again).must() {
				h.Errorf("%s: says that it created the queue", name)
			}
		}
	}},
	{name: "declare with other options is a mismatch", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 5})
		for _, o := range []sealmq.QueueOptions{{}, {MaxMessages: 6}, {MaxMessages: 5, TTL: time.Hour},
			{MaxMessages: 5, DropOldest: true}, {MaxMessages: 5, Prefetch: 7}} {
			h.declare("q", &o).fails(sealmq.Mismatch)
		}
		if got := h.info("q").Options; got != (sealmq.QueueOptions{MaxMessages: 5}).Normalize() {
			h.Errorf("options changed to %+v", got)
		}
	}},
	{name: "a queue is there as soon as declare returned", run: func(h *harness) {
		declared := h.declare("q", nil)
		if _, err := h.engine.Queue("q"); err != nil {
			h.Error("not described")
		}
		published := h.publish(engine.Publish{Message: message("a"), Queues: []string{"q"}})
		if !declared.must() {
			h.Error("says that it did not create the queue")
		}
		h.stored(published)
		h.consumer("q", 0).gets("a")
	}},
	{name: "queues are described in order of name", run: func(h *harness) {
		for _, name := range []string{"b", "ä", "a/1", "c", "a"} {
			h.queue(name, sealmq.QueueOptions{})
		}
		var got []string
		for _, info := range h.all() {
			got = append(got, info.Name)
		}
		if diff := cmp.Diff([]string{"a", "a/1", "b", "c", "ä"}, got); diff != "" {
			h.Errorf("names (-want +got):\n%s", diff)
		}
		if _, err := h.engine.Queue("none"); sealmq.CodeOf(err) != sealmq.NoQueue {
			h.Errorf("a queue that does not exist: error %v, want code %s", err, sealmq.NoQueue)
		}
	}},
	{name: "description counts", run: func(h *harness) {
		o := sealmq.QueueOptions{MaxMessages: 4, TTL: time.Hour}
		h.queue("q", o, ids("m", 4)...)
		h.outcome(engine.Refused, sealmq.QueueFull, message("over"), "q")
		c := h.consumer("q", 3)
		list := c.take(3)
		c.ack(list[0])
		c.nack(list[1])
		c.dead(list[2])
		h.holds("q", 2, 0)
		want := engine.QueueInfo{
			Name: "q", Options: o.Normalize(), Ready: 2, Consumers: 1,
			Bytes: int64(2 * len(message("m-0000").Body)), Oldest: h.clock.Now(),
			Published: 4, Delivered: 3, Acked: 1, Returned: 1, DeadLettered: 1, Refused: 1,
		}
		if diff := cmp.Diff(want, h.info("q")); diff != "" {
			h.Errorf("description (-want +got):\n%s", diff)
		}
		c.Session.Close(true)
		h.eventually("the consumer is counted no more", func() bool { return h.info("q").Consumers == 0 })
	}},
	{name: "description of delays and age", needs: func(a engine.Abilities) bool { return a.Delay }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: time.Hour})
		shows := func(ready, delayed int, oldest time.Time) {
			h.Helper()
			h.eventually(fmt.Sprintf("%d wait, %d of them delayed, the oldest since %v", ready, delayed, oldest), func() bool {
				q := h.info("q")
				return q.Ready == ready && q.Delayed == delayed && q.Oldest.Equal(oldest)
			})
		}
		shows(0, 0, time.Time{})
		first := h.clock.Now()
		h.put("q", "a")
		h.clock.Advance(time.Second)
		second := h.clock.Now()
		h.put("q", "b", "c")
		shows(3, 0, first)
		c := h.consumer("q", 2)
		list := c.gets("a", "b")
		shows(1, 0, second)
		c.settle(engine.Settlement{Tag: list[0].Tag, Verdict: engine.Return, Delay: time.Minute}).must()
		shows(2, 1, second)
		c.nack(list[1])
		shows(3, 1, second)
		c.ack(c.take(2)...)
		shows(1, 1, time.Time{})
		h.clock.Advance(2 * time.Minute)
		shows(1, 0, first)
	}},
	{name: "what does not exist", run: func(h *harness) {
		c := h.session()
		c.consume("none", 0).fails(sealmq.NoQueue)
		h.remove("none").fails(sealmq.NoQueue)
		h.purge("none").fails(sealmq.NoQueue)
		h.stops(0, engine.Publish{Message: message("a"), Queues: []string{"none"}})
		c.fetchAny("none").fails(sealmq.NoQueue)
	}},
	{name: "delete removes everything", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{Prefetch: 2})
		h.queue("other", sealmq.QueueOptions{})
		h.put("q", ids("m", 5)...)
		c := h.consumer("q", 0)
		held := c.take(2)
		is(h, h.remove("q").must(), 5, "removed %d messages")
		if _, err := h.engine.Queue("q"); err == nil {
			h.Error("the queue is still described")
		}
		is(h, c.Unacked(), 0, "the session still holds %d deliveries")
		c.getsNothing()
		c.ack(held...)
		h.stops(0, engine.Publish{Message: message("late"), Queues: []string{"q"}})
		h.stops(0, engine.Publish{Message: message("late"), Queues: []string{"other", "q"}})
		h.holds("other", 0, 0)
	}},
	{name: "a queue declared again after delete is another one", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "old-1", "old-2")
		c := h.consumer("q", 0)
		held := c.take(2)
		h.remove("q").must()
		h.queue("q", sealmq.QueueOptions{MaxMessages: 7}, "new")
		c.getsNothing()
		c.ack(held...)
		h.consumer("q", 0).gets("new")
		if got := h.info("q").Options.MaxMessages; got != 7 {
			h.Errorf("the options are those of the old queue: max_messages %d", got)
		}
	}},
	{name: "consumers of a deleted queue are told", run: func(h *harness) {
		told := func(when string, c *consumer, want ...sealmq.SubscriptionID) {
			h.Helper()
			var got []sealmq.SubscriptionID
			for len(c.ended) > 0 {
				e := <-c.ended
				if got = append(got, e.Sub); e.Why != sealmq.NoQueue {
					h.Errorf("%s: %s ended for %q, want code %s", when, e.Queue, e.Why, sealmq.NoQueue)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				h.Errorf("%s: told of subscriptions %v, want %v", when, got, want)
			}
		}
		for _, name := range []string{"q", "r", "s"} {
			h.queue(name, sealmq.QueueOptions{}, name+"-1", name+"-2")
		}
		both, twice, other, left := h.consumer("q", 1), h.consumer("q", 1), h.consumer("s", 1), h.consumer("q", 1)
		bothQ := both.sub
		both.consume("r", 1).must()
		bothR, twiceA := both.sub, twice.sub
		twice.consume("q", 2).must()
		gone := h.consumer("q", 1)
		gone.cancel(gone.sub).must()
		fetches := h.session()
		fetches.fetch("r")
		left.Session.Close(true)
		h.purge("q").must()
		told("after purge", both)
		h.remove("q").must()
		told("after delete", both, bothQ)
		told("after delete", twice, twiceA, twice.sub)
		h.remove("r").must()
		told("of the next one", both, bothR)
		for _, c := range []*consumer{twice, other, fetches, left, gone} {
			told("of what it does not consume", c)
		}
		h.queue("q", sealmq.QueueOptions{}, "again")
		both.getsNothing()
		both.consume("q", 1).must()
		both.gets("again")
		h.remove("q").must()
		told("of the new one", both, both.sub)
		told("of the new one", twice)
	}},
	{name: "purge removes what waits", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 5)...)
		c := h.consumer("q", 2)
		held := c.take(2)
		is(h, h.purge("q").must(), 3, "removed %d messages")
		h.holds("q", 0, 2)
		c.nack(held[1])
		c.ack(held[0])
		c.gets("m-0001")
		h.put("q", "after")
		c.gets("after")
	}},
	{name: "only the options that are given are compared", run: func(h *harness) {
		have := sealmq.QueueOptions{MaxMessages: 5, TTL: time.Hour}
		h.queue("q", have)
		declare := func(o sealmq.QueueOptions, compare engine.Fields) *pending[engine.QueueInfo] {
			return begin(h, "declare", func(done func(engine.QueueInfo, error)) {
				h.engine.DeclareQueue("q", o, compare, func(q engine.QueueInfo, _ bool, err error) { done(q, err) })
			})
		}
		h.put("q", "a")
		other := sealmq.QueueOptions{MaxMessages: 6, TTL: time.Hour, DeliveryLimit: sealmq.DefaultDeliveryLimit}
		got := declare(other, engine.TTL|engine.DeliveryLimit|engine.Prefetch).must()
		if got.Name != "q" || got.Options != have.Normalize() || got.Ready != 1 {
			h.Errorf("declared %+v, want the queue as it is", got)
		}
		declare(other, engine.TTL|engine.MaxMessages).fails(sealmq.Mismatch)
		declare(sealmq.QueueOptions{}, engine.TTL).fails(sealmq.Mismatch)
		declare(sealmq.QueueOptions{}, 0).must()
	}},
	{name: "delete on conditions", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		c.gets("a")
		h.removeIf("q", engine.IfUnused).fails(sealmq.InUse)
		h.removeIf("q", engine.IfEmpty).fails(sealmq.InUse)
		c.close()
		h.holds("q", 1, 0)
		h.removeIf("q", engine.IfUnused|engine.IfEmpty).fails(sealmq.InUse)
		if len(c.ended) > 0 {
			h.Error("a consumer was told of a deletion that was refused")
		}
		h.purge("q").must()
		fetches := h.session()
		h.put("q", "b")
		b := fetches.fetch("q") // nobody is subscribed
		h.removeIf("q", engine.IfEmpty).fails(sealmq.InUse)
		fetches.ack(b)
		is(h, h.removeIf("q", engine.IfUnused|engine.IfEmpty).must(), 0, "removed %d messages of an empty queue")
		h.removeIf("q", engine.IfUnused).fails(sealmq.NoQueue)
		h.queue("q", sealmq.QueueOptions{}, "c")
		is(h, h.removeIf("q", engine.IfUnused).must(), 1, "removed %d messages")
	}},
	{name: "many queues", run: func(h *harness) {
		const n = 300
		var declared []*pending[bool]
		for i := range n {
			declared = append(declared, h.declare(fmt.Sprintf("q%03d", i), nil))
		}
		for _, d := range declared {
			d.must()
		}
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("q%03d", i))
		}
		h.outcome(engine.Stored, "", message("everywhere"), all...)
		if got := len(h.all()); got != n {
			h.Fatalf("%d queues, want %d", got, n)
		}
		c := h.session()
		for _, name := range all {
			c.ack(c.fetch(name))
		}
	}},
}
