package broker

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Consumer is the consuming side of one connection. Its methods may be called from
// several goroutines.
type Consumer struct {
	broker  *Broker
	caller  Caller
	session engine.Session
	closed  atomic.Bool
	// temporary is the queue of Watch, under Broker.mu; empty until there is one.
	temporary string
	watching  atomic.Bool
	copies    atomic.Uint64 // what tags of that queue's messages have as Queue, above watched
}

// Open opens the consuming side of a connection. notify and ended are as in
// engine.SessionConfig: they must not block nor call the broker, and are not called after
// Close returned.
func (b *Broker) Open(c Caller, notify func(), ended func(sub sealmq.SubscriptionID, queue string, why error)) *Consumer {
	b.metrics.consumers.Inc()
	return &Consumer{
		broker: b,
		caller: c,
		session: b.engine.NewSession(engine.SessionConfig{Notify: notify, Ended: ended,
			MayDead: func(queue string, o *sealmq.QueueOptions) bool {
				return b.grants.allows(c, actDead, queue, ofQueue(o))
			}}),
	}
}

// Consume subscribes to a queue, which is declared with default options if it is
// missing. One connection may have several subscriptions to one queue.
func (c *Consumer) Consume(queue string, o engine.ConsumeOptions, done func(error)) (sub sealmq.SubscriptionID) {
	b := c.broker
	_, missing := b.engine.Queue(queue) // before asking, so that what is asked about is what is consumed
	if err := b.allowOwner(c.caller, actConsume, queue); err != nil {
		done(err)
		return 0
	}
	if err := checkPrefetch(o.Prefetch); err != nil {
		done(err)
		return 0
	}
	queue = strings.Clone(queue)
	if missing == nil {
		return c.session.Consume(queue, o, func(err error) { done(nameQueue(queue, err)) })
	}
	if err := b.allow(c.caller, actDeclare, queue); err != nil {
		done(err)
		return 0
	}
	b.lock()
	defer b.unlock()
	done = join(2, done)
	if !b.declare(c.caller, queue, nil, done) {
		done(nil)
		return 0
	}
	if err := b.allowOwner(c.caller, actConsume, queue); err != nil { // somebody else was first
		done(err)
		return 0
	}
	return c.session.Consume(queue, o, done)
}

// Fetch takes one message without a subscription, as an outstanding delivery or, with
// noAck, for good. It finds what this goroutine published before. Code NoQueue if there is
// no such queue.
func (c *Consumer) Fetch(queue string, noAck bool, done func(engine.Fetched, error)) {
	if err := c.broker.allowOwner(c.caller, actConsume, queue); err != nil {
		done(engine.Fetched{}, err)
		return
	}
	c.session.Fetch(queue, noAck, func(f engine.Fetched, err error) {
		if f.Found {
			c.broker.metrics.delivered.Inc()
		}
		done(f, err)
	})
}

// Take appends to dst what may be delivered now, within the credit of each
// subscription: at most max messages, and no more once their bodies reach maxBytes.
// Messages of one queue come in their order.
func (c *Consumer) Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
	n := len(dst)
	dst, err := c.session.Take(dst, max, maxBytes)
	if len(dst) > n {
		c.broker.metrics.delivered.Add(float64(len(dst) - n))
	}
	if c.watching.Load() {
		c.noteCopies(dst[n:])
	}
	return dst, err
}

// Settle ends deliveries, or prolongs them. A settlement has an effect if this connection
// holds the delivery, or held it last and the message waits again; others are ignored. An
// Extend needs a delivery that is held: if there are some and none is, the error has code
// NotHeld, and what else is in the batch has its effect. If one of the batch cannot be
// meant, none has an effect and the error has code BadArgument, or Unsupported for what
// the engine cannot give: a delay, an uncounted return, an extension. To dead-letter what
// was fetched is for the owner of its queue; in a queue of the administrators it is for every
// consumer. For others the message is returned, and the error has code Denied. What comes through
// a subscription every consumer may dead-letter, as it may acknowledge it; the copy that a watcher
// has is dropped.
func (c *Consumer) Settle(batch []engine.Settlement, done func(error)) {
	dead := false
	for i := range batch {
		if err := c.broker.checkSettlement(&batch[i]); err != nil {
			done(err)
			return
		}
		dead = dead || batch[i].Verdict == engine.Dead
	}
	c.broker.metrics.settlements(batch)
	if dead {
		batch = c.dropCopies(batch)
		answer := done
		done = func(err error) {
			if sealmq.CodeOf(err) == sealmq.Denied {
				c.broker.metrics.denied(actDead)
				c.broker.Audit(c.caller, string(actDead), "", err)
			}
			answer(err)
		}
	}
	c.session.Settle(batch, done)
}

func (b *Broker) checkSettlement(s *engine.Settlement) error {
	switch s.Verdict {
	case engine.Ack, engine.Drop:
		return nil
	case engine.Return:
		switch {
		case s.Delay < 0 || s.Delay > sealmq.MaxDelay:
			return badArgument("the delay is not between 0 and " + sealmq.MaxDelay.Round(time.Hour).String())
		case s.Delay > 0 && !b.engine.Abilities().Delay,
			s.Uncounted && !b.engine.Abilities().Uncounted:
			return sealmq.ErrUnsupported
		}
		return nil
	case engine.Dead:
		return checkReason(s.Reason)
	case engine.Extend:
		if !b.engine.Abilities().Extend {
			return sealmq.ErrUnsupported
		}
		return nil
	}
	return badArgument("unknown verdict")
}

// SetPrefetch changes the prefetch of one subscription, or of all if sub is 0.
func (c *Consumer) SetPrefetch(sub sealmq.SubscriptionID, n int) error {
	if err := checkPrefetch(n); err != nil {
		return err
	}
	c.session.SetPrefetch(sub, n)
	return nil
}

// Unacked is the number of deliveries that the connection holds.
func (c *Consumer) Unacked() int { return c.session.Unacked() }

// Close returns every held delivery to its place in its queue. counted says whether they
// count towards the delivery limit. It may be called twice.
func (c *Consumer) Close(counted bool) {
	if c.closed.Swap(true) {
		return
	}
	c.session.Close(counted)
	c.broker.metrics.consumers.Dec()
	if c.watching.Load() {
		go c.dropTemporary() // a turn may have to wait for room on the disk
	}
}

func checkPrefetch(n int) error {
	if n >= engine.Paused && n <= 0 {
		return nil
	}
	return sealmq.CheckPrefetch(n)
}

// checkReason lets a reason be a sentence, on one line.
func checkReason(reason string) error {
	if len(reason) > sealmq.MaxNameBytes {
		return badArgument("the reason is longer than " + strconv.Itoa(sealmq.MaxNameBytes) + " bytes")
	}
	return sealmq.CheckLine("the reason", reason, sealmq.BadArgument)
}
