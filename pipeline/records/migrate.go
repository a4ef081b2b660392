package records

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/pressly/goose/v3"
)

// Every migration changes the tables by one statement: MySQL commits after each, so a migration of
// several could be left half done. MySQL's may also be given again: a process that was killed behind
// the statement has not noted the version yet.
//
//go:embed migrations
var migrations embed.FS

// lockName and lockWait, in seconds, are the lock under which several processes take turns to
// migrate a database. A server knows names of 64 characters, and has others' databases too.
const (
	lockName = "CONCAT('sealmq_migrate ', LEFT(SHA2(DATABASE(), 256), 40))"
	lockWait = 60
)

// migrate brings the tables to the newest version.
func migrate(ctx context.Context, db *sql.DB, d *dialect) error {
	if err := checkForeign(ctx, db, d); err != nil {
		return err
	}
	return upgrade(ctx, db, d)
}

// upgrade is migrate for tables that are known to be ours.
func upgrade(ctx context.Context, db *sql.DB, d *dialect) error {
	dir, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if d == &mysqlDialect {
		var unlock func()
		if ctx, unlock, err = lockTables(ctx, db); err != nil {
			return err
		}
		defer unlock()
		if err := beginVersions(ctx, db); err != nil {
			return err
		}
	}
	has, newest, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case has > newest:
		return fmt.Errorf("the database has version %d and this program knows %d: it was written by a newer one", has, newest)
	}
	_, err = p.Up(ctx)
	return orLost(ctx, err)
}

// beginVersions gives a table of versions without a row its first: MySQL commits the making of the
// table before goose notes version 0 in it, and goose refuses what a process leaves that is killed
// between the two.
func beginVersions(ctx context.Context, db *sql.DB) error {
	tables, err := tablesOf(ctx, db, &mysqlDialect)
	if err != nil || !tables["goose_db_version"] {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO goose_db_version (version_id, is_applied)"+
		" SELECT 0, TRUE FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM goose_db_version)")
	return err
}

// lockTables waits for the turn to change the tables of a server. The lock of a process whose host
// has gone ends with silentSession. The context it returns ends with the turn: a server that ends
// the session gives the turn to another process.
func lockTables(ctx context.Context, db *sql.DB) (held context.Context, unlock func(), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	var got sql.NullInt64
	_, err = conn.ExecContext(ctx, "SET SESSION wait_timeout = ?", int(silentSession/time.Second))
	if err == nil {
		err = conn.QueryRowContext(ctx, "SELECT GET_LOCK("+lockName+", ?)", lockWait).Scan(&got)
	}
	if err == nil && got.Int64 != 1 {
		err = errors.New("another process has been changing the tables for a minute; wait until it is done")
	}
	if err != nil {
		conn.Close() //nolint:errcheck // the first error says more
		return nil, nil, err
	}
	held, end := context.WithCancelCause(ctx)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(silentSession / 3)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := conn.ExecContext(ctx, "DO 0"); err != nil {
					end(fmt.Errorf("the session that had the turn to change the tables has ended; start again: %w", err))
					return
				}
			}
		}
	}()
	return held, func() {
		close(stop)
		<-stopped
		end(nil)
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK("+lockName+")")
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the pool does not use the session again
		conn.Close()                                               //nolint:errcheck // nothing was written by it
	}, nil
}

// orLost is an error of a change under lockTables. If the turn was lost, it says that instead.
func orLost(held context.Context, err error) error {
	if err == nil {
		return nil
	}
	return cmp.Or(context.Cause(held), err)
}

// IsNew reports whether no main server has opened a database yet: Open would make its tables, or
// it was only taken over. Key files are made together with it, before. The error is ErrOldSystem
// if it still is to be taken over.
func IsNew(ctx context.Context, cfg Config) (bool, error) {
	a, err := parseURL(cfg.URL)
	if err != nil {
		return false, err
	}
	if a.path != "" {
		_, err := os.Stat(a.path)
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		return false, err
	}
	db, _, err := openPlain(cfg)
	if err != nil {
		return false, err
	}
	defer db.Close()
	tables, err := tablesOf(ctx, db, &mysqlDialect)
	switch {
	case IsAway(err):
		return false, mysqlDialect.coded("look at the database", err)
	case err != nil:
		return false, fmt.Errorf("database: %w", err)
	}
	switch {
	case tables[unfinished]:
		return false, fmt.Errorf("database: %w", errUnfinished)
	case !tables["messages"] && !tables["goose_db_version"]:
		return true, nil
	case !tables["goose_db_version"]:
		return false, checkForeign(ctx, db, &mysqlDialect)
	case !tables["settings"]: // the first start was interrupted
		return false, nil
	}
	// A main server that has opened the database has noted its key of ids.
	noted, err := values[string](ctx, db, "SELECT name FROM settings WHERE name IN (?, ?)", adoptedSetting, "id_key_fingerprint_1")
	return slices.Equal(noted, []string{adoptedSetting}), mysqlDialect.coded("look at the database", err)
}

var errUnfinished = errors.New("a backup is being restored into the database, or that was interrupted: then empty the database, and restore again")

// checkForeign refuses a database whose tables another program made, or that is not restored yet.
func checkForeign(ctx context.Context, db *sql.DB, d *dialect) error {
	tables, err := tablesOf(ctx, db, d)
	if err == nil && tables[unfinished] {
		err = errUnfinished
	}
	if err != nil || !tables["messages"] || tables["goose_db_version"] {
		return err
	}
	if d == &mysqlDialect {
		if old, err := isOldSystem(ctx, db); old || err != nil {
			return cmp.Or(err, ErrOldSystem)
		}
	}
	return errors.New("the database has a table \"messages\" of another program: use an empty database")
}

// tablesOf says which of the tables are there that tell whose database it is.
func tablesOf(ctx context.Context, db *sql.DB, d *dialect) (map[string]bool, error) {
	query := "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ('messages', 'goose_db_version', 'settings', '" + unfinished + "')"
	if d == &sqliteDialect {
		query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('messages', 'goose_db_version', 'settings')"
	}
	list, err := values[string](ctx, db, query)
	tables := make(map[string]bool)
	for _, name := range list {
		tables[name] = true
	}
	return tables, err
}
