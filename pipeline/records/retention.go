package records

import (
	"context"
	"database/sql"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// Limits of retention, in days.
const (
	MinRetention = 30
	MaxRetention = 3650
)

const (
	// cleanBatch is how many rows one transaction deletes, and cleanScan how many it looks at.
	cleanBatch = 500
	cleanScan  = 5000
)

func (s *Store) cutoff(days int) (time.Time, error) {
	if days < MinRetention || days > MaxRetention {
		return time.Time{}, invalid("retention is not between 30 and 3650 days")
	}
	return s.now().AddDate(0, 0, -days), nil
}

// PreviewCleanup returns the cutoff of a retention and about how many rows a clean-up would
// delete: the delivered and failed ones that were registered in the full hours before it.
func (s *Store) PreviewCleanup(ctx context.Context, days int) (cutoff time.Time, about int64, err error) {
	if cutoff, err = s.cutoff(days); err != nil {
		return cutoff, 0, err
	}
	sums, err := s.sum(ctx, allClients, "", 0, hourOf(cutoff)-1)
	return cutoff, sums[pipeline.Delivered].messages + sums[pipeline.Failed].messages, err
}

// Cleanup deletes messages that were delivered, and failed ones that were registered, more
// than the given number of days ago. It does so in small transactions, between which others
// write. If it ends with an error or with ctx, what it has deleted stays deleted and counts.
func (s *Store) Cleanup(ctx context.Context, days int) (cutoff time.Time, deleted int64, err error) {
	if cutoff, err = s.cutoff(days); err != nil {
		return cutoff, 0, err
	}
	for _, state := range []pipeline.State{pipeline.Delivered, pipeline.Failed} {
		// A message is not delivered before it is registered, so the index on the time of
		// registration finds all. Those that were delivered late are passed over.
		at := position{}
		for more := true; more && err == nil; {
			var n int64
			n, at, more, err = s.cleanStep(ctx, state, cutoff, at)
			deleted += n
		}
		if err != nil {
			return cutoff, deleted, err
		}
	}
	return cutoff, deleted, s.execute(ctx, "delete old counts", "DELETE FROM message_counts WHERE messages = 0 AND hour >= 0 AND hour < ?", hourOf(cutoff))
}

// cleanStep deletes some rows behind a position.
func (s *Store) cleanStep(ctx context.Context, state pipeline.State, cutoff time.Time, from position) (n int64, at position, more bool, err error) {
	err = s.transact(ctx, "delete old messages", func(tx *sql.Tx) error {
		g := &group{s: s, ctx: ctx, tx: tx}
		d := make(deltas)
		var ids []int64
		var seen int
		n, at = 0, from
		start := s.d.stamp(time.UnixMicro(from.Time))
		err := each(ctx, tx, `SELECT id, client_id, domain, created_at, queued_at, delivered_at FROM messages
			WHERE status = ? AND created_at < ? AND created_at >= ? AND (created_at > ? OR id > ?) ORDER BY created_at, id LIMIT ?`,
			[]any{string(state), s.d.stamp(cutoff), start, start, from.Row, cleanScan}, func(rows *sql.Rows) error {
				r := &row{state: state}
				if len(ids) == cleanBatch {
					return nil
				}
				if err := rows.Scan(&r.id, &r.client, &r.domain, moment{&r.created}, moment{&r.queued}, moment{&r.delivered}); err != nil {
					return err
				}
				seen++
				at = position{Time: r.created.UnixMicro(), Row: r.id}
				if state == pipeline.Failed || r.delivered.Before(cutoff) {
					ids = append(ids, r.id)
					d.add(r.counted(), -1)
				}
				return nil
			})
		if err != nil {
			return err
		}
		more = seen == cleanScan || len(ids) == cleanBatch
		err = lists(ids, func(marks string, piece []any, n int) error {
			res, err := tx.ExecContext(ctx, "DELETE FROM messages WHERE status = ? AND id IN "+marks, append([]any{string(state)}, piece...)...)
			if err != nil {
				return err
			}
			if gone, err := res.RowsAffected(); err != nil || gone != int64(n) {
				return errLostRace
			}
			return nil
		})
		if err != nil {
			return err
		}
		n = int64(len(ids))
		return g.writeCounts(d)
	})
	if err != nil {
		n = 0
	}
	return n, at, more, err
}
