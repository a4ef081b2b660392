// Package sender is what "sealmq send" does with its texts: it reads them ahead, seals them
// on all cores if that takes long, publishes them in order, and counts them.
//
// It promises that the first error ends the run, whether of the source, of sealing, or a
// refusal by the broker. Messages that were published before are still counted correctly.
//
// It does not connect, open files or print. It is send.Sender that seals each text once and
// sends it until it is confirmed.
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

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/send"
)

// Out is the part of a send.Sender that a run needs.
type Out interface {
	Seal(ctx context.Context, exchange, key string, text []byte) (sealmq.Message, error)
	Publish(ctx context.Context, m sealmq.Message, position []byte, confirmed func(id string, err error)) error
	Flush(ctx context.Context) error
	Stats() send.Stats
}

// Text is one text of a source, with the position after it.
type Text struct {
	Body     []byte
	Position []byte
	// Source and Line are its place, for errors; they are empty and 0 if it has none.
	Source string
	Line   int
}

// Place describes the place of a text, or is "".
func Place(source string, line int) string {
	if line == 0 {
		return source
	}
	return fmt.Sprintf("line %d of %s", line, source)
}

// TextError is an error with the place of its text.
type TextError struct {
	Place string
	Err   error
}

// Error begins with the place.
func (e *TextError) Error() string { return e.Place + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *TextError) Unwrap() error { return e.Err }

// failed adds the place of the text to an error.
func (t *Text) failed(err error) error {
	place := Place(t.Source, t.Line)
	if err == nil || place == "" || errors.Is(err, send.ErrStopped) || errors.Is(err, context.Canceled) {
		return err
	}
	return &TextError{place, err}
}

// Config is the configuration of a run. Out, Exchange and RoutingKey must be set.
type Config struct {
	Out                  Out
	Exchange, RoutingKey string
	// Workers is how many texts are sealed at a time (default 1). More workers help if
	// sealing takes long. Then the sequence numbers are not in the order of the messages.
	Workers int
	// Clock is the time for latencies (default: the system's).
	Clock clock.Clock
}

// Workers is the number of cores to seal on.
func Workers() int { return runtime.GOMAXPROCS(0) }

// Stats counts what a run did.
type Stats struct {
	send.Stats
	Read  uint64 // texts read
	Bytes uint64 // of the confirmed texts
	// ConfirmP50 and ConfirmP99 are quantiles of the time from publish to confirm.
	ConfirmP50, ConfirmP99 time.Duration
}

// Sender is one run; its Stats may be read while it runs.
type Sender struct {
	cfg         Config
	read, bytes atomic.Uint64

	mu      sync.Mutex
	latency *hdrhistogram.Histogram // microseconds
	failed  chan error              // the first refusal
}

// New prepares a run.
func New(cfg Config) *Sender {
	if cfg.Clock == nil {
		cfg.Clock = clock.System
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 1
	}
	const mostMicroseconds = int64(time.Hour / time.Microsecond)
	return &Sender{cfg: cfg, latency: hdrhistogram.New(1, mostMicroseconds, 3), failed: make(chan error, 1)}
}

// Stats returns the counters.
func (s *Sender) Stats() Stats {
	st := Stats{Stats: s.cfg.Out.Stats(), Read: s.read.Load(), Bytes: s.bytes.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latency.TotalCount() > 0 {
		st.ConfirmP50 = time.Duration(s.latency.ValueAtQuantile(50)) * time.Microsecond
		st.ConfirmP99 = time.Duration(s.latency.ValueAtQuantile(99)) * time.Microsecond
	}
	return st
}

// Run sends the texts of next until io.EOF, and waits for the confirms. It returns the first
// error: of next, of sealing, a refusal, or that of ctx. If ctx ends, published messages that
// are not confirmed may be stored or not.
func (s *Sender) Run(ctx context.Context, next func() (Text, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sealed := s.seal(ctx, next)
	for {
		select {
		case j, ok := <-sealed:
			if !ok && ctx.Err() != nil { // not the end of the texts
				return s.firstOr(ctx.Err())
			}
			if !ok {
				return s.firstOr(s.cfg.Out.Flush(ctx))
			}
			if err := j.wait(ctx); err != nil {
				return s.firstOr(err)
			}
			if err := s.publish(ctx, j); err != nil {
				return s.firstOr(err)
			}
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return s.firstOr(ctx.Err())
		}
	}
}

// firstOr returns the first refusal, if there was one, because err may only follow from it.
func (s *Sender) firstOr(err error) error {
	select {
	case first := <-s.failed:
		return first
	default:
		return err
	}
}

func (s *Sender) publish(ctx context.Context, j *job) error {
	size, began := len(j.text.Body), s.cfg.Clock.Now()
	where := Text{Source: j.text.Source, Line: j.text.Line} // without the body, to free it
	err := s.cfg.Out.Publish(ctx, j.m, j.text.Position, func(_ string, err error) {
		if err != nil {
			select {
			case s.failed <- where.failed(err):
			default:
			}
			return
		}
		s.bytes.Add(uint64(size))
		s.mu.Lock()
		defer s.mu.Unlock()
		// An error means more than the histogram's maximum of an hour: it is not recorded.
		_ = s.latency.RecordValue(max(1, s.cfg.Clock.Now().Sub(began).Microseconds()))
	})
	return where.failed(err)
}

// job is a text that is being sealed.
type job struct {
	text  Text
	m     sealmq.Message
	err   error
	ready chan struct{}
}

func (j *job) wait(ctx context.Context) error {
	select {
	case <-j.ready:
		return j.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seal reads and seals texts ahead and returns the results in order. A read that blocks, for
// example from a terminal, may outlive ctx; nothing waits for it.
func (s *Sender) seal(ctx context.Context, next func() (Text, error)) <-chan *job {
	const ahead = 64 // texts that are read and not published yet
	ordered, work := make(chan *job, ahead), make(chan *job, ahead)
	// A goroutine for each text would have to grow its stack each time, which is a quarter of the work.
	for range s.cfg.Workers {
		go func() {
			for j := range work {
				j.m, j.err = s.cfg.Out.Seal(ctx, s.cfg.Exchange, s.cfg.RoutingKey, j.text.Body)
				j.err = j.text.failed(j.err)
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
				work <- j // sealing ends with ctx, so this does not block for ever
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
