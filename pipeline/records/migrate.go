package records

import (
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
	dir, err := fs.Sub(migrations, "migrations/"+d.name)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose, db, dir, goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if d == &mysqlDialect {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", lockName, lockWait).Scan(&got); err != nil {
			return err
		}
		if got.Int64 != 1 {
			return errors.New("another process has been changing the tables for a minute; wait until it is done")
		}
		defer conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(?)", lockName) //nolint:errcheck // it ends with the connection
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

// IsNew reports whether Open would make the tables of a database. Key files are made together
// with it, before.
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
	return len(tables) == 0, nil
}

// checkForeign refuses a database whose tables another program made.
func checkForeign(ctx context.Context, db *sql.DB, d *dialect) error {
	tables, err := tablesOf(ctx, db, d)
	if err == nil && tables["messages"] && !tables["goose_db_version"] {
		return errors.New("the database has a table \"messages\" of another program: use an empty database")
	}
	return err
}

// tablesOf says which of the tables are there that tell whose database it is.
func tablesOf(ctx context.Context, db *sql.DB, d *dialect) (map[string]bool, error) {
	query := "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ('messages', 'goose_db_version')"
	if d == &sqliteDialect {
		query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('messages', 'goose_db_version')"
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
