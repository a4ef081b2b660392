package records

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// BackupDump is the name in a backup of the whole database, if that is on a server. It is text in
// SQL, with one statement on each line, which the server's own program reads, too.
const BackupDump = "records/records.sql"

// maxInsert is about how long a statement of a dump gets, and maxLine bounds what is read.
const (
	maxInsert = 256 << 10
	maxLine   = 64 << 20
)

// dumpHead makes a session take a dump as it was written. Tables may come before those that they
// refer to.
const dumpHead = "SET NAMES utf8mb4;\nSET SESSION time_zone = '+00:00', SESSION foreign_key_checks = 0, SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\n"

// backupMySQL adds a dump.
func backupMySQL(ctx context.Context, cfg Config, add func(name string, content io.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(dump(ctx, cfg, w)) //nolint:errcheck // it never fails
	}()
	err := add(BackupDump, r) // which reads to the end, or the error of dump
	cancel()
	r.Close() //nolint:errcheck // it never fails
	<-ended
	return err
}

// dump writes the tables as they are at one moment.
func dump(ctx context.Context, cfg Config, w io.Writer) (err error) {
	db, d, err := openPlain(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return d.coded("begin to dump the database", err)
	}
	defer tx.Rollback() //nolint:errcheck // it has changed nothing
	out := bufio.NewWriterSize(w, 64<<10)
	out.WriteString(dumpHead) //nolint:errcheck // Flush returns it
	var tables []string
	// The first statement that reads a table of InnoDB sets the moment for all others.
	err = each(ctx, tx, "SELECT COUNT(*) FROM settings", nil, func(*sql.Rows) error { return nil })
	if err == nil {
		tables, err = values[string](ctx, tx, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name")
	}
	for _, name := range tables {
		if err == nil {
			err = dumpTable(ctx, tx, name, out)
		}
	}
	if err != nil {
		return d.coded("dump the database", err)
	}
	return out.Flush()
}

// dumpTable writes how a table is made, and its rows.
func dumpTable(ctx context.Context, tx *sql.Tx, name string, out *bufio.Writer) error {
	var create string
	if err := tx.QueryRowContext(ctx, "SHOW CREATE TABLE "+quoteName(name)).Scan(new(string), &create); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s;\n", strings.ReplaceAll(create, "\n", " "))
	if slices.Contains(leftOut, name) {
		return nil
	}
	// Without those that the server computes.
	columns, err := values[string](ctx, tx, "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND COALESCE(generation_expression, '') = '' ORDER BY ordinal_position", name)
	if err != nil {
		return err
	}
	for i := range columns {
		columns[i] = quoteName(columns[i])
	}
	list := strings.Join(columns, ", ")
	rows, err := tx.QueryContext(ctx, "SELECT "+list+" FROM "+quoteName(name))
	if err != nil {
		return err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	values, to := make([]sql.RawBytes, len(types)), make([]any, len(types))
	for i := range values {
		to[i] = &values[i]
	}
	var b bytes.Buffer
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return err
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES ", quoteName(name), list)
		} else {
			b.WriteString(", ")
		}
		for i, v := range values {
			b.WriteByte("(,"[min(i, 1)])
			writeLiteral(&b, v, isBinary(types[i].DatabaseTypeName()))
		}
		b.WriteByte(')')
		if b.Len() > maxInsert {
			b.WriteString(";\n")
			if _, err := b.WriteTo(out); err != nil {
				return err
			}
		}
	}
	if b.Len() > 0 {
		b.WriteString(";\n")
	}
	_, err = b.WriteTo(out)
	return errors.Join(rows.Err(), err)
}

func isBinary(kind string) bool {
	return strings.Contains(kind, "BINARY") || strings.Contains(kind, "BLOB") || kind == "BIT" || kind == "GEOMETRY"
}

// writeLiteral writes a value in SQL. Numbers and times are strings, too: the column says what
// they are.
func writeLiteral(b *bytes.Buffer, v []byte, binary bool) {
	switch {
	case v == nil:
		b.WriteString("NULL")
	case binary && len(v) > 0:
		b.WriteString("0x")
		b.WriteString(hex.EncodeToString(v))
	default:
		b.WriteByte('\'')
		for _, c := range v {
			if i := strings.IndexByte("\x00\n\r\x1a\\'", c); i >= 0 {
				b.WriteByte('\\')
				c = `0nrZ\'`[i]
			}
			b.WriteByte(c)
		}
		b.WriteByte('\'')
	}
}

// ErrNotEmpty says that a database has tables already.
var ErrNotEmpty = errors.New("the database is not empty")

// CheckEmpty is ErrNotEmpty if a database on a server has tables.
func CheckEmpty(ctx context.Context, cfg Config) (err error) {
	db, d, err := openPlain(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	n, err := count(ctx, db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()")
	if err == nil && n > 0 {
		return ErrNotEmpty
	}
	return d.coded("look at the database", err)
}

// unfinished is a table that says that a dump is not all there, or the keys of its texts.
const unfinished = "restore_unfinished"

// RestoreDump fills an empty database on a server with a dump of Backup, and calls then, after which
// main servers may use it. If it fails, what it has made stays, and no main server uses that.
func RestoreDump(ctx context.Context, cfg Config, r io.Reader, then func() error) (err error) {
	if err := CheckEmpty(ctx, cfg); err != nil {
		return err
	}
	db, d, err := openPlain(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx) // the statements at the beginning are for one session
	if err != nil {
		return d.coded("restore the database", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	exec := func(statement string) error {
		_, err := conn.ExecContext(ctx, statement)
		return d.coded("restore the database", err)
	}
	if err := exec("CREATE TABLE " + unfinished + " (id INT NOT NULL PRIMARY KEY)"); err != nil {
		return err
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := exec(lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if err := then(); err != nil {
		return err
	}
	return exec("DROP TABLE " + unfinished)
}
