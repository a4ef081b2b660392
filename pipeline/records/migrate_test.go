package records

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

// TestMigrationNumbers: no two migrations have one number, and none is left out: a database that
// has the next one would never get it. A migration that only one dialect needs, such as an index
// that the other makes with its table, is a number of both.
func TestMigrationNumbers(t *testing.T) {
	names := make(map[int]string)
	last := 0
	for _, d := range []*dialect{&sqliteDialect, &mysqlDialect} {
		entries, err := fs.ReadDir(migrations, "migrations/"+d.name)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[int]string)
		for _, e := range entries {
			digits, rest, _ := strings.Cut(e.Name(), "_")
			n, err := strconv.Atoi(digits)
			switch {
			case err != nil || n < 1 || len(digits) != 5 || !strings.HasSuffix(rest, ".sql"):
				t.Errorf("%s: %s is not named like 00001_what.sql", d.name, e.Name())
			case seen[n] != "":
				t.Errorf("%s: %s and %s have one number", d.name, seen[n], e.Name())
			case names[n] != "" && names[n] != e.Name():
				t.Errorf("%s has %s where the other dialect has %s", d.name, e.Name(), names[n])
			}
			seen[n], names[n], last = e.Name(), e.Name(), max(last, n)
		}
	}
	for n := 1; n <= last; n++ {
		if released := n > 30 && n < 40; released != (names[n] == "") {
			t.Errorf("migration %d is missing, or fills a gap that released versions have", n)
		}
	}
}
