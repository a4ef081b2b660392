package records

import (
	"context"
	"database/sql"
	"time"
)

// Minute is what happened to messages in a minute.
type Minute struct {
	// At is the minute's beginning.
	At time.Time
	// Accepted messages got a row, Delivered and Failed ones came to that state.
	Accepted, Delivered, Failed int64
	// Waiting and Dead are what the queue had when it was last asked; nil if it gave no
	// answer.
	Waiting, Dead *int64
}

// HistoryFor is how long minutes are kept, and maxFuture how far they may lie ahead.
const (
	HistoryFor = 24 * time.Hour
	maxFuture  = time.Hour
)

// maxMinuteRows is from how many rows on old minutes are deleted, and that of a day of one
// main server. Until then a clock that was wrong for a while deletes nothing.
const maxMinuteRows = 26 * 60

// MinuteOf is the minute that a time belongs to.
func MinuteOf(t time.Time) time.Time { return time.Unix(t.Unix()/60*60, 0).UTC() }

// PutMinutes stores minutes as one main server, a process, has seen them. What that server has
// stored of the same minutes before is replaced, so that a call with an unknown result can be
// repeated. Minutes that are too old are deleted.
func (s *Store) PutMinutes(ctx context.Context, server string, list []Minute) error {
	return s.transact(ctx, "store the history", func(tx *sql.Tx) error {
		for _, m := range list {
			_, err := tx.ExecContext(ctx, "INSERT INTO message_minutes (minute, server, accepted, delivered, failed, waiting, dead) VALUES (?, ?, ?, ?, ?, ?, ?)"+s.d.putMinute,
				m.At.Unix()/60, server, m.Accepted, m.Delivered, m.Failed, m.Waiting, m.Dead)
			if err != nil {
				return err
			}
		}
		rows, err := count(ctx, tx, "SELECT COUNT(*) FROM message_minutes")
		if err != nil || rows <= maxMinuteRows {
			return err
		}
		now := s.now()
		_, err = tx.ExecContext(ctx, "DELETE FROM message_minutes WHERE minute < ? OR minute > ?", now.Add(-HistoryFor).Unix()/60, now.Add(maxFuture).Unix()/60)
		return err
	})
}

// Minutes returns the minutes from one to another, both included, in order, as all main
// servers but one have seen them; an empty name leaves none out. A minute in which no main
// server ran is not there.
func (s *Store) Minutes(ctx context.Context, from, to time.Time, without string) ([]Minute, error) {
	var list []Minute
	err := each(ctx, s.read, `SELECT minute, SUM(accepted), SUM(delivered), SUM(failed), MAX(waiting), MAX(dead) FROM message_minutes
		WHERE minute BETWEEN ? AND ? AND server <> ? GROUP BY minute ORDER BY minute`, []any{from.Unix() / 60, to.Unix() / 60, without}, func(rows *sql.Rows) error {
		var m Minute
		var minute int64
		err := rows.Scan(&minute, &m.Accepted, &m.Delivered, &m.Failed, &m.Waiting, &m.Dead)
		m.At = time.Unix(minute*60, 0).UTC()
		list = append(list, m)
		return err
	})
	return list, s.d.coded("read the history", err)
}
