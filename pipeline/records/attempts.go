package records

import (
	"context"
	"errors"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// Bounds of what is kept of one message's failed attempts: the first and the last ones.
const (
	keepFirst = 10
	keepLast  = 40
)

// Event says what an Attempt was.
type Event string

// The events.
const (
	AttemptFailed Event = "failed"   // it is tried again
	GivenUp       Event = "given_up" // it is not
	Requeued      Event = "requeued" // an administrator had it queued again
)

// Attempt is an event between the registration of a message and its delivery, which its
// Record has. A message that is delivered at the first attempt has none.
type Attempt struct {
	At     time.Time
	Event  Event
	Number int // of the attempt, from 1
	Error  string
	Worker string
}

// Attempts returns what is kept of a message's failed attempts, in their order: the first ten
// and the last forty.
func (s *Store) Attempts(ctx context.Context, rowID int64) ([]Attempt, error) {
	list, err := all(ctx, s.read, func(a *Attempt) []any {
		return []any{moment{&a.At}, &a.Number, &a.Event, text{&a.Error}, text{&a.Worker}}
	},
		"SELECT at, attempt, event, error_message, worker_id FROM message_attempts WHERE message = ? ORDER BY at, attempt LIMIT ?", rowID, keepFirst+keepLast)
	return list, s.d.coded("read the attempts of a message", err)
}

// noteAttempt remembers what an update says about an attempt, for the message's history.
func (g *group) noteAttempt(e *entry, r *row, event Event) {
	at := e.at
	if at.IsZero() {
		at = g.now
	}
	number := r.attempts
	if e.attempts >= 0 {
		number = e.attempts
	}
	g.attempts = append(g.attempts, noted{r, Attempt{At: at, Event: event, Number: number, Error: e.errText, Worker: e.worker}})
}

type noted struct {
	row *row
	Attempt
}

// eventOf says what an update is in a message's history; it is empty if it is nothing.
func eventOf(e *entry, from pipeline.State) Event {
	switch {
	case e.requeue && from == pipeline.Failed && e.state == pipeline.Queued:
		return Requeued
	case e.state == pipeline.Failed && from != pipeline.Failed:
		return GivenUp
	case e.state == pipeline.Queued && e.errText != "":
		return AttemptFailed
	}
	return ""
}

// addAttempts stores the history of the group's messages, and removes what is too much of it.
// An attempt that was reported before is there already.
func (g *group) addAttempts() error {
	if len(g.attempts) == 0 {
		return nil
	}
	var ids []int64
	for _, a := range g.attempts {
		_, err := g.exec("INSERT INTO message_attempts (message, at, attempt, event, error_message, worker_id) VALUES (?, ?, ?, ?, ?, ?)"+g.s.d.ignore("attempt"),
			a.row.id, g.s.d.stamp(a.At), int64(a.Number), string(a.Event), null(a.Error), null(a.Worker))
		if err != nil {
			return err
		}
		ids = append(ids, a.row.id)
	}
	var long []int64
	err := lists(ids, func(marks string, piece []any, _ int) error {
		part, err := values[int64](g.ctx, g.tx, "SELECT message FROM message_attempts WHERE message IN "+marks+" GROUP BY message HAVING COUNT(*) > ?", append(piece, keepFirst+keepLast)...)
		long = append(long, part...)
		return err
	})
	for _, id := range long {
		err = errors.Join(err, g.shorten(id))
	}
	return err
}

// shorten removes the attempts of a message between the first and the last ones.
func (g *group) shorten(id int64) error {
	times, err := all(g.ctx, g.tx, func(at *time.Time) []any { return []any{moment{at}} }, "SELECT at FROM message_attempts WHERE message = ? ORDER BY at, attempt", id)
	if err != nil || len(times) <= keepFirst+keepLast {
		return err
	}
	d := g.s.d
	_, err = g.exec("DELETE FROM message_attempts WHERE message = ? AND at >= ? AND at < ?", id, d.stamp(times[keepFirst]), d.stamp(times[len(times)-keepLast]))
	return err
}
