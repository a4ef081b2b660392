package broker

import (
	"crypto/rand"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// A watcher sees copies of what an exchange gets. They come from a temporary queue, which goes
// with its connection, or at the next start. Nothing is lost to the others: a message that only
// temporary queues would get counts as unroutable, and one for which they have no room misses them.

// temporaryPrefix begins the names of temporary queues. Nobody can declare one.
const temporaryPrefix = reservedPrefix + "temporary."

// temporaryOptions bound what a watcher that does not keep up costs: the oldest copies go. What it
// gives back it gets again, until its time is over: copies have no dead-letter queue.
var temporaryOptions = sealmq.QueueOptions{
	MaxMessages: 10_000, MaxBytes: 16 << 20, DropOldest: true, TTL: time.Minute, DeliveryLimit: math.MaxUint32,
	Prefetch: 1000, MaxLineBytes: sealmq.MaxLineBytes,
}

func isTemporary(queue string) bool { return strings.HasPrefix(queue, temporaryPrefix) }

// Watch has the connection's consumer get a copy of what the exchange gets for a key, or a
// pattern if it is a topic exchange. It may be called several times. Code NoExchange if there
// is no such exchange.
func (c *Consumer) Watch(exchange, key string, done func(error)) {
	b := c.broker
	bound := Binding{Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	err := b.allowExchange(c.caller, actBind, exchange)
	if err == nil {
		err = sealmq.CheckName("routing key", key)
	}
	if err != nil {
		done(err)
		return
	}
	c.watching.Store(true)
	b.lock()
	defer b.unlock()
	if err := c.watch(bound, done); err != nil {
		done(err)
	}
}

// watch is called in a turn. It has not called done if it returns an error.
func (c *Consumer) watch(bound Binding, done func(error)) error {
	b := c.broker
	switch {
	case c.closed.Load():
		return sealmq.ErrUnavailable
	case b.topo.exchanges[bound.Exchange] == nil:
		return errNoExchange(bound.Exchange)
	}
	if bound.Queue = c.temporary; bound.Queue == "" {
		bound.Queue = temporaryPrefix + strings.ToLower(rand.Text())
	}
	if err := b.roomForBinding(c.caller, bound, b.queueOwned(bound.Queue)); err != nil {
		return err
	}
	if c.temporary == "" {
		done = join(3, done)
		if !b.declare(c.caller, bound.Queue, &temporaryOptions, done) {
			done(nil)
			done(nil)
			return nil
		}
		c.temporary = bound.Queue
		c.session.Consume(bound.Queue, engine.ConsumeOptions{Prefetch: engine.QueuesOwn}, done)
	}
	return b.bind(c.caller, bound, done)
}

// watched marks a value of Consumer.copies, because a queue may have the number 0.
const watched = 1 << 32

// noteCopies remembers the temporary queue's number in tags.
func (c *Consumer) noteCopies(list []sealmq.Delivery) {
	for i := range list {
		if isTemporary(list[i].Queue) {
			c.copies.Store(watched | uint64(list[i].Tag.Queue))
			return
		}
	}
}

// dropCopies has copies dropped instead of dead-lettered: the message itself is in other queues.
func (c *Consumer) dropCopies(batch []engine.Settlement) []engine.Settlement {
	copies := c.copies.Load()
	if copies == 0 {
		return batch
	}
	batch = slices.Clone(batch)
	for i := range batch {
		if s := &batch[i]; s.Verdict == engine.Dead && watched|uint64(s.Tag.Queue) == copies {
			s.Verdict, s.Reason = engine.Drop, ""
		}
	}
	return batch
}

// dropTemporary removes the temporary queue of a connection that is closed.
func (c *Consumer) dropTemporary() {
	b := c.broker
	b.lock()
	defer b.unlock()
	if c.temporary != "" {
		b.deleteTemporary(c.temporary)
	}
}

// deleteTemporary is called in a turn. Older programs made a dead-letter queue beside it.
func (b *Broker) deleteTemporary(queue string) {
	for _, name := range []string{queue, queue + sealmq.DeadSuffix} {
		b.deleteQueue(name, 0, func(_ int, err error) {
			if err != nil && sealmq.CodeOf(err) != sealmq.NoQueue && sealmq.CodeOf(err) != sealmq.Unavailable {
				b.log.Warn("temporary queue is not removed before the next start", "queue", name, "err", err)
			}
		})
	}
}

// dropTemporaries removes what an earlier run left.
func (b *Broker) dropTemporaries() {
	b.lock()
	defer b.unlock()
	for _, name := range b.topo.temporaries() {
		b.deleteTemporary(strings.TrimSuffix(name, sealmq.DeadSuffix))
	}
}

// withoutTemporary takes the temporary queues out of these.
func (t *topology) withoutTemporary(queues []string) (others, temporary []string) {
	if t.temporary.Load() == 0 {
		return queues, nil
	}
	for _, q := range queues {
		if isTemporary(q) {
			temporary = append(temporary, q)
		} else {
			others = append(others, q)
		}
	}
	return others, temporary
}
