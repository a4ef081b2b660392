package records_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
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
	name  string // of the MariaDB database, or empty
	clock *clock.Fake
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
	cfg := records.Config{URL: e.url, Keys: e.keys, Numbers: e.hash, AutoRegister: true, Clock: e.clock}
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
			e := &env{t: t, clock: clock.NewFake(t0), keys: ring(t, 1, 1)}
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
		Body: fmt.Sprintf("text %d", i), QueuedAt: t0.Add(-time.Second)}
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
func want(t testing.TB, results []records.Result, err error, outcomes ...records.Outcome) []records.Result {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]records.Outcome, len(results))
	for i, r := range results {
		got[i] = r.Outcome
	}
	if fmt.Sprint(got) != fmt.Sprint(outcomes) {
		t.Fatalf("outcomes %v, want %v; %+v", got, outcomes, results)
	}
	return results
}

func ctx(t testing.TB) context.Context { return t.Context() }
