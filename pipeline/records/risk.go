package records

import (
	"context"
	"database/sql"
)

// Risk says why the database may lose what it has stored, and what to do about it, or is empty.
func (s *Store) Risk(ctx context.Context) (string, error) {
	if s.d == &sqliteDialect {
		return "", nil // every connection sets what is needed
	}
	why, err := mysqlRisk(ctx, s.read)
	return why, s.d.coded("ask when the database syncs", err)
}

// RiskAt is the Risk of a database that is not open.
func RiskAt(ctx context.Context, cfg Config) (string, error) {
	a, err := parseURL(cfg.URL)
	if err != nil || a.path != "" {
		return "", err
	}
	db, _, err := openPlain(cfg)
	if err != nil {
		return "", err
	}
	defer db.Close()
	return mysqlRisk(ctx, db)
}

// mysqlRisk asks for the server's settings. No connection can set them for itself.
func mysqlRisk(ctx context.Context, db *sql.DB) (string, error) {
	var flush, binlog, sync int64
	err := db.QueryRowContext(ctx, "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog").Scan(&flush, &binlog, &sync)
	if err != nil {
		return "", err
	}
	return riskOf(flush, binlog != 0, sync), nil
}

// riskOf judges a server's settings.
func riskOf(flush int64, binlog bool, sync int64) string {
	const late = "the database syncs later than it answers, so a power cut loses messages: set "
	switch {
	case flush != 1 && flush != 3: // MariaDB's 3 syncs, too
		return late + "innodb_flush_log_at_trx_commit=1"
	case binlog && sync != 1: // after a crash counts what the binary log has
		return late + "sync_binlog=1"
	}
	return ""
}
