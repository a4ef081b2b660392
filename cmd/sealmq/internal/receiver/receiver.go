// Package receiver is what "sealmq receive" does with opened messages: it writes them to a
// file, or runs a command for each, and commits them.
//
// It promises that a line is on stable storage before its message is committed, so that
// each message is in the file once, whatever dies when; and that a message whose command did
// not succeed comes again, later and later.
//
// It does not connect, open messages or remember them, which client.Receiver does, and it
// does not print.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/receive"
)

// Source is what a run needs of a client.Receiver.
type Source interface {
	Next(ctx context.Context, limit int) ([]receive.Received, error)
	Commit(output receive.Output, list ...receive.Received) error
	Nack(delay time.Duration, list ...receive.Received) error
	SetPrefetch(n int) error
	Unopened() error
	Stats() receive.Stats
}

// Config is what a run works with. Source and either File or Do must be set.
type Config struct {
	Source Source
	// File takes the messages.
	File *jsonl.File
	// Do is called for each message, one after the other, instead. One that it returns an
	// error for is given back. An error that wraps ErrUnusable ends Run.
	Do func(ctx context.Context, m *receive.Received) error
	// Failed is told of each error of Do, with how long it takes until the message comes
	// again.
	Failed func(m *receive.Received, err error, again time.Duration)
	// Count ends Run after so many new messages; 0 is no end.
	Count int
	// Idle ends Run when nothing came for so long; 0 is no end.
	Idle time.Duration
	// Prefetch is the one of the subscription (default: sealmq.DefaultPrefetch).
	Prefetch int
	// Clock is the time of the records (default: the machine's).
	Clock clock.Clock
}

// Bounds of the pause before a message comes again whose command has failed. It doubles
// with each attempt.
const (
	MinAgain = time.Second
	MaxAgain = 5 * time.Minute
)

// ErrUnusable is what Do returns if it would fail for every message. Nothing counts as
// failed then.
var ErrUnusable = errors.New("the command cannot be run")

// Stats counts what a run did.
type Stats struct {
	receive.Stats
	Received uint64 // new messages that are committed
	Failed   uint64 // runs of Do
	Bytes    uint64 // of the texts
}

// Receiver is one run; its Stats may be read while it runs.
type Receiver struct {
	cfg                     Config
	prefetch                int
	received, failed, bytes atomic.Uint64
}

// New prepares a run.
func New(cfg Config) *Receiver {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = sealmq.DefaultPrefetch
	}
	if cfg.Failed == nil {
		cfg.Failed = func(*receive.Received, error, time.Duration) {}
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
	return Stats{Stats: r.cfg.Source.Stats(), Received: r.received.Load(), Failed: r.failed.Load(), Bytes: r.bytes.Load()}
}

// Run receives until Count or Idle is reached or ctx ends, which is no error. The
// acknowledgements of the last messages are on their way then; the client's Flush waits for
// them. If no message could be opened it returns a *client.UnopenedError, and closing the
// connection gives them back.
func (r *Receiver) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		limit := 0
		if r.cfg.Count > 0 {
			if limit = r.cfg.Count - int(r.received.Load()); limit <= 0 {
				break
			}
		}
		list, err := r.next(ctx, limit)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
				break
			}
			return err
		}
		if r.cfg.Do != nil {
			err = r.do(ctx, list)
		} else {
			err = r.keep(list)
		}
		if err != nil {
			return err
		}
	}
	return r.cfg.Source.Unopened()
}

// next waits for messages, and for no longer than Idle if nothing comes at all.
func (r *Receiver) next(ctx context.Context, limit int) ([]receive.Received, error) {
	if r.cfg.Idle <= 0 {
		return r.cfg.Source.Next(ctx, limit)
	}
	idle, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen := counted(r.cfg.Source.Stats())
	var t clock.Timer
	ready := make(chan struct{})
	t = r.cfg.Clock.AfterFunc(r.cfg.Idle, func() {
		<-ready
		// What came again counts as something that came, unless it comes every so often
		// and stays where it is.
		if now := counted(r.cfg.Source.Stats()); now != seen {
			seen = now
			t.Reset(r.cfg.Idle)
			return
		}
		cancel(context.DeadlineExceeded)
	})
	close(ready)
	defer t.Stop()
	list, err := r.cfg.Source.Next(idle, limit)
	if err != nil && context.Cause(idle) == context.DeadlineExceeded {
		err = context.DeadlineExceeded
	}
	return list, err
}

func counted(st receive.Stats) receive.Stats {
	st.Undecided, st.Stayed = 0, 0
	return st
}

// keep writes messages, syncs once, and only then commits them.
func (r *Receiver) keep(list []receive.Received) error {
	bytes := 0
	for i := range list {
		if err := r.cfg.File.Append(r.record(&list[i])); err != nil {
			return err
		}
		bytes += len(list[i].Text)
	}
	if err := r.cfg.File.Commit(); err != nil {
		return err
	}
	return r.commit(receive.Output{Length: r.cfg.File.Size(), Messages: uint64(r.cfg.File.Len())}, bytes, list...)
}

func (r *Receiver) commit(output receive.Output, bytes int, list ...receive.Received) error {
	r.received.Add(uint64(len(list)))
	r.bytes.Add(uint64(bytes))
	// Before the acknowledgements make room for more.
	if err := r.narrow(); err != nil {
		return err
	}
	return r.cfg.Source.Commit(output, list...)
}

// do runs the command for one message after the other.
func (r *Receiver) do(ctx context.Context, list []receive.Received) error {
	for i := range list {
		m := &list[i]
		if ctx.Err() != nil {
			return nil // an interruption is nobody's fault: they are given back uncounted
		}
		err := r.cfg.Do(ctx, m)
		switch {
		case err == nil:
			if err := r.commit(receive.Output{}, len(m.Text), *m); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrUnusable):
			return err
		default:
			again := pauseOf(m)
			r.failed.Add(1)
			r.cfg.Failed(m, err, again)
			if err := r.cfg.Source.Nack(again, *m); err != nil {
				return err
			}
		}
	}
	return nil
}

// pauseOf grows with the attempts that the broker has counted.
func pauseOf(m *receive.Received) time.Duration {
	meta, err := m.Delivery.Meta()
	if err != nil || meta.Attempt == 0 {
		return MinAgain
	}
	return min(MaxAgain, MinAgain<<min(meta.Attempt-1, 16))
}

// narrow keeps the broker from handing out more than is wanted. At the end one message
// too many may still be handed out, because a prefetch cannot be zero; it goes back when
// the connection closes.
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

func (r *Receiver) record(m *receive.Received) *jsonl.Record {
	rec := &jsonl.Record{MessageID: m.ID, Message: m.Text, Received: r.cfg.Clock.Now()}
	if meta, err := m.Delivery.Meta(); err == nil {
		rec.Queue, rec.Publisher, rec.Exchange, rec.Key = meta.Queue, meta.Publisher, meta.Exchange, meta.Key
		rec.Published, rec.Attempt = meta.Time, meta.Attempt
	}
	if m.Proven() { // the sender's word, which the broker cannot change
		rec.Sender, rec.SealedAt, rec.Exchange, rec.Key = m.Sender.ID, m.SealedAt, m.Exchange, m.RoutingKey
	}
	return rec
}
