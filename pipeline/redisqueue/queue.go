// Package redisqueue keeps the pipeline's items in Redis, where other programs can look at
// them, add to them and take from them.
//
// The ready items are a list with the queue's name: producers push to its left end, and
// consumers take from its right end. All other keys begin with that name: lists of what workers hold
// (:processing:), their heartbeats (:heartbeat:) and their names (:workers), the items that
// wait for their next attempt (:retry, scored by the time of Redis), dead items (:dead), and
// what recognises repeats (:dedup:).
//
// It promises what the server does: with appendonly yes and appendfsync always, or with Redis
// 7.2, what Enqueue calls stored is on stable storage; else Status tells that it may be lost. An
// item is in one of the lists or in the set until a worker has finished with it, whatever is
// killed in between. Replication is not waited for.
package redisqueue

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// Bounds of calls.
const (
	maxItem      = 1 << 20 // bytes of one item
	maxCallBytes = 8 << 20 // bytes of items in one call
	pageItems    = 100     // items that are read at a time
)

// How long a repeat is recognised. Nobody but the proxy itself, whose call was left without an
// answer, can repeat an item whose id the proxy made.
const (
	remember    = 24 * time.Hour
	rememberOwn = 10 * time.Minute
)

// Queue is a pipeline.Queue.
type Queue struct {
	rdb       *redis.Client
	name      string
	log       *slog.Logger
	sentinels bool                   // know the server
	server    atomic.Pointer[server] // as it was seen last; nil before
	life      context.Context        // ends with Close
	end       context.CancelFunc
	looker    sync.WaitGroup

	mu        sync.Mutex
	up        bool
	why       string // why it is not up
	consumers map[*consumer]struct{}
	closed    bool

	look lastLook
}

// Open opens the queue. A server that is away is no error: until it is back, calls fail with
// code Unavailable. A server that will never do is one: it is too old, a Redis Cluster, or does
// not let us in.
func Open(ctx context.Context, cfg Config) (*Queue, error) {
	q := &Queue{name: cmp.Or(cfg.Queue, pipeline.QueueName), log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)), consumers: make(map[*consumer]struct{})}
	q.sentinels = len(cfg.Sentinels) > 0
	q.life, q.end = context.WithCancel(context.Background())
	q.rdb = q.connect(&cfg)
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := q.rdb.Ping(call).Err()
	if r := refusal(err); r != nil {
		return nil, errors.Join(r, q.Close())
	}
	_ = q.note(err) // it may come
	q.looker.Go(q.keepLooking)
	return q, nil
}

// keepLooking looks at the server's settings again and again: they can be changed while it runs. It
// also puts back what dead workers hold, because there may be no other worker.
func (q *Queue) keepLooking() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-q.life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(q.life, callTimeout)
		s, err := look(ctx, q.rdb)
		if err == nil {
			q.seen(s)
		}
		if err = q.note(err); err == nil {
			_ = q.beat(ctx, "", "", "")
		}
		cancel() // what failed is tried again
	}
}

// key is a key of the queue besides the ready list.
func (q *Queue) key(rest string) string { return q.name + ":" + rest }

// errUnsynced says that the server has not synced in time.
var errUnsynced = errors.New("the server did not sync its append-only file in time")

// run runs a script, and waits until the server has synced if it does not do so by itself.
func (q *Queue) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if srv := q.server.Load(); srv == nil || !srv.waits() {
		v, err := s.Run(ctx, q.rdb, keys, args...).Result()
		return v, q.note(err)
	}
	v, err := q.runAndWait(ctx, s.EvalSha, keys, args)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		v, err = q.runAndWait(ctx, s.Eval, keys, args)
	}
	return v, q.note(err)
}

func (q *Queue) runAndWait(ctx context.Context, eval func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd, keys []string, args []any) (any, error) {
	p := q.rdb.Pipeline()
	cmd := eval(ctx, p, keys, args...)
	wait := redis.NewIntSliceCmd(ctx, "WAITAOF", 1, 0, int(callTimeout/time.Millisecond))
	_ = p.Process(ctx, wait)
	_, err := p.Exec(ctx)
	switch {
	case cmd.Err() != nil:
		return nil, cmd.Err()
	case err != nil:
		// A refusal of WAITAOF says nothing about what the script did.
		return nil, fmt.Errorf("%w: %v", errUnsynced, err)
	case len(wait.Val()) == 0 || wait.Val()[0] < 1:
		return nil, errUnsynced
	}
	return cmd.Val(), nil
}

// beat runs beatScript for a run of a worker.
func (q *Queue) beat(ctx context.Context, worker, run, first string) error {
	_, err := q.run(ctx, beatScript, []string{q.name, q.key("workers")}, q.key("heartbeat:"), q.key("processing:"), worker, run,
		beatLife.Milliseconds(), forgetAfter.Milliseconds(), first)
	return err
}

// Enqueue implements pipeline.Queue.
func (q *Queue) Enqueue(ctx context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	results := make([]pipeline.EnqueueResult, len(items))
	call := batch{keys: []string{q.name}}
	for i := range items {
		body, err := items[i].AppendJSON(nil)
		if err != nil {
			return nil, fmt.Errorf("item %s: %w", items[i].MessageID, err)
		}
		if len(body) > maxItem {
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Refused,
				Err: &sealmq.Error{Code: sealmq.TooLarge, Message: fmt.Sprintf("the item is larger than %d bytes", maxItem)}}
			continue
		}
		if len(call.index) == pipeline.MaxBatch || call.bytes+len(body) > maxCallBytes && call.bytes > 0 {
			q.enqueue(ctx, &call, results)
			call = batch{keys: []string{q.name}}
		}
		call.add(q.key("dedup:"+items[i].MessageID), i, &items[i], body)
	}
	if len(call.index) > 0 {
		q.enqueue(ctx, &call, results)
	}
	return results, nil
}

// batch is one call of enqueueScript.
type batch struct {
	keys  []string
	args  []any
	index []int // of each item among the results
	bytes int
}

func (b *batch) add(dedup string, i int, it *pipeline.Item, body []byte) {
	ttl := remember
	if it.ClientKey == "" && len(it.MessageID) == 36 && it.MessageID[14] == '7' { // NewMessageID made it
		ttl = rememberOwn
	}
	digest := it.Digest
	if len(digest) == 0 {
		sum := sha256.Sum256(body)
		digest = sum[:16]
	}
	b.keys = append(b.keys, dedup)
	b.args = append(b.args, digest, ttl.Milliseconds(), body)
	b.index = append(b.index, i)
	b.bytes += len(body)
}

func (q *Queue) enqueue(ctx context.Context, call *batch, results []pipeline.EnqueueResult) {
	v, err := q.run(ctx, enqueueScript, call.keys, call.args...)
	answers, _ := v.([]any)
	for n, i := range call.index {
		switch {
		case err != nil && undone(err):
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Refused, Err: err}
		case err != nil:
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Unknown, Err: err}
		case n < len(answers):
			code, _ := answers[n].(int64)
			results[i].Outcome = [...]pipeline.Outcome{pipeline.Unknown, pipeline.Stored, pipeline.Duplicate, pipeline.Conflict}[code&3]
		default:
			results[i] = pipeline.EnqueueResult{Outcome: pipeline.Unknown, Err: coded(errors.New("the server answered for fewer items than it was given"))}
		}
	}
}

// Counts implements pipeline.Queue.
func (q *Queue) Counts(ctx context.Context) (c pipeline.Counts, err error) {
	v, err := q.run(ctx, countScript, []string{q.name, q.key("retry"), q.key("dead"), q.key("workers")}, q.key("processing:"))
	if err != nil {
		return c, err
	}
	list, _ := v.([]any)
	if len(list) != 5 {
		return c, coded(errors.New("the server answered with other counts than it was asked for"))
	}
	for i, n := range []*int{&c.Ready, &c.Processing, &c.Retry, &c.Dead} {
		count, _ := list[i].(int64)
		*n = int(count)
	}
	oldest, _ := list[4].(string)
	if it, err := pipeline.ParseItem([]byte(oldest)); err == nil {
		c.Oldest = it.QueuedAt
	}
	return c, nil
}

// Close implements pipeline.Queue.
func (q *Queue) Close() error {
	q.end()
	q.looker.Wait()
	q.mu.Lock()
	q.closed = true
	consumers := slices.Collect(maps.Keys(q.consumers))
	q.mu.Unlock()
	var errs []error
	for _, c := range consumers {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, q.rdb.Close())...)
}
