package journal_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// A process that ends leaves its unsynced writes to the kernel, which shows them to the
// next process as if they were stored. What that process finds it may promise to others:
// it must survive a power cut from then on.

// stops are the ways in which a process ends while the machine goes on.
var stops = []struct {
	name string
	at   func(fs *faultfs.FS, n int)
}{
	{"killed", func(fs *faultfs.FS, n int) { fs.PowerOffAt(n) }},
	{"a sync failed and the kernel lost its pages", func(fs *faultfs.FS, n int) {
		fs.Fail(faultfs.Sync, n, faultfs.Fault{Err: faultfs.EIO})
	}},
	{"a sync failed in part", func(fs *faultfs.FS, n int) {
		fs.Fail(faultfs.Sync, n, faultfs.Fault{Err: faultfs.EIO, Partial: true, Seed: uint64(n)})
	}},
}

// TestWhatARestartFindsIsDurable ends the process at many moments, opens the journal
// again while the machine goes on, then cuts the power: at once, and after more work.
func TestWhatARestartFindsIsDurable(t *testing.T) {
	for _, stop := range stops {
		t.Run(stop.name, func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= 300; n += stride(n) {
				for seed := range uint64(2) {
					fs, l := faultfs.New(), newLedger()
					stop.at(fs, n)
					ended := workload(t, fs, l, seed, 80)
					if ended == nil {
						return // there was no n-th operation
					}
					if err := l.outlives(fs.Snapshot(), uint64(n)); err != nil {
						t.Errorf("at %d, seed %d (%v): %v", n, seed, ended, err)
					}
				}
			}
		})
	}
}

// outlives opens a journal in a file system that holds what a process has left, and
// cuts the power then.
func (l *ledger) outlives(fs *faultfs.FS, seed uint64) error {
	j, _, err := l.reopen(l.config(fs))
	if err != nil {
		return err
	}
	for _, mode := range faultfs.CrashModes {
		if err := l.clone().survives(fs.Snapshot().Crash(mode, seed), newRand(seed)); err != nil {
			return errors.Join(fmt.Errorf("%v right after recovery: %w", mode, err), j.Close())
		}
	}
	err = l.run(context.Background(), j, newRand(seed), 20)
	if err := errors.Join(err, j.Close()); err != nil {
		return fmt.Errorf("work after recovery: %w", err)
	}
	return l.survives(fs.Crash(faultfs.DropUnsynced, seed), newRand(seed))
}
