package client_test

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/internal/faultfs"
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
