// Package receiver takes sealed messages from a queue, opens them, writes them to a
// file, and acknowledges them.
//
// It promises that a message is acknowledged only after its line is on stable storage,
// that each message is in the file once however often it is delivered, and that what
// cannot be opened is not lost: it goes to the queue's dead-letter queue with the
// reason. A key that opens nothing at all moves nothing: the run ends with an
// UnopenedError, so that one wrong key does not empty a queue.
//
// It does not connect, does not read key files, and does not print.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/seal"
)

// Source is what a receiver needs of a subscription; *client.Subscription is one.
type Source interface {
	NextBatch(ctx context.Context, dst []client.Delivery) (int, error)
	Ack(ids ...string) error
	Dead(id, reason string) error
	SetPrefetch(n int) error
}

// Config is what a receiver works with. Source, Keys and File must be set.
type Config struct {
	Source Source
	// Keys are tried in order.
	Keys []*seal.PrivateKey
	File *jsonl.File
	// Count ends Run after so many new messages; 0 is no end.
	Count int
	// Idle ends Run when nothing came for so long; 0 is no end.
	Idle time.Duration
	// DeadLetter moves what cannot be opened from the first message on.
	DeadLetter bool
	// Prefetch is the one of the subscription (default: sealmq.DefaultPrefetch).
	Prefetch int
	// Clock is the time of the records (default: the machine's).
	Clock clock.Clock
	// Log gets a line for each message that could not be opened (default: nothing).
	Log *slog.Logger
}

// Stats counts what a receiver did.
type Stats struct {
	Received uint64 `json:"received"` // new messages written
	Known    uint64 `json:"known"`    // delivered again, and in the file already
	Dead     uint64 `json:"dead"`     // put into the dead-letter queue
	Bytes    uint64 `json:"bytes"`    // of the opened texts
}

// Trial is how many messages may not open before one does.
const Trial = 10

// UnopenedError says that the keys opened none of the first messages. Nothing was moved.
type UnopenedError struct {
	Messages int
	Err      error // about the first one
}

func (e *UnopenedError) Error() string {
	if e.Messages == 1 {
		return fmt.Sprintf("the first message cannot be opened: %v", e.Err)
	}
	return fmt.Sprintf("none of the first %d messages can be opened: %v", e.Messages, e.Err)
}

func (e *UnopenedError) Unwrap() error { return e.Err }

// batchSize is how many messages are opened, written and synced together.
const batchSize = 256

// Receiver is one run; its Stats may be read while it runs.
type Receiver struct {
	cfg      Config
	prefetch int
	received atomic.Uint64
	known    atomic.Uint64
	dead     atomic.Uint64
	bytes    atomic.Uint64
	// held are not settled, because nothing was opened yet.
	held []death
}

// death is a message that is to go to the dead-letter queue.
type death struct {
	id  string
	err error
}

// New prepares a run.
func New(cfg Config) *Receiver {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = sealmq.DefaultPrefetch
	}
	return &Receiver{cfg: cfg, prefetch: cfg.Prefetch}
}

// Prefetch is what to subscribe with: no more than what is wanted at all, because every
// message that is taken and given back counts as an attempt to deliver it.
func Prefetch(want, count int) int {
	if count > 0 {
		return min(want, count)
	}
	return want
}

// Stats returns the counters.
func (r *Receiver) Stats() Stats {
	return Stats{Received: r.received.Load(), Known: r.known.Load(), Dead: r.dead.Load(), Bytes: r.bytes.Load()}
}

// Run receives until Count or Idle is reached or ctx ends, which is no error. The
// acknowledgements of the last batch are on their way then; the client's Flush waits for them.
// If no message could be opened it returns an UnopenedError, and closing the connection
// gives them back.
func (r *Receiver) Run(ctx context.Context) error {
	if err := r.run(ctx); err != nil {
		return err
	}
	return r.unopened()
}

func (r *Receiver) unopened() error {
	if len(r.held) == 0 {
		return nil
	}
	return &UnopenedError{Messages: len(r.held), Err: r.held[0].err}
}

func (r *Receiver) run(ctx context.Context) error {
	batch := make([]client.Delivery, batchSize)
	results := make([]opened, batchSize)
	for ctx.Err() == nil {
		room := batchSize
		if r.cfg.Count > 0 {
			if room = min(room, r.cfg.Count-int(r.received.Load())); room <= 0 {
				return nil
			}
		}
		n, err := r.next(ctx, batch[:room])
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
				return nil
			}
			return err
		}
		r.open(batch[:n], results)
		if err := r.take(batch[:n], results); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receiver) next(ctx context.Context, dst []client.Delivery) (int, error) {
	if r.cfg.Idle > 0 {
		idle, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		t := r.cfg.Clock.AfterFunc(r.cfg.Idle, func() { cancel(context.DeadlineExceeded) })
		defer t.Stop()
		n, err := r.cfg.Source.NextBatch(idle, dst)
		if err != nil && context.Cause(idle) == context.DeadlineExceeded {
			err = context.DeadlineExceeded
		}
		return n, err
	}
	return r.cfg.Source.NextBatch(ctx, dst)
}

// opened is what became of one delivery.
type opened struct {
	text []byte
	err  error
}

// open opens a batch on all cores: with RSA this is by far the most work.
func (r *Receiver) open(batch []client.Delivery, out []opened) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(batch)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(batch) {
					return
				}
				out[i].text, out[i].err = openOne(r.cfg.Keys, &batch[i])
			}
		})
	}
	workers.Wait()
}

var (
	errOtherID   = errors.New("the envelope names another message id")
	errOtherText = errors.New("the message id was used for another text")
)

func openOne(keys []*seal.PrivateKey, d *client.Delivery) ([]byte, error) {
	var failed error
	for _, key := range keys {
		id, text, err := key.Open(d.Body)
		if err == nil && id != d.ID {
			err = errOtherID
		}
		if err == nil {
			return text, nil
		}
		// That a key is another one says least of all that can be said.
		if failed == nil || errors.Is(failed, seal.ErrWrongKey) {
			failed = err
		}
	}
	return nil, failed
}

// take writes what is new, syncs once, and only then settles the batch.
func (r *Receiver) take(batch []client.Delivery, results []opened) error {
	acks := make([]string, 0, len(batch))
	var deaths []death
	var fresh, known, bytes uint64
	someOpened := false
	for i := range batch {
		d, o := &batch[i], &results[i]
		if o.err != nil {
			deaths = append(deaths, death{d.ID, o.err})
			continue
		}
		someOpened = true
		switch r.cfg.File.Lookup(d.ID, o.text) {
		case jsonl.Same:
			known++
		case jsonl.Other:
			deaths = append(deaths, death{d.ID, errOtherText})
			continue
		case jsonl.New:
			if err := r.cfg.File.Append(r.record(d, o.text)); err != nil {
				return err
			}
			fresh++
			bytes += uint64(len(o.text))
		}
		acks = append(acks, d.ID)
	}
	if err := r.cfg.File.Commit(); err != nil {
		return err
	}
	r.received.Add(fresh)
	r.known.Add(known)
	r.bytes.Add(bytes)
	if err := r.narrow(); err != nil {
		return err
	}
	if err := r.bury(deaths, someOpened); err != nil {
		return err
	}
	return r.cfg.Source.Ack(acks...)
}

// bury moves what cannot be opened, once it is known that the keys open anything.
func (r *Receiver) bury(deaths []death, someOpened bool) error {
	if !someOpened && !r.cfg.DeadLetter && r.received.Load()+r.known.Load()+r.dead.Load() == 0 {
		for _, d := range deaths { // one that came again is held already
			if !slices.ContainsFunc(r.held, func(h death) bool { return h.id == d.id }) {
				r.held = append(r.held, d)
			}
		}
		if len(r.held) >= min(Trial, r.cfg.Prefetch) {
			return r.unopened()
		}
		return nil
	}
	for _, d := range slices.Concat(r.held, deaths) {
		r.cfg.Log.Warn("message cannot be opened and goes to the dead-letter queue", "message_id", d.id, "err", d.err)
		if err := r.cfg.Source.Dead(d.id, d.err.Error()); err != nil {
			return err
		}
		r.dead.Add(1)
	}
	r.held = nil
	return nil
}

// narrow keeps the broker from handing out more than is wanted, before the
// acknowledgements make room for more. At the end one message too many may still be
// handed out, because a prefetch cannot be zero; it goes back when the connection closes.
func (r *Receiver) narrow() error {
	if r.cfg.Count == 0 {
		return nil
	}
	left := max(1, r.cfg.Count-int(r.received.Load()))
	if left >= r.prefetch {
		return nil
	}
	r.prefetch = left
	if err := r.cfg.Source.SetPrefetch(left); err != nil {
		return fmt.Errorf("narrow the prefetch: %w", err)
	}
	return nil
}

func (r *Receiver) record(d *client.Delivery, text []byte) *jsonl.Record {
	rec := &jsonl.Record{MessageID: d.ID, Message: text, Received: r.cfg.Clock.Now()}
	if m, err := d.Meta(); err == nil {
		rec.Queue, rec.Publisher, rec.Exchange, rec.Key = m.Queue, m.Publisher, m.Exchange, m.Key
		rec.Published, rec.Attempt = m.Time, m.Attempt
	}
	return rec
}
