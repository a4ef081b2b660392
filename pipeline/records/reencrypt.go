package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// reencryptBatch is how many rows one transaction rewrites at most, and reencryptScan how
// many ids it looks at.
const (
	reencryptBatch = 200
	reencryptScan  = 20_000
)

// Reencryption is how far the rows have been brought to the current keys. It is kept in the
// database, so that it goes on after a restart.
type Reencryption struct {
	// KeyVersion and NumberKey are the keys that rows are brought to.
	KeyVersion uint16 `json:"key_version"`
	NumberKey  uint16 `json:"number_key"`
	// Position is the last row that was looked at, Last the last one when it began.
	Position int64 `json:"position"`
	Last     int64 `json:"last"`
	// Changed and Unreadable are the numbers of rows. An unreadable row stays as it is.
	Changed    int64 `json:"changed"`
	Unreadable int64 `json:"unreadable"`
	Done       bool  `json:"done"`
}

const reencryptSetting = "reencryption"

// Reencrypt brings some rows to the current keys and returns how far it is. The caller calls
// it until Done, in the background and with pauses as it likes; each call is one short
// transaction. Once it is done without unreadable rows, no row needs older files of the
// encryption key. A hash of a number that is not stored stays under its old key. If the keys
// change again it begins again.
func (s *Store) Reencrypt(ctx context.Context) (Reencryption, error) {
	p, err := s.reencryption(ctx)
	if err != nil || p.Done {
		return p, err
	}
	rows, last, err := s.outdated(ctx, p)
	if err != nil {
		return p, s.d.coded("look for rows with older keys", err)
	}
	next := p
	next.Position = last
	var fresh []rewritten
	for _, r := range rows {
		w, err := s.rewrite(ctx, r)
		if err != nil && !unreadable(err) {
			return p, s.d.coded("encrypt a row with the current key", err)
		}
		if err != nil {
			next.Unreadable++
			continue
		}
		fresh = append(fresh, w)
	}
	next.Changed += int64(len(fresh))
	next.Done = next.Position >= next.Last
	text, err := json.Marshal(next)
	if err != nil {
		return p, err
	}
	err = s.transact(ctx, "store rows with the current key", func(tx *sql.Tx) error {
		for _, w := range fresh {
			_, err := tx.ExecContext(ctx, `UPDATE messages SET encrypted_body = ?, sender_number_enc = ?, encryption_key_version = ?, scope_key_id = ?,
				sender_number_hashed = ?, phone_key_id = ?, metadata = ? WHERE id = ?`,
				w.body, null(w.number), int64(w.scope.Version()), int64(w.scope.ID()), w.hash, int64(w.hashKey), null(w.metadata), w.row)
			if err != nil {
				return err
			}
		}
		return errors.Join(s.renewSecrets(ctx, tx), s.putSetting(ctx, tx, reencryptSetting, string(text)))
	})
	if err != nil {
		return p, err
	}
	return next, nil
}

// reencryption reads how far it is, and begins again for other keys.
func (s *Store) reencryption(ctx context.Context) (p Reencryption, err error) {
	_, numberKey := s.numbers().Hash("")
	text, err := s.setting(ctx, s.read, reencryptSetting)
	if err != nil {
		return p, s.d.coded("read the state of re-encryption", err)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return p, fmt.Errorf("setting %s: %w", reencryptSetting, err)
		}
	}
	if p.KeyVersion == s.ring().Current() && p.NumberKey == numberKey {
		return p, nil
	}
	p = Reencryption{KeyVersion: s.ring().Current(), NumberKey: numberKey}
	err = s.read.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM messages").Scan(&p.Last)
	return p, s.d.coded("find the last row", err)
}

type outdated struct {
	row                      int64
	id, client, body, number string
	hash, metadata           string
	version, hashKey         uint16
}

// outdated reads the next rows with older keys, and the last row that was looked at.
func (s *Store) outdated(ctx context.Context, p Reencryption) (list []outdated, last int64, err error) {
	last = min(p.Position+reencryptScan, p.Last)
	list, err = all(ctx, s.read, func(r *outdated) []any {
		return []any{&r.row, &r.id, &r.client, &r.body, text{&r.number}, &r.hash, &r.version, &r.hashKey, text{&r.metadata}}
	}, `SELECT id, message_id, client_id, encrypted_body, sender_number_enc, sender_number_hashed, encryption_key_version, phone_key_id, metadata FROM messages
		WHERE id > ? AND id <= ? AND (encryption_key_version <> ? OR phone_key_id <> ? OR scope_key_id IS NULL) ORDER BY id LIMIT ?`,
		p.Position, last, int64(p.KeyVersion), int64(p.NumberKey), reencryptBatch)
	if len(list) == reencryptBatch {
		last = list[len(list)-1].row
	}
	return list, last, err
}

type rewritten struct {
	row int64
	sealed
}

// rewrite encrypts a row under the current keys. A number that is not stored keeps its hash.
func (s *Store) rewrite(ctx context.Context, r outdated) (w rewritten, err error) {
	w.row, w.hash, w.hashKey = r.row, r.hash, r.hashKey
	body, err := s.open(ctx, atrest.Body, r.id, r.client, r.version, r.body)
	if err != nil {
		return w, err
	}
	number := ""
	if r.number != "" {
		if number, err = s.open(ctx, atrest.Number, r.id, r.client, r.version, r.number); err != nil {
			return w, err
		}
	}
	metadata := ""
	if r.metadata != "" {
		if metadata, err = s.openMetadata(ctx, r.id, r.client, r.version, r.metadata); err != nil {
			return w, err
		}
	}
	if w.scope, err = s.scopes.forNew(ctx, r.client); err != nil {
		return w, err
	}
	w.body = w.scope.Seal(atrest.Body, r.id, body)
	if metadata != "" {
		w.metadata = w.scope.Seal(atrest.Metadata, r.id, metadata)
	}
	if number != "" {
		w.hash, w.hashKey = s.numbers().Hash(number)
		w.number = w.scope.Seal(atrest.Number, r.id, number)
	}
	return w, nil
}
