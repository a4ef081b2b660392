package records

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// listSizes are the lengths of the lists in statements; shorter ones are filled up, so that
// there are few forms of each statement.
var listSizes = []int{1, 8, 64, MaxBatch}

const (
	insertMessage = `INSERT INTO messages (message_id, client_id, client_key, sender_number_hashed, phone_key_id, sender_number_enc,
		encrypted_body, encryption_key_version, scope_key_id, sealed, status, domain, attempt_count, error_message,
		created_at, queued_at, delivered_at, last_attempt_at, metadata, worker_id, proxy_id) VALUES `
	messageColumns = 21
	insertCounts   = "INSERT INTO message_counts (client_id, hour, domain, status, messages, delivery_us) VALUES "
	countColumns   = 6
	groupColumns   = `SELECT id, message_id, client_id, status, attempt_count, error_message, worker_id, domain, created_at, queued_at,
		delivered_at, last_attempt_at, sender_number_hashed, phone_key_id, encryption_key_version, encrypted_body, sender_number_enc
		FROM messages WHERE `
	byClient     = "client_id = ? AND message_id IN "
	byMessage    = "message_id IN "
	clientsOf    = "SELECT client_id, status FROM clients WHERE client_id IN "
	updateStates = `UPDATE messages SET status = ?, attempt_count = ?, error_message = ?, worker_id = ?, delivered_at = ?, last_attempt_at = ?
		WHERE status = ? AND id IN `
)

func rowMarks(columns, rows int) string {
	one := "(" + marks(columns) + ")"
	return strings.TrimSuffix(strings.Repeat(one+",", rows), ",")
}

// prepare prepares the committer's statements, where that pays.
func (s *Store) prepare(ctx context.Context) error {
	s.insertMessage = insertMessage + rowMarks(messageColumns, s.d.insertRows)
	s.insertCounts = insertCounts + rowMarks(countColumns, s.d.insertRows) + s.d.addCounts
	if !s.d.cached {
		return nil
	}
	queries := []string{s.insertMessage, s.insertCounts}
	for _, n := range listSizes {
		list := "(" + marks(n) + ")"
		queries = append(queries, groupColumns+byClient+list, groupColumns+byMessage+list, clientsOf+list, updateStates+list)
	}
	s.stmts = make(map[string]*sql.Stmt)
	for _, q := range queries {
		st, err := s.write.PrepareContext(ctx, q)
		if err != nil {
			return s.d.coded("prepare statements", err)
		}
		s.stmts[q] = st
	}
	return nil
}

func (g *group) exec(query string, args ...any) (sql.Result, error) {
	if st := g.s.stmts[query]; st != nil {
		return g.tx.StmtContext(g.ctx, st).ExecContext(g.ctx, args...)
	}
	return g.tx.ExecContext(g.ctx, query, args...)
}

func (g *group) each(query string, args []any, scan func(*sql.Rows) error) error {
	st := g.s.stmts[query]
	if st == nil {
		return each(g.ctx, g.tx, query, args, scan)
	}
	rows, err := g.tx.StmtContext(g.ctx, st).QueryContext(g.ctx, args...)
	if err != nil {
		return err
	}
	return eachOf(rows, scan)
}

// lists cuts values into pieces with the marks of a statement's list, filled up with the last
// value.
func lists[T any](values []T, use func(marks string, piece []any, n int) error) error {
	for part := range slices.Chunk(values, MaxBatch) {
		n := len(part)
		size := listSizes[slices.IndexFunc(listSizes, func(size int) bool { return size >= n })]
		piece := make([]any, size)
		for i := range piece {
			piece[i] = part[min(i, n-1)]
		}
		if err := use("("+marks(size)+")", piece, n); err != nil {
			return err
		}
	}
	return nil
}

// removeAll runs a statement that ends with a list.
func removeAll[T any](ctx context.Context, tx *sql.Tx, query string, keys []T) error {
	return lists(keys, func(marks string, piece []any, _ int) error {
		_, err := tx.ExecContext(ctx, query+marks, piece...)
		return err
	})
}

// loadClients reads the states of the clients for whom rows may be made.
func (g *group) loadClients(entries []*entry) error {
	g.revoked = make(map[string]bool)
	var names []string
	for _, e := range entries {
		if e.msg != nil {
			names = append(names, e.key.client)
		}
	}
	slices.Sort(names)
	return lists(slices.Compact(names), func(marks string, piece []any, _ int) error {
		return g.each(clientsOf+marks, piece, func(rows *sql.Rows) error {
			var name, status string
			err := rows.Scan(&name, &status)
			g.revoked[name] = status == "revoked"
			return err
		})
	})
}

// loadRows reads the rows that exist.
func (g *group) loadRows(entries []*entry) error {
	client, several := entries[0].key.client, false
	wanted := make(map[rowKey]bool)
	var ids []string
	for _, e := range entries {
		several = several || e.key.client != client
		if !wanted[e.key] {
			wanted[e.key] = true
			ids = append(ids, e.key.id)
		}
	}
	query, args := groupColumns+byMessage, []any(nil)
	if !several && client != "" {
		query, args = groupColumns+byClient, []any{client}
	}
	slices.Sort(ids)
	return lists(slices.Compact(ids), func(marks string, piece []any, _ int) error {
		return g.each(query+marks, append(slices.Clip(args), piece...), func(rows *sql.Rows) error {
			r, err := scanRow(rows)
			if err == nil && (wanted[r.rowKey] || wanted[rowKey{id: r.rowKey.id}]) {
				g.add(r)
			}
			return err
		})
	})
}

func scanRow(rows *sql.Rows) (*row, error) {
	r := &row{}
	err := rows.Scan(&r.id, &r.rowKey.id, &r.client, &r.state, &r.attempts, text{&r.errText}, text{&r.worker}, &r.domain,
		moment{&r.created}, moment{&r.queued}, moment{&r.delivered}, moment{&r.last},
		&r.hash, &r.hashKey, &r.version, &r.body, text{&r.number})
	r.stored = r.state
	r.original = r.counted()
	return r, err
}

// insertRows stores the new rows and learns their ids.
func (g *group) insertRows() error {
	var fresh []*row
	for _, r := range g.order {
		if r.stored == "" {
			fresh = append(fresh, r)
		}
	}
	for len(fresh) > 0 {
		n, bytes := 0, 0
		for n < len(fresh) && n < g.s.d.insertRows && (n == 0 || bytes < maxStatement) {
			bytes += len(fresh[n].sealed.body) + len(fresh[n].sealed.metadata)
			n++
		}
		args := make([]any, 0, n*messageColumns)
		for _, r := range fresh[:n] {
			args = g.appendArgs(args, r)
		}
		query := g.s.insertMessage
		if n < g.s.d.insertRows {
			query = insertMessage + rowMarks(messageColumns, n)
		}
		res, err := g.exec(query, args...)
		if err != nil {
			return err
		}
		// Both databases number the rows of one statement without gaps. SQLite reports the
		// last id, of one row; MySQL the first.
		id, err := res.LastInsertId()
		if err != nil {
			return err
		}
		for i, r := range fresh[:n] {
			r.id = id + int64(i)*g.s.step
		}
		fresh = fresh[n:]
	}
	return nil
}

// maxStatement is how many bytes of texts one INSERT has. Servers take 16 MiB or more.
const maxStatement = 1 << 20

func (g *group) appendArgs(args []any, r *row) []any {
	m, c, d := r.msg, r.sealed, g.s.d
	return append(args, m.ID, m.Client, null(m.ClientKey), c.hash, int64(c.hashKey), null(c.number),
		c.body, int64(c.scope.Version()), int64(c.scope.ID()), m.Sealed, string(r.state), r.domain, int64(r.attempts), null(r.errText),
		d.stamp(r.created), d.stamp(r.queued), d.when(r.delivered), d.when(r.last), null(c.metadata), null(r.worker), null(m.Proxy))
}

// change is what an update sets, and what it expects. Rows with the same one share a
// statement.
type change struct {
	state, stored   pipeline.State
	attempts        int
	errText, worker string
	delivered, last time.Time
}

// updateRows stores the changed rows. That a row has another state by now means that another
// process was faster.
func (g *group) updateRows() error {
	ids := make(map[change][]int64)
	var order []change
	for _, r := range g.order {
		if r.stored == "" {
			continue
		}
		c := change{r.state, r.stored, r.attempts, r.errText, r.worker, r.delivered, r.last}
		if ids[c] == nil {
			order = append(order, c)
		}
		ids[c] = append(ids[c], r.id)
	}
	d := g.s.d
	for _, c := range order {
		args := []any{string(c.state), int64(c.attempts), null(c.errText), null(c.worker), d.when(c.delivered), d.when(c.last), string(c.stored)}
		err := lists(ids[c], func(marks string, piece []any, n int) error {
			res, err := g.exec(updateStates+marks, append(slices.Clip(args), piece...)...)
			if err != nil {
				return err
			}
			if found, err := res.RowsAffected(); err != nil || found != int64(n) {
				return errors.Join(err, errLostRace)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unreadable reports whether an error is about a stored text and not about the database.
func unreadable(err error) bool {
	_, missing := errors.AsType[*atrest.NoKeyError](err)
	return missing || errors.Is(err, atrest.ErrUnreadable)
}
