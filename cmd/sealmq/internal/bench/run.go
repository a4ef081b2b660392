// Package bench is the load generator: publishers and consumers that drive a broker
// over the real protocol and mutual TLS, and check every message.
//
// The body of a message carries its publisher, its number and the time it was sent, and
// is otherwise a fixed pattern. So the checker knows for each confirmed message whether
// it was delivered once, never, twice, or changed. The generator shares the
// machine with the broker, so it allocates no memory per message.
//
// The package starts no broker and prints nothing; "sealmq bench" does both.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
)

// Run is one measurement: its queues, its connections, and the messages sent and received.
// It is not safe for concurrent use.
type Run struct {
	opts  Options
	id    string
	fill  []byte
	epoch time.Time // zero of the run's clock

	publishers []*publisher
	consumers  []*consumer
	seen       []bitset // by publisher
	counts     counts
	emptyRSS   int64 // the broker's memory before the first message
}

// runIDBytes is the length of the random part in the names of a run.
const runIDBytes = 6

// New prepares a run.
func New(opts Options) (*Run, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	var id [runIDBytes]byte
	rand.Read(id[:])
	return &Run{
		opts:  opts,
		id:    hex.EncodeToString(id[:]),
		fill:  pattern(opts.Size),
		epoch: time.Now(),
		seen:  make([]bitset, opts.Publishers),
	}, nil
}

// now is the run's monotonic clock in nanoseconds.
func (r *Run) now() int64                { return int64(time.Since(r.epoch)) }
func (r *Run) at(t time.Time) int64      { return int64(t.Sub(r.epoch)) }
func (r *Run) exchange() string          { return "bench-" + r.id }
func (r *Run) queue(i int) string        { return fmt.Sprintf("bench-%s-%d", r.id, i) }
func (r *Run) key(i int) string          { return fmt.Sprintf("k%d", i) } // of a binding
func runPrefix(run string, i int) string { return fmt.Sprintf("%s-p%d-", run, i) }

// Setup declares the exchange and the queues, and binds them.
func (r *Run) Setup(ctx context.Context) error {
	c, err := r.opts.Dial(ctx, r.opts.Window)
	if err != nil {
		return err
	}
	defer c.Close()
	t := client.Topology{Exchanges: []client.Exchange{{Name: r.exchange(), Kind: "direct"}}}
	var options *sealmq.QueueOptions
	if need := r.opts.LineBytes; need > sealmq.DefaultMaxLineBytes {
		options = &sealmq.QueueOptions{MaxLineBytes: need}
	}
	for i := range r.opts.Queues + r.opts.IdleQueues {
		t.Queues = append(t.Queues, client.Queue{Name: r.queue(i), Options: options})
		t.Bindings = append(t.Bindings, client.Binding{Queue: r.queue(i), Exchange: r.exchange(), Key: r.key(i)})
	}
	return c.Declare(ctx, t)
}

// removeWindow is how many deletions may wait for their reply.
const removeWindow = 256

// Remove deletes everything that Setup declared, also after Setup failed halfway. It needs
// an administrator's certificate.
func (r *Run) Remove(ctx context.Context) error {
	c, err := r.opts.Dial(ctx, r.opts.Window)
	if err != nil {
		return err
	}
	defer c.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(removeWindow)
	for i := range r.opts.Queues + r.opts.IdleQueues {
		g.Go(func() error {
			_, err := c.DeleteQueue(ctx, r.queue(i))
			return ignoreMissing(err)
		})
	}
	g.Go(func() error { return ignoreMissing(c.DeleteExchange(ctx, r.exchange())) })
	return g.Wait()
}

// ignoreMissing ignores that there is nothing to delete.
func ignoreMissing(err error) error {
	switch sealmq.CodeOf(err) {
	case sealmq.NoQueue, sealmq.NoExchange:
		return nil
	}
	return err
}

// Publish publishes the given number of messages or, if it is 0, publishes for the
// duration. It returns when the broker has confirmed all messages.
func (r *Run) Publish(ctx context.Context, messages uint64, duration time.Duration) error {
	stop := time.Now().Add(duration)
	if messages > 0 {
		stop = time.Now().Add(365 * 24 * time.Hour)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(r.publishers))
	n := uint64(len(r.publishers))
	for i, p := range r.publishers {
		count := ^uint64(0)
		if messages > 0 {
			count = messages / n
			if uint64(i) < messages%n {
				count++
			}
		}
		wg.Go(func() { errs[i] = p.publish(ctx, count, stop) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Subscribe opens the consumers. If measure is set, they record the age of each message.
func (r *Run) Subscribe(ctx context.Context, measure bool) error {
	for i := range r.opts.Consumers {
		conn, err := r.opts.Dial(ctx, r.opts.Window)
		if err != nil {
			return err
		}
		k, err := newConsumer(ctx, r, conn, i%r.opts.Queues, measure)
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		r.consumers = append(r.consumers, k)
	}
	return nil
}

// pollInterval is how often the number of delivered messages is read.
const pollInterval = time.Millisecond

// Drain waits until every confirmed message has arrived, or until no
// message has arrived for the stall time.
func (r *Run) Drain(ctx context.Context) error {
	return reach(ctx, pollInterval, r.opts.Stall, r.confirmed(), func() (uint64, error) { return r.counts.delivered.Load(), nil })
}

// reach waits until count is at least want, or until it has not changed for the stall time: what is
// missing counts as lost.
func reach[N int | uint64](ctx context.Context, every, stall time.Duration, want N, count func() (N, error)) error {
	var last N
	for since := time.Now(); ; {
		got, err := count()
		switch {
		case err != nil || got >= want:
			return err
		case got != last:
			last, since = got, time.Now()
		case time.Since(since) > stall:
			return nil
		}
		if err := clock.Sleep(ctx, clock.System, every); err != nil {
			return err
		}
	}
}

// Close closes all connections and returns the errors of the consumers.
func (r *Run) Close() error {
	var errs []error
	for _, k := range r.consumers {
		errs = append(errs, k.close())
	}
	r.consumers = nil
	for _, p := range r.publishers {
		if p.client != nil {
			p.client.Close() // every publish is confirmed, so there is no error to report
		}
	}
	return errors.Join(errs...)
}

func (r *Run) sent() (n uint64) {
	for _, p := range r.publishers {
		n += p.sent
	}
	return n
}

func (r *Run) confirmed() (n uint64) {
	for _, p := range r.publishers {
		n += p.nConfirms.Load()
	}
	return n
}

// lost counts the confirmed messages that never arrived.
func (r *Run) lost() (n uint64) {
	for i, p := range r.publishers {
		n += p.confirmed.missing(&r.seen[i], p.sent)
	}
	return n
}
