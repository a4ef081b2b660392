package records

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/vanished"
)

var mysqlDialect = dialect{
	name:       "mysql",
	goose:      goose.DialectMySQL,
	insertRows: 500,
	addCounts:  " ON DUPLICATE KEY UPDATE messages = messages + VALUES(messages), delivery_us = delivery_us + VALUES(delivery_us)",
	ignore:     func(column string) string { return " ON DUPLICATE KEY UPDATE " + column + " = " + column },
	setting:    " ON DUPLICATE KEY UPDATE value = VALUES(value)",
	lock:       " FOR UPDATE",
	putMinute: ` ON DUPLICATE KEY UPDATE accepted = VALUES(accepted), delivered = VALUES(delivered), failed = VALUES(failed),
		waiting = VALUES(waiting), dead = VALUES(dead)`,
	stamp:    func(t time.Time) any { return t.UTC() },
	classify: classifyMySQL,
	describe: describeMySQL,
}

// serverTimeout bounds every answer of a server, and serverVanished how long it may acknowledge
// nothing: a server can be busy, but not silent.
const (
	serverTimeout  = 30 * time.Second
	serverVanished = 10 * time.Second
)

// A server keeps the locks of a session whose client's host has gone until its wait_timeout, which
// is 8 hours by default: nobody else could write meanwhile. So a session ends that is silent for
// silentSession. The pool closes connections before that, when it has no use for them.
const (
	silentSession = 15 * time.Second
	idleConn      = 10 * time.Second
)

// mysqlConfig is how every connection is made. The time zone, the strict mode and what connector
// sets hold whatever the server's own settings are.
func mysqlConfig(a address) (*mysql.Config, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = a.user, a.password, a.name
	c.Net, c.Addr = "tcp", net.JoinHostPort(a.host, a.port)
	if a.socket != "" {
		c.Net, c.Addr = "unix", a.socket
	}
	c.Collation = "utf8mb4_bin"
	c.ParseTime, c.Loc = true, time.UTC
	c.InterpolateParams = true // one round trip for each statement
	c.ClientFoundRows = true
	c.RejectReadOnly = true // leaves a server that has become a replica
	c.Timeout, c.ReadTimeout, c.WriteTimeout = 5*time.Second, serverTimeout, serverTimeout
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			vanished.After(conn, serverVanished)
		}
		return conn, err
	}
	c.Params = map[string]string{
		"autocommit": "1", "default_storage_engine": "InnoDB",
		"time_zone": "'+00:00'",
		"sql_mode":  "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
	}
	c.Logger = &mysql.NopLogger{} // its errors come back from the calls
	if a.tls {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.host}
		if a.ca != "" {
			pem, err := durable.ReadFile(durable.OS(), a.ca, 1<<20)
			if err != nil {
				return nil, fmt.Errorf("authority of the database: %w", err)
			}
			c.TLS.RootCAs = x509.NewCertPool()
			if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("authority of the database: %q has no certificate in PEM", a.ca)
			}
		}
	}
	return c, nil
}

// connector sets the isolation of transactions, whose variable has different names in MySQL and
// MariaDB.
type connector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	const isolation = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
	if _, err := conn.(driver.ExecerContext).ExecContext(ctx, isolation, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// openMySQL makes a pool of at most so many connections, of which idle ones stay. It does not
// connect yet.
func openMySQL(c *mysql.Config, idle, most int) (*sql.DB, error) {
	inner, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	db := sql.OpenDB(connector{inner})
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(idle)
	db.SetConnMaxLifetime(time.Hour)
	return db, nil
}

func classifyMySQL(err error) class {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return down
	}
	switch e.Number {
	case 1062, // a row with this key was stored meanwhile
		1205, 1213, 1020: // lock wait timeout, deadlock, record has changed
		return again
	case 1021, 1114, 1041: // disk full, table full
		return full
	case 1048, 1153, 1264, 1265, 1292, 1366, 1406, 1451, 1452, 1644, 1690, 3819, 4025:
		return bad
	}
	return down
}

// IsAway reports whether an error of IsNew says that a server did not answer, or that it cannot
// now. Everything else, such as a wrong password, stays wrong.
func IsAway(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number == 1040 || e.Number == 1053 // too many connections, shutdown
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || sealmq.CodeOf(err) == sealmq.Unavailable
}

func describeMySQL(err error) string {
	var e *mysql.MySQLError
	var n net.Error
	switch {
	case errors.As(err, &e):
		return fmt.Sprintf("MySQL error %d, SQLSTATE %s", e.Number, e.SQLState[:])
	case errors.As(err, &n), errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn):
		return err.Error()
	}
	return fmt.Sprintf("error of type %T", err)
}
