package records

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

var _ accounts.Store = (*Store)(nil)

const userColumns = "u.id, u.email, u.name, u.password_hash, u.role, u.client_id, u.is_active, u.must_change_password, u.password_by_admin, u.totp_secret, u.totp_confirmed, u.totp_step, u.last_login, u.created_at, u.updated_at, (SELECT f.locked_until FROM login_failures f WHERE f.email = u.email)"

// userFields are where the values of userColumns go. The secret is encrypted then.
func userFields(u *accounts.User) []any {
	return []any{&u.ID, &u.Email, &u.Name, &u.PasswordHash, &u.Role, text{&u.ClientID}, &u.Active, &u.MustChange, &u.PasswordByAdmin, text{&u.TOTPSecret}, &u.SecondFactor, &u.TOTPStep, moment{&u.LastLogin}, moment{&u.CreatedAt}, moment{&u.UpdatedAt}, moment{&u.LockedUntil}}
}

// checkUser checks what a row of users can have. The rules for people are those of accounts.
func checkUser(u *accounts.User) reason {
	why := cmp.Or(checkName("e-mail address", u.Email, maxName), checkOptional("client id", u.ClientID, maxName))
	switch {
	case why != "":
		return why
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
	return insert(ctx, tx, `INSERT INTO users (email, name, password_hash, role, client_id, is_active, must_change_password, password_by_admin, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, u.Email, u.Name, u.PasswordHash, string(u.Role), null(u.ClientID), u.Active, u.MustChange, u.PasswordByAdmin, now, now)
}

// insert stores a row and returns its id.
func insert(ctx context.Context, tx *sql.Tx, query string, args ...any) (id int64, err error) {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// AddFirstAdmin implements accounts.Store.
func (s *Store) AddFirstAdmin(ctx context.Context, linkHash string, now time.Time, u accounts.User) (id int64, err error) {
	err = s.transact(ctx, "store the first administrator", func(tx *sql.Tx) error {
		// Of several at the same time only one deletes the row.
		if err := changed(tx.ExecContext(ctx, "DELETE FROM settings WHERE name = ? AND value = ?", setupLink, linkHash)); err != nil {
			return linkError(err)
		}
		if err := s.setupInForce(ctx, tx, now); err != nil {
			return err
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

// SetupLink implements accounts.Store.
func (s *Store) SetupLink(ctx context.Context, hash string, now time.Time) error {
	stored, err := s.setting(ctx, s.read, setupLink)
	if err == nil && stored != hash {
		err = accounts.ErrLink
	}
	if err == nil {
		err = s.setupInForce(ctx, s.read, now)
	}
	return s.d.coded("read the setup link", err)
}

// setupInForce refuses a setup link that has expired, or that there is no need for.
func (s *Store) setupInForce(ctx context.Context, r runner, now time.Time) error {
	expires, err := s.setting(ctx, r, setupLinkExpires)
	if err != nil {
		return err
	}
	if t, err := time.Parse(time.RFC3339, expires); err != nil || !now.Before(t) {
		return accounts.ErrLink
	}
	has, err := hasAdmin(ctx, r)
	if err == nil && has {
		err = accounts.ErrHasAdmin
	}
	return err
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

func (s *Store) userBy(ctx context.Context, r runner, where string, args ...any) (u accounts.User, err error) {
	u, err = userBehind(ctx, r, nil, "SELECT "+userColumns+" FROM users u WHERE "+where, args...)
	u.TOTPSecret = s.openTOTP(u.ID, u.TOTPSecret)
	return u, err
}

// userBehind reads a row that ends with userColumns, with what comes before them, or returns
// ErrNotFound of accounts.
func userBehind(ctx context.Context, r runner, before []any, query string, args ...any) (u accounts.User, err error) {
	err = accounts.ErrNotFound
	errRead := each(ctx, r, query, args, func(rows *sql.Rows) error {
		err = nil
		return rows.Scan(append(before, userFields(&u)...)...)
	})
	return u, cmp.Or(errRead, err)
}

// openTOTP decrypts the secret of a second factor. With one that cannot be read no code is right.
func (s *Store) openTOTP(user int64, stored string) string {
	if stored == "" {
		return ""
	}
	secret, err := s.ring().OpenSecret(totpOwner(user), stored)
	if err != nil {
		s.cfg.Log.Error("the second factor of an account cannot be read; remove it", "user", user, "error", err)
	}
	return secret
}

func totpOwner(user int64) string { return fmt.Sprintf("totp %d", user) }

// Users implements accounts.Store.
func (s *Store) Users(ctx context.Context, f accounts.UserFilter) ([]accounts.User, error) {
	w := scan{[]string{"u.id > ?"}, []any{f.After}}
	if f.Role != "" {
		w.and("u.role = ?", string(f.Role))
	}
	if f.Search != "" {
		part := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(f.Search) + "%"
		w.and("(u.email LIKE ? ESCAPE '!' OR u.name LIKE ? ESCAPE '!')", strings.ToLower(part), part)
	}
	list, err := all(ctx, s.read, userFields, "SELECT "+userColumns+" FROM users u WHERE "+strings.Join(w.where, " AND ")+" ORDER BY u.id LIMIT ?", append(w.args, f.Limit)...)
	for i := range list {
		list[i].TOTPSecret = "" // which is encrypted here, and not needed
	}
	return list, s.d.coded("read accounts", err)
}

// otherAdmins counts the active administrators besides a user. They stay what they are until the
// transaction ends.
func (s *Store) otherAdmins(ctx context.Context, tx *sql.Tx, user int64) (int, error) {
	ids, err := values[int64](ctx, tx, "SELECT id FROM users WHERE role = 'admin' AND is_active = 1"+s.d.lock)
	return len(slices.DeleteFunc(ids, func(id int64) bool { return id == user })), err
}

// ChangeUser implements accounts.Store.
func (s *Store) ChangeUser(ctx context.Context, id int64, change func(u *accounts.User, otherAdmins int) error) (u accounts.User, err error) {
	err = s.transact(ctx, "change an account", func(tx *sql.Tx) error {
		others, err := s.otherAdmins(ctx, tx, id)
		if err != nil {
			return err
		}
		if u, err = s.userBy(ctx, tx, "u.id = ?", id); err != nil {
			return err
		}
		password := u.PasswordHash
		if err := change(&u, others); err != nil {
			return err
		}
		if why := checkUser(&u); why != "" {
			return invalid(why)
		}
		secret := ""
		if u.TOTPSecret != "" {
			secret = s.ring().SealSecret(totpOwner(id), u.TOTPSecret)
		}
		u.UpdatedAt = s.now()
		_, err = tx.ExecContext(ctx, `UPDATE users SET name = ?, role = ?, client_id = ?, is_active = ?, must_change_password = ?, password_by_admin = ?, totp_secret = ?,
			totp_confirmed = ?, totp_step = ?, updated_at = ? WHERE id = ?`, u.Name, string(u.Role), null(u.ClientID), u.Active, u.MustChange, u.PasswordByAdmin, null(secret), u.SecondFactor, u.TOTPStep, s.d.stamp(u.UpdatedAt), id)
		if err == nil && !u.Active {
			_, err = tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE user_id = ?", id)
		}
		if err == nil && (!u.SecondFactor || len(u.NewRecoveryCodes) > 0) {
			err = putRecoveryCodes(ctx, tx, id, u.NewRecoveryCodes)
		}
		if err == nil && u.PasswordHash != password {
			err = s.setPassword(ctx, tx, id, u.PasswordHash, u.MustChange, 0)
		}
		return err
	})
	return u, err
}

// RemoveUser implements accounts.Store.
func (s *Store) RemoveUser(ctx context.Context, id int64, check func(u accounts.User, otherAdmins int) error) error {
	return s.transact(ctx, "delete an account", func(tx *sql.Tx) error {
		others, err := s.otherAdmins(ctx, tx, id)
		if err != nil {
			return err
		}
		u, err := s.userBy(ctx, tx, "u.id = ?", id)
		if err != nil {
			return err
		}
		if err := check(u, others); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM users WHERE id = ?", id) // what belongs to it goes too
		return err
	})
}

// renewSecrets encrypts the secrets of second factors under the current key.
func (s *Store) renewSecrets(ctx context.Context, tx *sql.Tx) error {
	type old struct {
		id   int64
		text string
	}
	list, err := all(ctx, tx, func(o *old) []any { return []any{&o.id, &o.text} },
		"SELECT id, totp_secret FROM users WHERE totp_secret IS NOT NULL AND totp_secret NOT LIKE ?", s.ring().CurrentSecrets()+"%")
	for _, o := range list {
		if secret := s.openTOTP(o.id, o.text); secret != "" && err == nil {
			_, err = tx.ExecContext(ctx, "UPDATE users SET totp_secret = ? WHERE id = ?", s.ring().SealSecret(totpOwner(o.id), secret), o.id)
		}
	}
	return err
}

// HasAdmin implements accounts.Store.
func (s *Store) HasAdmin(ctx context.Context) (bool, error) {
	has, err := hasAdmin(ctx, s.read)
	return has, s.d.coded("look for an administrator", err)
}

func hasAdmin(ctx context.Context, r runner) (bool, error) {
	n, err := count(ctx, r, "SELECT COUNT(*) FROM users WHERE role = 'admin' AND is_active = 1")
	return n > 0, err
}

// SetPassword implements accounts.Store.
func (s *Store) SetPassword(ctx context.Context, user int64, old, hash string, mustChange bool, keep int64) error {
	return s.transact(ctx, "store a password", func(tx *sql.Tx) error {
		if err := changed(tx.ExecContext(ctx, "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", hash, user, old)); err != nil {
			return err
		}
		return s.setPassword(ctx, tx, user, hash, mustChange, keep)
	})
}

func (s *Store) setPassword(ctx context.Context, tx *sql.Tx, user int64, hash string, mustChange bool, keep int64) error {
	if err := changed(tx.ExecContext(ctx, "UPDATE users SET password_hash = ?, must_change_password = ?, updated_at = ? WHERE id = ?",
		hash, mustChange, s.d.stamp(s.now()), user)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM user_sessions WHERE user_id = ? AND id <> ?", user, keep); err != nil {
		return err
	}
	if keep == 0 { // somebody else may have known the old password, and made tokens with it
		if _, err := tx.ExecContext(ctx, "DELETE FROM api_tokens WHERE user_id = ?", user); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM login_failures WHERE email = (SELECT email FROM users WHERE id = ?)", user); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE password_resets SET used_at = ? WHERE user_id = ? AND used_at IS NULL", s.d.stamp(s.now()), user)
	return err
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

// execute is a transaction of one statement.
func (s *Store) execute(ctx context.Context, doing, query string, args ...any) error {
	return s.transact(ctx, doing, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
}

// change is execute for a statement that must find a row: it returns ErrNotFound of accounts.
func (s *Store) change(ctx context.Context, doing, query string, args ...any) error {
	return s.transact(ctx, doing, func(tx *sql.Tx) error { return changed(tx.ExecContext(ctx, query, args...)) })
}

// isRule reports whether an error is a rule's, and not the database's.
func isRule(err error) bool {
	if _, ok := errors.AsType[*accounts.Error](err); ok {
		return true
	}
	return sealmq.CodeOf(err) != "" || errors.Is(err, ErrNotFound)
}
