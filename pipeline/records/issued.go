package records

import (
	"context"
	"database/sql"
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
	for len(list) > 0 {
		part := list[:min(len(list), MaxIssued)]
		list = list[len(part):]
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
	has := make(map[string]bool)
	err := each(ctx, tx, "SELECT serial FROM issued WHERE authority = ? AND serial IN ("+marks(len(list))+")", args, func(rows *sql.Rows) error {
		var serial string
		err := rows.Scan(&serial)
		has[serial] = true
		return err
	})
	if err != nil {
		return err
	}
	last, err := count(ctx, tx, "SELECT COALESCE(MAX(number), 0) FROM issued WHERE authority = ?", authority)
	if err != nil {
		return err
	}
	for _, c := range list {
		if has[c.Serial] {
			continue
		}
		has[c.Serial] = true
		last++
		if _, err := tx.ExecContext(ctx, "INSERT INTO issued (authority, number, serial, entry) VALUES (?, ?, ?, ?)", authority, last, c.Serial, c.Entry); err != nil {
			return err
		}
	}
	return nil
}

// IssuedAfter returns the records of an authority that follow a number, at most MaxIssued.
func (s *Store) IssuedAfter(ctx context.Context, authority string, number int64) (list []Issued, err error) {
	err = each(ctx, s.read, "SELECT number, serial, entry FROM issued WHERE authority = ? AND number > ? ORDER BY number LIMIT ?", []any{authority, number, MaxIssued}, func(rows *sql.Rows) error {
		var c Issued
		err := rows.Scan(&c.Number, &c.Serial, &c.Entry)
		list = append(list, c)
		return err
	})
	return list, s.d.coded("read the record of certificates", err)
}
