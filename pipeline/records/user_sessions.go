package records

import (
	"context"
	"database/sql"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
)

// AddSession implements accounts.Store.
func (s *Store) AddSession(ctx context.Context, v accounts.Session, passwordHash string, most int) (id int64, err error) {
	err = s.transact(ctx, "store a login", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE expires_at <= ?", s.d.stamp(v.CreatedAt)); err != nil {
			return err
		}
		old, err := values[int64](ctx, tx, "SELECT id FROM user_sessions WHERE user_id = ? ORDER BY last_seen DESC, id DESC LIMIT 1000", v.User)
		if err != nil {
			return err
		}
		if err := removeAll(ctx, tx, "DELETE FROM user_sessions WHERE id IN ", old[min(len(old), most-1):]); err != nil {
			return err
		}
		if err := changed(tx.ExecContext(ctx, "UPDATE users SET last_login = ? WHERE id = ? AND password_hash = ?", s.d.stamp(v.CreatedAt), v.User, passwordHash)); err != nil {
			return err
		}
		id, err = insert(ctx, tx, `INSERT INTO user_sessions (user_id, kind, token_hash, created_at, last_seen, expires_at, confirmed_until, ip_address, user_agent)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, v.User, v.Kind, v.Hash, s.d.stamp(v.CreatedAt), s.d.stamp(v.LastSeen), s.d.stamp(v.ExpiresAt), s.d.when(v.ConfirmedUntil), null(v.Address), null(v.Agent))
		return err
	})
	return id, err
}

const sessionColumns = "s.id, s.user_id, s.kind, s.token_hash, s.created_at, s.last_seen, s.expires_at, s.confirmed_until, s.ip_address, s.user_agent, s.rotated_at"

func sessionFields(v *accounts.Session) []any {
	return []any{&v.ID, &v.User, &v.Kind, &v.Hash, moment{&v.CreatedAt}, moment{&v.LastSeen}, moment{&v.ExpiresAt}, moment{&v.ConfirmedUntil}, text{&v.Address}, text{&v.Agent}, moment{&v.RotatedAt}}
}

// Session implements accounts.Store.
func (s *Store) Session(ctx context.Context, hash string) (accounts.Session, accounts.User, error) {
	return s.session(ctx, "s.token_hash = ?", hash)
}

// SessionByID implements accounts.Store.
func (s *Store) SessionByID(ctx context.Context, id int64) (accounts.Session, accounts.User, error) {
	return s.session(ctx, "s.id = ?", id)
}

func (s *Store) session(ctx context.Context, where string, arg any) (v accounts.Session, u accounts.User, err error) {
	u, err = userBehind(ctx, s.read, sessionFields(&v), "SELECT "+sessionColumns+", "+userColumns+" FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE "+where, arg)
	u.TOTPSecret = "" // which is encrypted here, and not needed
	return v, u, s.d.coded("read a login", err)
}

// Sessions implements accounts.Store.
func (s *Store) Sessions(ctx context.Context, user int64) ([]accounts.Session, error) {
	list, err := all(ctx, s.read, sessionFields, "SELECT "+sessionColumns+" FROM user_sessions s WHERE s.user_id = ? ORDER BY s.last_seen DESC, s.id DESC LIMIT 1000", user)
	return list, s.d.coded("read logins", err)
}

// TouchSession implements accounts.Store.
func (s *Store) TouchSession(ctx context.Context, id int64, now time.Time, address string) error {
	return s.execute(ctx, "note a login's use", "UPDATE user_sessions SET last_seen = ?, ip_address = ? WHERE id = ?", s.d.stamp(now), null(address), id)
}

// RotateSession implements accounts.Store.
func (s *Store) RotateSession(ctx context.Context, id int64, old, hash string, now time.Time, address string) error {
	return s.change(ctx, "refresh a login", "UPDATE user_sessions SET token_hash = ?, last_seen = ?, rotated_at = ?, ip_address = ? WHERE id = ? AND token_hash = ?",
		hash, s.d.stamp(now), s.d.stamp(now), null(address), id, old)
}

// ConfirmSession implements accounts.Store.
func (s *Store) ConfirmSession(ctx context.Context, id int64, until time.Time) error {
	return s.change(ctx, "confirm a login", "UPDATE user_sessions SET confirmed_until = ? WHERE id = ?", s.d.stamp(until), id)
}

// EndSession implements accounts.Store.
func (s *Store) EndSession(ctx context.Context, user, id int64) error {
	return s.change(ctx, "end a login", "DELETE FROM user_sessions WHERE user_id = ? AND id = ?", user, id)
}

// EndSessions implements accounts.Store.
func (s *Store) EndSessions(ctx context.Context, user, keep int64) error {
	return s.execute(ctx, "end logins", "DELETE FROM user_sessions WHERE user_id = ? AND id <> ?", user, keep)
}
