package mainserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

const (
	// lookAround is how often the history is brought up to date and stored. A crash loses what
	// was counted since.
	lookAround = 10 * time.Second
	// historyTimeout bounds a look at the queue and the database.
	historyTimeout = 5 * time.Second
	// maxMinutes bounds the minutes in memory: a day and some for a clock that is set.
	maxMinutes = 26 * 60
)

// HistoryRecords is what a History needs of package records.
type HistoryRecords interface {
	PutMinutes(ctx context.Context, server string, list []records.Minute) error
	Minutes(ctx context.Context, from, to time.Time, without string) ([]records.Minute, error)
	Counters() records.Counters
}

// History keeps what has happened in each minute of the last day. Of what this process has done
// it knows all minutes; those of others, and of earlier starts, are in the database.
type History struct {
	store  HistoryRecords
	queue  pipeline.Queue
	now    func() time.Time
	log    *slog.Logger
	server string // this process among those that write to the database
	looked func(context.Context)

	mu      sync.Mutex
	minutes map[int64]*records.Minute // by the Unix time of their beginning
	dirty   map[int64]bool            // are not stored as they are
	last    records.Counters
	counts  *pipeline.Counts // of the last look; nil if the queue did not answer
}

// NewHistory returns a history that counts from now on. now must be the clock of the service that
// shows it. log may be nil.
func NewHistory(store HistoryRecords, queue pipeline.Queue, now func() time.Time, log *slog.Logger) *History {
	return &History{store: store, queue: queue, now: now, log: cmp.Or(log, slog.New(slog.DiscardHandler)), server: rand.Text(), last: store.Counters(),
		minutes: make(map[int64]*records.Minute), dirty: make(map[int64]bool)}
}

// Run keeps the history until ctx ends, and stores what it has then.
func (h *History) Run(ctx context.Context) {
	ticker := time.NewTicker(lookAround)
	defer ticker.Stop()
	failed := false
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		}
		err := h.Look(context.WithoutCancel(ctx))
		if err != nil && !failed {
			h.log.Warn("the history of the overview is not stored; it stays in memory until it is", "error", err)
		}
		failed = err != nil
		if h.looked != nil && !ended {
			h.looked(ctx)
		}
	}
}

// Look takes down what has happened since the last look, and stores it.
func (h *History) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	h.take(ctx)
	h.mu.Lock()
	var list []records.Minute
	for _, at := range slices.Sorted(maps.Keys(h.dirty)) {
		list = append(list, *h.minutes[at])
	}
	h.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	if err := h.store.PutMinutes(ctx, h.server, list); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range list {
		if now := h.minutes[m.At.Unix()]; now == nil || same(*now, m) {
			delete(h.dirty, m.At.Unix())
		}
	}
	return nil
}

// take takes down what has happened since it was last called, in the minute that runs.
func (h *History) take(ctx context.Context) {
	counts, err := h.queue.Counts(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts = nil
	at := records.MinuteOf(h.now())
	m, ok := h.minutes[at.Unix()]
	if !ok {
		m = &records.Minute{At: at}
		h.add(m)
	}
	before := *m
	if err == nil {
		h.counts = &counts
		waiting, dead := int64(counts.Ready+counts.Processing+counts.Retry), int64(counts.Dead)
		m.Waiting, m.Dead = &waiting, &dead
	}
	c := h.store.Counters()
	m.Accepted += c.Accepted - h.last.Accepted
	m.Delivered += c.Delivered - h.last.Delivered
	m.Failed += c.Failed - h.last.Failed
	h.last = c
	if !ok || !same(before, *m) {
		h.dirty[at.Unix()] = true
	}
}

// queueCounts is how much the queue had at the last look, or nil.
func (h *History) queueCounts() *pipeline.Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts
}

// add adds a minute, and forgets the oldest one beyond the limit.
func (h *History) add(m *records.Minute) {
	h.minutes[m.At.Unix()] = m
	if len(h.minutes) > maxMinutes {
		oldest := slices.Min(slices.Collect(maps.Keys(h.minutes)))
		delete(h.minutes, oldest)
		delete(h.dirty, oldest)
	}
}

func same(a, b records.Minute) bool {
	return a.Accepted == b.Accepted && a.Delivered == b.Delivered && a.Failed == b.Failed && equal(a.Waiting, b.Waiting) && equal(a.Dead, b.Dead)
}

func equal(a, b *int64) bool { return a == b || a != nil && b != nil && *a == *b }

// Minutes are those from one to another, both included, of all main servers, in order. With an
// error they are those of this process.
func (h *History) Minutes(ctx context.Context, from, to time.Time) ([]records.Minute, error) {
	from = records.MinuteOf(from)
	stored, err := h.store.Minutes(ctx, from, to, h.server)
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[int64]records.Minute)
	for _, m := range stored {
		all[m.At.Unix()] = m
	}
	for at, m := range h.minutes {
		if m.At.Before(from) || m.At.After(to) {
			continue
		}
		sum := all[at]
		sum.At = m.At
		sum.Accepted, sum.Delivered, sum.Failed = sum.Accepted+m.Accepted, sum.Delivered+m.Delivered, sum.Failed+m.Failed
		if m.Waiting != nil { // this process has looked last, as far as it knows
			sum.Waiting, sum.Dead = m.Waiting, m.Dead
		}
		all[at] = sum
	}
	list := slices.SortedFunc(maps.Values(all), func(a, b records.Minute) int { return a.At.Compare(b.At) })
	if err != nil {
		return list, errors.Join(errHistory, err)
	}
	return list, nil
}

var errHistory = errors.New("the history of other processes, and of earlier starts, cannot be read")
