package records

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/sealmq/sealmq/internal/clock"
)

// ErrOldSystem says that a database is the earlier Python system's, and was not taken over.
var ErrOldSystem error = oldSystemError{}

type oldSystemError struct{}

// Error says whose database it is.
func (oldSystemError) Error() string {
	return "the database is the earlier Python system's, and was not taken over yet"
}

// Hint says what to do.
func (oldSystemError) Hint() string {
	return `stop the earlier system, then look at "sealmq database adopt --dry-run", which changes nothing; "sealmq database adopt" takes the database over where it is`
}

// ErrAdopted says that a database is ours, so that there is nothing to take over.
var ErrAdopted = errors.New("the database is SealMQ's already")

// adoptedSetting has the numbers of a database that was taken over.
const adoptedSetting = "adopted"

// isOldSystem reports whether the tables are the earlier system's, also if they are half changed.
// Where there are sessions, they are ours and have lost the table that says so.
func isOldSystem(ctx context.Context, db *sql.DB) (old bool, err error) {
	err = each(ctx, db, `SELECT SUM(IF(table_name = 'user_sessions', -1, 1)) FROM information_schema.columns WHERE table_schema = DATABASE() AND
		(table_name = 'user_sessions' AND column_name = 'id' OR table_name = 'messages' AND column_name IN ('sender_number_hashed', 'encrypted_body') OR table_name = 'clients' AND column_name = 'cert_fingerprint' OR
		 table_name = 'users' AND column_name = 'password_hash')`, nil, func(rows *sql.Rows) error {
		var n sql.NullInt64
		err := rows.Scan(&n)
		old = n.Int64 == 4
		return err
	})
	return old, err
}

// An Adoption takes over a database of the earlier Python system, on MySQL or MariaDB, where it
// is. Nobody else may use the database meanwhile.
type Adoption struct {
	cfg    Config
	db     *sql.DB
	tables []*oldTable
}

// OpenOld opens a database that is to be taken over, and changes nothing. It returns ErrAdopted
// if that was done. Of the configuration it needs the address and the keys. The caller must
// close the adoption.
func OpenOld(ctx context.Context, cfg Config) (*Adoption, error) {
	cfg.Clock = cmp.Or(cfg.Clock, clock.System)
	db, err := openServer(cfg)
	if err != nil {
		return nil, err
	}
	a := &Adoption{cfg: cfg, db: db}
	switch err := checkForeign(ctx, db, &mysqlDialect); {
	case err == nil:
		err = ErrAdopted
		if tables, errTables := tablesOf(ctx, db, &mysqlDialect); errTables == nil && !tables["messages"] {
			err = errors.New("the database has no table \"messages\": there is nothing to take over")
		}
		return nil, errors.Join(err, db.Close())
	case !errors.Is(err, ErrOldSystem):
		return nil, errors.Join(a.failed("look at the database", err), db.Close())
	}
	if a.tables, err = oldTables(ctx, db); err != nil {
		return nil, errors.Join(a.failed("look at the tables", err), db.Close())
	}
	return a, nil
}

func openServer(cfg Config) (*sql.DB, error) {
	addr, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if addr.path != "" {
		return nil, errors.New("only a database on MySQL or MariaDB can be taken over, and this is an SQLite file")
	}
	c, err := mysqlConfig(addr)
	if err != nil {
		return nil, err
	}
	c.ReadTimeout = 0 // a change of a large table takes its time
	return openMySQL(c, 4, 4)
}

// FinishAdoption makes the tables that are missing if Run was killed as it made them, in a database
// for which OpenOld returns ErrAdopted. It changes nothing once a main server has opened it.
func FinishAdoption(ctx context.Context, cfg Config) error {
	if unopened, err := IsNew(ctx, cfg); err != nil || !unopened {
		return err
	}
	db, err := openServer(cfg)
	if err != nil {
		return err
	}
	return errors.Join(mysqlDialect.coded("make the other tables", upgrade(ctx, db, &mysqlDialect)), db.Close())
}

// Close closes the connections.
func (a *Adoption) Close() error { return a.db.Close() }

// failed is an error without values of rows, which texts of the driver and of database/sql quote.
func (a *Adoption) failed(doing string, err error) error {
	_, server := errors.AsType[*mysql.MySQLError](err)
	switch {
	case err == nil || own(err):
		return err
	case server, IsAway(err), strings.Contains(err.Error(), "sql: Scan error"):
		return fmt.Errorf("%s: %s", doing, mysqlDialect.describe(err))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// step is one statement that changes something. Doing it again changes nothing more.
type step struct{ name, statement string }

// Run takes the database over. It calls begin with the name of each step before that step; if
// begin returns an error, it stops there. A call that was interrupted anywhere is repeated as a
// whole. What Plan calls a problem must have been solved.
func (a *Adoption) Run(ctx context.Context, begin func(name string) error) error {
	held, unlock, err := lockTables(ctx, a.db)
	if err != nil {
		return a.failed("wait for the turn to change the tables", err)
	}
	defer func() { unlock() }()
	steps, err := a.steps(held)
	if err != nil {
		return a.failed("look at the database", err)
	}
	for _, s := range steps {
		if err := begin(s.name); err != nil {
			return err
		}
		if _, err := a.db.ExecContext(held, s.statement); err != nil {
			return a.failed(s.name, orLost(held, err))
		}
	}
	for _, f := range []struct {
		name string
		do   func() error
	}{
		{"count messages for the pages", func() error { return orLost(held, a.count(held)) }},
		{"make the other tables", func() error {
			unlock() // upgrade takes it
			unlock = func() {}
			return upgrade(ctx, a.db, &mysqlDialect)
		}},
	} {
		if err := begin(f.name); err != nil {
			return err
		}
		if err := f.do(); err != nil {
			return a.failed(f.name, err)
		}
	}
	return nil
}

// steps are what is to be done before the tables of other kinds are made.
func (a *Adoption) steps(ctx context.Context) (steps []step, err error) {
	add := func(name, statement string) { steps = append(steps, step{name, statement}) }
	triggers, err := a.triggers(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range triggers {
		add("drop trigger "+name, "DROP TRIGGER IF EXISTS "+quoteName(name))
	}
	for _, t := range a.tables {
		keys, err := foreignKeys(ctx, a.db, t.name)
		if err != nil {
			return nil, err
		}
		for _, key := range keys { // its columns cannot change while it is there
			add("release foreign key "+key, "ALTER TABLE "+t.name+" DROP FOREIGN KEY "+quoteName(key))
		}
	}
	for _, r := range repairs {
		if r.statement != "" && a.has(r.table) {
			add(r.name, r.statement)
		}
	}
	for _, t := range a.tables {
		if t.exists() {
			add("change table "+t.name, t.alter())
		}
	}
	for _, file := range []string{"00007_settings.sql", "00004_message_counts.sql"} {
		text, err := migrations.ReadFile("migrations/mysql/" + file)
		if err != nil {
			return nil, err
		}
		add("make table "+strings.TrimSuffix(file[6:], ".sql"), string(text))
	}
	return steps, nil
}

func (a *Adoption) has(table string) bool {
	return slices.ContainsFunc(a.tables, func(t *oldTable) bool { return t.name == table && t.exists() })
}

// triggers are those of the old tables. They would fire at changes that are ours.
func (a *Adoption) triggers(ctx context.Context) ([]string, error) {
	var names []any
	for _, t := range a.tables {
		names = append(names, t.name)
	}
	return values[string](ctx, a.db, "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE() AND event_object_table IN ("+marks(len(names))+") ORDER BY 1", names...)
}

// count makes the counts that pages show, notes the keys, and notes that it was done.
func (a *Adoption) count(ctx context.Context) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	exec := func(query string, args ...any) {
		if err == nil {
			_, err = tx.ExecContext(ctx, query, args...)
		}
	}
	exec("DELETE FROM message_counts")
	for _, client := range []string{"client_id", "''"} {
		for _, hour := range []string{"TIMESTAMPDIFF(SECOND, '1970-01-01', created_at) DIV 3600", "-1"} {
			exec(`INSERT INTO message_counts (client_id, hour, domain, status, messages, delivery_us)
				SELECT c, h, domain, status, COUNT(*), SUM(us) FROM (SELECT ` + client + ` AS c, ` + hour + ` AS h, domain, status,
					IF(status = 'delivered', GREATEST(0, COALESCE(TIMESTAMPDIFF(MICROSECOND, queued_at, delivered_at), 0)), 0) AS us FROM messages) AS m
				GROUP BY c, h, domain, status`)
		}
	}
	setting := func(name, value string) {
		exec("INSERT INTO settings (name, value) VALUES (?, ?)"+mysqlDialect.setting, name, value)
	}
	for _, v := range a.cfg.Keys.Versions() {
		setting(fmt.Sprintf("key_fingerprint_%d", v), a.cfg.Keys.Fingerprint(v))
	}
	for _, v := range a.cfg.Numbers.Versions() {
		setting(fmt.Sprintf("number_key_fingerprint_%d", v), a.cfg.Numbers.Fingerprint(v))
	}
	if err != nil {
		return err
	}
	var done int
	var messages, lastAudit sql.NullInt64
	err = tx.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM settings WHERE name = ?), (SELECT COUNT(*) FROM messages), (SELECT MAX(id) FROM audit_log)",
		adoptedSetting).Scan(&done, &messages, &lastAudit)
	if err != nil || done > 0 {
		return errors.Join(err, tx.Commit())
	}
	now := a.cfg.Clock.Now().UTC()
	data, err := json.Marshal(map[string]any{"at": now.Format(time.RFC3339), "messages": messages.Int64, "last_earlier_audit_row": lastAudit.Int64})
	if err != nil {
		return err
	}
	setting(adoptedSetting, string(data))
	exec("INSERT INTO audit_log (event_type, event_data, severity, created_at) VALUES ('database_adopted', ?, 'info', ?)", string(data), now)
	if err != nil {
		return err
	}
	return tx.Commit()
}
