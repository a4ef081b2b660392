package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// publisher is one connection that publishes.
type publisher struct {
	run      *Run
	client   *client.Client
	envelope *envelope
	keys     []string // used in turn
	exchange string

	// slots are the unused slots. Each message takes one, so that no message allocates
	// memory.
	slots chan *slot

	sent      uint64 // the number of the next message
	confirmed bitset
	nConfirms atomic.Uint64

	latency  *latency // nil before the measurement
	failures atomic.Uint64
	firstErr atomic.Pointer[error]
}

// slot holds an unconfirmed message.
type slot struct {
	number uint64
	sent   int64
	done   func(error)
}

func newPublisher(r *Run, i int, c *client.Client) *publisher {
	p := &publisher{
		run:      r,
		client:   c,
		envelope: newEnvelope(runPrefix(r.id, i), i, r.fill),
		exchange: r.exchange(),
		// One slot for each message of the window, so that the time of a message begins
		// when the window has room for it.
		slots: make(chan *slot, r.opts.Window),
	}
	for q := i % r.opts.Queues; q < r.opts.Queues; q += r.opts.Publishers {
		p.keys = append(p.keys, r.key(q))
	}
	for range cap(p.slots) {
		s := &slot{}
		s.done = func(err error) { p.confirm(s, err) }
		p.slots <- s
	}
	return p
}

// publish publishes up to count messages until stop, and waits for their confirms.
func (p *publisher) publish(ctx context.Context, count uint64, stop time.Time) error {
	for n := uint64(0); n < count; n++ {
		var s *slot
		select {
		case s = <-p.slots:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.number, s.sent = p.sent, p.run.now()
		if s.sent > p.run.at(stop) {
			p.slots <- s
			break
		}
		id, body := p.envelope.set(s.number, s.sent)
		err := p.client.PublishAsync(ctx, sealmq.Message{
			Exchange: p.exchange,
			Key:      p.keys[s.number%uint64(len(p.keys))],
			ID:       string(id),
			Body:     body,
		}, s.done)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		p.sent++
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("wait for confirms: %w", err)
	}
	return p.failed()
}

// confirm is the client's callback, called once for each message.
func (p *publisher) confirm(s *slot, err error) {
	if err != nil {
		p.failures.Add(1)
		p.firstErr.CompareAndSwap(nil, &err)
	} else {
		p.latency.record(p.run.now() - s.sent)
		p.confirmed.set(s.number)
		p.nConfirms.Add(1)
	}
	p.slots <- s
}

// failed is the first error of a publish, or nil.
func (p *publisher) failed() error {
	err := p.firstErr.Load()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%d publishes failed, the first with: %w", p.failures.Load(), *err)
}
