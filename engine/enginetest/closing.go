package enginetest

import (
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var closeChecks = []check{
	{name: "everything accepted is answered", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "first")
		c := h.consumer("q", 0)
		first := c.gets("first")
		var published []*pending[[]engine.PublishResult]
		for _, id := range ids("m", 50) {
			published = append(published, h.publish(engine.Publish{Message: message(id), Queues: []string{"q"}}))
		}
		acked := c.settle(engine.Settlement{Tag: first[0].Tag, Verdict: engine.Ack})
		defined := h.define(definition("k", "v"))
		declared := h.declare("r", nil)
		if err := h.engine.Close(); err != nil {
			h.Fatalf("close: %v", err)
		}
		for _, p := range published {
			if !p.answered() {
				h.Fatal("a publish was not answered when Close returned")
			}
			h.stored(p)
		}
		acked.must()
		defined.must()
		declared.must()
		h.open()
		h.holds("q", 50, 0)
		h.info("r")
		h.definitions(definition("k", "v"))
	}},
	{name: "closed means closed", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		c := h.consumer("q", 0)
		a := c.gets("a")
		for range 2 {
			if err := h.engine.Close(); err != nil {
				h.Errorf("close: %v", err)
			}
		}
		if r := h.publish(engine.Publish{Message: message("b"), Queues: []string{"q"}}).must()[0]; r.Outcome != engine.Refused ||
			sealmq.CodeOf(r.Err) != sealmq.Unavailable {
			h.Errorf("publish: outcome %d, error %v", r.Outcome, r.Err)
		}
		h.declare("r", nil).fails(sealmq.Unavailable)
		h.remove("q").fails(sealmq.Unavailable)
		h.purge("q").fails(sealmq.Unavailable)
		h.define(definition("k", "v")).fails(sealmq.Unavailable)
		c.settle(engine.Settlement{Tag: a[0].Tag, Verdict: engine.Ack}).fails(sealmq.Unavailable)
		c.consume("q", 0).fails(sealmq.Unavailable)
		if list, _ := c.Take(nil, everything, everything); len(list) > 0 {
			h.Errorf("took %s", described(list))
		}
		c.fetchAny("q").fails(sealmq.Unavailable)
		c.cancel(c.sub).fails(sealmq.Unavailable)
		c.Session.Close(true)
		if sealmq.CodeOf(h.engine.Health()) != sealmq.Unavailable {
			h.Errorf("health %v", h.engine.Health())
		}
		h.open()
		h.holds("q", 1, 0)
	}},
	{name: "close in the middle of work", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		const publishers, each = 4, 50
		var wg sync.WaitGroup
		var mu sync.Mutex
		stored := make(map[string]bool)
		answers := 0
		for p := range publishers {
			wg.Go(func() {
				for i := range each {
					m := message(ids(string(rune('a'+p)), each)[i])
					h.engine.Publish([]engine.Publish{{Message: m, Queues: []string{"q"}}}, func(results []engine.PublishResult) {
						mu.Lock()
						defer mu.Unlock()
						answers++
						if results[0].Outcome == engine.Stored {
							stored[m.ID] = true
						} else if sealmq.CodeOf(results[0].Err) != sealmq.Unavailable {
							h.Errorf("%s: outcome %d, error %v", m.ID, results[0].Outcome, results[0].Err)
						}
					})
				}
			})
		}
		if err := h.engine.Close(); err != nil {
			h.Errorf("close: %v", err)
		}
		wg.Wait()
		h.eventually("everything is answered", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return answers == publishers*each
		})
		h.open()
		h.holds("q", len(stored), 0)
		for _, d := range h.consumer("q", sealmq.MaxPrefetch).take(len(stored)) {
			if !stored[d.ID] {
				h.Errorf("%s was refused and stored", d.ID)
			}
		}
	}},
}
