package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// consumer is one connection that consumes from one queue and checks every message.
type consumer struct {
	run     *Run
	client  *client.Client
	sub     sealmq.Subscription
	latency *latency // nil for a backlog, because its age is not a latency
	stop    context.CancelFunc
	done    chan error // the result of receive
}

// counts are what all consumers found.
type counts struct {
	delivered  atomic.Uint64 // first deliveries
	duplicates atomic.Uint64
	corrupt    atomic.Uint64
	first      atomic.Int64 // when the first message arrived, on the run's clock; 0 is never
}

// newConsumer subscribes to the queue with the given number.
func newConsumer(ctx context.Context, r *Run, c *client.Client, queue int, measure bool) (*consumer, error) {
	k := &consumer{run: r, client: c, done: make(chan error, 1)}
	if measure {
		k.latency = newLatency()
	}
	var err error
	if k.sub, err = c.Consume(ctx, r.queue(queue), r.opts.Prefetch); err != nil {
		return nil, err
	}
	ctx, k.stop = context.WithCancel(ctx)
	go func() { k.done <- k.receive(ctx) }()
	return k, nil
}

// receiveBatch is how many deliveries are taken from the client at a time.
const receiveBatch = 64

// receive checks and acknowledges until ctx ends.
func (k *consumer) receive(ctx context.Context) error {
	var batch [receiveBatch]sealmq.Delivery
	for {
		n, err := k.sub.Next(ctx, batch[:])
		if err != nil {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return fmt.Errorf("receive: %w", err)
		}
		for i := range batch[:n] {
			k.check(batch[i].Body)
		}
		if err := k.sub.Ack(batch[:n]...); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

func (k *consumer) check(message []byte) {
	r := k.run
	c := &r.counts
	p, ok := parse(message, r.fill)
	if !ok || p.publisher >= len(r.seen) || p.number >= maxPages*pageBits {
		c.corrupt.Add(1)
		return
	}
	if r.seen[p.publisher].set(p.number) {
		c.duplicates.Add(1)
		return
	}
	now := r.now()
	k.latency.record(now - p.sent)
	if c.delivered.Add(1) == 1 {
		c.first.Store(now)
	}
}

// close stops receiving and closes the connection.
func (k *consumer) close() error {
	k.stop()
	return errors.Join(<-k.done, k.client.Close())
}
