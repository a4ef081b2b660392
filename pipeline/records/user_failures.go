package records

import (
	"context"
	"database/sql"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
)

// ChangeFailures implements accounts.Store.
func (s *Store) ChangeFailures(ctx context.Context, email string, before time.Time, most int, change func(*accounts.Failures) error) error {
	isNew := false
	err := s.transact(ctx, "count a failed login", func(tx *sql.Tx) error {
		// The row is there before it is read, so that others wait for it in either case.
		if _, err := tx.ExecContext(ctx, "INSERT INTO login_failures (email, failures, first_at) VALUES (?, 0, ?)"+s.d.ignore("email"), email, s.d.stamp(s.now())); err != nil {
			return err
		}
		var f accounts.Failures
		err := each(ctx, tx, "SELECT failures, first_at, locked_until FROM login_failures WHERE email = ?"+s.d.lock, []any{email}, func(rows *sql.Rows) error {
			return rows.Scan(&f.Count, moment{&f.Since}, moment{&f.LockedUntil})
		})
		if err != nil {
			return err
		}
		isNew = f.Count == 0
		if err := change(&f); err != nil {
			return err
		}
		if f.Count <= 0 {
			_, err = tx.ExecContext(ctx, "DELETE FROM login_failures WHERE email = ?", email)
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE login_failures SET failures = ?, first_at = ?, locked_until = ? WHERE email = ?", f.Count, s.d.stamp(f.Since), s.d.when(f.LockedUntil), email)
		return err
	})
	if err == nil && isNew {
		err = s.pruneFailures(ctx, before, most)
	}
	return err
}

// pruneFailures is not part of the transaction that counts: on MySQL two of these would each lock
// the range in which the other one's new row belongs.
func (s *Store) pruneFailures(ctx context.Context, before time.Time, most int) error {
	return s.transact(ctx, "forget failed logins", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM login_failures WHERE first_at < ?", s.d.stamp(before)); err != nil {
			return err
		}
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM login_failures")
		if n <= most || err != nil {
			return err
		}
		// Those that are not locked first, and of these the oldest.
		emails, err := values[string](ctx, tx, "SELECT email FROM login_failures ORDER BY locked_until IS NOT NULL, first_at LIMIT ?", n-most+most/10)
		if err != nil {
			return err
		}
		return removeAll(ctx, tx, "DELETE FROM login_failures WHERE email IN ", emails)
	})
}

// ForgetFailures implements accounts.Store.
func (s *Store) ForgetFailures(ctx context.Context, email string) error {
	return s.execute(ctx, "forget failed logins", "DELETE FROM login_failures WHERE email = ?", email)
}
