package records_test

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// TestKilledMigration opens a MySQL database whose migration was killed behind any of its
// statements: the tables are changed, and the version is not noted.
func TestKilledMigration(t *testing.T) {
	files, err := filepath.Glob("migrations/mysql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	address, name, err := mariaDB(t).Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, clock: fakeclock.New(t0), keys: ring(t, 1, 1), hash: atrest.NewHasher(ring(t, 1, 1), nil)}
	e.s = e.open(nil)
	r, err := e.s.Register(ctx(t), messages(0, 1))
	want(t, r, err, pipeline.StatusRegistered)
	tables := e.dump("information_schema.columns WHERE table_schema = DATABASE() AND table_name <> 'goose_db_version' ORDER BY table_name, ordinal_position")
	for _, file := range append([]string{"00000"}, files...) {
		digits, _, _ := strings.Cut(filepath.Base(file), "_")
		version, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		e.exec("DELETE FROM goose_db_version WHERE version_id >= ?", version)
		s := e.open(nil)
		r, err := s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusDuplicate)
		if after := e.dump("information_schema.columns WHERE table_schema = DATABASE() AND table_name <> 'goose_db_version' ORDER BY table_name, ordinal_position"); after != tables {
			t.Errorf("killed in %s: the tables differ", file)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTurnLost: a process whose turn to change the tables the server has ended stops, because
// another one may have it now.
func TestTurnLost(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a session is used again")
	}
	t.Parallel()
	address, name, err := mariaDB(t).Database()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
	held, unlock, err := records.LockTables(ctx(t), e.open(nil).Writer())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var session int64
	if err := e.raw().QueryRow("SELECT IS_USED_LOCK(" + records.LockName + ")").Scan(&session); err != nil {
		t.Fatal(err)
	}
	e.exec("KILL " + strconv.FormatInt(session, 10))
	select {
	case <-held.Done():
		if err := context.Cause(held); !strings.Contains(err.Error(), "has ended; start again") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on without the turn")
	}
}
