package records

import (
	"context"
	"database/sql"
	"slices"
)

// Issued is the record of a certificate that an authority has issued, as text that means the same
// to all main servers.
type Issued struct {
	Number        int64 // among those of its authority; AddIssued gives it
	Serial, Entry string
}

// MaxIssued bounds one answer of IssuedAfter.
const MaxIssued = 500

// AddIssued stores records of an authority, each serial number once. Their numbers have no gaps,
// and none becomes visible after a higher one: who has read up to a number misses nothing.
func (s *Store) AddIssued(ctx context.Context, authority string, list []Issued) error {
	for part := range slices.Chunk(list, MaxIssued) {
		err := s.transact(ctx, "store the record of certificates", func(tx *sql.Tx) error { return s.addIssued(ctx, tx, authority, part) })
		if err != nil {
			return err
		}
	}
	return nil
}

// addIssued takes the numbers after the highest one. The row of a setting is its lock, and comes
// before the first read, which sees what others have committed until then.
func (s *Store) addIssued(ctx context.Context, tx *sql.Tx, authority string, list []Issued) error {
	if err := s.putSetting(ctx, tx, "issued_lock", ""); err != nil {
		return err
	}
	args := []any{authority}
	for _, c := range list {
		args = append(args, c.Serial)
	}
	has, err := values[string](ctx, tx, "SELECT serial FROM issued WHERE authority = ? AND serial IN ("+marks(len(list))+")", args...)
	if err != nil {
		return err
	}
	last, err := count(ctx, tx, "SELECT COALESCE(MAX(number), 0) FROM issued WHERE authority = ?", authority)
	if err != nil {
		return err
	}
	for _, c := range list {
		if slices.Contains(has, c.Serial) {
			continue
		}
		has = append(has, c.Serial)
		last++
		if _, err := tx.ExecContext(ctx, "INSERT INTO issued (authority, number, serial, entry) VALUES (?, ?, ?, ?)", authority, last, c.Serial, c.Entry); err != nil {
			return err
		}
	}
	return nil
}

// IssuedAfter returns the records of an authority that follow a number, at most MaxIssued.
func (s *Store) IssuedAfter(ctx context.Context, authority string, number int64) ([]Issued, error) {
	list, err := all(ctx, s.read, func(c *Issued) []any { return []any{&c.Number, &c.Serial, &c.Entry} },
		"SELECT number, serial, entry FROM issued WHERE authority = ? AND number > ? ORDER BY number LIMIT ?", authority, number, MaxIssued)
	return list, s.d.coded("read the record of certificates", err)
}
