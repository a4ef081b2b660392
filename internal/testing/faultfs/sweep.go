package faultfs

import (
	"fmt"
	"testing"
)

// Sweep runs a script against a disk that fails at every operation in turn, in every way
// that it can: the power goes right before it, it fails undone, it fails done, it
// tears. After each, check sees what a crash may leave: nothing unsynced, any part of it,
// all of it. The script returns what it was promised before the error.
func Sweep[P any](t *testing.T, script func(*FS) P, check func(t *testing.T, fs *FS, promised P)) {
	t.Helper()
	whole := New()
	script(whole)
	after := func(name string, fs *FS, promised P) {
		for _, mode := range CrashModes {
			seeds := uint64(1)
			if mode == KeepRandom {
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
		fs := New()
		fs.PowerOffAt(n)
		after(fmt.Sprintf("power/%d", n), fs, script(fs))
	}
	faults := map[string]Fault{
		"undone": {}, "done": {Err: EIO, Applied: true},
		"short": {Err: EIO, Short: 7}, "partial": {Err: EIO, Partial: true, Seed: 3},
	}
	for kind := Open; kind <= SyncDir; kind++ {
		for n := 1; n <= whole.Count(kind); n++ {
			for name, fault := range faults {
				if fault.Short > 0 && kind != Write || fault.Partial && kind != Sync {
					continue
				}
				fs := New()
				fs.Fail(kind, n, fault)
				after(fmt.Sprintf("%v/%d/%s", kind, n, name), fs, script(fs))
			}
		}
	}
}

// KilledInSync returns the disk of a process that dies in the first sync of what it does.
func KilledInSync(t *testing.T, fs *FS, do func() error) (at *FS) {
	t.Helper()
	fs.Hook(func(op Op) *Fault {
		if op.Kind == Sync && at == nil {
			at = fs.Snapshot()
		}
		return nil
	})
	defer fs.Hook(nil)
	if err := do(); err != nil {
		t.Fatal(err)
	}
	return at
}
