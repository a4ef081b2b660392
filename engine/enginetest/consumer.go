package enginetest

import (
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// consumer is a session with a reader.
type consumer struct {
	engine.Session
	h        *harness
	notified chan struct{}
	ended    chan ending
	sub      sealmq.SubscriptionID // by the last consume
}

// ending is what the engine said of a subscription that has ended.
type ending struct {
	Sub   sealmq.SubscriptionID
	Queue string
	Why   sealmq.Code
}

func (h *harness) session() *consumer {
	c := &consumer{h: h, notified: make(chan struct{}, 1), ended: make(chan ending, 100)}
	c.Session = h.engine.NewSession(engine.SessionConfig{Notify: func() { poke(c.notified) },
		Ended: func(sub sealmq.SubscriptionID, queue string, why error) {
			c.ended <- ending{sub, queue, sealmq.CodeOf(why)}
		}})
	return c
}

// poke leaves word in a channel with room for one. Word that is there already is enough.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// consumer opens a session that is subscribed to a queue.
func (h *harness) consumer(queue string, prefetch int) *consumer {
	h.Helper()
	c := h.session()
	c.consume(queue, prefetch).must()
	return c
}

func (c *consumer) consume(queue string, prefetch int) *pending[nothing] {
	return c.subscribe(queue, engine.ConsumeOptions{Prefetch: prefetch})
}

func (c *consumer) subscribe(queue string, o engine.ConsumeOptions) *pending[nothing] {
	return begin(c.h, "consume "+queue, plain(func(done func(error)) { c.sub = c.Consume(queue, o, done) }))
}

func (c *consumer) cancel(sub sealmq.SubscriptionID) *pending[nothing] {
	return begin(c.h, "cancel", plain(func(done func(error)) { c.Cancel(sub, done) }))
}

// now takes what may be delivered at this moment.
func (c *consumer) now() []sealmq.Delivery {
	c.h.Helper()
	list, err := c.Take(nil, everything, everything)
	if err != nil {
		c.h.Fatalf("take: %v", err)
	}
	return list
}

// take waits for exactly n deliveries, relying on Notify.
func (c *consumer) take(n int) []sealmq.Delivery {
	c.h.Helper()
	var list []sealmq.Delivery
	deadline := time.After(c.h.patience)
	for {
		var err error
		if list, err = c.Take(list, n-len(list), everything); err != nil {
			c.h.Fatalf("take: %v", err)
		}
		if len(list) >= n {
			return list
		}
		select {
		case <-c.notified:
		case <-deadline:
			c.h.Fatalf("took %s and then nothing more, want %d messages", described(list), n)
		}
	}
}

// gets takes messages and checks their ids and order.
func (c *consumer) gets(want ...string) []sealmq.Delivery {
	c.h.Helper()
	list := c.take(len(want))
	c.h.sameIDs(list, want...)
	return list
}

// getsNothing checks that nothing may be delivered, once all that was called has
// happened.
func (c *consumer) getsNothing() {
	c.h.Helper()
	c.h.settled()
	if list := c.now(); len(list) > 0 {
		c.h.Fatalf("took %s, want nothing", described(list))
	}
}

// fetch fetches a message that must be there.
func (c *consumer) fetch(queue string) sealmq.Delivery {
	c.h.Helper()
	f := c.fetchAny(queue).must()
	if !f.Found {
		c.h.Fatalf("fetched nothing from %s", queue)
	}
	return f.Delivery
}

func (c *consumer) fetchAny(queue string) *pending[engine.Fetched] {
	return begin(c.h, "fetch from "+queue, func(done func(engine.Fetched, error)) { c.Fetch(queue, false, done) })
}

func (c *consumer) settle(batch ...engine.Settlement) *pending[nothing] {
	return begin(c.h, "settle", plain(func(done func(error)) { c.Settle(batch, done) }))
}

func (c *consumer) verdict(v engine.Verdict, list []sealmq.Delivery) {
	c.h.Helper()
	var batch []engine.Settlement
	for _, d := range list {
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: v})
	}
	c.settle(batch...).must()
}

func (c *consumer) ack(list ...sealmq.Delivery)  { c.h.Helper(); c.verdict(engine.Ack, list) }
func (c *consumer) nack(list ...sealmq.Delivery) { c.h.Helper(); c.verdict(engine.Return, list) }
func (c *consumer) dead(list ...sealmq.Delivery) { c.h.Helper(); c.verdict(engine.Dead, list) }

// close closes the session and waits until what it returned is stored.
func (c *consumer) close() {
	c.h.Helper()
	c.closeCounted(true)
}

func (c *consumer) closeCounted(counted bool) {
	c.h.Helper()
	c.Session.Close(counted)
	c.h.settled()
}
