package records

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// oldTable is a table of the earlier system, and what it is to become: what a migration of ours
// would make. Columns that ours does not have stay as they are.
type oldTable struct {
	name    string
	columns []column // of ours, in order
	indexes []index
	foreign []string // clauses of ours

	has        []string // columns that are there
	hasIndexes []index
}

type column struct{ name, definition string }

type index struct {
	name, columns string
	unique        bool
}

// adoptFiles are the migrations of the tables that both systems have, parents first.
var adoptFiles = []string{"00001_clients.sql", "00040_users.sql", "00003_messages.sql", "00006_audit_log.sql", "00043_password_resets.sql"}

// leaveColumn names columns whose type may stay: JSON of either kind holds what ours does.
func leaveColumn(table, column string) bool { return table == "audit_log" && column == "event_data" }

var keyLine = regexp.MustCompile(`^(UNIQUE )?KEY (\w+) \((.*)\)$`)

// parseTable reads a migration that makes a table.
func parseTable(text string) (*oldTable, error) {
	_, text, found := strings.Cut(text, "CREATE TABLE IF NOT EXISTS ")
	name, text, is := strings.Cut(text, " (\n")
	text, _, closed := strings.Cut(text, "\n)")
	if !found || !is || !closed {
		return nil, fmt.Errorf("a migration makes no table")
	}
	t := &oldTable{name: name}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if m := keyLine.FindStringSubmatch(line); m != nil {
			t.indexes = append(t.indexes, index{m[2], strings.ReplaceAll(m[3], " ", ""), m[1] != ""})
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "PRIMARY":
		case "CONSTRAINT":
			t.foreign = append(t.foreign, line)
		default:
			t.columns = append(t.columns, column{word, rest})
		}
	}
	return t, nil
}

// oldTables reads what is there.
func oldTables(ctx context.Context, db *sql.DB) (list []*oldTable, err error) {
	for _, file := range adoptFiles {
		text, err := migrations.ReadFile("migrations/mysql/" + file)
		if err != nil {
			return nil, err
		}
		t, err := parseTable(string(text))
		if err != nil {
			return nil, err
		}
		t.has, err = values[string](ctx, db, "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position", t.name)
		if err != nil {
			return nil, err
		}
		t.hasIndexes, err = all(ctx, db, func(i *index) []any { return []any{&i.name, &i.columns, &i.unique} }, `SELECT index_name, COALESCE(GROUP_CONCAT(column_name ORDER BY seq_in_index), ''), MIN(non_unique) = 0 FROM information_schema.statistics
			WHERE table_schema = DATABASE() AND table_name = ? AND index_name <> 'PRIMARY' GROUP BY index_name ORDER BY index_name`, t.name)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func (t *oldTable) exists() bool { return len(t.has) > 0 }

// missing are the columns that ours has more.
func (t *oldTable) missing() (names []string) {
	for _, c := range t.columns {
		if !slices.Contains(t.has, c.name) {
			names = append(names, c.name)
		}
	}
	return names
}

// alter is the one statement that makes the table like ours, once its foreign keys are released
// and its parents are changed. The server does all of it or nothing, and again it changes nothing.
func (t *oldTable) alter() string {
	var parts []string
	for _, c := range t.columns {
		switch {
		case !slices.Contains(t.has, c.name):
			parts = append(parts, "ADD COLUMN "+c.name+" "+c.definition)
		case !leaveColumn(t.name, c.name):
			parts = append(parts, "MODIFY "+c.name+" "+c.definition)
		}
	}
	for _, i := range t.hasIndexes {
		sameName := slices.ContainsFunc(t.indexes, func(w index) bool { return w.name == i.name })
		if !slices.Contains(t.indexes, i) && (sameName || i.unique) { // others do no harm
			parts = append(parts, "DROP INDEX "+quoteName(i.name))
		}
	}
	for _, i := range t.indexes {
		if slices.Contains(t.hasIndexes, i) {
			continue
		}
		kind := "KEY "
		if i.unique {
			kind = "UNIQUE KEY "
		}
		parts = append(parts, "ADD "+kind+i.name+" ("+i.columns+")")
	}
	for _, clause := range t.foreign { // here, so that the rows are copied once
		parts = append(parts, "ADD "+clause)
	}
	return "ALTER TABLE " + t.name + " " + strings.Join(parts, ", ") + ", DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
}

// foreignKeys are the names of a table's foreign keys.
func foreignKeys(ctx context.Context, db *sql.DB, table string) ([]string, error) {
	return values[string](ctx, db, `SELECT constraint_name FROM information_schema.table_constraints WHERE table_schema = DATABASE() AND table_name = ? AND constraint_type = 'FOREIGN KEY'
		ORDER BY constraint_name`, table)
}

// quoteName quotes a name of another program for a statement.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
