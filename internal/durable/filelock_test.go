package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
)

func TestFileLockIsExclusiveAndLetsOthersRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.jsonl")
	if err := os.WriteFile(name, []byte("content\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	locker := durable.OS().(durable.FileLocker)
	unlock, err := locker.LockFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locker.LockFile(name); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if got, err := os.ReadFile(name); string(got) != "content\n" || err != nil {
		t.Errorf("read beside the lock: %q, %v", got, err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	unlock, err = locker.LockFile(name)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
