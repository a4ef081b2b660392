package records

import (
	"context"
	"database/sql"
)

// Notes are small texts that outlive the process, such as the state of a job. Of each kind the
// last ones are kept, in the order of their names.
const maxNotes = 20

// PutNote stores a note, or replaces it. Older ones of its kind are removed beyond the twentieth.
// Kind and name are words of letters and digits, at most 80 together.
func (s *Store) PutNote(ctx context.Context, kind, name, text string) error {
	return s.transact(ctx, "store a note", func(tx *sql.Tx) error {
		if err := s.putSetting(ctx, tx, kind+"."+name, text); err != nil {
			return err
		}
		names, _, err := notes(ctx, tx, kind)
		for i := maxNotes; err == nil && i < len(names); i++ {
			_, err = tx.ExecContext(ctx, "DELETE FROM settings WHERE name = ?", names[i])
		}
		return err
	})
}

// Notes returns the notes of a kind, the last name first.
func (s *Store) Notes(ctx context.Context, kind string) ([]string, error) {
	_, texts, err := notes(ctx, s.read, kind)
	return texts, s.d.coded("read notes", err)
}

func notes(ctx context.Context, r runner, kind string) (names, texts []string, err error) {
	err = each(ctx, r, "SELECT name, value FROM settings WHERE name >= ? AND name < ? ORDER BY name DESC", []any{kind + ".", kind + "/"}, func(rows *sql.Rows) error {
		var name, text string
		err := rows.Scan(&name, &text)
		names, texts = append(names, name), append(texts, text)
		return err
	})
	return names, texts, err
}
