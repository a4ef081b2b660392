package records

import "database/sql"

// SetExamined changes how many rows a page looks at.
func (s *Store) SetExamined(n int) { s.examine = n }

// Writer is the pool that writes.
func (s *Store) Writer() *sql.DB { return s.write }

// RiskOf judges the settings of a MySQL server.
var RiskOf = riskOf

// LockTables takes the turn to change the tables, whose lock LockName is.
var LockTables = lockTables

// LockName is SQL.
const LockName = lockName
