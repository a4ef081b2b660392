package records

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"slices"
)

// Shared reports whether several main servers can use the database.
func (s *Store) Shared() bool { return s.d.name != sqliteDialect.name }

// AddRevocations stores what an authority has revoked, each entry once. An entry is text that
// means the same to all main servers.
func (s *Store) AddRevocations(ctx context.Context, authority string, entries []string) error {
	for part := range slices.Chunk(entries, maxRevocationRows) {
		err := s.transact(ctx, "store revocations", func(tx *sql.Tx) error {
			for _, e := range part {
				digest := sha256.Sum256([]byte(e))
				if _, err := tx.ExecContext(ctx, "INSERT INTO revocations (authority, digest, entry) VALUES (?, ?, ?)"+s.d.ignore("digest"), authority, hex.EncodeToString(digest[:]), e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxRevocationRows bounds a transaction.
const maxRevocationRows = 500

// CountRevocations counts what all main servers have stored for an authority.
func (s *Store) CountRevocations(ctx context.Context, authority string) (int, error) {
	n, err := count(ctx, s.read, "SELECT COUNT(*) FROM revocations WHERE authority = ?", authority)
	return n, s.d.coded("count the revocations", err)
}

// Revocations returns them, in the order in which they were stored.
func (s *Store) Revocations(ctx context.Context, authority string) ([]string, error) {
	entries, err := values[string](ctx, s.read, "SELECT entry FROM revocations WHERE authority = ? ORDER BY number", authority)
	return entries, s.d.coded("read the revocations", err)
}
