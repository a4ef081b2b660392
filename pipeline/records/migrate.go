package records

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/pressly/goose/v3"
)

// Every migration is one statement: MySQL commits after each, so a migration of several could
// be left half done.
//
//go:embed migrations
var migrations embed.FS

// lockName and lockWait are the lock under which several processes take turns to migrate.
const (
	lockName = "sealmq_migrate"
	lockWait = 60
)

// migrate brings the tables to the newest version. If it may not, it demands that they are.
func migrate(ctx context.Context, db *sql.DB, d *dialect, may bool) error {
	if err := checkForeign(ctx, db, d); err != nil {
		return err
	}
	return upgrade(ctx, db, d, may)
}

// upgrade is migrate for tables that are known to be ours.
func upgrade(ctx context.Context, db *sql.DB, d *dialect, may bool) error {
	dir, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if d == &mysqlDialect {
		unlock, err := lockTables(ctx, db)
		if err != nil {
			return err
		}
		defer unlock()
	}
	has, newest, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case has > newest:
		return fmt.Errorf("the database has version %d and this program knows %d: it was written by a newer one", has, newest)
	case has < newest && !may:
		return fmt.Errorf("the database has version %d and this program needs %d: allow it to change the tables, or change them beforehand", has, newest)
	}
	_, err = p.Up(ctx)
	return err
}

// lockTables waits for the turn to change the tables of a server.
func lockTables(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", lockName, lockWait).Scan(&got)
	if err == nil && got.Int64 != 1 {
		err = errors.New("another process has been changing the tables for a minute; wait until it is done")
	}
	if err != nil {
		conn.Close() //nolint:errcheck // the first error says more
		return nil, err
	}
	return func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(?)", lockName) // it ends with the connection
		conn.Close()                                                                        //nolint:errcheck // nothing was written by it
	}, nil
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
	c, err := mysqlConfig(a, cfg.TLS)
	if err != nil {
		return false, err
	}
	db, err := openMySQL(c, 1, 0)
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
	case !tables["messages"] && !tables["goose_db_version"]:
		return true, nil
	case !tables["goose_db_version"]:
		return false, checkForeign(ctx, db, &mysqlDialect)
	case !tables["settings"]: // the first start was interrupted
		return false, nil
	}
	adopted, opened := false, false
	err = each(ctx, db, "SELECT name FROM settings WHERE name IN (?, ?)", []any{adoptedSetting, "id_key_fingerprint_1"}, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		adopted, opened = adopted || name == adoptedSetting, opened || name != adoptedSetting
		return err
	})
	return adopted && !opened, mysqlDialect.coded("look at the database", err)
}

// checkForeign refuses a database whose tables another program made.
func checkForeign(ctx context.Context, db *sql.DB, d *dialect) error {
	tables, err := tablesOf(ctx, db, d)
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
	query := "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ('messages', 'goose_db_version', 'settings')"
	if d == &sqliteDialect {
		query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('messages', 'goose_db_version', 'settings')"
	}
	tables := make(map[string]bool)
	err := each(ctx, db, query, nil, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		tables[name] = true
		return err
	})
	return tables, err
}
