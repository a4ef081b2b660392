package records

import (
	"context"
	"database/sql"
	"path/filepath"
)

// DatabaseStatus is about the database itself.
type DatabaseStatus struct {
	Dialect string // sqlite or mysql
	Name    string
	Version string
	Bytes   int64
	// Rows are of each table. Those of messages come from the counts; those of audit_log are
	// an estimate.
	Rows map[string]int64
	// Pool is of the connections that read; for MySQL those that write are among them.
	Pool sql.DBStats
}

// Address is where the database is, without user and password.
type Address struct {
	Host, Port, Name, User string // of a server
	Path                   string // of a file
}

// Address returns where the database is.
func (s *Store) Address() Address {
	a := s.addr
	if a.path != "" {
		return Address{Path: a.path, Name: filepath.Base(a.path)}
	}
	return Address{Host: a.host, Port: a.port, Name: a.name, User: a.user}
}

// Connections is how many connections to the database are open.
func (s *Store) Connections() int {
	n := s.read.Stats().OpenConnections
	if s.write != s.read {
		n += s.write.Stats().OpenConnections
	}
	return n
}

// DatabaseStatus asks the database about itself.
func (s *Store) DatabaseStatus(ctx context.Context) (DatabaseStatus, error) {
	st := DatabaseStatus{Dialect: s.d.name, Name: s.Address().Name, Pool: s.read.Stats()}
	version, size := "SELECT VERSION()", "SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()"
	if s.d == &sqliteDialect {
		version, size = "SELECT sqlite_version()", "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	}
	var clients, certificates, scopeKeys, events int64
	for _, q := range []struct {
		text string
		to   any
	}{
		{version, &st.Version}, {size, &st.Bytes}, {"SELECT COUNT(*) FROM clients", &clients}, {"SELECT COUNT(*) FROM certificates", &certificates},
		{"SELECT COUNT(*) FROM scope_keys", &scopeKeys}, {"SELECT COALESCE(MAX(id) - MIN(id) + 1, 0) FROM audit_log", &events},
	} {
		if err := s.read.QueryRowContext(ctx, q.text).Scan(q.to); err != nil {
			return st, s.d.coded("ask for the database's size", err)
		}
	}
	st.Rows = map[string]int64{"clients": clients, "certificates": certificates, "scope_keys": scopeKeys, "audit_log": events}
	messages, _, err := s.Count(ctx, Filter{})
	st.Rows["messages"] = messages
	return st, err
}
