package enginetest

import (
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func (h *harness) change(queue string, o sealmq.QueueOptions) *pending[nothing] {
	h.Helper()
	c, ok := h.engine.(engine.Changer)
	if !ok {
		h.Skip("the engine is no Changer")
	}
	return begin(h, "change "+queue, plain(func(done func(error)) { c.ChangeQueue(queue, o, done) }))
}

// optionsAre checks the options of a queue, its owner among them.
func (h *harness) optionsAre(queue string, want sealmq.QueueOptions) {
	h.Helper()
	if diff := cmp.Diff(want.Normalize(), h.info(queue).Options); diff != "" {
		h.Errorf("options of %s (-want +got):\n%s", queue, diff)
	}
}

var alice = sealmq.Owner{ID: "alice", Issuer: "an authority"}

var changeChecks = []check{
	{name: "all options but the owner", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1, TTL: time.Hour, Owner: alice})
		h.queue("other", sealmq.QueueOptions{MaxMessages: 1})
		o := sealmq.QueueOptions{MaxBytes: 5000, DeliveryLimit: 2, AckTimeout: time.Minute, Prefetch: 3, MaxLineBytes: 2048,
			DropOldest: true, Sealed: "a,b", Private: true, Owner: sealmq.Owner{ID: "somebody else"}}
		h.change("q", o).must()
		o.Owner = alice
		h.optionsAre("q", o)
		h.optionsAre("other", sealmq.QueueOptions{MaxMessages: 1})
		if h.declare("q", &sealmq.QueueOptions{}); h.info("q").Options.Prefetch != 3 {
			h.Error("a declaration with other options has changed them")
		}
		h.change("q", sealmq.QueueOptions{}).must()
		h.optionsAre("q", sealmq.QueueOptions{Owner: alice})
	}},
	{name: "refusals are immediate and change nothing", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 2})
		for _, refused := range []struct {
			queue string
			o     sealmq.QueueOptions
			code  sealmq.Code
		}{
			{"none", sealmq.QueueOptions{}, sealmq.NoQueue},
			{"q", sealmq.QueueOptions{MaxMessages: -1}, sealmq.BadArgument},
		} {
			p := h.change(refused.queue, refused.o)
			if !p.answered() {
				h.Errorf("the change of %s has returned and was not answered", refused.queue)
			}
			p.fails(refused.code)
		}
		h.optionsAre("q", sealmq.QueueOptions{MaxMessages: 2})
	}},
	{name: "what waits stays beyond a limit", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b", "c")
		h.change("q", sealmq.QueueOptions{MaxMessages: 1}).must()
		h.holds("q", 3, 0)
		h.outcome(engine.Refused, sealmq.QueueFull, message("d"), "q")
		c := h.consumer("q", 0)
		c.ack(c.gets("a", "b", "c")...)
		h.outcome(engine.Stored, "", message("d"), "q")
		h.outcome(engine.Refused, sealmq.QueueFull, message("e"), "q")
		h.change("q", sealmq.QueueOptions{MaxMessages: 2}).must()
		h.outcome(engine.Stored, "", message("e"), "q")
	}},
	{name: "a TTL ends what waits", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		h.clock.Advance(time.Minute)
		h.put("q", "b")
		h.change("q", sealmq.QueueOptions{TTL: 30 * time.Second}).must()
		h.clock.Advance(time.Second) // an engine may be a little late
		h.eventually("the old message expires", func() bool { return h.info("q").Expired == 1 })
		h.clock.Advance(20 * time.Second)
		h.change("q", sealmq.QueueOptions{}).must()
		h.clock.Advance(time.Hour)
		h.consumer("q", 0).gets("b")
	}},
	{name: "a delivery limit holds from the next return", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{DeliveryLimit: 9}, "a")
		c := h.consumer("q", 0)
		c.nack(c.gets("a")...)
		c.nack(c.gets("a")...)
		h.change("q", sealmq.QueueOptions{DeliveryLimit: 3}).must()
		c.nack(c.gets("a")...)
		h.holds("q.dead", 1, 0)
	}},
	{name: "a prefetch holds for later subscriptions", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.change("q", sealmq.QueueOptions{Prefetch: 2}).must()
		h.put("q", ids("m", 5)...)
		c := h.session()
		c.subscribed("q", engine.ConsumeOptions{Prefetch: engine.QueuesOwn})
		if list := c.take(2); len(list) != 2 {
			h.Errorf("took %s, want 2", described(list))
		}
		c.getsNothing()
	}},
	{name: "a paused queue stays paused", needs: pauses, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.pause("q", true).must()
		h.change("q", sealmq.QueueOptions{MaxMessages: 5}).must()
		if !h.info("q").Paused {
			h.Error("the change has resumed it")
		}
		h.pause("q", false).must()
		h.optionsAre("q", sealmq.QueueOptions{MaxMessages: 5})
	}},
	{name: "what is peeked can be stored in another queue too", needs: canPeek, run: func(h *harness) {
		h.queue("from", sealmq.QueueOptions{})
		h.queue("to", sealmq.QueueOptions{MaxMessages: 2})
		h.put("from", "a", "b", "c")
		var batch []engine.Publish
		for _, d := range h.peek("from", 3) {
			batch = append(batch, engine.Publish{Message: d.Message, Queues: []string{"to"}, Repeat: engine.Never})
		}
		results := h.publish(batch...).must()
		if results[0].Err != nil || results[1].Err != nil || sealmq.CodeOf(results[2].Err) != sealmq.QueueFull {
			h.Errorf("results %+v, want two that are stored and a full queue", results)
		}
		h.holds("from", 3, 0)
		c := h.consumer("to", 0)
		list := c.gets("a", "b")
		h.content(list[0], message("a"))
		c.ack(list...)
		h.outcome(engine.Repeated, "", message("a"), "from")
		h.consumer("from", 0).gets("a", "b", "c")
	}},
}

var changeRestartChecks = []restartCheck{
	{name: "a change outlives a restart", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1, Owner: alice}, "a")
		for limit := int64(2); limit < 4; limit++ {
			o := sealmq.QueueOptions{MaxMessages: limit, DropOldest: true, Private: true}
			h.change("q", o).must()
			restart()
			o.Owner = alice
			h.optionsAre("q", o)
		}
		h.put("q", "b", "c", "d")
		h.consumer("q", 0).gets("b", "c", "d")
	}},
}
