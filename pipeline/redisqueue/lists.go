package redisqueue

import (
	"context"
	"slices"
	"sync"

	"github.com/sealmq/sealmq/pipeline"
)

// oldest reads up to n elements of a list from the right end, the oldest first, behind the first
// from ones.
func (q *Queue) oldest(ctx context.Context, list string, from, n int) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	page, err := q.rdb.LRange(ctx, list, int64(-from-n), int64(-from-1)).Result()
	slices.Reverse(page)
	return page, q.note(err)
}

// lastLook is where the last look at waiting items ended. Positions count from the next item to
// be taken, so they move when items are taken.
type lastLook struct {
	mu   sync.Mutex
	from uint64
	body string // of the item before it
}

// Waiting implements pipeline.Queue. If items were taken since the look that it goes on with, it
// begins again at the first one.
func (q *Queue) Waiting(ctx context.Context, from uint64, limit int) (items []pipeline.Item, next uint64, err error) {
	q.look.mu.Lock()
	defer q.look.mu.Unlock()
	if from > 0 {
		last, err := q.oldest(ctx, q.name, int(from)-1, 1)
		if err != nil {
			return nil, from, err
		}
		if from != q.look.from || len(last) == 0 || last[0] != q.look.body {
			from = 0
		}
	}
	next = from
	for bytes := 0; len(items) < limit && bytes < maxCallBytes; {
		page, err := q.oldest(ctx, q.name, int(next), min(pageItems, limit-len(items)))
		if err != nil {
			return nil, from, err
		}
		for _, body := range page {
			bytes += len(body)
			if it, err := parse(body); err == nil {
				items = append(items, it)
			}
			next++
			q.look.from, q.look.body = next, body
		}
		if len(page) == 0 {
			break
		}
	}
	return items, next, nil
}

// Dead implements pipeline.Queue.
func (q *Queue) Dead(ctx context.Context, limit int) ([]pipeline.DeadItem, error) {
	var items []pipeline.DeadItem
	for bytes := 0; len(items) < limit && bytes < maxCallBytes; {
		page, err := q.oldest(ctx, q.key("dead"), len(items), min(pageItems, limit-len(items)))
		if err != nil {
			return nil, err
		}
		for _, text := range page {
			bytes += len(text)
			items = append(items, deadItem(text))
		}
		if len(page) == 0 {
			break
		}
	}
	return items, nil
}

// Requeue implements pipeline.Queue. What becomes dead meanwhile may stay there.
func (q *Queue) Requeue(ctx context.Context, ids []string) (total int, err error) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	counts, err := q.Counts(ctx)
	for kept, seen := 0, 0; err == nil && seen < counts.Dead; {
		var page []string
		if page, err = q.oldest(ctx, q.key("dead"), kept, pageItems); err != nil || len(page) == 0 {
			break
		}
		seen += len(page)
		var args []any
		for _, text := range page {
			body, _ := readEntry(text)
			if it, err := parse(body); ids == nil || err == nil && wanted[it.MessageID] {
				args = append(args, text, fresh(body))
			}
		}
		kept += len(page) - len(args)/2
		if len(args) > 0 {
			var v any
			if v, err = q.run(ctx, requeueScript, []string{q.key("dead"), q.name}, args...); err == nil {
				n, _ := v.(int64)
				total += int(n)
			}
		}
	}
	return total, err
}
