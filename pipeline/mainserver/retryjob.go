package mainserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// Times and bounds of jobs that queue failed messages again.
const (
	maxRetryJobs   = 4 // that run at a time
	retryNotes     = "retry_job"
	retrySaveEvery = 2 * time.Second
	retryStep      = 30 * time.Second // bounds one step
	lastStep       = 5 * time.Second  // bounds what is left of a step when its job is to end
	// retrySilence is after how long a job that its process has not saved is taken for ended.
	retrySilence = 15 * time.Second
)

// retryWork is what a job works on: the failed messages that a filter chooses, or those that are
// named.
type retryWork struct {
	Filter records.Filter
	Items  []mainapi.MessageName
}

// key is the same for the same work.
func (w retryWork) key() string {
	b, err := json.Marshal(w)
	if err != nil {
		panic("mainserver: internal error: " + err.Error()) // such structs cannot fail
	}
	return string(b)
}

// retryJobs are the jobs of this process that run. What became of the others is in the database.
type retryJobs struct {
	mu      sync.Mutex
	running map[string]*retryJob // by id
}

type retryJob struct {
	key    string
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	state mainapi.RetryJob
}

func (j *retryJob) snapshot() mainapi.RetryJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

func (j *retryJob) change(f func(s *mainapi.RetryJob)) mainapi.RetryJob {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.state)
	return j.state
}

// Why a job ended before its work was done.
var (
	errCancelled = errors.New("cancelled")
	errStopping  = errors.New("the main server stops")
)

// startRetry starts a job, or returns the one that does the same work.
func (h *handler) startRetry(ctx context.Context, w retryWork) (mainapi.RetryJob, error) {
	total := mainapi.Total{Count: int64(len(w.Items)), Exact: true}
	if len(w.Items) == 0 {
		var err error
		if total.Count, total.Exact, err = h.cfg.Store.Count(ctx, w.Filter); err != nil {
			return mainapi.RetryJob{}, err
		}
	}
	caller, _ := httpkit.CallerOf(ctx)
	now := h.now().UTC()
	j := &retryJob{key: w.key(), state: mainapi.RetryJob{ID: newJobID(now), State: mainapi.RetryJobStateRunning, Total: total, StartedAt: now, UpdatedAt: now, StartedBy: caller.ID}}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	j.cancel = cancel
	if other, err := h.retries.add(j); other != nil || err != nil {
		cancel(nil)
		if err != nil {
			return mainapi.RetryJob{}, err
		}
		return other.snapshot(), nil
	}
	if err := h.saveRetry(ctx, j.state); err != nil {
		cancel(nil)
		h.retries.remove(j)
		return mainapi.RetryJob{}, err
	}
	// A step moves an item and then its row, and the end is put on record: Shutdown waits for both.
	stay := context.AfterFunc(httpkit.Stopping(ctx), func() { cancel(errStopping) })
	done := httpkit.Outlive(ctx)
	go func() {
		defer done()
		defer stay()
		h.runRetry(work, j, w)
	}()
	return j.snapshot(), nil
}

// add takes a place for a job, or returns the one that does the same work.
func (r *retryJobs) add(j *retryJob) (*retryJob, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, other := range r.running {
		if other.key == j.key {
			return other, nil
		}
	}
	if len(r.running) >= maxRetryJobs {
		return nil, httpkit.Errorf(httpkit.CodeConflict, "%d jobs are queueing messages again; wait for one to end, or cancel one", maxRetryJobs)
	}
	if r.running == nil {
		r.running = make(map[string]*retryJob)
	}
	r.running[j.state.ID] = j
	return nil, nil
}

func (r *retryJobs) remove(j *retryJob) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, j.state.ID)
}

// newJobID makes an id; later ones sort behind earlier ones.
func newJobID(now time.Time) string {
	return fmt.Sprintf("%012x%s", now.UnixMilli(), newSecret(4))
}

// runRetry does the work, and puts on record what became of it.
func (h *handler) runRetry(ctx context.Context, j *retryJob, w retryWork) {
	defer j.cancel(nil)
	err := h.retryAll(ctx, j, w)
	end := j.snapshot()
	end.EndedAt = h.now().UTC()
	end.UpdatedAt = end.EndedAt
	switch cause := context.Cause(ctx); {
	case err == nil:
		end.State = mainapi.RetryJobStateDone
	case errors.Is(cause, errCancelled):
		end.State = mainapi.RetryJobStateCancelled
	case errors.Is(cause, errStopping):
		end.State = mainapi.RetryJobStateInterrupted
	default:
		end.State, end.Error = mainapi.RetryJobStateFailed, httpkit.ErrorOf(err).Message
		h.cfg.Log.Error("a job that queues failed messages again has ended with an error", "job", end.ID, "error", err)
	}
	ctx, cancel := afterAct(ctx)
	defer cancel()
	h.audit(ctx, act{event: "messages_retried", details: map[string]any{"job": end.ID, "state": end.State, "requeued": end.Requeued, "missing": end.Missing, "by": w.describe()}})
	if err := h.saveRetry(ctx, end); err != nil {
		h.cfg.Log.Warn("the end of a job is not in the database", "job", end.ID, "error", err)
	}
	// First, so that a caller who sees that it has ended can begin another one.
	h.retries.remove(j)
	j.change(func(s *mainapi.RetryJob) { *s = end })
}

// describe says for the audit how the messages were chosen, without a number.
func (w retryWork) describe() string {
	if len(w.Items) > 0 {
		return fmt.Sprintf("%d named messages", len(w.Items))
	}
	f := &w.Filter
	var parts []string
	for _, p := range []struct{ name, value string }{{"client", f.Client}, {"domain", f.Domain}, {"id", f.IDPrefix}, {"key", f.ClientKey}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if f.NumberToken != "" {
		parts = append(parts, "a number")
	}
	if !f.From.IsZero() {
		parts = append(parts, "from "+f.From.UTC().Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		parts = append(parts, "to "+f.To.UTC().Format(time.RFC3339))
	}
	if len(parts) == 0 {
		return "all failed messages"
	}
	return "failed messages of " + strings.Join(parts, ", ")
}

// retryAll walks through the messages once: what fails again meanwhile is not tried twice, because
// the walk has passed it.
func (h *handler) retryAll(ctx context.Context, j *retryJob, w retryWork) error {
	saved := time.Now()
	step := func(rows []pipeline.Update) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Items and rows are moved together, also if the job is cancelled meanwhile.
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), retryStep)
		defer cancel()
		defer context.AfterFunc(ctx, func() { time.AfterFunc(lastStep, cancel) })()
		n, err := h.requeueItems(whole, rows)
		now := j.change(func(s *mainapi.RetryJob) {
			s.Looked += int64(len(rows))
			s.Requeued += int64(n)
			s.Missing += int64(max(0, len(rows)-n))
			s.UpdatedAt = h.now().UTC()
		})
		if err == nil && time.Since(saved) > retrySaveEvery {
			saved = time.Now()
			err = h.saveRetry(ctx, now)
		}
		return err
	}
	for _, m := range w.Items { // one by one, so that the rows of those that are there follow
		if err := step([]pipeline.Update{requeued(m.ClientID, m.MessageID)}); err != nil {
			return err
		}
	}
	if len(w.Items) > 0 {
		return nil
	}
	f := w.Filter
	f.Limit = records.MaxBatch
	for {
		page, err := h.cfg.Store.List(ctx, f)
		if err != nil {
			return err
		}
		var rows []pipeline.Update
		for i := range page.Records {
			rows = append(rows, requeued(page.Records[i].Client, page.Records[i].ID))
		}
		if len(rows) > 0 {
			if err := step(rows); err != nil {
				return err
			}
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return ctx.Err()
		}
	}
}

// saveRetry stores what is known of a job, so that a restart, and another tab, can tell.
func (h *handler) saveRetry(ctx context.Context, s mainapi.RetryJob) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return h.cfg.Store.PutNote(ctx, retryNotes, s.ID, string(b))
}

// listRetries are the last jobs, the newest first.
func (h *handler) listRetries(ctx context.Context) ([]mainapi.RetryJob, error) {
	h.retries.mu.Lock()
	running := maps.Clone(h.retries.running)
	h.retries.mu.Unlock()
	texts, err := h.cfg.Store.Notes(ctx, retryNotes)
	if err != nil {
		return nil, err
	}
	list := []mainapi.RetryJob{}
	for _, text := range texts {
		var s mainapi.RetryJob
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			h.cfg.Log.Warn("a stored job cannot be read", "error", err)
			continue
		}
		if j := running[s.ID]; j != nil {
			s = j.snapshot()
		} else if s.State == mainapi.RetryJobStateRunning && h.now().Sub(s.UpdatedAt) > retrySilence {
			s.State = mainapi.RetryJobStateInterrupted // its process has ended
		}
		list = append(list, s)
	}
	return list, nil
}

func (h *handler) findRetry(ctx context.Context, id string) (mainapi.RetryJob, error) {
	list, err := h.listRetries(ctx)
	if err != nil {
		return mainapi.RetryJob{}, err
	}
	i := slices.IndexFunc(list, func(s mainapi.RetryJob) bool { return s.ID == id })
	if i < 0 {
		return mainapi.RetryJob{}, httpkit.Errorf(httpkit.CodeNotFound, "There is no such job; the last %d are kept", 20)
	}
	return list[i], nil
}

// StartRetryJob implements mainapi.StrictServerInterface.
func (h *handler) StartRetryJob(ctx context.Context, r mainapi.StartRetryJobRequestObject) (mainapi.StartRetryJobResponseObject, error) {
	b := r.Body
	w := retryWork{Items: b.Items, Filter: records.Filter{State: pipeline.Failed, Client: b.ClientID, Domain: b.Domain, IDPrefix: b.MessageID, ClientKey: b.ClientKey,
		NumberToken: b.NumberToken, From: b.From, To: b.To}}
	if len(w.Items) > 0 && w.key() != (retryWork{Items: w.Items, Filter: records.Filter{State: pipeline.Failed}}).key() {
		return nil, invalid("items", "Give either items or a filter")
	}
	job, err := h.startRetry(ctx, w)
	return mainapi.StartRetryJob202JSONResponse(job), err
}

// ListRetryJobs implements mainapi.StrictServerInterface.
func (h *handler) ListRetryJobs(ctx context.Context, _ mainapi.ListRetryJobsRequestObject) (mainapi.ListRetryJobsResponseObject, error) {
	list, err := h.listRetries(ctx)
	return mainapi.ListRetryJobs200JSONResponse{Items: list}, err
}

// GetRetryJob implements mainapi.StrictServerInterface.
func (h *handler) GetRetryJob(ctx context.Context, r mainapi.GetRetryJobRequestObject) (mainapi.GetRetryJobResponseObject, error) {
	job, err := h.findRetry(ctx, r.JobID)
	return mainapi.GetRetryJob200JSONResponse(job), err
}

// CancelRetryJob implements mainapi.StrictServerInterface.
func (h *handler) CancelRetryJob(ctx context.Context, r mainapi.CancelRetryJobRequestObject) (mainapi.CancelRetryJobResponseObject, error) {
	h.retries.mu.Lock()
	j := h.retries.running[r.JobID]
	h.retries.mu.Unlock()
	if j != nil {
		j.cancel(errCancelled)
	}
	job, err := h.findRetry(ctx, r.JobID)
	if err == nil && j == nil && job.State == mainapi.RetryJobStateRunning {
		err = httpkit.Errorf(httpkit.CodeConflict, "Another main server runs this job; cancel it there")
	}
	return mainapi.CancelRetryJob200JSONResponse(job), err
}
