package records

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
)

// PutReset implements accounts.Store.
func (s *Store) PutReset(ctx context.Context, user int64, hash string, now, expires, since time.Time, most int) error {
	return s.transact(ctx, "store a reset link", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM password_resets WHERE user_id = ? AND created_at < ? AND expires_at < ?", user, s.d.stamp(since), s.d.stamp(now)); err != nil {
			return err
		}
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM password_resets WHERE user_id = ? AND created_at >= ?", user, s.d.stamp(since))
		if err != nil {
			return err
		}
		if n >= most {
			return accounts.ErrTooMany
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO password_resets (user_id, token, expires_at, created_at) VALUES (?, ?, ?, ?)", user, hash, s.d.stamp(expires), s.d.stamp(now))
		return err
	})
}

func count(ctx context.Context, r runner, query string, args ...any) (n int, err error) {
	err = each(ctx, r, query, args, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// resetInForce finds the account of a reset link.
const resetInForce = "u.id = (SELECT user_id FROM password_resets WHERE token = ? AND used_at IS NULL AND expires_at > ?)"

// Reset implements accounts.Store.
func (s *Store) Reset(ctx context.Context, hash string, now time.Time) (accounts.User, error) {
	u, err := s.userBy(ctx, s.read, resetInForce, hash, s.d.stamp(now))
	return u, s.d.coded("read a reset link", linkError(err))
}

func linkError(err error) error {
	if err == accounts.ErrNotFound { //nolint:errorlint // userBy returns it as it is
		return accounts.ErrLink
	}
	return err
}

// UseReset implements accounts.Store.
func (s *Store) UseReset(ctx context.Context, hash string, now time.Time, passwordHash string) (u accounts.User, err error) {
	err = s.transact(ctx, "use a reset link", func(tx *sql.Tx) error {
		if u, err = s.userBy(ctx, tx, resetInForce, hash, s.d.stamp(now)); err != nil {
			return linkError(err)
		}
		// Of several at the same time only one changes the row.
		if err := changed(tx.ExecContext(ctx, "UPDATE password_resets SET used_at = ? WHERE token = ? AND used_at IS NULL", s.d.stamp(now), hash)); err != nil {
			return linkError(err)
		}
		return s.setPassword(ctx, tx, u.ID, passwordHash, false, 0)
	})
	return u, err
}

// UseTOTPStep implements accounts.Store.
func (s *Store) UseTOTPStep(ctx context.Context, user, step int64) error {
	return s.change(ctx, "note a second factor's code", "UPDATE users SET totp_step = ? WHERE id = ? AND totp_step < ?", step, user, step)
}

// putRecoveryCodes replaces the recovery codes of an account.
func putRecoveryCodes(ctx context.Context, tx *sql.Tx, user int64, hashes []string) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM recovery_codes WHERE user_id = ?", user); err != nil {
		return err
	}
	for _, hash := range hashes {
		if _, err := tx.ExecContext(ctx, "INSERT INTO recovery_codes (user_id, code_hash) VALUES (?, ?)", user, hash); err != nil {
			return err
		}
	}
	return nil
}

// UseRecoveryCode implements accounts.Store.
func (s *Store) UseRecoveryCode(ctx context.Context, user int64, hash string) error {
	return s.change(ctx, "use a recovery code", "DELETE FROM recovery_codes WHERE user_id = ? AND code_hash = ?", user, hash)
}

// AddToken implements accounts.Store.
func (s *Store) AddToken(ctx context.Context, t accounts.Token, most int) (id int64, err error) {
	err = s.transact(ctx, "store an API token", func(tx *sql.Tx) error {
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM api_tokens WHERE user_id = ?", t.User)
		if err != nil {
			return err
		}
		if n >= most {
			return accounts.ErrTooMany
		}
		id, err = insert(ctx, tx, "INSERT INTO api_tokens (user_id, name, token_hash, scopes, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
			t.User, t.Name, t.Hash, strings.Join(t.Scopes, " "), s.d.stamp(t.CreatedAt), s.d.when(t.ExpiresAt))
		return err
	})
	return id, err
}

const tokenColumns = "t.id, t.user_id, t.name, t.token_hash, t.scopes, t.created_at, t.expires_at, t.last_used, t.ip_address"

func tokenFields(t *accounts.Token) []any {
	return []any{&t.ID, &t.User, &t.Name, &t.Hash, words{&t.Scopes}, moment{&t.CreatedAt}, moment{&t.ExpiresAt}, moment{&t.LastUsed}, text{&t.Address}}
}

// Tokens implements accounts.Store.
func (s *Store) Tokens(ctx context.Context, user int64) ([]accounts.Token, error) {
	list, err := all(ctx, s.read, tokenFields, "SELECT "+tokenColumns+" FROM api_tokens t WHERE t.user_id = ? ORDER BY t.id", user)
	return list, s.d.coded("read API tokens", err)
}

// Token implements accounts.Store.
func (s *Store) Token(ctx context.Context, hash string) (t accounts.Token, u accounts.User, err error) {
	u, err = userBehind(ctx, s.read, tokenFields(&t), "SELECT "+tokenColumns+", "+userColumns+" FROM api_tokens t JOIN users u ON u.id = t.user_id WHERE t.token_hash = ?", hash)
	u.TOTPSecret = "" // which is encrypted here, and not needed
	return t, u, s.d.coded("read an API token", err)
}

// TouchToken implements accounts.Store.
func (s *Store) TouchToken(ctx context.Context, id int64, now time.Time, address string) error {
	return s.execute(ctx, "note an API token's use", "UPDATE api_tokens SET last_used = ?, ip_address = ? WHERE id = ?", s.d.stamp(now), null(address), id)
}

// RemoveToken implements accounts.Store.
func (s *Store) RemoveToken(ctx context.Context, user, id int64) error {
	return s.change(ctx, "remove an API token", "DELETE FROM api_tokens WHERE user_id = ? AND id = ?", user, id)
}
