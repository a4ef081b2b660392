package enginetest

import (
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// changed are messages with the id of m and other content.
func changed(m sealmq.Message) map[string]sealmq.Message {
	body, exchange, key, empty := m, m, m, m
	body.Body = []byte("other")
	exchange.Exchange = "y"
	key.Key = "l"
	empty.Body = nil
	return map[string]sealmq.Message{"body": body, "exchange": exchange, "key": key, "empty body": empty}
}

var dedupChecks = []check{
	{name: "repeat and conflict", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		again := message("a")
		again.Publisher = "publisher-2"
		again.Published = start.Add(time.Hour)
		again.Properties = []byte("other")
		h.outcome(engine.Repeated, "", again, "q")
		for name, m := range changed(message("a")) {
			if r := h.one(m, "q"); r.Outcome != engine.Conflict || sealmq.CodeOf(r.Err) != sealmq.Duplicate {
				h.Errorf("other %s: outcome %d, error %v", name, r.Outcome, r.Err)
			}
		}
		h.outcome(engine.Repeated, "", message("a"), "q")
		c := h.consumer("q", 0)
		h.content(c.gets("a")[0], message("a"))
		c.getsNothing()
	}},
	{name: "where exchange and key end matters", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		m := message("a")
		m.Exchange, m.Key, m.Body = "ab", "c", []byte("d")
		h.outcome(engine.Stored, "", m, "q")
		m.Exchange, m.Key, m.Body = "a", "bc", []byte("d")
		h.outcome(engine.Conflict, sealmq.Duplicate, m, "q")
		m.Exchange, m.Key, m.Body = "ab", "cd", nil
		h.outcome(engine.Conflict, sealmq.Duplicate, m, "q")
	}},
	{name: "a message without an id is never a repeat", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		for range 3 {
			h.outcome(engine.Stored, "", message(""), "q")
		}
		h.holds("q", 3, 0)
	}},
	{name: "a repeat is not stored anywhere", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("other", sealmq.QueueOptions{})
		h.put("q", "a")
		h.outcome(engine.Repeated, "", message("a"), "q", "other")
		h.outcome(engine.Repeated, "", message("a"), "other")
		h.settled()
		h.holds("other", 0, 0)
	}},
	{name: "a repeat is no matter of limits", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1}, "a")
		h.outcome(engine.Repeated, "", message("a"), "q")
		is(h, h.info("q").Refused, 0, "%d counted as refused")
	}},
	{name: "a refused publish is not remembered", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1}, "a")
		h.outcome(engine.Refused, sealmq.QueueFull, message("b"), "q")
		h.stops(0, engine.Publish{Message: message("b"), Queues: []string{"none"}})
		h.outcome(engine.Unrouted, sealmq.Unroutable, message("b"))
		c := h.consumer("q", 0)
		c.ack(c.gets("a")...)
		other := message("b")
		other.Body = []byte("other")
		h.outcome(engine.Stored, "", other, "q")
		h.outcome(engine.Conflict, sealmq.Duplicate, message("b"), "q")
	}},
	{name: "a message may be published again on purpose", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		again := engine.Publish{Message: message("a"), Queues: []string{"q"}, Repeat: engine.Never}
		publish := func() {
			h.stored(h.publish(again))
		}
		publish()
		publish()
		h.put("q", "a") // the id is not known yet
		publish()
		h.outcome(engine.Repeated, "", message("a"), "q")
		h.reopen()
		publish()
		h.outcome(engine.Repeated, "", message("a"), "q")
		c := h.consumer("q", 0)
		c.ack(c.gets("a", "a", "a", "a", "a")...)
		publish()
		h.outcome(engine.Repeated, "", message("a"), "q")
		c.gets("a")
	}},
	{name: "an id outlives its message", run: func(h *harness) {
		h.queue("acked", sealmq.QueueOptions{})
		h.queue("purged", sealmq.QueueOptions{})
		h.queue("deleted", sealmq.QueueOptions{})
		h.queue("stays", sealmq.QueueOptions{})
		for _, q := range []string{"acked", "purged", "deleted"} {
			h.put(q, q)
		}
		c := h.consumer("acked", 0)
		c.ack(c.gets("acked")...)
		h.purge("purged").must()
		h.remove("deleted").must()
		for _, id := range []string{"acked", "purged", "deleted"} {
			h.outcome(engine.Repeated, "", message(id), "stays")
		}
		h.holds("stays", 0, 0)
	}},
	{name: "an id is forgotten after its window", config: window(10 * time.Minute), run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		c.ack(c.gets("a")...)
		h.clock.Advance(5 * time.Minute)
		h.outcome(engine.Repeated, "", message("a"), "q")
		h.clock.Advance(30 * time.Minute)
		h.eventually("the id is forgotten", func() bool { return h.one(message("a"), "q").Outcome == engine.Stored })
		c.gets("a")
	}},
	{name: "an id is kept while a copy waits or is unacked", config: window(10 * time.Minute), run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{AckTimeout: 24 * time.Hour})
		h.queue("r", sealmq.QueueOptions{AckTimeout: 24 * time.Hour})
		h.outcome(engine.Stored, "", message("a"), "q", "r")
		h.clock.Advance(2 * time.Hour)
		h.outcome(engine.Repeated, "", message("a"), "q")
		q, r := h.consumer("q", 0), h.consumer("r", 0)
		q.ack(q.gets("a")...)
		held := r.gets("a")
		h.clock.Advance(2 * time.Hour)
		h.outcome(engine.Repeated, "", message("a"), "q")
		r.dead(held...)
		h.clock.Advance(2 * time.Hour)
		h.outcome(engine.Repeated, "", message("a"), "q")
		dead := h.consumer("r.dead", 0)
		dead.ack(dead.gets("a")...)
		h.clock.Advance(5 * time.Minute)
		h.outcome(engine.Repeated, "", message("a"), "q")
		h.clock.Advance(time.Hour)
		h.eventually("the id is forgotten", func() bool { return h.one(message("a"), "q").Outcome == engine.Stored })
	}},
	{name: "remembered ids are bounded in number", config: func(c *Config) { c.DedupMaxIDs = 100 }, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("waits", sealmq.QueueOptions{}, "waiting")
		c := h.consumer("q", 100)
		all := ids("m", 1000)
		for i := 0; i < len(all); i += 50 {
			h.put("q", all[i:i+50]...)
			c.ack(c.take(50)...)
		}
		h.outcome(engine.Repeated, "", message("waiting"), "q")
		h.outcome(engine.Repeated, "", message(all[len(all)-1]), "q")
		h.outcome(engine.Stored, "", message(all[0]), "q")
	}},
	{name: "a repeat of what is not answered yet", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		var calls []*pending[[]engine.PublishResult]
		for range 10 {
			calls = append(calls, h.publish(engine.Publish{Message: message("a"), Queues: []string{"q"}}))
		}
		for i, c := range calls {
			want := engine.Repeated
			if i == 0 {
				want = engine.Stored
			}
			if r := c.must()[0]; r.Outcome != want {
				h.Errorf("call %d: outcome %d, want %d", i, r.Outcome, want)
			}
		}
		h.holds("q", 1, 0)
	}},
}

// digestChecks need a restart in between: what is remembered of a digest is the same
// before and after.
var digestChecks = []restartCheck{
	{name: "a digest stands for the content", needs: longDedup, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		long := strings.Repeat("d", sealmq.MaxDigestBytes)
		sure := func(want engine.Outcome, m sealmq.Message, digest string) {
			h.Helper()
			if r := h.digested(m, digest, "q"); r.Outcome != want {
				h.Errorf("%s with digest %q: outcome %d with error %v, want %d", m.ID, digest, r.Outcome, r.Err, want)
			}
		}
		sure(engine.Stored, message("a"), "digest")
		sure(engine.Stored, message("long"), long)
		h.put("q", "plain")
		sure(engine.Stored, message("acked"), "digest") // other ids may have the same
		c := h.consumer("q", 0)
		c.ack(c.gets("a", "long", "plain", "acked")[3])
		for range 3 {
			for _, id := range []string{"a", "acked"} {
				for _, m := range changed(message(id)) {
					sure(engine.Repeated, m, "digest")
				}
				sure(engine.Repeated, message(id), "digest")
				sure(engine.Conflict, message(id), "other")
				sure(engine.Conflict, message(id), "")
				sure(engine.Conflict, message(id), "digest\x00")
			}
			sure(engine.Repeated, message("long"), long)
			sure(engine.Conflict, message("long"), long[1:])
			plain := message("plain")
			sure(engine.Repeated, plain, "")
			for _, d := range []string{string(plain.Body), plain.ID, plain.Exchange, plain.Key, "\x01x\x01k\x05plain"} {
				sure(engine.Conflict, plain, d)
			}
			restart()
		}
		h.holds("q", 3, 0)
	}},
}

var digestLimitChecks = []check{
	{name: "a digest that is too long is refused", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		long := strings.Repeat("d", sealmq.MaxDigestBytes+1)
		if r := h.digested(message("a"), long, "q"); r.Outcome != engine.Refused || sealmq.CodeOf(r.Err) != sealmq.BadArgument {
			h.Errorf("outcome %d, error %v", r.Outcome, r.Err)
		}
		h.put("q", "a")
	}},
	{name: "a digest without an id means nothing", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		for range 2 {
			if r := h.digested(message(""), "digest", "q"); r.Outcome != engine.Stored {
				h.Errorf("outcome %d, error %v", r.Outcome, r.Err)
			}
		}
		h.holds("q", 2, 0)
	}},
}

func window(d time.Duration) func(*Config) { return func(c *Config) { c.DedupWindow = d } }

func longDedup(a engine.Abilities) bool { return a.LongDedup }

var dedupRestartChecks = []restartCheck{
	{name: "ids of one scope do not touch those of another", needs: longDedup, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("r", sealmq.QueueOptions{})
		send := func(want engine.Outcome, scope, body string) {
			h.Helper()
			m := message("a")
			m.Body = []byte(body)
			if r := h.publish(engine.Publish{Message: m, Queues: []string{"q"}, Scope: scope}).must()[0]; r.Outcome != want {
				h.Errorf("%s's %q: outcome %d with error %v, want %d", scope, body, r.Outcome, r.Err, want)
			}
		}
		send(engine.Stored, "alice", "hers")
		send(engine.Stored, "bob", "his")
		send(engine.Stored, "carol", "hers")
		send(engine.Stored, "", "everybody's")
		c := h.consumer("q", 0)
		list := c.take(4)
		c.ack(list[1])
		c.dead(list[2])
		c.nack(list[0], list[3])
		for range 2 {
			restart()
			send(engine.Repeated, "alice", "hers")
			send(engine.Conflict, "alice", "his")
			send(engine.Repeated, "bob", "his")
			send(engine.Conflict, "bob", "everybody's")
			send(engine.Repeated, "carol", "hers")
			send(engine.Repeated, "dave", "everybody's")
			send(engine.Conflict, "dave", "his own")
			send(engine.Conflict, "", "hers")
		}
		is(h, h.moveIDs("q", "r", "a").must(), 2, "moved %d with this id")
	}},
	{name: "an id is remembered", needs: longDedup, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("r", sealmq.QueueOptions{MaxMessages: 1})
		h.put("q", "waiting", "held", "acked")
		h.put("r", "purged")
		c := h.consumer("q", 0)
		list := c.gets("waiting", "held", "acked")
		c.ack(list[2])
		c.nack(list[0])
		h.purge("r").must()
		for range 2 {
			restart()
			for _, id := range []string{"waiting", "held", "acked", "purged"} {
				h.outcome(engine.Repeated, "", message(id), "q")
				for name, m := range changed(message(id)) {
					if r := h.one(m, "q"); r.Outcome != engine.Conflict {
						h.Errorf("%s with other %s: outcome %d, error %v", id, name, r.Outcome, r.Err)
					}
				}
			}
		}
		h.holds("q", 2, 0)
		h.holds("r", 0, 0)
	}},
	{name: "a refused publish is not remembered", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1}, "a")
		h.outcome(engine.Refused, sealmq.QueueFull, message("b"), "q")
		restart()
		c := h.consumer("q", 0)
		c.ack(c.gets("a")...)
		h.outcome(engine.Stored, "", message("b"), "q")
	}},
	{name: "the window goes on", config: window(10 * time.Minute), needs: longDedup, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 0)
		c.ack(c.gets("a", "b")[0])
		restart()
		h.clock.Advance(5 * time.Minute)
		h.outcome(engine.Repeated, "", message("a"), "q")
		h.clock.Advance(time.Hour)
		h.eventually("the id is forgotten", func() bool { return h.one(message("a"), "q").Outcome == engine.Stored })
		h.outcome(engine.Repeated, "", message("b"), "q")
		restart()
		h.outcome(engine.Repeated, "", message("b"), "q")
	}},
}
