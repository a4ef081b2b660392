package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// crashAt runs a workload until the power is cut before the n-th mutation. It reports
// whether there was one.
func crashAt(t *testing.T, l *ledger, seed uint64, n int) (*faultfs.FS, bool) {
	t.Helper()
	fs := faultfs.New()
	if seed%2 == 1 {
		if err := workload(t, fs, l, seed, 60+int(seed%7)*20); err != nil {
			t.Fatal(err)
		}
	}
	fs.PowerOffAt(n)
	err := workload(t, fs, l, seed+100, 120)
	select {
	case <-fs.Off():
		return fs, true
	default:
	}
	if err != nil {
		t.Errorf("seed %d: %v, with the power on", seed, err)
	}
	return fs, false
}

// TestPowerCut cuts the power before each operation that changes something, keeps
// nothing, everything, or any part of what was not synced, and opens what is left.
func TestPowerCut(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += stride(n) {
				more := false
				for _, mode := range faultfs.CrashModes {
					l := newLedger()
					fs, cut := crashAt(t, l, seed, n)
					if err := l.survives(fs.Crash(mode, seed<<32+uint64(n)), newRand(seed)); err != nil {
						t.Errorf("power off at %d, %v: %v", n, mode, err)
					}
					more = more || cut
				}
				if !more {
					break
				}
			}
		})
	}
}

// TestRandomCrashes crashes the same journal again and again at random moments, each
// time in the middle of work on what the crash before has left.
func TestRandomCrashes(t *testing.T) {
	seeds := 60
	if testing.Short() {
		seeds = 10
	}
	for seed := range uint64(seeds) {
		rng := newRand(seed)
		fs, l := faultfs.New(), newLedger()
		for round := range 12 {
			fs.PowerOffAt(1 + rng.IntN(150))
			mode := faultfs.CrashModes[rng.IntN(3)]
			err := workRound(t, fs, l, rng)
			if err != nil && !errors.Is(err, faultfs.ErrPowerOff) {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			fs = fs.Crash(mode, rng.Uint64())
		}
		if err := l.survives(fs, rng); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func workRound(t *testing.T, fs *faultfs.FS, l *ledger, rng *rand.Rand) error {
	j, _, err := l.reopen(l.config(fs))
	if err != nil {
		return err
	}
	err = l.run(t.Context(), j, rng, 150)
	return errors.Join(err, j.Close())
}

// TestRecoveryIsInterrupted cuts the power at each operation of a recovery, and of the
// recovery after that.
func TestRecoveryIsInterrupted(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		rng := newRand(seed)
		l := newLedger()
		fs, _ := crashAt(t, l, seed, 1+rng.IntN(80))
		left := fs.Crash(faultfs.KeepRandom, seed)
		for n := 1; ; n++ {
			again := left.Snapshot()
			again.PowerOffAt(n)
			try := l.clone()
			j, _, err := try.reopen(try.config(again))
			if err == nil {
				// What recovery says is there was not promised before, but is from now on.
				if err := j.Close(); err != nil && !errors.Is(err, faultfs.ErrPowerOff) {
					t.Fatal(err)
				}
			}
			done := again.Mutations() < n
			mode := faultfs.CrashModes[n%3]
			if err := try.survives(again.Crash(mode, uint64(n)), newRand(seed)); err != nil {
				t.Errorf("seed %d, recovery is cut off at %d (%v), %v: %v", seed, n, err, mode, err)
			}
			if done {
				break
			}
		}
	}
}
