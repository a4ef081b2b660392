// Package brokerqueue keeps the pipeline's items in a queue of the broker, in one process
// or over the network.
//
// It promises what the broker's queue does: what Enqueue calls stored is on stable storage,
// what was taken and not finished comes again, and an item that waits for its next attempt
// is in nobody's hands. Dead items are kept until somebody puts them back or removes them.
package brokerqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

const (
	name = pipeline.QueueName
	dead = pipeline.QueueName + sealmq.DeadSuffix
	// ackTimeout is longer than any call of a worker, so that what is under way is not
	// given to another one.
	ackTimeout = 5 * time.Minute
	// maxLine has room for the longest text, sealed.
	maxLine = 1 << 20
)

// Queue is a pipeline.Queue.
type Queue struct {
	connect func(context.Context) (sealmq.Connection, error)
	log     *slog.Logger
	life    context.Context // ends with Close
	end     context.CancelFunc

	mu        sync.Mutex
	conn      sealmq.Connection // nil before the first one; it reconnects by itself
	declared  bool              // the broker has the queue, as far as is known
	attempt   *attempt          // to connect and to declare; nil if there is none under way
	failed    error             // why the last attempt failed
	next      time.Time         // of the next attempt, after one that failed
	pause     time.Duration
	consumers map[*consumer]struct{}
	closed    bool
}

// Open prepares the queue and its dead-letter queue. connect opens a connection to the
// broker as the user of the queue, who must be allowed to declare it; the Queue opens one
// for itself and one for each consumer, and closes them. A client.Client needs its
// Config.Meta. log may be nil.
//
// A broker that is away is no error: until it is back, calls fail with code Unavailable, and
// connecting is tried again with growing pauses when the queue is used. connect says so with
// an error whose code can be retried. Every other refusal is an error of Open.
func Open(ctx context.Context, connect func(context.Context) (sealmq.Connection, error), log *slog.Logger) (*Queue, error) {
	q := &Queue{connect: connect, log: cmp.Or(log, slog.New(slog.DiscardHandler)), consumers: make(map[*consumer]struct{})}
	q.life, q.end = context.WithCancel(context.Background())
	_, err := q.ready(ctx)
	if r, ok := errors.AsType[*refusal](err); ok {
		return nil, errors.Join(r.err, q.Close())
	}
	return q, nil
}

func declare(ctx context.Context, conn sealmq.Connection) error {
	live := sealmq.QueueOptions{DeliveryLimit: math.MaxInt32, AckTimeout: ackTimeout, MaxLineBytes: maxLine, Prefetch: pipeline.MaxBatch}
	given := sealmq.QueueOptions{DeliveryLimit: math.MaxInt32, MaxLineBytes: maxLine}
	err := conn.DeclareQueue(ctx, name, &live)
	if err == nil {
		err = conn.DeclareQueue(ctx, dead, &given)
	}
	if err == nil {
		err = conn.Bind(ctx, name, name, name)
	}
	if err != nil {
		err = fmt.Errorf("declare %s: %w", name, err)
	}
	return err
}

// Enqueue implements pipeline.Queue.
func (q *Queue) Enqueue(ctx context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	conn, err := q.ready(ctx)
	if err != nil {
		return slices.Repeat([]pipeline.EnqueueResult{{Outcome: pipeline.Refused, Err: err}}, len(items)), nil
	}
	size := 0
	for i := range items {
		size += 512 + len(items[i].Sealed) + len(items[i].MessageBody) + len(items[i].Metadata)
	}
	bodies, batch := make([]byte, 0, size), make([]sealmq.Message, len(items))
	for i := range items {
		start := len(bodies)
		if bodies, err = items[i].AppendJSON(bodies); err != nil {
			return nil, fmt.Errorf("item %s: %w", items[i].MessageID, err)
		}
		body := bodies[start:len(bodies):len(bodies)]
		batch[i] = sealmq.Message{ID: items[i].MessageID, Exchange: name, Key: name, Body: body, Digest: items[i].Digest}
	}
	results := make([]pipeline.EnqueueResult, len(items))
	for i, r := range conn.PublishBatch(ctx, batch) {
		results[i] = q.result(r)
	}
	return results, nil
}

// result is what became of one item. Without an answer of the broker, or if it has failed or
// stops, nobody knows.
func (q *Queue) result(r sealmq.PublishResult) pipeline.EnqueueResult {
	switch sealmq.CodeOf(r.Err) {
	case "", sealmq.Unavailable:
		switch {
		case r.Err != nil:
			return pipeline.EnqueueResult{Outcome: pipeline.Unknown, Err: r.Err}
		case r.Repeated:
			return pipeline.EnqueueResult{Outcome: pipeline.Duplicate}
		}
		return pipeline.EnqueueResult{Outcome: pipeline.Stored}
	case sealmq.Duplicate:
		return pipeline.EnqueueResult{Outcome: pipeline.Conflict, Err: r.Err}
	}
	return pipeline.EnqueueResult{Outcome: pipeline.Refused, Err: q.lookAt(r.Err)}
}

// Counts implements pipeline.Queue.
func (q *Queue) Counts(ctx context.Context) (pipeline.Counts, error) {
	conn, err := q.ready(ctx)
	if err != nil {
		return pipeline.Counts{}, err
	}
	live, err := conn.Queue(ctx, name)
	if err != nil {
		return pipeline.Counts{}, q.lookAt(err)
	}
	given, err := conn.Queue(ctx, dead)
	if err != nil {
		return pipeline.Counts{}, q.lookAt(err)
	}
	return pipeline.Counts{Ready: live.Ready - live.Delayed, Processing: live.Unacked, Retry: live.Delayed,
		Dead: given.Ready + given.Unacked, Oldest: live.Oldest}, nil
}

// Waiting implements pipeline.Queue. An item that is too large for the broker to show is left
// out.
func (q *Queue) Waiting(ctx context.Context, from uint64, limit int) (items []pipeline.Item, next uint64, err error) {
	conn, err := q.ready(ctx)
	if err != nil {
		return nil, from, err
	}
	page, err := conn.Peek(ctx, name, from, min(limit, sealmq.MaxPeek))
	if err != nil {
		return nil, from, q.lookAt(err)
	}
	if len(page) == 0 {
		return nil, from, nil
	}
	page, next = sealmq.CutPage(page)
	for i := range page {
		if it, err := pipeline.ParseItem(page[i].Body); err == nil {
			items = append(items, it)
		}
	}
	return items, next, nil
}

// Dead implements pipeline.Queue. Of an item that is too large for the broker to show it has
// the id only.
func (q *Queue) Dead(ctx context.Context, limit int) ([]pipeline.DeadItem, error) {
	conn, err := q.ready(ctx)
	if err != nil {
		return nil, err
	}
	var items []pipeline.DeadItem
	var from uint64
	for len(items) < limit {
		page, err := conn.Peek(ctx, dead, from, min(limit-len(items), sealmq.MaxPeek))
		if err != nil {
			return nil, q.lookAt(err)
		}
		if len(page) == 0 {
			break
		}
		page, from = sealmq.CutPage(page)
		for i := range page {
			items = append(items, deadItem(&page[i]))
		}
	}
	return items, nil
}

func deadItem(m *sealmq.PeekedMessage) pipeline.DeadItem {
	d := pipeline.DeadItem{Reason: m.DeathReason}
	if m.Hidden() {
		d.Item.MessageID = m.ID
	} else {
		d.Item, d.Err = pipeline.ParseItem(m.Body)
	}
	return d
}

// Requeue implements pipeline.Queue.
func (q *Queue) Requeue(ctx context.Context, ids []string) (int, error) {
	conn, err := q.ready(ctx)
	if err != nil {
		return 0, err
	}
	if ids == nil {
		n, err := conn.Move(ctx, dead, name, 0)
		return n, q.lookAt(err)
	}
	total := 0
	for part := range slices.Chunk(ids, sealmq.MaxMoveIDs) {
		n, err := conn.MoveMessages(ctx, dead, name, part)
		if total += n; err != nil {
			return total, q.lookAt(err)
		}
	}
	return total, nil
}

// Close implements pipeline.Queue.
func (q *Queue) Close() error {
	q.end()
	q.mu.Lock()
	q.closed = true
	consumers := slices.Collect(maps.Keys(q.consumers))
	a := q.attempt
	q.mu.Unlock()
	if a != nil {
		<-a.done
	}
	var errs []error
	for _, c := range consumers {
		errs = append(errs, c.Close())
	}
	if q.conn != nil { // there are no attempts any more
		errs = append(errs, q.conn.Close())
	}
	return errors.Join(errs...)
}
