package mainserver

import (
	"context"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// Times and bounds of RegisterWaiting.
const (
	lookEvery   = 400 * time.Millisecond
	lookTimeout = 10 * time.Second
	// youngAge is how long an item is left to its proxy, which registers it, and to a worker.
	youngAge = 400 * time.Millisecond
	// lookPages bounds one look, so that a large backlog takes no more than its share of the
	// database.
	lookPages = 20
)

// RegisterWaiting makes the rows that no proxy has made: of messages whose proxy was killed
// after it had queued them, or had too many to tell of. It looks at what waits in the queue, and
// runs until ctx ends. While workers have items it does nothing, because their deliveries make
// the rows.
func (s *Service) RegisterWaiting(ctx context.Context, q pipeline.Queue) {
	v := &view{Service: s, caller: sealmq.Identity{ID: string(sealmq.RoleServer), Role: sealmq.RoleProxy}}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for from := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			from = v.registerFrom(ctx, q, from)
		}
	}
}

// registerFrom makes one look, from where the last one ended, and returns where it ended. Each
// item is looked at once, unless a worker was there in between: what it had and gave back is
// in its old place.
func (v *view) registerFrom(ctx context.Context, q pipeline.Queue, from uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	counts, err := q.Counts(ctx)
	if err != nil || counts.Processing > 0 || counts.Ready == 0 {
		return 0
	}
	for range lookPages {
		items, next, err := q.Waiting(ctx, from, pipeline.MaxBatch)
		if err != nil || next == from {
			return from
		}
		now := v.cfg.Now()
		young := slices.IndexFunc(items, func(it pipeline.Item) bool {
			age := now.Sub(it.QueuedAt)
			return age >= 0 && age < youngAge
		})
		if young >= 0 {
			items = items[:young]
		}
		if len(items) > 0 {
			if _, err := v.Register(ctx, items); err != nil {
				return from
			}
		}
		if young >= 0 {
			return from // the rest of this page is for the next look
		}
		from = next
	}
	return from
}
