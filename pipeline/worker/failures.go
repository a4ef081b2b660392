package worker

import (
	"context"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/pipeline"
)

// Times and bounds of reports.
const (
	reportEvery = time.Second
	// maxFailures is how many attempts wait to be reported; further ones are forgotten. Nothing
	// but the history of their messages depends on them.
	maxFailures = 10_000
	// rowAge is how long the report of an attempt waits for the row of its message, which
	// its delivery makes at the latest.
	rowAge = 2 * pipeline.RetryInterval
)

// failures are attempts that failed and that the main server is still to be told of. It is told
// apart from deliveries, which must not wait for it.
type failures struct {
	mu   sync.Mutex
	list []pipeline.Update
}

func (f *failures) add(list ...pipeline.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, list[:min(len(list), maxFailures-len(f.list))]...)
}

// take removes up to a batch of them.
func (f *failures) take() []pipeline.Update {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(f.list), pipeline.MaxBatch)
	taken := f.list[:n:n]
	f.list = f.list[n:]
	return taken
}

// noteFailure remembers a failed attempt for the history of its message.
func (w *Worker) noteFailure(it *pipeline.Item, why string) {
	w.failures.add(pipeline.Update{MessageID: it.MessageID, ClientID: it.ClientID, State: pipeline.Queued, Attempts: it.AttemptCount,
		Error: why, Worker: w.cfg.Name, At: time.Now()})
}

// reportFailures tells the main server of failed attempts whenever it is there.
func (w *Worker) reportFailures(ctx context.Context) {
	for clock.Sleep(ctx, clock.System, reportEvery) == nil {
		if w.main.state() == nil {
			w.reportAll(ctx)
		}
	}
}

func (w *Worker) reportAll(ctx context.Context) {
	var later []pipeline.Update
	defer func() { w.failures.add(later...) }()
	for list := w.failures.take(); len(list) > 0; list = w.failures.take() {
		call, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
		results, err := w.cfg.Main.Status(call, list)
		cancel()
		if err != nil {
			w.cfg.Log.Debug("failed attempts could not be reported", "attempts", len(list), "error", err)
			later = append(later, list...)
			return
		}
		for i, r := range results {
			if r.Status == pipeline.StatusNotFound && i < len(list) && time.Since(list[i].At) < rowAge {
				later = append(later, list[i])
			}
		}
	}
}
