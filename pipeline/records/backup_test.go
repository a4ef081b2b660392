package records_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// TestBackup: a copy that is made while rows are stored has all that were stored before, and is
// readable with the keys of texts, which are not in it.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	e := &env{t: t, url: "sqlite:" + filepath.Join(dir, "records.db"), clock: fakeclock.New(t0), keys: ring(t, 1, 1)}
	e.hash = atrest.NewHasher(ring(t, 1, 1), nil)
	e.s = e.open(nil)
	cfg := records.Config{URL: e.url}
	const before = 100
	if _, err := e.s.Register(ctx(t), messages(0, before)); err != nil {
		t.Fatal(err)
	}
	stop := e.registering(before)
	copied, keys := filepath.Join(dir, "copied.db"), new(bytes.Buffer)
	asked := int64(0)
	err := records.Backup(ctx(t), cfg, dir, func(n int64) error { asked = n; return nil }, func(name string, content io.Reader) error {
		b, err := io.ReadAll(content)
		if name != records.BackupFile {
			t.Errorf("%q", name)
		}
		return errors.Join(err, os.WriteFile(copied, b, 0o600))
	})
	if err == nil {
		err = records.BackupKeys(ctx(t), cfg, keys)
	}
	stop()
	if err != nil || asked == 0 {
		t.Fatal(err, asked)
	}
	wrapped := bytes.SplitN(bytes.SplitN(keys.Bytes(), []byte(`"wrapped":"`), 2)[1], []byte(`"`), 2)[0]
	if b, err := os.ReadFile(copied); err != nil || len(wrapped) < 20 || bytes.Contains(b, wrapped) {
		t.Errorf("a key is in the copy: %q %v", wrapped, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "records-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	to := records.Config{URL: "sqlite:" + copied}
	if n, err := records.RestoreKeys(ctx(t), to, bytes.NewReader(keys.Bytes())); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := records.RestoreKeys(ctx(t), to, bytes.NewReader(keys.Bytes())); err == nil {
		t.Error("keys are restored twice")
	}
	e.url = to.URL
	s := e.open(nil)
	for i := range before {
		m := message(i)
		if r, err := s.Get(ctx(t), m.Client, m.ID); err != nil || r.Body != m.Body {
			t.Fatalf("%s: %q %v", m.ID, r.Body, err)
		}
	}
	full := errors.New("full")
	if err := records.Backup(ctx(t), cfg, dir, func(int64) error { return full }, nil); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// TestBackupOfAServer: a dump that is made while rows are stored has all that were stored before,
// of every kind of value, and fills an empty database only.
func TestBackupOfAServer(t *testing.T) {
	e := &env{t: t, clock: fakeclock.New(t0), keys: ring(t, 1, 1)}
	var err error
	if e.url, e.name, err = mariaDB(t).Database(); err != nil {
		t.Fatal(err)
	}
	e.hash = atrest.NewHasher(ring(t, 1, 1), nil)
	e.s = e.open(nil)
	cfg := records.Config{URL: e.url}
	const before = 1200 // of more than one statement
	for at := 0; at < before; at += 100 {
		if _, err := e.s.Register(ctx(t), messages(at, 100)); err != nil {
			t.Fatal(err)
		}
	}
	odd := []string{"", "'", `\`, `\'); DROP TABLE messages; --`, "line\r\nline\x1a\x00end", "\U0001f648 \u202e"}
	e.exec("CREATE TABLE odd (id INT NOT NULL PRIMARY KEY, txt LONGTEXT NULL, bin VARBINARY(20) NULL, num DECIMAL(20,5) NULL, at DATETIME(6) NULL, twice INT AS (id * 2) STORED) COMMENT 'it''s odd'")
	for i, text := range odd {
		e.exec("INSERT INTO odd (id, txt, bin, num, at) VALUES (?, ?, ?, ?, ?)", i, text, []byte(text)[:min(len(text), 20)], -1.5, "2026-03-01 08:15:30.789012")
	}
	e.exec("INSERT INTO odd (id) VALUES (99)")
	stop := e.registering(before)
	var dump, keys bytes.Buffer
	err = records.Backup(ctx(t), cfg, "", nil, func(name string, content io.Reader) error {
		if name != records.BackupDump {
			t.Errorf("%q", name)
		}
		_, err := dump.ReadFrom(content)
		return err
	})
	if err == nil {
		err = records.BackupKeys(ctx(t), cfg, &keys)
	}
	stop()
	if err != nil {
		t.Fatal(err)
	}
	wrapped := bytes.SplitN(bytes.SplitN(keys.Bytes(), []byte(`"wrapped":"`), 2)[1], []byte(`"`), 2)[0]
	if len(wrapped) < 20 || bytes.Contains(dump.Bytes(), wrapped) {
		t.Errorf("a key is in the dump: %q", wrapped)
	}
	if err := records.RestoreDump(ctx(t), cfg, bytes.NewReader(dump.Bytes()), nil); !errors.Is(err, records.ErrNotEmpty) {
		t.Errorf("into a database with tables: %v", err)
	}
	want := e.dump("odd")
	to := &env{t: t, clock: e.clock, keys: e.keys, hash: e.hash}
	if to.url, to.name, err = mariaDB(t).Database(); err != nil {
		t.Fatal(err)
	}
	target := records.Config{URL: to.url}
	early := func() {
		s, err := records.Open(ctx(t), records.Config{URL: to.url, Keys: e.keys, Numbers: e.hash})
		if err == nil {
			s.Close()
		}
		if is, errNew := records.IsNew(ctx(t), target); err == nil || errNew == nil || is {
			t.Errorf("a main server uses a database that is not restored: %v, %v", err, errNew)
		}
	}
	err = records.RestoreDump(ctx(t), target, bytes.NewReader(dump.Bytes()), func() error {
		early()
		n, err := records.RestoreKeys(ctx(t), target, bytes.NewReader(keys.Bytes()))
		if n != 1 {
			t.Errorf("%d keys", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := to.dump("odd"); got != want {
		t.Errorf("restored:\n%s\nwas:\n%s", got, want)
	}
	s := to.open(nil)
	for i := range before {
		m := message(i)
		if r, err := s.Get(ctx(t), m.Client, m.ID); err != nil || r.Body != m.Body {
			t.Fatalf("%s: %q %v", m.ID, r.Body, err)
		}
	}
	if _, err := s.Register(ctx(t), messages(1_000_000, 1)); err != nil {
		t.Errorf("a new message: %v", err)
	}
	full := errors.New("full")
	if err := records.Backup(ctx(t), cfg, "", nil, func(string, io.Reader) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

// registering stores one message after another until stop is called, which waits for the last one.
func (e *env) registering(from int) (stop func()) {
	more, cancel := context.WithCancel(e.t.Context())
	var load sync.WaitGroup
	load.Go(func() {
		for i := from; more.Err() == nil; i++ {
			if _, err := e.s.Register(context.WithoutCancel(more), messages(i, 1)); err != nil {
				e.t.Error(err)
				return
			}
		}
	})
	return func() { cancel(); load.Wait() }
}
