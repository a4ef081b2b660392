package brokerqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// prefetch is how many items the broker hands to one consumer ahead of Take. It is enough
// for several batches that are under way, and little to be given back after a crash.
const prefetch = 4 * pipeline.MaxBatch

// consumer takes items over a connection of its own.
type consumer struct {
	queue *Queue
	conn  sealmq.Connection
	sub   sealmq.Subscription

	mu   sync.Mutex
	held map[*sealmq.Delivery]struct{}
}

// Consumer implements pipeline.Queue. The broker knows the worker by the identity of its
// connection.
func (q *Queue) Consumer(string) (pipeline.Consumer, error) {
	ctx, cancel := context.WithTimeout(q.life, attemptTimeout)
	defer cancel()
	conn, err := q.connect(ctx)
	if err != nil {
		return nil, err
	}
	// A queue that was deleted would be made again without its options.
	err = declare(ctx, conn)
	var sub sealmq.Subscription
	if err == nil {
		sub, err = conn.Consume(ctx, name, prefetch)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &consumer{queue: q, conn: conn, sub: sub, held: make(map[*sealmq.Delivery]struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errors.Join(sealmq.ErrClosed, conn.Close())
	}
	q.consumers[c] = struct{}{}
	return c, nil
}

// Take implements pipeline.Consumer.
func (c *consumer) Take(ctx context.Context, max int) ([]pipeline.Taken, error) {
	deliveries := make([]sealmq.Delivery, max)
	n, err := c.sub.Next(ctx, deliveries)
	taken := make([]pipeline.Taken, n)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range taken {
		d := &deliveries[i]
		it, err := parse(d)
		taken[i] = pipeline.Taken{Item: it, Err: err, Ticket: d}
		c.held[d] = struct{}{}
	}
	return taken, err
}

// errOtherID is for an item that would not be recognised if it came again.
var errOtherID = fmt.Errorf("%w: its message_id is not the one it was published with", pipeline.ErrMalformed)

func parse(d *sealmq.Delivery) (pipeline.Item, error) {
	it, err := pipeline.ParseItem(d.Body)
	if err == nil && d.ID != "" && it.MessageID != d.ID {
		err = errOtherID
	}
	if err != nil {
		return pipeline.Item{}, err
	}
	it.AttemptCount = int(max(d.Attempt, 1)) - 1
	return it, nil
}

// Finish implements pipeline.Consumer.
func (c *consumer) Finish(ctx context.Context, finished []pipeline.Finished) error {
	var done []sealmq.Delivery
	for _, f := range finished {
		var err error
		switch d := *f.Ticket.(*sealmq.Delivery); f.Verdict {
		case pipeline.Retry:
			err = c.sub.Nack(f.After, d)
		case pipeline.Release:
			err = c.sub.Release(0, d)
		case pipeline.Dead:
			err = c.sub.Dead(f.Reason, d)
		default:
			done = append(done, d)
		}
		if err != nil {
			return err
		}
	}
	if len(done) > 0 {
		if err := c.sub.AckWait(ctx, done...); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range finished {
		delete(c.held, f.Ticket.(*sealmq.Delivery))
	}
	return nil
}

// closeTime bounds how long a consumer waits until the broker has what it gives back.
const closeTime = 5 * time.Second

// Close implements pipeline.Consumer.
func (c *consumer) Close() error {
	c.queue.mu.Lock()
	delete(c.queue.consumers, c)
	c.queue.mu.Unlock()
	c.mu.Lock()
	var held []sealmq.Delivery
	for d := range c.held {
		held = append(held, *d)
	}
	clear(c.held)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	// Without a broker there is nobody to give it back to: it gets everything back when it
	// notices that the connection is gone.
	_ = c.sub.Close(ctx, held...)
	return c.conn.Close()
}
