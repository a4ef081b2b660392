package records_test

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// The measurement of queries on a large table:
//
//	go test ./pipeline/records -run TestLargeTable -v -timeout 2h -large-rows 5000000 -large-db /tmp/large
//
// It makes the databases unless they are there: an SQLite file in the folder, and with
// -large-mariadb a table in a private server. 5,000,000 rows take 4 GB.
var (
	largeRows    = flag.Int("large-rows", 0, "rows of TestLargeTable; 0 skips it")
	largeDB      = flag.String("large-db", "", "folder of TestLargeTable's SQLite file; empty is a temporary one")
	largeMariaDB = flag.Bool("large-mariadb", false, "measure MariaDB instead of SQLite")
)

const (
	largeClients = 200
	largeSenders = 1000 // whose hashes are real
	largeDays    = 180
)

func TestLargeTable(t *testing.T) {
	if *largeRows == 0 {
		t.Skip("it takes minutes and gigabytes; ask for it with -large-rows")
	}
	e := &env{t: t, clock: fakeclock.New(t0), keys: ring(t, 1, 1), hash: atrest.NewHasher(ring(t, 1, 1), nil)}
	var path string
	if *largeMariaDB {
		server := mariaDB(t)
		// With less, the disk is measured, as with an SQLite file that is not in the cache.
		if err := server.Exec("", "SET GLOBAL innodb_buffer_pool_size = 6442450944", []any(nil)); err != nil {
			t.Fatal(err)
		}
		var err error
		if e.url, e.name, err = server.Database(); err != nil {
			t.Fatal(err)
		}
	} else {
		dir := *largeDB
		if dir == "" {
			dir = t.TempDir()
		}
		path = filepath.Join(dir, "large.db")
		e.url = "sqlite:" + path
	}
	_, err := os.Stat(path)
	e.s = e.open(nil)
	if err != nil {
		began := time.Now()
		e.fill(path)
		t.Logf("%d rows were made in %v", *largeRows, time.Since(began).Round(time.Second))
		e.s = e.open(nil)
	}
	status, err := e.s.DatabaseStatus(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s: %d messages, %d MB", status.Dialect, status.Version, status.Rows["messages"], status.Bytes>>20)
	e.measure()
}

// fill makes the rows in SQL, without a sync and without indexes.
func (e *env) fill(path string) {
	t := e.t
	hash := func(i int) string { h, _ := e.hash.Hash(sender(i)); return h }
	scopes := make([]string, 0, largeClients)
	for i := range largeClients {
		m := message(i)
		m.Client, m.ID = largeClient(i), fmt.Sprintf("first-%d", i)
		r, err := e.s.Register(ctx(t), []records.Message{m})
		want(t, r, err, pipeline.StatusRegistered)
		scopes = append(scopes, m.Client)
	}
	sample, err := e.s.Get(ctx(t), scopes[0], "first-0")
	if err != nil || sample.Body == "" {
		t.Fatal(err)
	}
	body, number := "v3.AAEAAAAB"+strings.Repeat("A", 200), "v3.AAEAAAAB"+strings.Repeat("A", 70) // of the first scope key
	var db *sql.DB
	series := "WITH RECURSIVE r(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM r WHERE i < ?) SELECT "
	stamp := func(expr string) string { return expr }
	hexed := func(expr string, digits int) string { return fmt.Sprintf("printf('%%0%dx', %s)", digits, expr) }
	join := "||"
	if path != "" {
		if err := e.s.Close(); err != nil {
			t.Fatal(err)
		}
		db, err = sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=cache_size(-500000)&_pragma=temp_store(2)")
	} else {
		db, err = sql.Open("mysql", e.dsn())
		stamp = func(expr string) string {
			return "TIMESTAMPADD(MICROSECOND, (" + expr + ") % 1000000, FROM_UNIXTIME((" + expr + ") DIV 1000000))"
		}
		hexed = func(expr string, digits int) string {
			return fmt.Sprintf("LPAD(LOWER(HEX(%s)), %d, '0')", expr, digits)
		}
		join = ","
	}
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatalf("%.200s: %v", query, err)
		}
	}
	indexes := make(map[string]string)
	if path != "" {
		rows, err := db.Query("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'messages' AND sql IS NOT NULL")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var name, text string
			if err := rows.Scan(&name, &text); err != nil {
				t.Fatal(err)
			}
			indexes[name] = text
		}
		rows.Close()
		for name := range indexes {
			exec("DROP INDEX " + name)
		}
	}
	exec("CREATE TABLE senders (i INTEGER PRIMARY KEY, hash VARCHAR(64) NOT NULL)")
	for i := range largeSenders {
		exec("INSERT INTO senders VALUES (?, ?)", i, hash(i))
	}
	concat := func(parts ...string) string {
		if join == "||" {
			return "(" + strings.Join(parts, " || ") + ")"
		}
		return "CONCAT(" + strings.Join(parts, ", ") + ")"
	}
	div := "/"
	if path == "" {
		div = "DIV"
		exec("SET SESSION max_recursive_iterations = 1000000, unique_checks = 0, foreign_key_checks = 0, time_zone = '+00:00'")
	}
	gap := int64(largeDays) * 86400 * 1e6 / int64(*largeRows)
	first := t0.AddDate(0, 0, -largeDays).UnixMicro()
	at := fmt.Sprintf("(%d + i * %d)", first, gap)
	ms := "(" + at + " " + div + " 1000)"
	state := "CASE WHEN i % 100 < 97 THEN 'delivered' WHEN i % 100 = 97 THEN 'failed' WHEN i % 100 = 98 THEN 'queued' ELSE 'processing' END"
	client := "((i * 7919) % 1009 % " + fmt.Sprint(largeClients) + ")"
	id := concat(hexed(ms+" "+div+" 65536", 8), "'-'", hexed(ms+" % 65536", 4), "'-7'", hexed("i % 4096", 3), "'-8'", hexed("(i * 31) % 4096", 3), "'-'", hexed("(i * 2654435761) % 281474976710656", 12))
	fill := `INSERT INTO messages (message_id, client_id, sender_number_hashed, phone_key_id, sender_number_enc, encrypted_body, encryption_key_version, scope_key_id, sealed,
		status, domain, attempt_count, created_at, queued_at, delivered_at, last_attempt_at, worker_id) ` + series + id + `, ` + concat("'client-'", client) + `,
		CASE WHEN i % 50 = 0 THEN (SELECT hash FROM senders WHERE senders.i = r.i % ` + fmt.Sprint(largeSenders) + `) ELSE ` + concat(hexed("(i * 2654435761) % 4294967296", 8), hexed("i % 3000000", 56)) + ` END,
		1, ?, ?, 1, 1, 1, ` + state + `, ` + concat("'domain-'", "("+client+" % 5)") + `, 1, ` + stamp(at) + `, ` + stamp(at) + `, ` +
		`CASE WHEN i % 100 < 97 THEN ` + stamp(at+" + 350000") + ` END, ` + stamp(at+" + 350000") + `, 'worker-1' FROM r`
	const step = 200_000
	for i := 0; i < *largeRows; i += step {
		exec(fill, i, min(i+step, *largeRows)-1, number, body)
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range indexes {
			if !yield(name) {
				return
			}
		}
	}) {
		exec(indexes[name])
	}
	exec("DROP TABLE senders")
	exec("DELETE FROM message_counts")
	hour := "created_at " + div + " 3600000000"
	if path == "" {
		hour = "UNIX_TIMESTAMP(created_at) DIV 3600"
	}
	exec(`INSERT INTO message_counts SELECT client_id, ` + hour + ` AS h, domain, status, COUNT(*), 350000 * COUNT(delivered_at) FROM messages GROUP BY client_id, h, domain, status`)
	exec("INSERT INTO message_counts SELECT '', hour, domain, status, SUM(messages), SUM(delivery_us) FROM message_counts GROUP BY hour, domain, status")
	exec("INSERT INTO message_counts SELECT client_id, -1, domain, status, SUM(messages), SUM(delivery_us) FROM message_counts GROUP BY client_id, domain, status")
	if path != "" {
		exec("PRAGMA wal_checkpoint(TRUNCATE)")
	} else {
		exec("ANALYZE TABLE messages")
	}
}

func sender(i int) string      { return fmt.Sprintf("+4915%09d", i) }
func largeClient(i int) string { return fmt.Sprintf("client-%d", i) }

// measure prints how long each kind of query takes.
func (e *env) measure() {
	t := e.t
	day := func(i int) time.Time { return t0.AddDate(0, 0, -(i*37)%largeDays) }
	list := func(f func(i int) records.Filter) func(int) error {
		return func(i int) error {
			filter := f(i)
			filter.Limit = 50 // what a page of the portal shows
			_, err := e.s.List(ctx(t), filter)
			return err
		}
	}
	pages := map[string]string{}
	for _, q := range []struct {
		name string
		run  func(i int) error
	}{
		{"newest", list(func(int) records.Filter { return records.Filter{} })},
		{"client", list(func(i int) records.Filter { return records.Filter{Client: largeClient(i % largeClients)} })},
		{"client and state", list(func(i int) records.Filter {
			return records.Filter{Client: largeClient(i % largeClients), State: pipeline.Failed}
		})},
		{"state", list(func(int) records.Filter { return records.Filter{State: pipeline.Queued} })},
		{"domain", list(func(i int) records.Filter { return records.Filter{Domain: fmt.Sprintf("domain-%d", i%5)} })},
		{"client and another domain", list(func(i int) records.Filter {
			return records.Filter{Client: largeClient(i % largeClients), Domain: fmt.Sprintf("domain-%d", (i+1)%5)}
		})},
		{"a day", list(func(i int) records.Filter { return records.Filter{From: day(i), To: day(i).AddDate(0, 0, 1)} })},
		{"a client's day", list(func(i int) records.Filter {
			return records.Filter{Client: largeClient(i % largeClients), From: day(i), To: day(i).AddDate(0, 0, 1)}
		})},
		{"number", list(func(i int) records.Filter { return records.Filter{Number: sender(i * 50 % largeSenders)} })},
		{"a client's number", list(func(i int) records.Filter {
			return records.Filter{Number: sender(i * 50 % largeSenders), Client: largeClient(i % largeClients)}
		})},
		{"number, not there", list(func(i int) records.Filter { return records.Filter{Number: fmt.Sprintf("+4930%08d", i)} })},
		{"a number's token, state, domain, day", list(func(i int) records.Filter {
			return records.Filter{NumberToken: e.s.NumberToken(sender(i * 50 % largeSenders)), State: pipeline.Delivered, Domain: fmt.Sprintf("domain-%d", i%5), From: day(i), To: t0}
		})},
		{"client, state, domain, day", list(func(i int) records.Filter {
			return records.Filter{Client: largeClient(i % largeClients), State: pipeline.Failed, Domain: fmt.Sprintf("domain-%d", i%largeClients%5), From: day(i), To: t0}
		})},
		{"a client's prefix, state, day", list(func(i int) records.Filter {
			return records.Filter{IDPrefix: "0198", Client: largeClient(i % largeClients), State: pipeline.Failed, From: day(i), To: day(i).AddDate(0, 0, 7)}
		})},
		{"own key, not there", list(func(i int) records.Filter { return records.Filter{ClientKey: fmt.Sprint("key-", i)} })},
		{"failed ones, counted", func(i int) error {
			_, _, err := e.s.Count(ctx(t), records.Filter{State: pipeline.Failed, Client: largeClient(i % largeClients)})
			return err
		}},
		{"id prefix of 4", list(func(i int) records.Filter { return records.Filter{IDPrefix: "0198"} })},
		{"id prefix of 9", list(func(i int) records.Filter {
			return records.Filter{IDPrefix: fmt.Sprintf("%08x-", day(i).UnixMilli()>>16)}
		})},
		{"a client's id prefix", list(func(i int) records.Filter {
			return records.Filter{IDPrefix: fmt.Sprintf("%08x", day(i).UnixMilli()>>16)[:7], Client: largeClient(i % largeClients)}
		})},
		{"page after page", func(i int) error {
			p, err := e.s.List(ctx(t), records.Filter{Client: "client-7", Limit: 500, Cursor: pages["client-7"]})
			pages["client-7"] = p.Next
			return err
		}},
		{"count of a client", func(i int) error {
			_, _, err := e.s.Count(ctx(t), records.Filter{Client: largeClient(i % largeClients)})
			return err
		}},
		{"count of a day", func(i int) error {
			_, _, err := e.s.Count(ctx(t), records.Filter{From: day(i), To: day(i).AddDate(0, 0, 1)})
			return err
		}},
		{"statistics, all", func(i int) error { _, err := e.s.Stats(ctx(t), "", "", time.Time{}); return err }},
		{"statistics, 30 days", func(i int) error { _, err := e.s.Stats(ctx(t), "", "", t0.AddDate(0, 0, -30)); return err }},
		{"statistics of a client", func(i int) error {
			_, err := e.s.Stats(ctx(t), largeClient(i%largeClients), "", t0.AddDate(0, 0, -30))
			return err
		}},
		{"series of 7 days", func(i int) error { _, err := e.s.Series(ctx(t), "", "", t0.AddDate(0, 0, -7), t0); return err }},
	} {
		const runs = 300
		var times []time.Duration
		for i := range runs {
			began := time.Now()
			if err := q.run(i); err != nil {
				t.Fatalf("%s: %v", q.name, err)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		t.Logf("%-38s median %8v  p95 %8v  p99 %8v  worst %8v", q.name, times[runs/2].Round(10*time.Microsecond), times[runs*95/100].Round(10*time.Microsecond), times[runs*99/100].Round(10*time.Microsecond), times[runs-1].Round(10*time.Microsecond))
	}
}
