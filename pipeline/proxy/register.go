package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// Times of the registrar.
const (
	gatherFor       = 250 * time.Millisecond
	registerTimeout = 10 * time.Second
	firstPause      = time.Second
	longestPause    = 30 * time.Second
	registerDrain   = 5 * time.Second
	// registerCalls is how many calls run at once: each may wait a second for the deliveries
	// of its messages.
	registerCalls = 16
)

// registrar tells the main server of queued messages, so that their rows are there before
// a worker delivers them. It is bounded: what finds no room is not registered, and the main
// server finds it in the queue, or it gets its row with its delivery.
type registrar struct {
	main    pipeline.Main
	max     int
	metrics *metrics
	log     *slog.Logger

	mu      sync.Mutex
	waiting []pipeline.Item
	held    int // waiting, and in calls
	failing bool
	arrived chan struct{} // has an element if something arrived
}

func newRegistrar(main pipeline.Main, max int, m *metrics, log *slog.Logger) *registrar {
	return &registrar{main: main, max: max, metrics: m, log: log, arrived: make(chan struct{}, 1)}
}

// add takes items without waiting. The newest are left out if there is no room.
func (r *registrar) add(items ...pipeline.Item) {
	r.mu.Lock()
	n := min(len(items), r.max-r.held)
	r.waiting = append(r.waiting, items[:n]...)
	r.held += n
	r.mu.Unlock()
	r.metrics.registrations["dropped"].Add(float64(len(items) - n))
	if n > 0 {
		select {
		case r.arrived <- struct{}{}:
		default:
		}
	}
}

// backlog is how many messages are not registered yet.
func (r *registrar) backlog() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return float64(r.held)
}

func (r *registrar) take() []pipeline.Item {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), pipeline.MaxBatch)
	batch := r.waiting[:n:n]
	r.waiting = r.waiting[n:]
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
	return batch
}

func (r *registrar) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) >= pipeline.MaxBatch
}

// run registers until ctx ends, and then what is left, within registerDrain.
func (r *registrar) run(ctx context.Context) {
	calls, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	slots := make(chan struct{}, registerCalls)
	var wg sync.WaitGroup
	start := func() {
		for batch := r.take(); len(batch) > 0; batch = r.take() {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				r.register(ctx, calls, batch)
			})
		}
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.arrived:
			r.gather(ctx)
			start()
		}
	}
	time.AfterFunc(registerDrain, stop)
	start()
	wg.Wait()
}

// gather waits for more, so that a call is worth its while.
func (r *registrar) gather(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, gatherFor)
	defer cancel()
	for !r.full() {
		select {
		case <-ctx.Done():
			return
		case <-r.arrived:
		}
	}
}

// register repeats one call until it is answered. Once running ends it tries no more than
// once; calls bounds everything.
func (r *registrar) register(running, calls context.Context, batch []pipeline.Item) {
	defer func() {
		r.mu.Lock()
		r.held -= len(batch)
		r.mu.Unlock()
	}()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		ctx, cancel := context.WithTimeout(calls, registerTimeout)
		results, err := r.main.Register(ctx, batch)
		cancel()
		if err == nil {
			r.note(nil)
			r.count(results, len(batch))
			return
		}
		r.note(err)
		if running.Err() != nil || sealmq.CodeOf(err) == sealmq.BadArgument { // it would be refused again
			r.metrics.registrations["failed"].Add(float64(len(batch)))
			return
		}
		select {
		case <-running.Done():
		case <-time.After(pause):
		}
	}
}

func (r *registrar) count(results []pipeline.Result, sent int) {
	for _, res := range results {
		switch res.Status {
		case pipeline.StatusRegistered:
			r.metrics.registrations["ok"].Inc()
		case pipeline.StatusDuplicate, pipeline.StatusAlready, pipeline.StatusDelivered:
			r.metrics.registrations["duplicate"].Inc()
		default:
			r.metrics.registrations["failed"].Inc()
			r.log.Warn("the main server has not registered a message", "message_id", res.MessageID, "status", string(res.Status), "reason", res.Reason)
		}
	}
	r.metrics.registrations["failed"].Add(float64(max(0, sent-len(results))))
}

// note logs when registering begins to fail and when it works again.
func (r *registrar) note(err error) {
	r.mu.Lock()
	changed := r.failing != (err != nil)
	r.failing = err != nil
	r.mu.Unlock()
	switch {
	case changed && err != nil:
		r.log.Warn("the main server cannot be reached for registrations; messages are taken and get their rows with their delivery", "error", err)
	case changed:
		r.log.Info("the main server registers messages again")
	}
}
