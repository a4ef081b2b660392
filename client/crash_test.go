package client_test

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// sweep runs a script against a disk that fails at every operation in turn, in every way
// that it can: the power goes right before it, it fails undone, it fails done, it
// tears. After each, check sees what a crash may leave: nothing unsynced, any part of it,
// all of it. The script returns what it was promised before the error.
func sweep[P any](t *testing.T, script func(*faultfs.FS) P, check func(t *testing.T, fs *faultfs.FS, promised P)) {
	t.Helper()
	whole := faultfs.New()
	script(whole)
	after := func(name string, fs *faultfs.FS, promised P) {
		for _, mode := range faultfs.CrashModes {
			seeds := uint64(1)
			if mode == faultfs.KeepRandom {
				seeds = 4
			}
			for seed := range seeds {
				left := fs.Snapshot().Crash(mode, seed)
				if !t.Run(fmt.Sprintf("%s/%v%d", name, mode, seed), func(t *testing.T) { check(t, left, promised) }) {
					t.FailNow()
				}
			}
		}
	}
	for n := 1; n <= whole.Mutations(); n++ {
		fs := faultfs.New()
		fs.PowerOffAt(n)
		after(fmt.Sprintf("power/%d", n), fs, script(fs))
	}
	faults := map[string]faultfs.Fault{
		"undone": {}, "done": {Err: faultfs.EIO, Applied: true},
		"short": {Err: faultfs.EIO, Short: 7}, "partial": {Err: faultfs.EIO, Partial: true, Seed: 3},
	}
	for kind := faultfs.Open; kind <= faultfs.SyncDir; kind++ {
		for n := 1; n <= whole.Count(kind); n++ {
			for name, fault := range faults {
				if fault.Short > 0 && kind != faultfs.Write || fault.Partial && kind != faultfs.Sync {
					continue
				}
				fs := faultfs.New()
				fs.Fail(kind, n, fault)
				after(fmt.Sprintf("%v/%d/%s", kind, n, name), fs, script(fs))
			}
		}
	}
}

// A killed process may have left in memory what its disk has not. Whoever reads it at the
// next start acts on it, so it must be on the disk by then.
func TestWhatAStartHasReadIsDurable(t *testing.T) {
	fs := faultfs.New()
	spool, ledger := openSpool(t, client.SpoolConfig{FS: fs}), openLedger(t, fs)
	// killed is the disk of a process that dies in the next sync.
	killed := func(do func() error) (at *faultfs.FS) {
		t.Helper()
		fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if op.Kind == faultfs.Sync && at == nil {
				at = fs.Snapshot()
			}
			return nil
		})
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return at
	}
	disk := killed(func() error { return spool.Append(t.Context(), []client.SpoolEntry{entry(1)}) })
	for range 2 {
		if s := openSpool(t, client.SpoolConfig{FS: disk}); s.Len() != 1 {
			t.Errorf("%d messages in the spool", s.Len())
		}
		disk = disk.Crash(faultfs.DropUnsynced, 0)
	}
	disk = killed(func() error { return ledger.Commit(client.Output{}, opened(1)) })
	for range 2 {
		if j := openLedger(t, disk).Judge(opened(1)); j != client.LedgerSeen {
			t.Errorf("the ledger says %v", j)
		}
		disk = disk.Crash(faultfs.DropUnsynced, 0)
	}
}
