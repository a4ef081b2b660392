package journal_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// workload opens a journal and works with it until it ends or something fails. The
// returned error is only for messages: most faults must stop the journal.
func workload(t *testing.T, fs *faultfs.FS, l *ledger, seed uint64, n int) error {
	t.Helper()
	j, f, err := l.open(l.config(fs))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := l.check(f); err != nil {
		t.Fatal(err)
	}
	l.adopt(f)
	err = l.run(t.Context(), j, newRand(seed), n)
	l.next = j.Next()
	return errors.Join(err, j.Close())
}

// faults are the ways in which one operation can fail.
var faults = []struct {
	name  string
	fault faultfs.Fault
}{
	{"not applied", faultfs.Fault{Err: faultfs.EIO}},
	{"applied", faultfs.Fault{Err: faultfs.EIO, Applied: true}},
	{"in part", faultfs.Fault{Err: faultfs.EIO, Short: 700, Partial: true, Seed: 3}},
}

// TestEveryOperationFails lets each operation of each kind fail at its n-th call while a
// journal is opened, works and stops, then cuts the power and opens what is left.
func TestEveryOperationFails(t *testing.T) {
	kinds := []faultfs.Kind{faultfs.Open, faultfs.Read, faultfs.ReadDir, faultfs.Create, faultfs.Write,
		faultfs.Sync, faultfs.Truncate, faultfs.Rename, faultfs.Remove, faultfs.Mkdir, faultfs.SyncDir}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for _, how := range faults {
				for n := 1; ; n += stride(n) {
					hit := false
					for seed := range uint64(6) {
						hit = failsAt(t, kind, how.name, how.fault, n, seed) || hit
					}
					if !hit {
						break
					}
				}
			}
		})
	}
}

// stride thins out a sweep in short mode.
func stride(n int) int {
	if testing.Short() && n > 8 {
		return 1 + n/3
	}
	return 1
}

// failsAt reports whether there was an n-th operation. Half of the seeds begin with an
// empty folder, the others with a journal that was used before.
func failsAt(t *testing.T, kind faultfs.Kind, name string, fault faultfs.Fault, n int, seed uint64) bool {
	t.Helper()
	fs, l := faultfs.New(), newLedger()
	if seed%2 == 1 {
		if err := workload(t, fs, l, seed, 100); err != nil {
			t.Fatal(err)
		}
	}
	before := fs.Count(kind)
	fs.Fail(kind, n, fault)
	err := workload(t, fs, l, seed+100, 150)
	if fs.Count(kind) < before+n {
		if err != nil {
			t.Errorf("%s %s at %d, seed %d: %v, without a fault", kind, name, n, seed, err)
		}
		return false
	}
	mode := faultfs.CrashModes[(uint64(n)+seed)%3]
	left := fs.Crash(mode, uint64(n))
	if err := l.survives(left, newRand(uint64(n))); err != nil {
		t.Errorf("%s %s at %d, seed %d (%v), then %v: %v", kind, name, n, seed, err, mode, err)
	}
	return true
}

// TestFailedSyncStopsTheJournal checks that a sync is never tried again, neither by the
// journal nor on the same file by anybody, and that nobody is told that it succeeded.
func TestFailedSyncStopsTheJournal(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for n := 1; ; n++ {
			fs, l := faultfs.New(), newLedger()
			var failed atomic.Pointer[string]
			var again, after atomic.Int32
			fs.Hook(func(op faultfs.Op) *faultfs.Fault {
				if op.Kind != faultfs.Sync {
					return nil
				}
				if op.N == n {
					failed.Store(&op.Path)
					return &faultfs.Fault{Err: errno}
				}
				if p := failed.Load(); p != nil {
					after.Add(1)
					if *p == op.Path {
						again.Add(1)
					}
				}
				return nil
			})
			err := workload(t, fs, l, 5, 120)
			if failed.Load() == nil {
				if err != nil {
					t.Errorf("without a fault: %v", err)
				}
				break
			}
			if again.Load() > 0 {
				t.Errorf("sync %d failed with %v and was tried again on %s", n, errno, *failed.Load())
			}
			if errno == syscall.EIO && err == nil {
				t.Errorf("sync %d failed and nobody was told", n)
			}
			if err := l.survives(fs.Crash(faultfs.DropUnsynced, 0), newRand(9)); err != nil {
				t.Errorf("sync %d failed with %v, then a crash: %v", n, errno, err)
			}
		}
	}
}

func TestFailedJournalRefusesEverything(t *testing.T) {
	fs := faultfs.New()
	j := mustStart(t, faultConfig(fs))
	waitReady(t, j)
	fs.Fail(faultfs.Sync, 1, faultfs.Fault{})
	if _, err := j.Append(false, journal.FirstKind, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); !errors.Is(err, faultfs.EIO) {
		t.Errorf("the sync that failed was answered with %v", err)
	}
	<-j.Failed()
	if _, err := j.Append(true, journal.FirstKind, []byte("x"), nil); !errors.Is(err, faultfs.EIO) {
		t.Errorf("append after a failed sync: %v", err)
	}
	if err := j.Sync(); !errors.Is(err, faultfs.EIO) {
		t.Errorf("sync after a failed sync: %v", err)
	}
	if err := j.WaitRoom(t.Context(), true, 10); !errors.Is(err, faultfs.EIO) {
		t.Errorf("WaitRoom after a failed sync: %v", err)
	}
	if err := j.Close(); !errors.Is(err, faultfs.EIO) {
		t.Errorf("close after a failed sync: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := j.Sync(); !errors.Is(err, faultfs.EIO) {
		t.Errorf("sync after close: %v", err)
	}
}

// eventually waits for a condition that has nothing to signal it.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// waitReady returns when all segments are prepared that the journal keeps ready.
func waitReady(t *testing.T, j *journal.Journal) {
	t.Helper()
	eventually(t, "two segments are ready", func() bool { return j.Stats().Ready >= 2 })
}
