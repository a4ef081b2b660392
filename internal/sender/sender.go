// Package sender seals texts and publishes them until each is confirmed.
//
// It promises that every text is sealed once and that the same bytes are published again
// until the broker has confirmed or refused them for good; that it holds no more than a
// window of them in memory; and that the first refusal that time cannot cure ends the run.
//
// It does not connect, does not read files by itself, and does not print.
package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
)

// Publisher is what a sender needs of a client; *client.Client is one.
type Publisher interface {
	PublishAsync(ctx context.Context, m client.Message, confirmed func(error)) error
	Flush(ctx context.Context) error
}

// Config is what a sender works with. Publisher, Key, Exchange and RoutingKey must be set.
type Config struct {
	Publisher            Publisher
	Key                  *seal.PublicKey
	Exchange, RoutingKey string
	// BackoffMin and BackoffMax bound the pause before what the broker could not take is
	// published again (default 100 ms and 5 s).
	BackoffMin, BackoffMax time.Duration
	// GiveUp ends Run when the broker could take nothing for so long (default: never).
	GiveUp time.Duration
	// Waiting is told once for each reason why the broker takes nothing, when it has
	// taken nothing for a second. It is called by Run.
	Waiting func(reason error)
	// Clock is the time that pauses and latencies see (default: the machine's).
	Clock clock.Clock
}

// Stats counts what a sender did.
type Stats struct {
	Read      uint64 // texts read
	Confirmed uint64
	Bytes     uint64 // of the texts that are confirmed
	Refused   uint64 // for good
	Retried   uint64 // publishes again after the broker could not take them
	Waited    uint64 // messages that were published again so, each counted once
	Unknown   uint64 // published, and neither confirmed nor refused: stored or not
	// ConfirmP50 and ConfirmP99 are the times from the first publish to the confirm.
	ConfirmP50, ConfirmP99 time.Duration
}

// Sender is one run; its Stats may be read while it runs.
type Sender struct {
	cfg Config

	read, confirmed, bytes, refused, retried, waited atomic.Uint64
	unknown                                          atomic.Int64

	mu      sync.Mutex
	latency *hdrhistogram.Histogram // microseconds
	retry   []*message
	failed  error         // the first refusal for good
	reason  error         // the last refusal that time can cure
	wake    chan struct{} // room for one signal that retry or failed changed

	told map[string]bool // reasons that Waiting has heard; Run's own
}

// message is a sealed text that is not confirmed yet.
type message struct {
	client.Message
	size  int       // of the text
	first time.Time // when it was published first
	again bool      // it was published more than once
}

// New prepares a run.
func New(cfg Config) *Sender {
	if cfg.BackoffMin <= 0 {
		cfg.BackoffMin = 100 * time.Millisecond
	}
	if cfg.BackoffMax <= 0 {
		cfg.BackoffMax = 5 * time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Waiting == nil {
		cfg.Waiting = func(error) {}
	}
	const mostMicroseconds = int64(time.Hour / time.Microsecond)
	return &Sender{cfg: cfg, latency: hdrhistogram.New(1, mostMicroseconds, 3), wake: make(chan struct{}, 1),
		told: make(map[string]bool)}
}

// Stats returns the counters.
func (s *Sender) Stats() Stats {
	st := Stats{Read: s.read.Load(), Confirmed: s.confirmed.Load(), Bytes: s.bytes.Load(),
		Refused: s.refused.Load(), Retried: s.retried.Load(), Waited: s.waited.Load(), Unknown: uint64(max(0, s.unknown.Load()))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latency.TotalCount() > 0 {
		st.ConfirmP50 = time.Duration(s.latency.ValueAtQuantile(50)) * time.Microsecond
		st.ConfirmP99 = time.Duration(s.latency.ValueAtQuantile(99)) * time.Microsecond
	}
	return st
}

// Run sends what next returns, until io.EOF, and waits for the confirms. It returns the
// first error: of next, of sealing, a refusal for good, or ctx's. What was published and
// is not confirmed when ctx ends may be stored or not.
func (s *Sender) Run(ctx context.Context, next func() ([]byte, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sealed := s.seal(ctx, next)
	for {
		if err := s.publishAgain(ctx); err != nil {
			return err
		}
		select {
		case job, ok := <-sealed:
			if !ok {
				return s.finish(ctx)
			}
			m, err := job.wait(ctx)
			if err != nil {
				return err
			}
			m.first = s.cfg.Clock.Now()
			if err := s.publish(ctx, m); err != nil {
				return err
			}
		case <-s.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// finish waits until nothing is under way and nothing is left to publish again.
func (s *Sender) finish(ctx context.Context) error {
	for {
		if err := s.cfg.Publisher.Flush(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		over := len(s.retry) == 0 && s.failed == nil
		s.mu.Unlock()
		if over {
			return nil
		}
		if err := s.publishAgain(ctx); err != nil {
			return err
		}
	}
}

func (s *Sender) publish(ctx context.Context, m *message) error {
	s.unknown.Add(1)
	err := s.cfg.Publisher.PublishAsync(ctx, m.Message, func(err error) { s.answered(m, err) })
	if err != nil {
		s.unknown.Add(-1) // it was not taken
	}
	return err
}

// answered runs on the client's goroutine.
func (s *Sender) answered(m *message, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(err, client.ErrClosed) {
		s.unknown.Add(-1)
	}
	switch {
	case err == nil:
		s.confirmed.Add(1)
		s.bytes.Add(uint64(m.size))
		// Beyond the histogram's hour nobody asks for a third digit.
		_ = s.latency.RecordValue(max(1, s.cfg.Clock.Now().Sub(m.first).Microseconds()))
		return
	case client.Retryable(err):
		s.retry = append(s.retry, m)
		s.reason = err
	case errors.Is(err, client.ErrClosed):
		if s.failed == nil {
			s.failed = err
		}
	default:
		s.refused.Add(1)
		if s.failed == nil {
			s.failed = fmt.Errorf("message %s was refused: %w", m.ID, err)
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// publishAgain publishes what the broker could not take, after a pause that grows while
// it still cannot. New texts wait meanwhile: the broker could not take them either.
func (s *Sender) publishAgain(ctx context.Context) error {
	pause := s.cfg.BackoffMin
	since, confirmed := s.cfg.Clock.Now(), s.confirmed.Load()
	for {
		s.mu.Lock()
		again, failed, reason := s.retry, s.failed, s.reason
		s.retry = nil
		s.mu.Unlock()
		if failed != nil {
			return failed
		}
		if len(again) == 0 {
			return nil
		}
		if n := s.confirmed.Load(); n != confirmed {
			since, confirmed = s.cfg.Clock.Now(), n
		}
		if err := s.pause(ctx, pause, since, reason); err != nil {
			return err
		}
		pause = min(2*pause, s.cfg.BackoffMax)
		for _, m := range again {
			s.retried.Add(1)
			if !m.again {
				m.again = true
				s.waited.Add(1)
			}
			if err := s.publish(ctx, m); err != nil {
				return err
			}
		}
		if err := s.cfg.Publisher.Flush(ctx); err != nil {
			return err
		}
	}
}

// tellAfter is how long the broker takes nothing before Waiting is told.
const tellAfter = time.Second

// pause sleeps, tells on its way why, and ends the run when that has lasted too long.
func (s *Sender) pause(ctx context.Context, d time.Duration, since time.Time, reason error) error {
	lasted := func() time.Duration { return s.cfg.Clock.Now().Sub(since) }
	end := lasted() + d
	if s.cfg.GiveUp > 0 && end > s.cfg.GiveUp {
		end = s.cfg.GiveUp
	}
	if !s.told[reason.Error()] && end >= tellAfter {
		if err := s.sleep(ctx, max(0, tellAfter-lasted())); err != nil {
			return err
		}
		s.told[reason.Error()] = true
		s.cfg.Waiting(reason)
	}
	if err := s.sleep(ctx, max(0, end-lasted())); err != nil {
		return err
	}
	if s.cfg.GiveUp > 0 && lasted() >= s.cfg.GiveUp {
		return fmt.Errorf("the broker took nothing for %v: %w", s.cfg.GiveUp, reason)
	}
	return nil
}

func (s *Sender) sleep(ctx context.Context, d time.Duration) error {
	over := make(chan struct{})
	t := s.cfg.Clock.AfterFunc(d, func() { close(over) })
	defer t.Stop()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// job is a text that is being sealed.
type job struct {
	text  []byte
	m     *message
	err   error
	ready chan struct{}
}

func (j *job) wait(ctx context.Context) (*message, error) {
	select {
	case <-j.ready:
		return j.m, j.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// seal reads and seals ahead, on all cores, and returns the results in order. A read
// that blocks, from a terminal say, may outlive ctx; nothing waits for it.
func (s *Sender) seal(ctx context.Context, next func() ([]byte, error)) <-chan *job {
	const ahead = 64 // texts that are read and not yet published
	ordered, work := make(chan *job, ahead), make(chan *job, ahead)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for j := range work {
				id := seal.NewID()
				body, err := s.cfg.Key.Seal(id, j.text)
				j.m, j.err = &message{
					Message: client.Message{Exchange: s.cfg.Exchange, Key: s.cfg.RoutingKey, ID: id, Body: body},
					size:    len(j.text),
				}, err
				close(j.ready)
			}
		}()
	}
	go func() {
		defer close(ordered)
		defer close(work)
		for {
			text, err := next()
			if err == io.EOF {
				return
			}
			j := &job{text: text, err: err, ready: make(chan struct{})}
			if err != nil {
				close(j.ready)
			} else {
				s.read.Add(1)
				work <- j // has as much room as ordered
			}
			select {
			case ordered <- j:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return ordered
}
