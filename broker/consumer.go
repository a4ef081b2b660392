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
	id      Caller
	session engine.Session
	closed  atomic.Bool
}

// Open opens the consuming side of a connection. notify says that Take may have
// something, ended that a subscription has ended because its queue was deleted (nil if
// nobody wants to know). They must not block nor call the broker, and are not called
// after Close returned; notify may be called more often than needed.
func (b *Broker) Open(id Caller, notify func(), ended func(queue string)) *Consumer {
	b.metrics.consumers.Inc()
	return &Consumer{
		broker:  b,
		id:      id,
		session: b.engine.NewSession(engine.SessionConfig{Client: id.ID, Notify: notify, Ended: ended}),
	}
}

// Consume subscribes to a queue, which is declared with default options if it is
// missing. prefetch 0 means the queue's own. Another Consume of the same queue only
// changes the prefetch.
func (c *Consumer) Consume(queue string, prefetch int, done func(error)) {
	if err := c.allow(queue); err != nil {
		done(err)
		return
	}
	if prefetch != 0 {
		if err := checkPrefetch(prefetch); err != nil {
			done(err)
			return
		}
	}
	b, queue := c.broker, strings.Clone(queue)
	if _, ok := b.engine.Queue(queue); ok {
		c.session.Consume(queue, prefetch, done)
		return
	}
	if err := b.allow(c.id, actDeclare, queue); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	steps := &join{done: done}
	if b.declare(queue, nil, steps.step()); !steps.failed() {
		c.session.Consume(queue, prefetch, steps.step())
	}
	steps.start()
}

// Fetch takes one message as an outstanding delivery, without a subscription. ok is
// false when nothing waits. Code NoQueue if there is no such queue.
func (c *Consumer) Fetch(queue string) (d sealmq.Delivery, ok bool, err error) {
	if err := c.allow(queue); err != nil {
		return d, false, err
	}
	d, ok, err = c.session.Fetch(queue)
	if ok {
		c.broker.metrics.delivered.Inc()
	}
	return d, ok, err
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
	return dst, err
}

// Settle ends deliveries, or prolongs them. A settlement has an effect if this connection
// holds the delivery, or held it last and the message waits again; others are ignored. An
// Extend needs a delivery that is held: if there are some and none is, the error has code
// NotHeld, and what else is in the batch has its effect. If one of the batch cannot be
// meant, none has an effect and the error has code BadArgument, or Unsupported for what
// the engine cannot give: a delay, an uncounted return, an extension.
func (c *Consumer) Settle(batch []engine.Settlement, done func(error)) {
	for i := range batch {
		if err := c.broker.checkSettlement(&batch[i]); err != nil {
			done(err)
			return
		}
	}
	c.broker.metrics.settlements(batch)
	c.session.Settle(batch, done)
}

func (b *Broker) checkSettlement(s *engine.Settlement) error {
	bad := func(why string) error { return &sealmq.Error{Code: sealmq.BadArgument, Message: why} }
	switch s.Verdict {
	case engine.Ack:
		return nil
	case engine.Return:
		switch {
		case s.Delay < 0 || s.Delay > engine.MaxDelay:
			return bad("the delay is not between 0 and " + engine.MaxDelay.Round(time.Hour).String())
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
	return bad("unknown verdict")
}

// SetPrefetch changes the credit of every subscription, current and future; 0 gives the
// current ones nothing more until it is raised.
func (c *Consumer) SetPrefetch(n int) error {
	if n != 0 {
		if err := checkPrefetch(n); err != nil {
			return err
		}
	}
	c.session.SetPrefetch(n)
	return nil
}

// Unacked is the number of deliveries that the connection holds.
func (c *Consumer) Unacked() int { return c.session.Unacked() }

// Close returns every held delivery to its place in its queue. It may be called twice.
func (c *Consumer) Close() {
	if c.closed.Swap(true) {
		return
	}
	c.session.Close()
	c.broker.metrics.consumers.Dec()
}

func (c *Consumer) allow(queue string) error {
	if err := checkQueueName(queue); err != nil {
		return err
	}
	return c.broker.allow(c.id, actConsume, queue)
}

func checkPrefetch(n int) error {
	if n < 1 || n > sealmq.MaxPrefetch {
		return &sealmq.Error{Code: sealmq.BadArgument,
			Message: "prefetch is not between 1 and " + strconv.Itoa(sealmq.MaxPrefetch)}
	}
	return nil
}

// checkReason lets a reason be a sentence, on one line.
func checkReason(reason string) error {
	switch {
	case reason == "":
		return nil
	case len(reason) > sealmq.MaxNameBytes:
		return &sealmq.Error{Code: sealmq.BadArgument,
			Message: "the reason is longer than " + strconv.Itoa(sealmq.MaxNameBytes) + " bytes"}
	}
	return checkLine("the reason", reason, sealmq.BadArgument)
}
