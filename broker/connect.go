package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Connect returns a connection within this process. Its calls are the broker's, with the
// caller's permissions; it needs no network, and its messages need not be lines. A call
// whose context ends may still have to wait until the disk has room for what it handed in.
func (b *Broker) Connect(c Caller) sealmq.Connection {
	return b.connect(c)
}

func (b *Broker) connect(c Caller) *connection {
	conn := &connection{broker: b, caller: c}
	conn.open, conn.end = context.WithCancelCause(context.Background())
	return conn
}

// Manage returns a connection as Connect does, for what operators do. peers are the connections of
// the network.
func (b *Broker) Manage(c Caller, peers Peers) sealmq.Manager {
	return &manager{b.connect(c), peers}
}

// connection waits for what the broker answers later.
type connection struct {
	broker *Broker
	caller Caller
	open   context.Context // until Close
	end    context.CancelCauseFunc

	mu  sync.Mutex
	sub *subscription
}

func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open.Err() != nil {
		return nil
	}
	c.end(sealmq.ErrClosed)
	if c.sub != nil {
		c.sub.consumer.Close(true)
	}
	return nil
}

// await starts a call and waits for its answer. An answer that has arrived counts, even if ctx or
// the connection has ended by the time the caller gets to look.
func await[T any](ctx context.Context, c *connection, start func(done func(T, error))) (v T, err error) {
	if err := ctx.Err(); err != nil {
		return v, err
	}
	if c.open.Err() != nil {
		return v, sealmq.ErrClosed
	}
	type answer struct {
		v   T
		err error
	}
	answered := make(chan answer, 1)
	start(func(v T, err error) { answered <- answer{v, err} })
	select {
	case a := <-answered:
		return a.v, a.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.open.Done():
		err = sealmq.ErrClosed
	}
	select {
	case a := <-answered:
		return a.v, a.err
	default:
		return v, err
	}
}

// awaitError is await for a call without a result.
func awaitError(ctx context.Context, c *connection, start func(done func(error))) error {
	_, err := await(ctx, c, func(done func(struct{}, error)) {
		start(func(err error) { done(struct{}{}, err) })
	})
	return err
}

func (c *connection) Publish(ctx context.Context, m sealmq.Message) error {
	return c.PublishBatch(ctx, []sealmq.Message{m})[0].Err
}

func (c *connection) PublishBatch(ctx context.Context, batch []sealmq.Message) []sealmq.PublishResult {
	if len(batch) == 0 {
		return nil
	}
	publishes := make([]engine.Publish, len(batch))
	for i := range batch {
		publishes[i].Message = batch[i]
	}
	results, err := await(ctx, c, func(done func([]sealmq.PublishResult, error)) {
		c.broker.Publish(c.caller, publishes, func(answers []engine.PublishResult) {
			results := make([]sealmq.PublishResult, len(answers))
			for i := range answers {
				results[i] = sealmq.PublishResult{Repeated: answers[i].Outcome == engine.Repeated, Err: answers[i].Err}
			}
			done(results, nil)
		})
	})
	if err != nil {
		results = slices.Repeat([]sealmq.PublishResult{{Err: err}}, len(batch))
	}
	return results
}

func (c *connection) DeclareQueue(ctx context.Context, queue string, o *sealmq.QueueOptions) error {
	return awaitError(ctx, c, func(done func(error)) { c.broker.DeclareQueue(c.caller, queue, o, done) })
}

func (c *connection) Bind(ctx context.Context, queue, exchange, key string) error {
	return awaitError(ctx, c, func(done func(error)) { c.broker.Bind(c.caller, queue, exchange, key, done) })
}

func (c *connection) Queue(ctx context.Context, name string) (sealmq.QueueInfo, error) {
	return await(ctx, c, func(done func(sealmq.QueueInfo, error)) { done(c.broker.Queue(c.caller, name)) })
}

func (c *connection) PurgeQueue(ctx context.Context, queue string) (removed int, err error) {
	return await(ctx, c, func(done func(int, error)) { c.broker.PurgeQueue(c.caller, queue, done) })
}

func (c *connection) Move(ctx context.Context, from, to string, n int) (moved int, err error) {
	return await(ctx, c, func(done func(int, error)) { c.broker.Move(c.caller, from, to, n, done) })
}

func (c *connection) MoveMessages(ctx context.Context, from, to string, ids []string) (moved int, err error) {
	return await(ctx, c, func(done func(int, error)) { c.broker.MoveMessages(c.caller, from, to, ids, done) })
}

func (c *connection) Peek(ctx context.Context, queue string, from uint64, n int) ([]sealmq.PeekedMessage, error) {
	n = cmp.Or(n, sealmq.DefaultPeek)
	list, err := await(ctx, c, func(done func([]sealmq.Delivery, error)) { done(c.broker.Peek(c.caller, queue, from, n)) })
	if err != nil {
		return nil, err
	}
	peeked := make([]sealmq.PeekedMessage, len(list))
	for i := range list {
		d := &list[i]
		peeked[i] = sealmq.PeekedMessage{ID: d.ID, Seq: d.Tag.Seq, Publisher: d.Publisher, Exchange: d.Exchange, Key: d.Key, Time: d.Published,
			Attempts: d.Attempt, DeathReason: d.DeathReason, DeathQueue: d.DeathQueue, Size: len(d.Body)}
		if json.Valid(d.Body) {
			peeked[i].Body = d.Body
		} else {
			peeked[i].BodyBytes = d.Body
		}
	}
	return peeked, nil
}
