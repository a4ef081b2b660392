package records

import (
	"cmp"
	"context"
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
	ignore:  func(string) string { return " ON CONFLICT DO NOTHING" },
	setting: " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
	putMinute: ` ON CONFLICT (minute, server) DO UPDATE SET accepted = excluded.accepted, delivered = excluded.delivered, failed = excluded.failed,
		waiting = excluded.waiting, dead = excluded.dead`,
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
	f, err := durable.OpenFile(a.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	dsn := func(pragmas ...string) string {
		return fileURL(a.path, append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(wal)"}, pragmas...)...)
	}
	write, err = sql.Open("sqlite", dsn("synchronous(full)", "foreign_keys(1)", "cache_size(-65536)", "wal_autocheckpoint(0)", "journal_size_limit(67108864)"))
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

// fileURL is what the driver opens a file by.
func fileURL(path string, pragmas ...string) string {
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: q.Encode()}).String()
}

// Checkpoints are rare, because each writes again what the log has already: a page that
// changed a hundred times since the last one is copied once.
const (
	checkpointPages = 8000 // how many the log has that are not in the file yet
	checkpointEvery = 16   // commits between two looks at the log
)

// checkpoint copies the log into the file when it has grown. SQLite would do it by itself, but
// keeps to itself that it failed, and tries again: after a failed sync the next one may succeed
// although nothing has reached the disk, and the log is overwritten.
func (s *Store) checkpoint() {
	if s.d != &sqliteDialect || s.commits.Add(1)%checkpointEvery != 0 {
		return
	}
	run := func(mode string) (pages int, err error) {
		var busy, all, done int
		err = s.write.QueryRow("PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &all, &done)
		return all - done, err
	}
	pages, err := run("NOOP")
	if err == nil && pages >= checkpointPages {
		_, err = run("PASSIVE")
	}
	if err != nil {
		s.noteError(err) // the next commit finds out whether there is room
	}
}

const busyTimeout = 5 * time.Second

// keepOpen leaves a connection to a file that failed for the end of the program. The last one
// that is closed in order makes a checkpoint and removes the log, from which the next start
// restores what a failed sync has lost.
func (s *Store) keepOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), busyTimeout)
	defer cancel()
	if _, err := s.read.Conn(ctx); err != nil { //nolint:sqlclosecheck // see above
		s.cfg.Log.Warn("the database is closed although it has failed", "error", s.d.describe(err))
	}
}

func classifySQLite(err error) class {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return down
	}
	if e.Code() == lib.SQLITE_IOERR_SHMSIZE { // no room for the index of the log
		return full
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
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return fmt.Sprintf("SQLite error %d: %s", e.Code(), cmp.Or(sqlite.ErrorCodeString[e.Code()], sqlite.ErrorCodeString[e.Code()&0xFF]))
	}
	return fmt.Sprintf("error of type %T", err)
}
