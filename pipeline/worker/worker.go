// Package worker takes items from the pipeline's queue and delivers them to the main
// server.
//
// It promises that an item leaves the queue only after the main server has stored it, or
// after the item was given up and is a dead letter; that an item that waits for its next
// attempt is in nobody's hands; and that while the main server does not answer, attempts
// are not used up: the worker pauses and tries with single items until one is taken.
//
// It does not open items, and knows neither the queue's kind nor the way to the main server.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/pipeline"
)

// Defaults of Config.
const (
	DefaultConcurrency = 4
	DefaultBatch       = 100
	DefaultTimeout     = 30 * time.Second
	DefaultDrain       = 25 * time.Second
)

// Config is what a Worker works with. Name, Queue and Main must be set; a zero field has its
// default.
type Config struct {
	// Name names the worker in queue, records and metrics; at most 100 bytes.
	Name  string
	Queue pipeline.Queue
	Main  pipeline.Main
	// Concurrency is how many calls to the main server are under way at a time.
	Concurrency int
	// Batch is how many items one call carries, at most pipeline.MaxBatch.
	Batch int
	// RetryInterval is the time between two attempts (default pipeline.RetryInterval).
	RetryInterval time.Duration
	// MaxAttempts is how often an item is tried before it is given up (default
	// pipeline.MaxAttempts); a negative number is no limit.
	MaxAttempts int
	// Timeout bounds one call to the main server.
	Timeout time.Duration
	// Drain is how long Run waits for calls that are under way when it is told to stop.
	Drain time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Worker delivers items. It is used once.
type Worker struct {
	cfg      Config
	metrics  *Metrics
	main     gate // of the main server
	queue    gate // of the queue
	failures failures

	mu       sync.Mutex
	consumer pipeline.Consumer // nil while there is none
}

// New prepares a worker. It takes nothing before Run.
func New(cfg Config) (*Worker, error) {
	if cfg.Name == "" || len(cfg.Name) > 100 {
		return nil, errors.New("a worker needs a name of 1 to 100 bytes")
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, DefaultConcurrency)
	cfg.Batch = cmp.Or(cfg.Batch, DefaultBatch)
	cfg.RetryInterval = cmp.Or(cfg.RetryInterval, pipeline.RetryInterval)
	cfg.MaxAttempts = cmp.Or(cfg.MaxAttempts, pipeline.MaxAttempts)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Drain = cmp.Or(cfg.Drain, DefaultDrain)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	switch {
	case cfg.Concurrency < 1 || cfg.Concurrency > 1000:
		return nil, fmt.Errorf("a worker's concurrency is between 1 and 1000, not %d", cfg.Concurrency)
	case cfg.Batch < 1 || cfg.Batch > pipeline.MaxBatch:
		return nil, fmt.Errorf("a worker's batch is between 1 and %d, not %d", pipeline.MaxBatch, cfg.Batch)
	}
	w := &Worker{cfg: cfg, metrics: newMetrics(cfg.Name, cfg.Queue)}
	w.main = gate{what: "the main server", log: cfg.Log}
	w.queue = gate{what: "the queue", log: cfg.Log}
	return w, nil
}

// Metrics are the worker's counters.
func (w *Worker) Metrics() *Metrics { return w.metrics }

// Run delivers items until ctx ends. Then it takes no more, lets the calls that are under
// way finish for Config.Drain, gives back what is not finished and returns nil. A queue
// or a main server that is away is waited for, at the start too.
func (w *Worker) Run(ctx context.Context) error {
	w.metrics.running.Set(1)
	defer w.metrics.running.Set(0)
	w.queue.err = errNoConsumer
	// Calls outlive ctx by the time to drain.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(w.cfg.Drain, cancel) })
	defer stop()
	var slots sync.WaitGroup
	for range w.cfg.Concurrency {
		slots.Go(func() { w.slot(ctx, calls) })
	}
	slots.Go(func() { w.look(ctx) })
	slots.Go(func() { w.reportFailures(ctx) })
	slots.Wait()
	if w.main.state() == nil {
		w.reportAll(calls)
	}
	if c := w.current(); c != nil {
		return c.Close()
	}
	return nil
}

var errNoConsumer = errors.New("it has not been reached yet")

// slot takes items and delivers them, a batch at a time.
func (w *Worker) slot(ctx, calls context.Context) {
	for {
		c := w.find(ctx)
		if c == nil {
			return
		}
		alone, ok := w.main.enter(ctx)
		if !ok {
			return
		}
		taken, err := w.take(ctx, c, alone)
		if err != nil && ctx.Err() == nil {
			w.drop(c, err)
		}
		w.process(calls, c, alone, taken)
	}
}

func (w *Worker) current() pipeline.Consumer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.consumer
}

// find waits for the queue and returns the consumer. Of several callers one begins to
// consume. It is nil when ctx has ended.
func (w *Worker) find(ctx context.Context) pipeline.Consumer {
	for {
		alone, ok := w.queue.enter(ctx)
		if !ok {
			return nil
		}
		c := w.current()
		switch {
		case !alone && c != nil:
			return c
		case !alone: // another slot has just dropped it
			w.queue.leave(false, errNoConsumer)
		case c != nil:
			call, cancel := context.WithTimeout(ctx, lookTimeout)
			w.queue.leave(true, w.askQueue(call))
			cancel()
		default:
			w.queue.leave(true, w.consume())
		}
	}
}

// consume begins to consume.
func (w *Worker) consume() error {
	c, err := w.cfg.Queue.Consumer(w.cfg.Name)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.consumer = c
	return nil
}

// drop gives up a consumer that takes nothing any more, for example because its queue was
// deleted. What it holds comes again, unless it went with the queue.
func (w *Worker) drop(c pipeline.Consumer, why error) {
	w.mu.Lock()
	mine := w.consumer == c
	if mine {
		w.consumer = nil
	}
	w.mu.Unlock()
	if !mine {
		return
	}
	w.queue.leave(false, why)
	if err := c.Close(); err != nil {
		w.cfg.Log.Info("a consumer that takes nothing any more was not closed", "error", err)
	}
}

// Times of look.
const (
	lookEvery   = 5 * time.Second
	lookTimeout = 2 * time.Second
)

// look notices that the queue or the main server is away while there is nothing to do.
func (w *Worker) look(ctx context.Context) {
	var queueAway, mainAway bool
	for clock.Sleep(ctx, clock.System, lookEvery) == nil {
		queueAway = watch(ctx, &w.queue, queueAway, w.askQueue)
		mainAway = watch(ctx, &w.main, mainAway, w.askMain)
	}
}

// watch closes a gate if nobody answers behind it, and opens it later if it has closed it. It
// returns whether it did.
func watch(ctx context.Context, g *gate, closed bool, ask func(context.Context) error) bool {
	if g.state() != nil && !closed {
		return false
	}
	call, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	err := ask(call)
	if ctx.Err() == nil && (err != nil || closed) {
		g.leave(false, err)
	}
	return err != nil
}

func (w *Worker) askQueue(ctx context.Context) error {
	_, err := w.cfg.Queue.Counts(ctx)
	return err
}

// askMain fails only if the main server does not answer: a refusal of its keys says nothing
// about deliveries.
func (w *Worker) askMain(ctx context.Context) error {
	if _, err := w.cfg.Main.Keys(ctx); sealmq.CodeOf(err) == sealmq.Unavailable {
		return err
	}
	return nil
}

// take takes a batch, or a single item if this is the one to try whether the main server
// is back.
func (w *Worker) take(ctx context.Context, c pipeline.Consumer, alone bool) ([]pipeline.Taken, error) {
	if !alone {
		return c.Take(ctx, w.cfg.Batch)
	}
	wait, cancel := context.WithTimeout(ctx, maxPause)
	defer cancel()
	taken, err := c.Take(wait, 1)
	if wait.Err() != nil {
		err = nil
	}
	return taken, err
}

// process delivers what was taken and tells the queue what became of it.
func (w *Worker) process(ctx context.Context, c pipeline.Consumer, alone bool, taken []pipeline.Taken) {
	w.metrics.processing.Add(float64(len(taken)))
	defer w.metrics.processing.Sub(float64(len(taken)))
	finished, dead, tries := w.sort(taken)
	switch {
	case len(tries) > 0:
		done, bad := w.deliver(ctx, alone, tries)
		finished, dead = append(finished, done...), append(dead, bad...)
	case alone: // there was nothing to try with
		call, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
		_, err := w.cfg.Main.Keys(call)
		cancel()
		w.main.leave(true, err)
	}
	if len(dead) > 0 {
		finished = append(finished, w.giveUp(ctx, dead)...)
	}
	if len(finished) > 0 {
		w.finish(ctx, c, finished)
	}
}

// deadItem is an item that is to become a dead letter.
type deadItem struct {
	*pipeline.Taken
	reason string // a Reason
	why    string // what else there is to say
	// says is what its row gets as the reason; empty leaves the row alone, because it is
	// another message's.
	says string
}

// sort sets aside what is not to be delivered: items that are none, and those that have
// used up their attempts.
func (w *Worker) sort(taken []pipeline.Taken) (finished []pipeline.Finished, dead []deadItem, tries []pipeline.Taken) {
	for i := range taken {
		t := &taken[i]
		switch {
		case t.Err != nil:
			w.cfg.Log.Warn("an item of the queue cannot be read; it is a dead letter now", "error", t.Err)
			w.metrics.gaveUp(pipeline.ReasonMalformed)
			finished = append(finished, pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Dead, Reason: pipeline.ReasonMalformed})
		case w.cfg.MaxAttempts > 0 && t.Item.AttemptCount >= w.cfg.MaxAttempts:
			dead = append(dead, deadItem{Taken: t, reason: pipeline.ReasonMaxAttempts, says: fmt.Sprintf("Exceeded maximum attempts (%d)", w.cfg.MaxAttempts)})
		default:
			tries = append(tries, *t)
		}
	}
	return finished, dead, tries
}

// giveUp makes dead letters, once their rows say so: nobody looks at a row again whose item is
// gone from the queue. If the main server cannot be told, the items are tried again.
func (w *Worker) giveUp(ctx context.Context, dead []deadItem) []pipeline.Finished {
	var updates []pipeline.Update
	for _, d := range dead {
		if d.says != "" {
			updates = append(updates, pipeline.Update{MessageID: d.Item.MessageID, ClientID: d.Item.ClientID, State: pipeline.Failed,
				Attempts: d.Item.AttemptCount, Worker: w.cfg.Name, Error: d.says})
		}
	}
	var err error
	if len(updates) > 0 {
		call, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
		defer cancel()
		if _, err = w.cfg.Main.Status(call, updates); err != nil {
			w.cfg.Log.Info("messages that failed stay in the queue, because their state could not be reported", "messages", len(updates), "error", err)
		}
	}
	finished := make([]pipeline.Finished, len(dead))
	for i, d := range dead {
		if err != nil && d.says != "" {
			finished[i] = w.again(d.Taken, "its failure could not be reported")
			continue
		}
		w.cfg.Log.Warn("a message was given up", "message_id", d.Item.MessageID, "client_id", d.Item.ClientID, "attempts", d.Item.AttemptCount, "reason", d.reason, "why", d.why)
		w.metrics.gaveUp(d.reason)
		reason := d.reason
		if d.why != "" {
			reason += ": " + d.why
		}
		finished[i] = pipeline.Finished{Ticket: d.Ticket, Verdict: pipeline.Dead, Reason: reason}
	}
	return finished
}

// again has an item tried again later.
func (w *Worker) again(t *pipeline.Taken, why string) pipeline.Finished {
	w.metrics.retried.Inc()
	w.metrics.processed.WithLabelValues("retried").Inc()
	return pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Retry, After: w.cfg.RetryInterval, Reason: why}
}

// deliver makes one call for all items and says what is to become of each.
func (w *Worker) deliver(ctx context.Context, alone bool, tries []pipeline.Taken) (finished []pipeline.Finished, dead []deadItem) {
	items := make([]pipeline.Item, len(tries))
	for i := range tries {
		tries[i].Item.AttemptCount++
		items[i] = tries[i].Item
	}
	call, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	began := time.Now()
	results, err := w.cfg.Main.Deliver(call, w.cfg.Name, items)
	if err == nil && len(results) != len(items) {
		err = fmt.Errorf("the main server answered %d of %d messages", len(results), len(items))
	}
	w.main.leave(alone, err)
	if err != nil {
		return w.failed(ctx, tries, err), nil
	}
	w.metrics.duration.Observe(time.Since(began).Seconds())
	now := time.Now()
	for i := range tries {
		t, r := &tries[i], &results[i]
		switch reason, says := judge(r); {
		case reason != "":
			dead = append(dead, deadItem{Taken: t, reason: reason, why: r.Reason, says: says})
		case r.Status == pipeline.StatusDelivered || r.Status == pipeline.StatusAlready:
			w.metrics.delivered.Inc()
			w.metrics.processed.WithLabelValues("delivered").Inc()
			if !t.Item.QueuedAt.IsZero() {
				w.metrics.wait.Observe(max(0, now.Sub(t.Item.QueuedAt).Seconds()))
			}
			finished = append(finished, pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Done})
		default:
			why := cmp.Or(r.Reason, string(r.Status))
			w.noteFailure(&t.Item, why)
			finished = append(finished, w.again(t, why))
		}
	}
	return finished, dead
}

// failed returns the items of a call that failed. A single one has had its attempt, unless
// it was never sent. Of several nobody knows which one is to blame, so none has: they are
// tried one at a time until the main server answers again.
func (w *Worker) failed(ctx context.Context, tries []pipeline.Taken, err error) []pipeline.Finished {
	finished := make([]pipeline.Finished, len(tries))
	for i := range tries {
		if len(tries) > 1 || errors.Is(err, pipeline.ErrUnsent) || ctx.Err() != nil {
			finished[i] = pipeline.Finished{Ticket: tries[i].Ticket, Verdict: pipeline.Release}
			continue
		}
		w.noteFailure(&tries[i].Item, err.Error())
		finished[i] = w.again(&tries[i], err.Error())
	}
	return finished
}

// judge says by what the main server answered why an item is given up, and what its row gets to
// say. A conflict is with a row of another message, which that stays.
func judge(r *pipeline.Result) (reason, says string) {
	switch r.Status {
	case pipeline.StatusConflict:
		return pipeline.ReasonConflict, ""
	case pipeline.StatusInvalid:
		reason = pipeline.ReasonMalformed
	case pipeline.StatusRefused:
		reason = pipeline.ReasonRefused
	default:
		return "", ""
	}
	return reason, reason + ": " + r.Reason
}

// finish tells the queue until it has heard, or the consumer is given up. What the queue never
// hears of comes again, and the main server recognises it.
func (w *Worker) finish(ctx context.Context, c pipeline.Consumer, finished []pipeline.Finished) {
	for {
		alone, ok := w.queue.enter(ctx)
		if !ok {
			return
		}
		if w.current() != c {
			if alone {
				w.queue.leave(true, errNoConsumer)
			}
			w.cfg.Log.Info("the queue was lost before it heard what became of its items; they may come again", "items", len(finished))
			return
		}
		err := c.Finish(ctx, finished)
		w.queue.leave(alone, err)
		if err == nil {
			return
		}
	}
}
