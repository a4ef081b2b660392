package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
)

// BackupFile is the name in a backup of the whole database, if that is SQLite; see BackupDump.
const BackupFile = "records/records.db"

// leftOut are the tables whose rows no backup has. The keys of texts are in the key backup only,
// so that destroying one reaches every backup; and who restores one does not bring logins and
// links back that have ended.
var leftOut = []string{"scope_keys", "user_sessions", "password_resets"}

// Backup calls add with the files of a copy of a database as it is at one moment, without the keys
// of texts. The database goes on meanwhile. For SQLite the copy is made in the folder temp first,
// which needs room for it: check is asked with the number of bytes.
func Backup(ctx context.Context, cfg Config, temp string, check func(bytes int64) error, add func(name string, content io.Reader) error) error {
	a, err := parseURL(cfg.URL)
	if err != nil {
		return err
	}
	if a.path == "" {
		return backupMySQL(ctx, cfg, add)
	}
	return backupSQLite(ctx, a, temp, check, add)
}

func backupSQLite(ctx context.Context, a address, temp string, check func(bytes int64) error, add func(name string, content io.Reader) error) error {
	info, err := os.Stat(a.path)
	if err == nil {
		err = check(info.Size())
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(temp, "records-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "records.db")
	if err := copySQLite(ctx, a, file); err != nil {
		return errors.New("copy the database: " + sqliteDialect.describe(err))
	}
	f, err := durable.OpenNow(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return add(BackupFile, f)
}

// copySQLite writes a copy without free pages, in which deleted rows would stand, and without
// what is left out.
func copySQLite(ctx context.Context, a address, file string) (err error) {
	db, err := sql.Open("sqlite", fileURL(a.path, "busy_timeout(5000)", "wal_autocheckpoint(0)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, err := durable.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // or SQLite chooses the mode
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", file); err != nil {
		return err
	}
	// Nobody else sees the copy, so it needs no log: what is deleted is overwritten in place.
	into, err := sql.Open("sqlite", fileURL(file, "journal_mode(off)", "synchronous(off)", "secure_delete(1)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, into.Close()) }()
	for _, table := range leftOut {
		if _, err := into.ExecContext(ctx, "DELETE FROM "+table); err != nil {
			return err
		}
	}
	return nil
}

// ScopeKey is a row of the table of keys, as the key backup has it.
type ScopeKey struct {
	ID      uint32 `json:"id"`
	Client  string `json:"client"`
	Version uint16 `json:"version"`
	Wrapped string `json:"wrapped"`
	Created string `json:"created"`
}

// BackupKeys writes the keys of texts, one on a line. They are wrapped by the keys in files.
func BackupKeys(ctx context.Context, cfg Config, w io.Writer) (err error) {
	db, d, err := openPlain(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	enc := json.NewEncoder(w)
	err = each(ctx, db, "SELECT id, client_id, key_version, wrapped_key, created_at FROM scope_keys ORDER BY id", nil, func(rows *sql.Rows) error {
		var k ScopeKey
		if err := rows.Scan(&k.ID, &k.Client, &k.Version, &k.Wrapped, &k.Created); err != nil {
			return err
		}
		return enc.Encode(k)
	})
	return d.coded("read the keys of texts", err)
}

// RestoreKeys puts the keys of texts into a database that has none of them.
func RestoreKeys(ctx context.Context, cfg Config, r io.Reader) (n int, err error) {
	db, d, err := openPlain(cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, d.coded("restore the keys of texts", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	for dec := json.NewDecoder(r); ; n++ {
		var k ScopeKey
		if err := dec.Decode(&k); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, fmt.Errorf("the keys of texts cannot be read: %w", err)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO scope_keys (id, client_id, key_version, wrapped_key, created_at) VALUES (?, ?, ?, ?, ?)", k.ID, k.Client, k.Version, k.Wrapped, k.Created)
		if err != nil {
			return 0, d.coded("restore the keys of texts", err)
		}
	}
	return n, d.coded("restore the keys of texts", tx.Commit())
}

// openPlain opens a database for a few statements. It makes no tables.
func openPlain(cfg Config) (*sql.DB, *dialect, error) {
	a, err := parseURL(cfg.URL)
	if err != nil {
		return nil, nil, err
	}
	if a.path != "" {
		db, err := sql.Open("sqlite", fileURL(a.path, "busy_timeout(5000)"))
		return db, &sqliteDialect, err
	}
	c, err := mysqlConfig(a)
	if err != nil {
		return nil, nil, err
	}
	c.ParseTime = false // times stay the texts that they are
	db, err := openMySQL(c, 1, 1)
	return db, &mysqlDialect, err
}
