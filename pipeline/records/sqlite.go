package records

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/sealmq/sealmq/internal/durable"
)

var sqliteDialect = dialect{
	name:       "sqlite",
	goose:      goose.DialectSQLite3,
	insertRows: 1, // a kept statement costs less than a long one
	addCounts: ` ON CONFLICT (client_id, hour, domain, status) DO UPDATE SET
		messages = messages + excluded.messages, delivery_us = delivery_us + excluded.delivery_us`,
	ignore:   " ON CONFLICT DO NOTHING",
	setting:  " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
	cached:   true,
	stamp:    func(t time.Time) any { return t.UnixMicro() },
	classify: classifySQLite,
	describe: describeSQLite,
}

// sqliteReaders is how many reads of one file run at the same time.
const sqliteReaders = 4

// openSQLite opens a file, one connection for writes and several for reads. The caller
// makes sure that no other process writes to it.
func openSQLite(a address) (write, read *sql.DB, err error) {
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(a.path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("folder of the database: %w", err)
	}
	// SQLite gives its other files the permissions of this one.
	f, err := os.OpenFile(a.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	dsn := func(pragmas ...string) string {
		q := url.Values{"_pragma": append([]string{"busy_timeout(5000)", "journal_mode(wal)"}, pragmas...), "_txlock": {"immediate"}}
		return (&url.URL{Scheme: "file", Opaque: url.PathEscape(a.path), RawQuery: q.Encode()}).String()
	}
	// Checkpoints are rare, because each writes again what the log has already: a page that
	// changed a hundred times since the last one is copied once.
	write, err = sql.Open("sqlite", dsn("synchronous(full)", "foreign_keys(1)", "cache_size(-65536)", "wal_autocheckpoint(8000)", "journal_size_limit(67108864)"))
	if err != nil {
		return nil, nil, err
	}
	read, err = sql.Open("sqlite", dsn("query_only(1)", "cache_size(-16384)"))
	if err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	write.SetMaxOpenConns(1)
	write.SetMaxIdleConns(1)
	read.SetMaxOpenConns(sqliteReaders)
	read.SetMaxIdleConns(sqliteReaders)
	return write, read, nil
}

func classifySQLite(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return down
	}
	switch e.Code() & 0xFF {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_TOOBIG, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE:
		return bad
	case lib.SQLITE_FULL:
		return full
	case lib.SQLITE_IOERR, lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return broken
	}
	return down
}

func describeSQLite(err error) string {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("SQLite error %d: %s", e.Code(), sqlite.ErrorCodeString[e.Code()&0xFF])
	}
	return fmt.Sprintf("error of type %T", err)
}
