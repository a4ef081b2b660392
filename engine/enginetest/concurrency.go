package enginetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var concurrencyChecks = []check{
	{name: "many publishers and consumers", run: func(h *harness) { newTraffic(h).run() }},
	{name: "queues come and go under traffic", run: comeAndGo},
}

const (
	trafficPublishers = 4
	trafficConsumers  = 4
	trafficMessages   = 150 // of each publisher
)

// traffic is publishers and consumers that all work at once, and what they have seen.
type traffic struct {
	h      *harness
	queues []string
	seed   uint64

	mu    sync.Mutex
	due   map[string]int  // copies that must be acked, by queue and id
	acked map[string]bool // by queue and id

	left atomic.Int64 // copies to be acked
	quit chan struct{}
}

func newTraffic(h *harness) *traffic {
	t := &traffic{
		h:      h,
		queues: []string{"red", "green", "blue"},
		seed:   rand.Uint64(),
		due:    make(map[string]int),
		acked:  make(map[string]bool),
		quit:   make(chan struct{}),
	}
	h.Logf("seed %d", t.seed)
	return t
}

func (t *traffic) run() {
	for _, q := range t.queues {
		t.h.queue(q, sealmq.QueueOptions{DeliveryLimit: 1_000_000, Prefetch: 20})
	}
	var publishers, others sync.WaitGroup
	for i := range trafficPublishers {
		publishers.Go(func() { t.publisher(i) })
	}
	for i := range trafficConsumers {
		others.Go(func() { t.consumer(i) })
	}
	others.Go(t.observer)
	publishers.Wait()

	deadline := time.After(t.h.patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for t.left.Load() > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			t.h.Errorf("%d copies were never acked", t.left.Load())
			close(t.quit)
			others.Wait()
			return
		}
	}
	close(t.quit)
	others.Wait()
	for _, q := range t.queues {
		t.h.holds(q, 0, 0)
	}
}

// publisher publishes its messages in order, some of them twice.
func (t *traffic) publisher(n int) {
	rnd := rand.New(rand.NewPCG(t.seed, uint64(n)))
	var answered sync.WaitGroup
	for i := 0; i < trafficMessages; {
		var batch []engine.Publish
		for range 1 + rnd.IntN(8) {
			if i < trafficMessages {
				m := message(fmt.Sprintf("%d/%06d", n, i))
				m.Publisher = fmt.Sprint(n)
				queues := t.subset(rnd)
				t.expect(m.ID, queues)
				batch = append(batch, engine.Publish{Message: m, Queues: queues})
				i++
			}
		}
		copies := 1
		if rnd.IntN(5) == 0 {
			copies = 2
		}
		for c := range copies {
			answered.Add(1)
			t.h.engine.Publish(batch, func(results []engine.PublishResult) {
				defer answered.Done()
				for _, r := range results {
					if want := engine.Outcome(c) + engine.Stored; r.Outcome != want {
						t.h.Errorf("copy %d: outcome %d, error %v", c, r.Outcome, r.Err)
					}
				}
			})
		}
	}
	answered.Wait()
}

func (t *traffic) subset(rnd *rand.Rand) []string {
	first := rnd.IntN(len(t.queues))
	queues := []string{t.queues[first]}
	if rnd.IntN(3) == 0 {
		queues = append(queues, t.queues[(first+1)%len(t.queues)])
	}
	return queues
}

func (t *traffic) expect(id string, queues []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range queues {
		t.due[q+" "+id]++
		t.left.Add(1)
	}
}

// consumer takes from all queues, acks most, returns some and leaves now and then.
func (t *traffic) consumer(n int) {
	rnd := rand.New(rand.NewPCG(t.seed, 1000+uint64(n)))
	for {
		wake := make(chan struct{}, 1)
		s := t.h.engine.NewSession(engine.SessionConfig{Notify: func() { poke(wake) }})
		for _, q := range t.queues {
			s.Consume(q, engine.ConsumeOptions{}, func(err error) {
				if err != nil {
					t.h.Errorf("consume %s: %v", q, err)
				}
			})
		}
		for leave := false; !leave; {
			list, err := s.Take(nil, 1+rnd.IntN(30), everything)
			if err != nil {
				t.h.Errorf("take: %v", err)
				return
			}
			if len(list) == 0 {
				select {
				case <-wake:
					continue
				case <-t.quit:
					s.Close(true)
					return
				}
			}
			t.inOrder(list)
			t.settle(s, rnd, list)
			leave = rnd.IntN(40) == 0
		}
		s.Close(true)
	}
}

// inOrder checks that what one Take brings of one queue and one publisher is in the
// order in which it was published, except what came back to an engine that gives it no
// place.
func (t *traffic) inOrder(list []sealmq.Delivery) {
	last := make(map[string]string)
	for _, d := range list {
		if d.Redelivered() && !strict(t.h.engine.Abilities()) {
			continue
		}
		from := d.Queue + " " + d.Publisher
		if d.ID <= last[from] {
			t.h.Errorf("%s came after %s in %s", d.ID, last[from], d.Queue)
		}
		last[from] = d.ID
	}
}

func (t *traffic) settle(s engine.Session, rnd *rand.Rand, list []sealmq.Delivery) {
	var batch []engine.Settlement
	acks := 0
	for _, d := range list {
		verdict := engine.Ack
		if rnd.IntN(10) == 0 {
			verdict = engine.Return
		}
		t.seen(d, verdict == engine.Ack)
		if verdict == engine.Ack {
			acks++
		}
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: verdict})
	}
	s.Settle(batch, func(err error) {
		if err != nil {
			t.h.Errorf("settle: %v", err)
		}
		t.left.Add(-int64(acks))
	})
}

func (t *traffic) seen(d sealmq.Delivery, ack bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := d.Queue + " " + d.ID
	switch {
	case t.due[key] != 1:
		t.h.Errorf("%s was delivered from %s and not published there once", d.ID, d.Queue)
	case t.acked[key]:
		t.h.Errorf("%s was delivered from %s after its ack", d.ID, d.Queue)
	case ack:
		t.acked[key] = true
	}
}

// observer uses everything that only looks or defines.
func (t *traffic) observer() {
	for i := 0; ; i++ {
		select {
		case <-t.quit:
			return
		case <-time.After(time.Millisecond):
		}
		t.h.engine.Queues()
		t.h.engine.Queue("red")
		t.h.engine.Definitions()
		t.h.engine.Define([]engine.Definition{definition("k", fmt.Sprint(i))}, func(error) {})
		t.h.engine.DeclareQueue("red", sealmq.QueueOptions{}, 0, func(engine.QueueInfo, bool, error) {})
		if p, ok := t.h.engine.(engine.Peeker); ok {
			p.Peek("green", 0, 3)
		}
		t.h.engine.Health()
	}
}

// comeAndGo deletes and declares queues that are published to and consumed from.
func comeAndGo(h *harness) {
	const rounds = 60
	var wg sync.WaitGroup
	quit := make(chan struct{})
	var open atomic.Int64
	h.queue("stays", sealmq.QueueOptions{})
	wg.Go(func() {
		defer close(quit)
		for range rounds {
			open.Add(2)
			h.engine.DeclareQueue("q", sealmq.QueueOptions{}, 0, func(engine.QueueInfo, bool, error) { open.Add(-1) })
			h.engine.DeleteQueue("q", 0, func(int, error) { open.Add(-1) })
		}
	})
	for p := range 2 {
		wg.Go(func() {
			for i := 0; !isClosed(quit); i++ {
				open.Add(1)
				m := message(fmt.Sprintf("%d-%d", p, i))
				h.engine.Publish([]engine.Publish{{Message: m, Queues: []string{"stays", "q"}}}, func([]engine.PublishResult) { open.Add(-1) })
				if i > 2000 {
					return
				}
			}
		})
	}
	wg.Go(func() {
		for more := true; more; {
			more = !isClosed(quit)
			s := h.engine.NewSession(engine.SessionConfig{})
			open.Add(1)
			s.Consume("q", engine.ConsumeOptions{}, func(error) { open.Add(-1) })
			list, _ := s.Take(nil, 5, everything)
			for _, d := range list {
				open.Add(1)
				s.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Return}}, func(error) { open.Add(-1) })
			}
			s.Close(true)
		}
	})
	wg.Wait()
	h.eventually("everything is answered", func() bool { return open.Load() == 0 })
	h.settled()
	if _, err := h.engine.Queue("q"); err == nil {
		h.Error("the deleted queue is there")
	}
	info := h.info("stays")
	if info.Ready != int(info.Published) {
		h.Errorf("%d waiting of %d published", info.Ready, info.Published)
	}
}
