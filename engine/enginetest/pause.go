package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func (h *harness) pause(queue string, paused bool) *pending[nothing] {
	return begin(h, "pause "+queue, plain(func(done func(error)) { h.engine.(engine.Pauser).PauseQueue(queue, paused, done) }))
}

func pauses(a engine.Abilities) bool { return a.Pause }

var pauseChecks = []check{
	{name: "a paused queue delivers nothing and takes everything", needs: pauses, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("other", sealmq.QueueOptions{})
		c := h.consumer("q", 10)
		other := c.subscribed("other", engine.ConsumeOptions{Prefetch: 3})
		h.put("q", "a", "b")
		list := c.gets("a", "b")
		h.pause("q", true).must()
		if !h.info("q").Paused || h.info("other").Paused {
			h.Error("the descriptions do not say which queue is paused")
		}
		h.put("q", "c")
		c.nack(list[1])
		c.ack(list[0])
		h.holds("q", 2, 0)
		c.getsNothing()
		h.put("other", "d")
		c.ack(c.gets("d")...)
		late := h.consumer("q", 10)
		late.getsNothing()
		if f := late.fetchAny("q").must(); f.Found || f.Waiting != 2 {
			h.Errorf("a fetch of a paused queue: %+v", f)
		}
		late.close()
		c.Session.SetPrefetch(other, 5)
		c.Session.SetCredit(100)
		c.getsNothing()
		h.pause("q", false).must()
		if h.info("q").Paused {
			h.Error("still described as paused")
		}
		c.ack(c.take(2)...)
		h.holds("q", 0, 0)
	}},
	{name: "resuming wakes all consumers", needs: pauses, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.pause("q", true).must()
		h.put("q", "a", "b", "c")
		one, two := h.consumer("q", 2), h.consumer("q", 1)
		one.awakes("resuming", func() { h.pause("q", false).must() })
		got := append(one.take(2), two.take(1)...)
		if len(got) != 3 {
			h.Errorf("%d messages were delivered, want 3", len(got))
		}
	}},
	{name: "pausing what is there already", needs: pauses, run: func(h *harness) {
		h.pause("none", true).fails(sealmq.NoQueue)
		h.queue("q", sealmq.QueueOptions{}, "a")
		h.pause("q", false).must()
		h.pause("q", true).must()
		h.pause("q", true).must()
		h.purge("q").must()
		h.holds("q", 0, 0)
		h.remove("q").must()
		h.queue("q", sealmq.QueueOptions{})
		if h.info("q").Paused {
			h.Error("a new queue of the name is paused")
		}
	}},
	{name: "times go on in a paused queue", needs: pauses, run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{TTL: time.Minute}, "a")
		h.pause("q", true).must()
		h.clock.Advance(2 * time.Minute)
		h.eventually("the message expires", func() bool { return h.info("q").Expired == 1 })
	}},
}

var pauseRestartChecks = []restartCheck{
	{name: "a pause outlives a restart", needs: pauses, run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 5})
		h.queue("p", sealmq.QueueOptions{})
		h.put("q", "a")
		h.put("p", "b")
		for _, paused := range []bool{true, false} {
			h.pause("q", paused).must()
			h.pause("p", !paused).must()
			restart()
			if h.info("q").Paused != paused || h.info("p").Paused == paused || h.info("q").Options.MaxMessages != 5 {
				h.Errorf("paused %t before the restart, and after it: %+v and %+v", paused, h.info("q"), h.info("p"))
			}
		}
		c := h.consumer("p", 0)
		c.getsNothing()
		h.consumer("q", 0).gets("a")
	}},
}
