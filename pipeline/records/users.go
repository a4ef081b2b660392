package records

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

var _ accounts.Store = (*Store)(nil)

const userColumns = "u.id, u.email, u.name, u.password_hash, u.role, u.client_id, u.is_active, u.must_change_password, u.last_login, u.created_at, u.updated_at"

// userFields are where the values of userColumns go.
func userFields(u *accounts.User) []any {
	return []any{&u.ID, &u.Email, &u.Name, &u.PasswordHash, &u.Role, text{&u.ClientID}, &u.Active, &u.MustChange, moment{&u.LastLogin}, moment{&u.CreatedAt}, moment{&u.UpdatedAt}}
}

// checkUser checks what a row of users can have. The rules for people are those of accounts.
func checkUser(u *accounts.User) reason {
	if why := checkName("e-mail address", u.Email, maxName); why != "" {
		return why
	}
	if u.ClientID != "" {
		if why := checkName("client id", u.ClientID, maxName); why != "" {
			return why
		}
	}
	switch {
	case len(u.Name) > 400:
		return "name is too long"
	case !slices.Contains(accounts.Roles, u.Role):
		return "role is none of an account"
	case u.PasswordHash == "" || len(u.PasswordHash) > 255:
		return "password hash is empty or too long"
	}
	return ""
}

// AddUser implements accounts.Store.
func (s *Store) AddUser(ctx context.Context, u accounts.User) (id int64, err error) {
	err = s.transact(ctx, "store an account", func(tx *sql.Tx) error {
		id, err = s.addUser(ctx, tx, u)
		return err
	})
	return id, err
}

func (s *Store) addUser(ctx context.Context, tx *sql.Tx, u accounts.User) (id int64, err error) {
	if why := checkUser(&u); why != "" {
		return 0, invalid(why)
	}
	if _, err := s.userBy(ctx, tx, "u.email = ?", u.Email); !errors.Is(err, accounts.ErrNotFound) {
		if err == nil {
			err = accounts.ErrEmailTaken
		}
		return 0, err
	}
	now := s.d.stamp(s.now())
	res, err := tx.ExecContext(ctx, `INSERT INTO users (email, name, password_hash, role, client_id, is_active, must_change_password, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, u.Email, u.Name, u.PasswordHash, string(u.Role), null(u.ClientID), u.Active, u.MustChange, now, now)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// AddFirstAdmin implements accounts.Store.
func (s *Store) AddFirstAdmin(ctx context.Context, linkHash string, now time.Time, u accounts.User) (id int64, err error) {
	err = s.transact(ctx, "store the first administrator", func(tx *sql.Tx) error {
		// Of several at the same time only one deletes the row.
		res, err := tx.ExecContext(ctx, "DELETE FROM settings WHERE name = ? AND value = ?", setupLink, linkHash)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n == 0 || err != nil {
			return errors.Join(err, accounts.ErrLink)
		}
		expires, err := s.setting(ctx, tx, setupLinkExpires)
		if err != nil {
			return err
		}
		if t, err := time.Parse(time.RFC3339, expires); err != nil || !now.Before(t) {
			return accounts.ErrLink
		}
		if has, err := hasAdmin(ctx, tx); has || err != nil {
			return errors.Join(err, accounts.ErrHasAdmin)
		}
		id, err = s.addUser(ctx, tx, u)
		return err
	})
	return id, err
}

// Names of settings.
const (
	setupLink        = "setup_link"
	setupLinkExpires = "setup_link_expires"
)

// PutSetupLink implements accounts.Store.
func (s *Store) PutSetupLink(ctx context.Context, hash string, expires time.Time) error {
	return s.transact(ctx, "store the setup link", func(tx *sql.Tx) error {
		return errors.Join(s.putSetting(ctx, tx, setupLink, hash), s.putSetting(ctx, tx, setupLinkExpires, expires.UTC().Format(time.RFC3339)))
	})
}

// User implements accounts.Store.
func (s *Store) User(ctx context.Context, id int64) (accounts.User, error) {
	u, err := s.userBy(ctx, s.read, "u.id = ?", id)
	return u, s.d.coded("read an account", err)
}

// UserByEmail implements accounts.Store.
func (s *Store) UserByEmail(ctx context.Context, email string) (accounts.User, error) {
	if checkName("", email, maxName) != "" {
		return accounts.User{}, accounts.ErrNotFound
	}
	u, err := s.userBy(ctx, s.read, "u.email = ?", email)
	return u, s.d.coded("read an account", err)
}

func (s *Store) userBy(ctx context.Context, r runner, where string, arg any) (u accounts.User, err error) {
	found := false
	err = each(ctx, r, "SELECT "+userColumns+" FROM users u WHERE "+where, []any{arg}, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(userFields(&u)...)
	})
	if err == nil && !found {
		err = accounts.ErrNotFound
	}
	return u, err
}

// HasAdmin implements accounts.Store.
func (s *Store) HasAdmin(ctx context.Context) (bool, error) {
	has, err := hasAdmin(ctx, s.read)
	return has, s.d.coded("look for an administrator", err)
}

func hasAdmin(ctx context.Context, r runner) (has bool, err error) {
	err = each(ctx, r, "SELECT id FROM users WHERE role = 'admin' AND is_active = 1 LIMIT 1", nil, func(*sql.Rows) error {
		has = true
		return nil
	})
	return has, err
}

// SetPassword implements accounts.Store.
func (s *Store) SetPassword(ctx context.Context, user int64, hash string, mustChange bool, keep int64) error {
	return s.transact(ctx, "store a password", func(tx *sql.Tx) error {
		if err := changed(tx.ExecContext(ctx, "UPDATE users SET password_hash = ?, must_change_password = ?, updated_at = ? WHERE id = ?",
			hash, mustChange, s.d.stamp(s.now()), user)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE user_id = ? AND id <> ?", user, keep)
		return err
	})
}

// changed returns ErrNotFound of accounts if a statement has changed nothing.
func changed(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); n > 0 || err != nil {
		return err
	}
	return accounts.ErrNotFound
}

// AddSession implements accounts.Store.
func (s *Store) AddSession(ctx context.Context, v accounts.Session, most int) (id int64, err error) {
	err = s.transact(ctx, "store a login", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE expires_at <= ?", s.d.stamp(v.CreatedAt)); err != nil {
			return err
		}
		var old []any
		err := each(ctx, tx, "SELECT id FROM user_sessions WHERE user_id = ? ORDER BY last_seen DESC, id DESC LIMIT 1000", []any{v.User}, func(rows *sql.Rows) error {
			var id int64
			err := rows.Scan(&id)
			old = append(old, id)
			return err
		})
		if err != nil {
			return err
		}
		if most--; len(old) > most {
			old = old[most:]
			if _, err := tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE id IN ("+marks(len(old))+")", old...); err != nil {
				return err
			}
		}
		if err := changed(tx.ExecContext(ctx, "UPDATE users SET last_login = ? WHERE id = ?", s.d.stamp(v.CreatedAt), v.User)); err != nil {
			return err
		}
		res, err := tx.ExecContext(ctx, `INSERT INTO user_sessions (user_id, kind, token_hash, created_at, last_seen, expires_at, ip_address, user_agent)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, v.User, v.Kind, v.Hash, s.d.stamp(v.CreatedAt), s.d.stamp(v.LastSeen), s.d.stamp(v.ExpiresAt), null(v.Address), null(v.Agent))
		if err != nil {
			return err
		}
		id, err = res.LastInsertId()
		return err
	})
	return id, err
}

const sessionColumns = "s.id, s.user_id, s.kind, s.token_hash, s.created_at, s.last_seen, s.expires_at, s.confirmed_until, s.ip_address, s.user_agent"

func sessionFields(v *accounts.Session) []any {
	return []any{&v.ID, &v.User, &v.Kind, &v.Hash, moment{&v.CreatedAt}, moment{&v.LastSeen}, moment{&v.ExpiresAt}, moment{&v.ConfirmedUntil}, text{&v.Address}, text{&v.Agent}}
}

// Session implements accounts.Store.
func (s *Store) Session(ctx context.Context, hash string) (v accounts.Session, u accounts.User, err error) {
	found := false
	err = each(ctx, s.read, "SELECT "+sessionColumns+", "+userColumns+" FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = ?", []any{hash}, func(rows *sql.Rows) error {
		found = true
		return rows.Scan(append(sessionFields(&v), userFields(&u)...)...)
	})
	if err == nil && !found {
		err = accounts.ErrNotFound
	}
	return v, u, s.d.coded("read a login", err)
}

// Sessions implements accounts.Store.
func (s *Store) Sessions(ctx context.Context, user int64) (list []accounts.Session, err error) {
	err = each(ctx, s.read, "SELECT "+sessionColumns+" FROM user_sessions s WHERE s.user_id = ? ORDER BY s.last_seen DESC, s.id DESC LIMIT 1000", []any{user}, func(rows *sql.Rows) error {
		var v accounts.Session
		err := rows.Scan(sessionFields(&v)...)
		list = append(list, v)
		return err
	})
	return list, s.d.coded("read logins", err)
}

// TouchSession implements accounts.Store.
func (s *Store) TouchSession(ctx context.Context, id int64, now time.Time, address string) error {
	return s.execute(ctx, "note a login's use", "UPDATE user_sessions SET last_seen = ?, ip_address = ? WHERE id = ?", s.d.stamp(now), null(address), id)
}

// ConfirmSession implements accounts.Store.
func (s *Store) ConfirmSession(ctx context.Context, id int64, until time.Time) error {
	return s.transact(ctx, "confirm a login", func(tx *sql.Tx) error {
		return changed(tx.ExecContext(ctx, "UPDATE user_sessions SET confirmed_until = ? WHERE id = ?", s.d.stamp(until), id))
	})
}

// EndSession implements accounts.Store.
func (s *Store) EndSession(ctx context.Context, user, id int64) error {
	return s.transact(ctx, "end a login", func(tx *sql.Tx) error {
		return changed(tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE user_id = ? AND id = ?", user, id))
	})
}

// EndSessions implements accounts.Store.
func (s *Store) EndSessions(ctx context.Context, user, keep int64) error {
	return s.execute(ctx, "end logins", "DELETE FROM user_sessions WHERE user_id = ? AND id <> ?", user, keep)
}

// execute is a transaction of one statement.
func (s *Store) execute(ctx context.Context, doing, query string, args ...any) error {
	return s.transact(ctx, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// isRule reports whether an error is a rule's, and not the database's.
func isRule(err error) bool {
	if _, ok := errors.AsType[*accounts.Error](err); ok {
		return true
	}
	return sealmq.CodeOf(err) != "" || errors.Is(err, ErrNotFound)
}
