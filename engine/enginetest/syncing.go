package enginetest

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// syncChecks need an opener that holds syncs back.
var syncChecks = []check{
	{name: "nothing is answered before its sync", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		release := h.hold()
		defer release()
		published := h.publish(engine.Publish{Message: message("c"), Queues: []string{"q"}})
		repeated := h.publish(engine.Publish{Message: message("c"), Queues: []string{"q"}})
		acked := c.settle(engine.Settlement{Tag: a[0].Tag, Verdict: engine.Ack})
		defined := h.define(definition("k", "v"))
		declared := h.declare("new", nil)
		again := h.declare("new", nil)
		purged := h.purge("new")
		h.unanswered(published.answered, repeated.answered, acked.answered, defined.answered,
			declared.answered, again.answered, purged.answered)
		release()
		h.stored(published)
		if r := repeated.must()[0]; r.Outcome != engine.Repeated {
			h.Errorf("repeat: outcome %d, error %v", r.Outcome, r.Err)
		}
		acked.must()
		defined.must()
		declared.must()
		again.must()
		purged.must()
		h.holds("q", 2, 0)
	}},
	{name: "a refusal does not wait for a sync", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		release := h.hold()
		defer release()
		h.publish(engine.Publish{Message: message("b"), Queues: []string{"q"}})
		refused := map[sealmq.Code]interface {
			answered() bool
		}{
			sealmq.Mismatch: h.declare("q", &sealmq.QueueOptions{MaxMessages: 1}),
			sealmq.NoQueue:  h.remove("none"),
			sealmq.InUse:    h.removeIf("q", engine.IfEmpty),
		}
		for code, call := range refused {
			if !call.answered() {
				h.Errorf("what is refused with code %s waits for a sync", code)
			}
		}
	}},
	{name: "an empty batch of definitions waits for what was called before", run: func(h *harness) {
		release := h.hold()
		defer release()
		declared, defined := h.declare("q", nil), h.define()
		h.unanswered(declared.answered, defined.answered)
		release()
		declared.must()
		defined.must()
	}},
	{name: "nothing is delivered before its sync", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		c := h.consumer("q", 0)
		release := h.hold()
		defer release()
		p := h.publish(engine.Publish{Message: message("a"), Queues: []string{"q"}})
		for range 20 {
			if list := c.now(); len(list) > 0 {
				h.Fatalf("took %s", described(list))
			}
			h.moment()
		}
		release()
		p.must()
		c.gets("a")
	}},
	{name: "a fetch finds what was published before", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("empty", sealmq.QueueOptions{})
		h.put("q", "old")
		c := h.session()
		release := h.hold()
		defer release()
		p := h.publish(engine.Publish{Message: message("new"), Queues: []string{"q"}})
		if d := c.fetch("q"); d.ID != "old" {
			h.Errorf("fetched %s, want what waits and is synced", d.ID)
		}
		if f := c.fetchAny("empty").must(); f.Found {
			h.Errorf("fetched %s", f.Delivery.ID)
		}
		fetched := c.fetchAny("q")
		h.unanswered(fetched.answered)
		release()
		p.must()
		if f := fetched.must(); f.Delivery.ID != "new" {
			h.Errorf("fetched %+v, want what was published before", f)
		}
		c.fetchAny("none").fails(sealmq.NoQueue)
	}},
	{name: "purge removes what is not synced yet", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		c.gets("a")
		release := h.hold()
		defer release()
		p := h.publish(engine.Publish{Message: message("c"), Queues: []string{"q"}})
		purged := h.purge("q")
		after := h.publish(engine.Publish{Message: message("d"), Queues: []string{"q"}})
		h.unanswered(p.answered, purged.answered)
		release()
		for _, one := range []*pending[[]engine.PublishResult]{p, after} {
			h.stored(one)
		}
		is(h, purged.must(), 2, "removed %d messages")
		h.holds("q", 1, 1)
		h.reopen()
		h.consumer("q", 0).gets("a", "d")
	}},
	{name: "delete removes what is not synced yet", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		release := h.hold()
		defer release()
		p := h.publish(engine.Publish{Message: message("b"), Queues: []string{"q"}})
		refused := h.removeIf("q", engine.IfEmpty)
		removed := h.remove("q")
		h.unanswered(p.answered, removed.answered)
		release()
		refused.fails(sealmq.InUse)
		h.stored(p)
		is(h, removed.must(), 2, "removed %d messages")
		h.queue("q", sealmq.QueueOptions{})
		h.reopen()
		h.holds("q", 0, 0)
	}},
	{name: "what is synced is delivered while a sync hangs", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, ids("m", 4)...)
		c := h.consumer("q", 2)
		release := h.hold()
		defer release()
		p := h.publish(engine.Publish{Message: message("new"), Queues: []string{"q"}})
		list := c.gets("m-0000", "m-0001")
		acked := c.settle(engine.Settlement{Tag: list[0].Tag, Verdict: engine.Ack},
			engine.Settlement{Tag: list[1].Tag, Verdict: engine.Ack})
		c.gets("m-0002", "m-0003")
		release()
		p.must()
		acked.must()
	}},
	{name: "a crash loses nothing that was answered", run: func(h *harness) {
		crasher, ok := h.opener.(Crasher)
		if !ok {
			h.Skip("the opener is no Crasher")
		}
		h.queue("q", sealmq.QueueOptions{}, "a", "b")
		c := h.consumer("q", 1)
		a := c.gets("a")
		c.ack(a...)
		h.define(definition("k", "v")).must()
		h.hold()
		published := h.publish(engine.Publish{Message: message("c"), Queues: []string{"q"}})
		repeated := h.publish(engine.Publish{Message: message("c"), Queues: []string{"q"}})
		defined := h.define(definition("l", "w"))
		acked := c.settle(engine.Settlement{Tag: c.gets("b")[0].Tag, Verdict: engine.Ack})
		crasher.Crash(h)
		for _, p := range []*pending[[]engine.PublishResult]{published, repeated} {
			if r := p.must()[0]; r.Outcome != engine.Refused || sealmq.CodeOf(r.Err) != sealmq.Unavailable {
				h.Errorf("publish: outcome %d, error %v", r.Outcome, r.Err)
			}
		}
		defined.fails(sealmq.Unavailable)
		acked.fails(sealmq.Unavailable)
		h.open()
		if got := h.engine.Definitions(); len(got) == 0 || string(got[0].Value) != "v" {
			h.Errorf("definitions %q", got)
		}
		// What was not answered may have been stored or not, but never by half and never twice.
		r := h.one(message("c"), "q")
		if r.Outcome != engine.Stored && r.Outcome != engine.Repeated {
			h.Errorf("publish again: outcome %d, error %v", r.Outcome, r.Err)
		}
		list := h.consumer("q", 0).take(h.info("q").Ready)
		switch {
		case len(list) == 2 && list[0].ID == "b" && list[1].ID == "c":
		case len(list) == 1 && list[0].ID == "c":
		default:
			h.Errorf("after the crash %s", described(list))
		}
	}},
	{name: "close waits for what hangs", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		release := h.hold()
		p := h.publish(engine.Publish{Message: message("a"), Queues: []string{"q"}})
		closed := make(chan error, 1)
		go func() { closed <- h.engine.Close() }()
		h.unanswered(p.answered, func() bool { return len(closed) > 0 })
		release()
		if err := <-closed; err != nil {
			h.Errorf("close: %v", err)
		}
		h.stored(p)
		h.open()
		h.consumer("q", 0).gets("a")
	}},
}

// hold keeps syncs from completing. The function it returns may be called twice.
func (h *harness) hold() (release func()) {
	h.Helper()
	holder, ok := h.opener.(Holder)
	if !ok {
		h.Skip("the opener is no Holder")
	}
	return sync.OnceFunc(holder.Hold(h))
}

// moment gives an engine that does something too early the time to do it.
func (h *harness) moment() { <-time.After(time.Millisecond) }

// unanswered checks that none of the calls is answered, now and a little later.
func (h *harness) unanswered(answered ...func() bool) {
	h.Helper()
	for range 20 {
		for i, f := range answered {
			if f() {
				h.Fatalf("call %d was answered before its sync", i+1)
			}
		}
		h.moment()
	}
}
