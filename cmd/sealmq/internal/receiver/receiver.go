// Package receiver is what "sealmq receive" does with opened messages: it writes them to a
// file, or runs a command for each, and commits them.
//
// It promises that a line is on stable storage before its message is committed, so that each
// message is in the file once after any crash. A message whose command failed is delivered
// again, after a pause that grows.
//
// It does not connect, open messages or remember them: receive.Receiver does. It does not
// print.
package receiver

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/receive"
)

// Source is the part of a receive.Receiver that a run needs.
type Source interface {
	Next(ctx context.Context, limit int) ([]receive.Received, error)
	Commit(output receive.Output, list ...receive.Received) error
	Nack(delay time.Duration, list ...receive.Received) error
	Unopened() error
	Stats() receive.Stats
}

// Lines is where the messages are written: a *jsonl.File, or a *jsonl.Stream.
type Lines interface {
	Append(r *jsonl.Record) error
	Commit() error
	Size() int64
	Len() int
}

// Config is the configuration of a run. Source and either File or Do must be set.
type Config struct {
	Source Source
	File   Lines
	// Do is called for each message instead, one after the other. If it returns an error,
	// the message is returned to the queue. An error that wraps ErrUnusable ends Run.
	Do func(ctx context.Context, m *receive.Received) error
	// Failed is called with each error of Do, and with the pause before the message is
	// delivered again.
	Failed func(m *receive.Received, err error, again time.Duration)
	// Kept is called with messages that are in File; nil is allowed.
	Kept func(list []receive.Received)
	// Count ends Run after this many new messages; 0 is no limit.
	Count int
	// Idle ends Run when no message has come for this long; 0 is no limit.
	Idle time.Duration
	// Clock is the time of the records (default: the system's).
	Clock clock.Clock
}

// Bounds of the pause before a message whose command failed is delivered again. The pause
// doubles with each attempt.
const (
	MinAgain = time.Second
	MaxAgain = 5 * time.Minute
)

// ErrUnusable is what Do returns if it would fail for every message. The message then does
// not count as failed.
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
	received, failed, bytes atomic.Uint64
}

// New prepares a run.
func New(cfg Config) *Receiver {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Failed == nil {
		cfg.Failed = func(*receive.Received, error, time.Duration) {}
	}
	return &Receiver{cfg: cfg}
}

// Stats returns the counters.
func (r *Receiver) Stats() Stats {
	return Stats{Stats: r.cfg.Source.Stats(), Received: r.received.Load(), Failed: r.failed.Load(), Bytes: r.bytes.Load()}
}

// Run receives until Count or Idle is reached or ctx ends, which is no error. The last acks
// may not be confirmed yet; the client's Flush waits for them. If no message could be opened
// it returns a *receive.UnopenedError, and closing the connection returns the messages.
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

// next waits for messages, or for Idle if no message comes.
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
		// A redelivered message counts as one that came, except one that cannot be
		// handled and comes again and again.
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
	err := r.commit(receive.Output{Length: r.cfg.File.Size(), Messages: uint64(r.cfg.File.Len())}, bytes, list...)
	if err == nil && r.cfg.Kept != nil {
		r.cfg.Kept(list)
	}
	return err
}

func (r *Receiver) commit(output receive.Output, bytes int, list ...receive.Received) error {
	r.received.Add(uint64(len(list)))
	r.bytes.Add(uint64(bytes))
	return r.cfg.Source.Commit(output, list...)
}

// do runs the command for one message after the other.
func (r *Receiver) do(ctx context.Context, list []receive.Received) error {
	for i := range list {
		m := &list[i]
		if ctx.Err() != nil {
			return nil // interrupted: the messages are released without counting an attempt
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

// pauseOf is the pause before the next attempt. It grows with the broker's count of attempts.
func pauseOf(m *receive.Received) time.Duration {
	return min(MaxAgain, MinAgain<<min(max(m.Delivery.Attempt, 1)-1, 16))
}

func (r *Receiver) record(m *receive.Received) *jsonl.Record {
	d := m.Delivery
	rec := &jsonl.Record{MessageID: m.ID, Message: m.Text, Received: r.cfg.Clock.Now(), Queue: d.Queue, Publisher: d.Publisher,
		Exchange: d.Exchange, Key: d.Key, Published: d.Published, Attempt: d.Attempt}
	if m.Proven() { // signed by the sender, so the broker cannot change it
		rec.Sender, rec.SealedAt, rec.Exchange, rec.Key = m.Sender.ID, m.SealedAt, m.Exchange, m.RoutingKey
	}
	return rec
}
