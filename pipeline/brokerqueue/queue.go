// Package brokerqueue keeps the pipeline's items in a queue of the broker, in one process
// or over the network.
//
// It promises what the broker's queue does: what Enqueue calls stored is on stable storage,
// what was taken and not finished comes again, and an item that waits for its next attempt
// is in nobody's hands. Dead items are kept until somebody puts them back or removes them.
package brokerqueue

import (
	"context"
	"errors"
	"fmt"
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
	conn    sealmq.Connection

	mu        sync.Mutex
	consumers map[*consumer]struct{}
	closed    bool
}

// Open declares the queue and its dead-letter queue. connect opens a connection to the
// broker as whoever uses the queue, who must be allowed to declare it; the Queue opens one
// for itself and one for each consumer, and closes them. A client.Client needs its
// Config.Meta.
func Open(ctx context.Context, connect func(context.Context) (sealmq.Connection, error)) (*Queue, error) {
	conn, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	q := &Queue{connect: connect, conn: conn, consumers: make(map[*consumer]struct{})}
	if err := q.declare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("declare %s: %w", name, err), conn.Close())
	}
	return q, nil
}

func (q *Queue) declare(ctx context.Context) error {
	live := sealmq.QueueOptions{DeliveryLimit: math.MaxInt32, AckTimeout: ackTimeout, MaxLineBytes: maxLine, Prefetch: pipeline.MaxBatch}
	given := sealmq.QueueOptions{DeliveryLimit: math.MaxInt32, MaxLineBytes: maxLine}
	if err := q.conn.DeclareQueue(ctx, name, &live); err != nil {
		return err
	}
	if err := q.conn.DeclareQueue(ctx, dead, &given); err != nil {
		return err
	}
	return q.conn.Bind(ctx, name, name, name)
}

// Enqueue implements pipeline.Queue.
func (q *Queue) Enqueue(ctx context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	size := 0
	for i := range items {
		size += 512 + len(items[i].Sealed) + len(items[i].MessageBody) + len(items[i].Metadata)
	}
	bodies, batch := make([]byte, 0, size), make([]sealmq.Message, len(items))
	for i := range items {
		start := len(bodies)
		var err error
		if bodies, err = items[i].AppendJSON(bodies); err != nil {
			return nil, fmt.Errorf("item %s: %w", items[i].MessageID, err)
		}
		body := bodies[start:len(bodies):len(bodies)]
		batch[i] = sealmq.Message{ID: items[i].MessageID, Exchange: name, Key: name, Body: body, Digest: items[i].Digest}
	}
	results := make([]pipeline.EnqueueResult, len(items))
	for i, r := range q.conn.PublishBatch(ctx, batch) {
		switch {
		case r.Err == nil && r.Repeated:
			results[i].Outcome = pipeline.Duplicate
		case r.Err == nil:
			results[i].Outcome = pipeline.Stored
		case sealmq.CodeOf(r.Err) == sealmq.Duplicate:
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Conflict, Err: r.Err}
		default:
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Refused, Err: r.Err}
		}
	}
	return results, nil
}

// Counts implements pipeline.Queue.
func (q *Queue) Counts(ctx context.Context) (pipeline.Counts, error) {
	live, err := q.conn.Queue(ctx, name)
	if err != nil {
		return pipeline.Counts{}, err
	}
	given, err := q.conn.Queue(ctx, dead)
	if err != nil {
		return pipeline.Counts{}, err
	}
	return pipeline.Counts{Ready: live.Ready - live.Delayed, Processing: live.Unacked, Retry: live.Delayed,
		Dead: given.Ready + given.Unacked, Oldest: live.Oldest}, nil
}

// Dead implements pipeline.Queue. Of an item that is too large for the broker to show it has
// the id only.
func (q *Queue) Dead(ctx context.Context, limit int) ([]pipeline.DeadItem, error) {
	var items []pipeline.DeadItem
	var from uint64
	for len(items) < limit {
		page, err := q.conn.Peek(ctx, dead, from, min(limit-len(items), sealmq.MaxPeek))
		if err != nil {
			return nil, err
		}
		for i := range page {
			hidden := len(page[i].Body)+len(page[i].BodyBytes) == 0 && page[i].Size > 0
			if from = page[i].Seq; hidden && i > 0 {
				break // it may be shown at the front of a page
			}
			items = append(items, deadItem(&page[i], hidden))
			from++
		}
		if len(page) == 0 {
			break
		}
	}
	return items, nil
}

func deadItem(m *sealmq.PeekedMessage, hidden bool) pipeline.DeadItem {
	d := pipeline.DeadItem{Reason: m.DeathReason}
	if hidden {
		d.Item.MessageID = m.ID
	} else {
		d.Item, d.Err = pipeline.ParseItem(m.Body)
	}
	return d
}

// Requeue implements pipeline.Queue.
func (q *Queue) Requeue(ctx context.Context, ids []string) (int, error) {
	if ids == nil {
		return q.conn.Move(ctx, dead, name, 0)
	}
	total := 0
	for part := range slices.Chunk(ids, sealmq.MaxMoveIDs) {
		n, err := q.conn.MoveMessages(ctx, dead, name, part)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// Close implements pipeline.Queue.
func (q *Queue) Close() error {
	q.mu.Lock()
	q.closed = true
	consumers := slices.Collect(maps.Keys(q.consumers))
	q.mu.Unlock()
	var errs []error
	for _, c := range consumers {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, q.conn.Close())...)
}
