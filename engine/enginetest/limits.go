package enginetest

import (
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// sized is a message with a body of n bytes.
func sized(id string, n int) sealmq.Message {
	m := message(id)
	m.Body = make([]byte, n)
	return m
}

var limitChecks = []check{
	{name: "max_messages", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 3}, "a", "b", "c")
		r := h.outcome(engine.Refused, sealmq.QueueFull, message("d"), "q")
		if r.Queue != "q" {
			h.Errorf("queue %q is said to have refused", r.Queue)
		}
		c := h.consumer("q", 0)
		list := c.gets("a", "b", "c")
		h.outcome(engine.Refused, sealmq.QueueFull, message("d"), "q")
		c.ack(list[0])
		h.outcome(engine.Stored, "", message("d"), "q")
		h.outcome(engine.Refused, sealmq.QueueFull, message("e"), "q")
		is(h, h.info("q").Refused, 3, "%d counted as refused")
	}},
	{name: "max_messages counts what is not synced", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 3})
		var calls []*pending[[]engine.PublishResult]
		for _, id := range ids("m", 6) {
			calls = append(calls, h.publish(engine.Publish{Message: message(id), Queues: []string{"q"}}))
		}
		stored := 0
		for _, c := range calls {
			if c.must()[0].Outcome == engine.Stored {
				stored++
			}
		}
		if stored != 3 {
			h.Errorf("%d stored, want 3", stored)
		}
		h.holds("q", 3, 0)
	}},
	{name: "max_bytes", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxBytes: 1000})
		h.outcome(engine.Refused, sealmq.QueueFull, sized("too large for it", 1001), "q")
		h.outcome(engine.Stored, "", sized("a", 600), "q")
		h.outcome(engine.Refused, sealmq.QueueFull, sized("b", 401), "q")
		h.outcome(engine.Stored, "", sized("c", 400), "q")
		h.outcome(engine.Refused, sealmq.QueueFull, sized("d", 1), "q")
		h.outcome(engine.Stored, "", sized("e", 0), "q")
		is(h, h.info("q").Bytes, 1000, "%d bytes described")
		c := h.consumer("q", 0)
		list := c.gets("a", "c", "e")
		h.outcome(engine.Refused, sealmq.QueueFull, sized("b", 401), "q")
		c.ack(list[0])
		h.outcome(engine.Stored, "", sized("b", 600), "q")
	}},
	{name: "max_line_bytes", run: func(h *harness) {
		const id = "0123456789"
		room := sealmq.DefaultMaxLineBytes - sealmq.PushOverheadBytes - len(id)
		h.queue("q", sealmq.QueueOptions{})
		r := h.outcome(engine.Refused, sealmq.TooLarge, sized(id, room+1), "q")
		if r.Queue != "q" {
			h.Errorf("queue %q is said to have refused", r.Queue)
		}
		h.outcome(engine.Stored, "", sized(id, room), "q")
		h.queue("small", sealmq.QueueOptions{MaxLineBytes: 1024})
		h.queue("large", sealmq.QueueOptions{MaxLineBytes: sealmq.MaxLineBytes})
		h.outcome(engine.Refused, sealmq.TooLarge, sized("m", 1024), "large", "small")
		largest := sealmq.MaxLineBytes - sealmq.PushOverheadBytes - 1
		h.outcome(engine.Refused, sealmq.TooLarge, sized("m", largest+1), "large")
		h.outcome(engine.Stored, "", sized("m", largest), "large")
		if d := h.consumer("large", 0).gets("m"); len(d[0].Body) != largest {
			h.Errorf("%d bytes delivered, want %d", len(d[0].Body), largest)
		}
		h.holds("small", 0, 0)
	}},
	{name: "drop_oldest by number", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 3, DropOldest: true})
		all := ids("m", 7)
		for _, id := range all {
			h.put("q", id)
		}
		h.holds("q", 3, 0)
		is(h, h.info("q").Dropped, 4, "%d counted as dropped")
		h.consumer("q", 0).gets(all[4:]...)
	}},
	{name: "drop_oldest by size", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxBytes: 1000, DropOldest: true})
		h.outcome(engine.Stored, "", sized("a", 300), "q")
		h.outcome(engine.Stored, "", sized("b", 300), "q")
		h.outcome(engine.Stored, "", sized("c", 300), "q")
		h.outcome(engine.Stored, "", sized("d", 500), "q")
		h.outcome(engine.Refused, sealmq.QueueFull, sized("e", 1001), "q")
		h.consumer("q", 0).gets("c", "d")
	}},
	{name: "drop_oldest spares what is in hand", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 2, DropOldest: true}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		h.put("q", "c")
		h.holds("q", 1, 1)
		c2 := h.consumer("q", 1)
		cc := c2.gets("c")
		h.outcome(engine.Refused, sealmq.QueueFull, message("d"), "q")
		c.ack(a...)
		h.put("q", "d")
		c2.ack(cc...)
		c2.gets("d")
	}},
	{name: "a refusal elsewhere drops nothing", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 1, DropOldest: true})
		h.queue("full", sealmq.QueueOptions{MaxMessages: 1})
		h.put("q", "a")
		h.put("full", "b")
		h.outcome(engine.Refused, sealmq.QueueFull, message("c"), "q", "full")
		h.consumer("q", 0).gets("a")
	}},
	{name: "queues of copies refuse nothing", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("full", sealmq.QueueOptions{MaxMessages: 1, DropOldest: true})
		h.queue("room", sealmq.QueueOptions{})
		c := h.consumer("full", 1)
		for _, id := range []string{"a", "b"} {
			copied := engine.Publish{Message: message(id), Queues: []string{"q"}, Copies: []string{"full", "none", "room"}}
			h.stored(h.publish(copied))
			if id == "a" {
				c.gets("a") // and holds it
			}
		}
		h.holds("q", 2, 0)
		h.holds("full", 0, 1)
		h.holds("room", 2, 0)
	}},
	{name: "what comes back is never refused", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 2}, "a", "b")
		c := h.consumer("q", 0)
		c.take(2)
		c.close()
		h.holds("q", 2, 0)
	}},
}
