package records

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// Count returns how many messages a filter chooses. If only client, state and domain are
// given it is read from the counts and exact; else rows are counted up to CountLimit, and
// exact says whether that was enough.
func (s *Store) Count(ctx context.Context, f Filter) (n int64, exact bool, err error) {
	if err := s.complete(&f); err != nil {
		return 0, false, err
	}
	if f.matchesNothing() {
		return 0, true, nil
	}
	if len(f.hashes) == 0 && f.ClientKey == "" && f.IDPrefix == "" && f.From.IsZero() && f.To.IsZero() {
		counts, err := s.sum(ctx, f.Client, f.Domain, allHours, allHours)
		if err != nil {
			return 0, false, err
		}
		for _, state := range states {
			if f.State == "" || f.State == state {
				n += counts[state].messages
			}
		}
		return n, true, nil
	}
	if none, err := s.oneDomain(ctx, &f); none || err != nil {
		return 0, err == nil, err
	}
	p := s.plan(&f)
	exact = true
	for _, w := range p.walks {
		// The rows of a walk, not of the database: at most CountLimit and one.
		inner := "SELECT id" + p.needs + " FROM messages WHERE " + strings.Join(w.where, " AND ") + " LIMIT ?"
		query, args := "SELECT COUNT(*), COALESCE(SUM(CASE WHEN 1=1", append([]any(nil), p.rest.args...)
		for _, c := range p.rest.where {
			query += " AND " + c
		}
		query += " THEN 1 ELSE 0 END), 0) FROM (" + inner + ") examined"
		args = append(append(args, w.args...), CountLimit+1)
		err := each(ctx, s.read, query, args, func(rows *sql.Rows) error {
			var examined, chosen int64
			err := rows.Scan(&examined, &chosen)
			n += chosen
			exact = exact && examined <= CountLimit
			return err
		})
		if err != nil {
			return 0, false, s.d.coded("count messages", err)
		}
	}
	if n > CountLimit {
		n, exact = CountLimit, false
	}
	return n, exact, nil
}

// sum adds up counts of hours from first to last, both included.
func (s *Store) sum(ctx context.Context, client, domain string, first, last int64) (map[pipeline.State]delta, error) {
	query, args := "SELECT status, SUM(messages), SUM(delivery_us) FROM message_counts WHERE client_id = ? AND hour BETWEEN ? AND ?", []any{client, first, last}
	if domain != "" {
		query, args = query+" AND domain = ?", append(args, domain)
	}
	sums := make(map[pipeline.State]delta)
	err := each(ctx, s.read, query+" GROUP BY status", args, func(rows *sql.Rows) error {
		var state pipeline.State
		var d delta
		err := rows.Scan(&state, &d.messages, &d.deliveryUS)
		sums[state] = d
		return err
	})
	return sums, s.d.coded("read the counts", err)
}

// Stats are numbers about messages.
type Stats struct {
	ByState map[pipeline.State]int64
	Total   int64
	// AverageDelivery is from queueing to delivery, over the delivered ones.
	AverageDelivery time.Duration
	// SuccessRate is the share of the delivered ones in those that are at their end; 0 if
	// there are none.
	SuccessRate float64
}

// Stats adds up messages that were registered since a time, to the hour; the zero time is
// all. Client and domain may be empty.
func (s *Store) Stats(ctx context.Context, client, domain string, since time.Time) (Stats, error) {
	st := Stats{ByState: make(map[pipeline.State]int64)}
	if (&Filter{Client: client, Domain: domain}).matchesNothing() {
		return st, nil
	}
	first, last := int64(allHours), int64(allHours)
	if !since.IsZero() {
		first, last = max(0, hourOf(since)), 1<<62
	}
	sums, err := s.sum(ctx, client, domain, first, last)
	if err != nil {
		return st, err
	}
	for _, state := range states {
		st.ByState[state] = sums[state].messages
		st.Total += sums[state].messages
	}
	if n := st.ByState[pipeline.Delivered]; n > 0 {
		st.AverageDelivery = time.Duration(sums[pipeline.Delivered].deliveryUS/n) * time.Microsecond
		st.SuccessRate = float64(n) / float64(n+st.ByState[pipeline.Failed])
	}
	return st, nil
}

// MessagesOf returns how many messages of each client were registered since a time, to the hour.
// Clients without any are left out.
func (s *Store) MessagesOf(ctx context.Context, clients []string, since time.Time) (map[string]int64, error) {
	counts := make(map[string]int64)
	if len(clients) == 0 {
		return counts, nil
	}
	if len(clients) > MaxLimit {
		return nil, invalid("more than 500 clients")
	}
	args := make([]any, 0, len(clients)+1)
	for _, name := range clients {
		args = append(args, name)
	}
	query := "SELECT client_id, SUM(messages) FROM message_counts WHERE client_id IN (?" + strings.Repeat(", ?", len(clients)-1) + ") AND hour >= ? GROUP BY client_id"
	err := each(ctx, s.read, query, append(args, max(0, hourOf(since))), func(rows *sql.Rows) error {
		var name string
		var n int64
		err := rows.Scan(&name, &n)
		counts[name] = n
		return err
	})
	return counts, s.d.coded("count the messages of clients", err)
}

// Point is an hour of a series.
type Point struct {
	Hour    time.Time
	ByState map[pipeline.State]int64
}

// maxPoints bounds a series: the hours of 31 days.
const maxPoints = 31 * 24

// Series returns the counts of each hour in which messages were registered, in order.
func (s *Store) Series(ctx context.Context, client, domain string, from, to time.Time) ([]Point, error) {
	first, last := hourOf(from), hourOf(to)
	if last-first > maxPoints || last < first || first < 0 {
		return nil, invalid("a series has up to 31 days")
	}
	if (&Filter{Client: client, Domain: domain}).matchesNothing() {
		return nil, nil
	}
	query, args := "SELECT hour, status, SUM(messages) FROM message_counts WHERE client_id = ? AND hour BETWEEN ? AND ?", []any{client, first, last}
	if domain != "" {
		query, args = query+" AND domain = ?", append(args, domain)
	}
	var points []Point
	err := each(ctx, s.read, query+" GROUP BY hour, status ORDER BY hour", args, func(rows *sql.Rows) error {
		var hour, n int64
		var state pipeline.State
		if err := rows.Scan(&hour, &state, &n); err != nil || n == 0 {
			return err
		}
		at := time.Unix(hour*3600, 0).UTC()
		if len(points) == 0 || !points[len(points)-1].Hour.Equal(at) {
			points = append(points, Point{at, make(map[pipeline.State]int64)})
		}
		points[len(points)-1].ByState[state] = n
		return nil
	})
	return points, s.d.coded("read the counts", err)
}
