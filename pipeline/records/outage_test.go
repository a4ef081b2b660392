package records_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// What was confirmed before the server was killed is there afterwards, and the pool finds the
// new server by itself.
func TestServerKilledUnderLoad(t *testing.T) {
	m := mariaDB(t)
	address, name, err := m.Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	e.s = e.open(func(c *records.Config) { c.Clock = nil })
	const writers, perWriter = 8, 60
	var confirmed, failures atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range perWriter {
				list := messages(w*1_000_000+i*10, 10)
				for {
					var r []pipeline.Result
					var err error
					if i%2 == 0 {
						r, err = e.s.Register(ctx(t), list)
					} else {
						r, err = e.s.Deliver(ctx(t), deliveries(list))
					}
					if err == nil {
						for _, r := range r { // a repeat finds what an interrupted call has stored
							if r.Status == pipeline.StatusConflict || r.Status == pipeline.StatusRefused || r.Status == pipeline.StatusInvalid {
								errs <- fmt.Errorf("%+v", r)
								return
							}
						}
						confirmed.Add(int64(len(r)))
						break
					}
					if sealmq.CodeOf(err) != sealmq.Unavailable || ctx(t).Err() != nil {
						errs <- fmt.Errorf("code %q: %w", sealmq.CodeOf(err), err)
						return
					}
					failures.Add(1)
				}
			}
		})
	}
	for range 2 {
		before := confirmed.Load()
		wait(t, "writes", func() bool { return confirmed.Load() > before+100 })
		m.Kill()
		down := failures.Load()
		wait(t, "errors", func() bool { return failures.Load() > down })
		if err := m.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	if err := e.s.Ping(ctx(t)); err != nil {
		t.Error(err)
	}
	n, _, err := e.s.Count(ctx(t), records.Filter{})
	if err != nil || n != writers*perWriter*10 || confirmed.Load() != n {
		t.Errorf("%d messages, %d confirmed, %v", n, confirmed.Load(), err)
	}
	e.checkCounts()
}

// A server that syncs later than it answers is named, with the setting that mends it.
func TestServerThatSyncsLate(t *testing.T) {
	m := mariaDB(t)
	address, name, err := m.Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	e.s = e.open(nil)
	for flush, want := range map[string]string{"0": "innodb_flush_log_at_trx_commit=1", "1": "", "2": "innodb_flush_log_at_trx_commit=1", "3": ""} {
		if err := m.Exec("", "SET GLOBAL innodb_flush_log_at_trx_commit = "+flush, []any(nil)); err != nil {
			t.Fatal(err)
		}
		open, err := e.s.Risk(ctx(t))
		if err != nil || want == "" && open != "" || !strings.HasSuffix(open, want) {
			t.Errorf("with %s: %q, %v", flush, open, err)
		}
		if closed, err := records.RiskAt(ctx(t), records.Config{URL: address}); closed != open || err != nil {
			t.Errorf("with %s, not open: %q, %v", flush, closed, err)
		}
	}
	if err := m.Exec("", "SET GLOBAL innodb_flush_log_at_trx_commit = 1", []any(nil)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		binlog bool
		sync   int64
		risk   bool
	}{{false, 0, false}, {true, 1, false}, {true, 0, true}, {true, 100, true}} {
		if got := records.RiskOf(1, tt.binlog, tt.sync); (got != "") != tt.risk {
			t.Errorf("binary log %t, synced every %d: %q", tt.binlog, tt.sync, got)
		}
	}
	if why, err := records.RiskAt(ctx(t), records.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "records.db")}); why != "" || err != nil {
		t.Errorf("SQLite: %q, %v", why, err)
	}
}

// TestServerSettings: what an operator has set for all sessions of a server changes nothing.
func TestServerSettings(t *testing.T) {
	m := mariaDB(t)
	for _, set := range []struct{ name, value, usual string }{
		{"autocommit", "0", "1"}, {"tx_isolation", "'READ-UNCOMMITTED'", "'REPEATABLE-READ'"}, {"time_zone", "'+05:30'", "'SYSTEM'"},
		{"sql_mode", "'ANSI,NO_BACKSLASH_ESCAPES'", "DEFAULT"}, {"default_storage_engine", "MEMORY", "InnoDB"}, {"collation_server", "latin1_bin", "DEFAULT"},
	} {
		if err := m.Exec("", "SET GLOBAL "+set.name+" = "+set.value, []any(nil)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Exec("", "SET GLOBAL "+set.name+" = "+set.usual, []any(nil)); err != nil {
				t.Error(err)
			}
		})
	}
	address, name, err := m.Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	e.s = e.open(nil)
	list := messages(0, 2)
	list[0].Body = `a "quoted" \'text\'`
	r, err := e.s.Register(ctx(t), list)
	want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
	other := e.open(nil)
	got, err := other.Get(ctx(t), list[0].Client, list[0].ID)
	if err != nil || got.Body != list[0].Body || time.Since(got.CreatedAt).Abs() > time.Minute {
		t.Errorf("another main server reads %q of %s, %v", got.Body, got.CreatedAt, err)
	}
	// What is not committed cannot be answered for.
	tx, err := e.s.Writer().Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES ('half', 'done')"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := other.Writer().QueryRow("SELECT COUNT(*) FROM settings WHERE name = 'half'").Scan(&n); err != nil || n != 0 {
		t.Errorf("what is not committed is read: %d, %v", n, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
	e.checkCounts()
}

// A server that is away at the start is waited for; one that refuses is an error.
func TestServerAwayAtTheStart(t *testing.T) {
	m := mariaDB(t)
	address, name, err := m.Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	wrong := strings.Replace(address, "@", "x@", 1)
	if s, err := records.Open(ctx(t), records.Config{URL: wrong, Keys: e.keys, Numbers: e.hash}); err == nil {
		s.Close()
		t.Error("a wrong password is accepted")
	}
	m.Kill()
	e.s = e.open(func(c *records.Config) { c.Clock = nil })
	if err := e.s.Ping(ctx(t)); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("ping: %v", err)
	}
	for call, do := range map[string]func() error{
		"register": func() error { _, err := e.s.Register(ctx(t), messages(0, 1)); return err },
		"list":     func() error { _, err := e.s.List(ctx(t), records.Filter{}); return err },
	} {
		if err := do(); sealmq.CodeOf(err) != sealmq.Unavailable {
			t.Errorf("%s: %v", call, err)
		}
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	wait(t, "database", func() bool { return e.s.Ping(ctx(t)) == nil })
	r, err := e.s.Register(ctx(t), messages(0, 1))
	want(t, r, err, pipeline.StatusRegistered)
	m.Kill()
	if err := e.open(nil).Close(); err != nil { // it does not wait for ever
		t.Error(err)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
}

// Two processes write the same messages to one server.
// TestIsNew: keys may be made for a database that Open has not seen.
func TestIsNew(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		if is, err := records.IsNew(ctx(t), records.Config{URL: e.url}); is || err != nil {
			t.Errorf("after Open: %v, %v", is, err)
		}
		fresh := "sqlite:" + filepath.Join(t.TempDir(), "other.db")
		if e.name != "" {
			var err error
			if fresh, _, err = mariaDB(t).Database(); err != nil {
				t.Fatal(err)
			}
		}
		if is, err := records.IsNew(ctx(t), records.Config{URL: fresh}); !is || err != nil {
			t.Errorf("before Open: %v, %v", is, err)
		}
	})
	if _, err := records.IsNew(ctx(t), records.Config{URL: "mysql://u:p@127.0.0.1:1/none"}); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("no server: %v", err)
	}
}

func TestTwoProcessesOnOneServer(t *testing.T) {
	address, name, err := mariaDB(t).Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	stores := make([]*records.Store, 2)
	var opening sync.WaitGroup
	for i := range stores { // they also migrate at the same time
		opening.Go(func() {
			s, err := records.Open(ctx(t), records.Config{URL: address, Keys: e.keys, Numbers: e.hash})
			if err != nil {
				t.Error(err)
			}
			stores[i] = s
		})
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	const rounds, each = 30, 20
	var wg sync.WaitGroup
	var delivered atomic.Int64
	for i, s := range stores {
		t.Cleanup(func() { s.Close() })
		for w := range 4 {
			wg.Go(func() {
				for r := range rounds {
					list := messages((w*rounds+r)*each, each)
					for j := range list {
						list[j].Client = fmt.Sprintf("client-%d", j%3)
					}
					var results []pipeline.Result
					var err error
					if (i+r)%2 == 0 {
						results, err = s.Register(ctx(t), list)
					} else {
						results, err = s.Deliver(ctx(t), deliveries(list))
					}
					if err != nil {
						t.Error(err)
						return
					}
					for _, r := range results {
						if r.Status == pipeline.StatusDelivered {
							delivered.Add(1)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	n, _, err := stores[0].Count(ctx(t), records.Filter{State: pipeline.Delivered})
	const all = 4 * rounds * each
	if err != nil || n != all || delivered.Load() != all {
		t.Errorf("%d delivered, reported %d, want %d, %v", n, delivered.Load(), all, err)
	}
	e.checkCounts()
}

func sqliteEnv(t *testing.T) *env {
	e := &env{t: t, url: "sqlite:" + filepath.Join(t.TempDir(), "records.db"), clock: fakeclock.New(t0), keys: ring(t, 1, 1), hash: hasher(t)}
	e.s = e.open(nil)
	return e
}

func TestCommitsAreSynced(t *testing.T) {
	e := sqliteEnv(t)
	var mode string
	var synchronous int
	if err := e.s.Writer().QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal mode %s, %v", mode, err)
	}
	if err := e.s.Writer().QueryRow("PRAGMA synchronous").Scan(&synchronous); err != nil || synchronous != 2 { // 2 is full
		t.Errorf("synchronous is %d, %v", synchronous, err)
	}
}

func TestFullDisk(t *testing.T) {
	e := sqliteEnv(t)
	r, err := e.s.Register(ctx(t), messages(0, 1))
	want(t, r, err, pipeline.StatusRegistered)
	if _, err := e.s.Writer().Exec("PRAGMA max_page_count = 1"); err != nil { // as many as there are
		t.Fatal(err)
	}
	big := message(1)
	big.Body = strings.Repeat("x", 100_000)
	if _, err := e.s.Register(ctx(t), []records.Message{big}); sealmq.CodeOf(err) != sealmq.NoStorage {
		t.Errorf("on a full disk: %v", err)
	}
	if err := e.s.Ping(ctx(t)); sealmq.CodeOf(err) != sealmq.NoStorage {
		t.Errorf("ping on a full disk: %v", err)
	}
	if _, err := e.s.Writer().Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	r, err = e.s.Register(ctx(t), []records.Message{big, message(0)})
	want(t, r, err, pipeline.StatusRegistered, pipeline.StatusDuplicate)
	if err := e.s.Ping(ctx(t)); err != nil {
		t.Errorf("ping when there is room again: %v", err)
	}
	e.checkCounts()
}

// After a failed write nobody knows what is in the file, so nothing more is written to it.
func TestDamagedFile(t *testing.T) {
	e := sqliteEnv(t)
	r, err := e.s.Register(ctx(t), messages(0, 300))
	if err != nil || len(r) != 300 {
		t.Fatal(err)
	}
	if err := e.s.Close(); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(e.url, "sqlite:")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) * 6 / 10; i < len(data); i++ { // rows and their indexes
		data[i] = 0xA5
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := e.open(func(c *records.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := s.Register(ctx(t), messages(1000, 100)); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Fatalf("into a damaged file: %v", err)
	}
	for name, try := range map[string]func() error{
		"ping":   func() error { return s.Ping(ctx(t)) },
		"client": func() error { return s.PutClient(ctx(t), records.Client{Name: "x", IssuedAt: t0, ExpiresAt: t0}) },
	} {
		if err := try(); sealmq.CodeOf(err) != sealmq.Unavailable || !strings.Contains(err.Error(), "restart the program") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !strings.Contains(log.String(), "is not written to any more") {
		t.Errorf("log: %s", log.String())
	}
	select {
	case <-s.Failed():
	default:
		t.Error("the program is not told to end")
	}
	if s.Failure() == nil {
		t.Error("there is no reason")
	}
}

// wait waits for a condition.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("no %s for two minutes", what)
		}
	}
}
