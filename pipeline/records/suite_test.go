package records_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// server is the MariaDB server that the tests of this package share.
var server = sync.OnceValues(mariadb.Start)

// used says that a test has asked for the server.
var used bool

func TestMain(m *testing.M) {
	code := m.Run()
	if used {
		if s, err := server(); err == nil {
			if err := s.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func mariaDB(t testing.TB) *mariadb.Server {
	used = true
	return mariadb.Require(t, server)
}

// t0 is when the fake clock of a test begins.
var t0 = time.Date(2026, 3, 1, 8, 15, 30, 789012000, time.UTC)

// env is one database of a test, and what it is opened with.
type env struct {
	t     testing.TB
	url   string
	name  string           // of the MariaDB database, or empty
	clock *fakeclock.Clock // nil is the machine's
	keys  *atrest.Ring
	hash  *atrest.Hasher
	s     *records.Store
}

func ring(t testing.TB, current uint16, versions ...uint16) *atrest.Ring {
	t.Helper()
	keys := make(map[uint16]atrest.Key)
	for _, v := range versions {
		k, err := atrest.ParseKey([]byte(strings.Repeat(fmt.Sprintf("%x", v%15+1), 63) + "0"))
		if err != nil {
			t.Fatal(err)
		}
		keys[v] = k
	}
	r, err := atrest.NewRing(current, keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open opens a store; change may change its configuration.
func (e *env) open(change func(*records.Config)) *records.Store {
	e.t.Helper()
	cfg := records.Config{URL: e.url, Keys: e.keys, Numbers: e.hash}
	if e.clock != nil {
		cfg.Clock = e.clock
	}
	if change != nil {
		change(&cfg)
	}
	s, err := records.Open(e.t.Context(), cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { s.Close() })
	return s
}

// onBoth runs a check on an empty SQLite file and on an empty MariaDB database.
func onBoth(t *testing.T, check func(t *testing.T, e *env)) {
	run := func(name string, address func(t *testing.T) (string, string)) {
		t.Run(name, func(t *testing.T) {
			e := &env{t: t, clock: fakeclock.New(t0), keys: ring(t, 1, 1)}
			e.hash = atrest.NewHasher(ring(t, 1, 1), nil)
			e.url, e.name = address(t)
			e.s = e.open(nil)
			check(t, e)
		})
	}
	run("sqlite", func(t *testing.T) (string, string) { return "sqlite:" + filepath.Join(t.TempDir(), "records.db"), "" })
	run("mariadb", func(t *testing.T) (string, string) {
		address, name, err := mariaDB(t).Database()
		if err != nil {
			t.Fatal(err)
		}
		return address, name
	})
}

func message(i int) records.Message {
	return records.Message{ID: fmt.Sprintf("message-%d", i), Client: "acme-01", Number: fmt.Sprintf("+49152%08d", i),
		Body: fmt.Sprintf("text %d", i), QueuedAt: t0.Add(-time.Second), Proxy: "proxy-1"}
}

func messages(from, n int) (list []records.Message) {
	for i := range n {
		list = append(list, message(from+i))
	}
	return list
}

func deliveries(list []records.Message) (d []records.Delivery) {
	for _, m := range list {
		d = append(d, records.Delivery{Message: m, Worker: "worker-1", Attempts: 1})
	}
	return d
}

// want checks the outcomes of a call.
func want(t testing.TB, results []pipeline.Result, err error, outcomes ...pipeline.ResultStatus) []pipeline.Result {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]pipeline.ResultStatus, len(results))
	for i, r := range results {
		got[i] = r.Status
	}
	if fmt.Sprint(got) != fmt.Sprint(outcomes) {
		t.Fatalf("outcomes %v, want %v; %+v", got, outcomes, results)
	}
	return results
}

func ctx(t testing.TB) context.Context { return t.Context() }

// dsn is the address of the test's MariaDB database for the driver.
func (e *env) dsn() string { return mariaDB(e.t).DSN(e.name) }

// raw opens the database beside the store.
func (e *env) raw() *sql.DB {
	e.t.Helper()
	driver, dsn := "sqlite", strings.TrimPrefix(e.url, "sqlite:")+"?_pragma=busy_timeout(5000)"
	if e.name != "" {
		driver, dsn = "mysql", e.dsn()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { db.Close() })
	return db
}

func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	if _, err := e.raw().Exec(query, args...); err != nil {
		e.t.Fatal(err)
	}
}

// dump is every value of a table as text.
func (e *env) dump(table string) string {
	e.t.Helper()
	rows, err := e.raw().Query("SELECT * FROM " + table)
	if err != nil {
		e.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		e.t.Fatal(err)
	}
	var b strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.RawBytes)
		}
		if err := rows.Scan(values...); err != nil {
			e.t.Fatal(err)
		}
		for i, v := range values {
			fmt.Fprintf(&b, "%s=%s ", columns[i], *v.(*sql.RawBytes))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// checkCounts compares the counts with the rows.
func (e *env) checkCounts() {
	e.t.Helper()
	type key struct{ client, domain, status string }
	read := func(query string) map[key]int64 {
		rows, err := e.raw().Query(query)
		if err != nil {
			e.t.Fatal(err)
		}
		defer rows.Close()
		counts := make(map[key]int64)
		for rows.Next() {
			var k key
			var n int64
			if err := rows.Scan(&k.client, &k.domain, &k.status, &n); err != nil {
				e.t.Fatal(err)
			}
			if n != 0 {
				counts[k] = n
			}
		}
		return counts
	}
	rows := read("SELECT client_id, domain, status, COUNT(*) FROM messages GROUP BY client_id, domain, status")
	for name, query := range map[string]string{
		"all hours": "SELECT client_id, domain, status, messages FROM message_counts WHERE client_id <> '' AND hour = -1",
		"by hour":   "SELECT client_id, domain, status, SUM(messages) FROM message_counts WHERE client_id <> '' AND hour >= 0 GROUP BY client_id, domain, status",
	} {
		if diff := cmp.Diff(rows, read(query)); diff != "" {
			e.t.Errorf("counts, %s (-rows +counts):\n%s", name, diff)
		}
	}
	rows = read("SELECT '', domain, status, COUNT(*) FROM messages GROUP BY domain, status")
	if diff := cmp.Diff(rows, read("SELECT client_id, domain, status, SUM(messages) FROM message_counts WHERE client_id = '' AND hour >= 0 GROUP BY client_id, domain, status")); diff != "" {
		e.t.Errorf("counts of all clients (-rows +counts):\n%s", diff)
	}
}

func hasher(t testing.TB) *atrest.Hasher { return atrest.NewHasher(ring(t, 1, 1), nil) }
