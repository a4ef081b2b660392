package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/sealmq/sealmq"
)

// A dialect is what differs between the databases.
type dialect struct {
	name  string
	goose goose.Dialect
	// insertRows is how many rows one INSERT has at most.
	insertRows int
	// addCounts ends an INSERT of counts whose rows may be there.
	addCounts string
	// ignore ends an INSERT whose row may be there and then stays. It names one of its columns.
	ignore func(column string) string
	// setting ends an INSERT of a setting that may be there.
	setting string
	// putMinute ends an INSERT of a minute that may be there.
	putMinute string
	// lock ends a SELECT whose rows nobody else may change until the transaction ends.
	lock string
	// cached says that statements are prepared once and kept.
	cached bool
	// stamp is a time as a parameter.
	stamp func(time.Time) any
	// classify says what kind of error a driver returned.
	classify func(error) class
	// describe is a driver's error without any value of a row.
	describe func(error) string
}

// class is what an error means for the transaction.
type class int

const (
	down   class = iota // the database cannot be used now
	again               // another transaction was faster: repeat
	bad                 // a row cannot be stored
	full                // no room
	broken              // the database must not be written to any more
)

// errLostRace says that a row changed between reading and writing.
var errLostRace = errors.New("another process changed the row")

func (d *dialect) classOf(err error) class {
	if errors.Is(err, errLostRace) {
		return again
	}
	return d.classify(err)
}

// coded makes an error of a driver one that can be shown.
func (d *dialect) coded(doing string, err error) error {
	if err == nil || isRule(err) {
		return err
	}
	var cause error
	if own(err) {
		cause = fmt.Errorf("%s: %w", doing, err)
	} else {
		cause = fmt.Errorf("%s: %s", doing, d.describe(err))
	}
	switch d.classOf(err) {
	case full:
		return &sealmq.Error{Code: sealmq.NoStorage, Message: "the database has no room left", Err: cause}
	case bad:
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the database refuses a value", Err: cause}
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: "the database cannot be used now", Err: cause}
}

// own reports whether an error can be shown to an operator as it is. The drivers' and
// database/sql's own texts may quote values.
func own(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errLostRace) ||
		errors.Is(err, sql.ErrConnDone) || unreadable(err)
}

// invalid is an error about an argument.
func invalid(why reason) error { return &sealmq.Error{Code: sealmq.BadArgument, Message: why} }

// moment reads a time of either database; NULL is the zero time.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
func (m moment) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m.t = time.Time{}
	case int64:
		*m.t = time.UnixMicro(v).UTC()
	case time.Time:
		*m.t = v.UTC()
	default:
		return fmt.Errorf("a time is stored as %T", v)
	}
	return nil
}

// text reads a string; NULL is empty.
type text struct{ s *string }

// Scan implements sql.Scanner.
func (t text) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*t.s = ""
	case string:
		*t.s = v
	case []byte:
		*t.s = string(v)
	default:
		return fmt.Errorf("a text is stored as %T", v)
	}
	return nil
}

// words reads a list that is stored with blanks between its entries.
type words struct{ list *[]string }

// Scan implements sql.Scanner.
func (w words) Scan(v any) error {
	var s string
	err := text{&s}.Scan(v)
	*w.list = strings.Fields(s)
	return err
}

// null is NULL for an empty string.
func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// when is NULL for the zero time.
func (d *dialect) when(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return d.stamp(t)
}

// marks is n question marks.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

// runner is what transactions and pools have in common.
type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls scan for every row of a query.
func each(ctx context.Context, r runner, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := r.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return eachOf(rows, scan)
}

// all reads every row of a query. fields are where the columns of a row go.
func all[T any](ctx context.Context, r runner, fields func(*T) []any, query string, args ...any) (list []T, err error) {
	err = each(ctx, r, query, args, func(rows *sql.Rows) error {
		var v T
		err := rows.Scan(fields(&v)...)
		list = append(list, v)
		return err
	})
	return list, err
}

// values is all for a query of one column.
func values[T any](ctx context.Context, r runner, query string, args ...any) ([]T, error) {
	return all(ctx, r, func(v *T) []any { return []any{v} }, query, args...)
}

// eachOf calls scan for every row, and closes them.
func eachOf(rows *sql.Rows, scan func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
