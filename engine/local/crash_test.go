package local_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(os.Exit))
}

// live is a life of a world: opened, worked with, closed.
func (w *world) live(n int) error {
	if err := w.open(); err != nil {
		return err
	}
	err := w.setUp()
	if err == nil {
		err = w.work(n)
	}
	return errors.Join(err, w.close())
}

// stopped reports whether an error is what clients see of a store that has stopped.
func stopped(err error) bool {
	return errors.Is(err, faultfs.ErrPowerOff) || errors.Is(err, faultfs.EIO) || errors.Is(err, errStopped) || isDown(err)
}

// thin makes a sweep shorter: all of the first calls, then fewer and fewer.
func thin(n int) int {
	if testing.Short() {
		return 1 + n/4
	}
	return 1 + n/80
}

func TestWorldWithoutFaults(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed)
		if err := w.live(300); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := w.survives(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestPowerCut cuts the power before each operation that changes something, half of the
// time from the very first start on, and keeps nothing, all, or any part of what was not
// synced. Promises must hold for what is left.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += thin(n) {
				w := newWorld(t, seed)
				if seed%2 == 1 {
					if err := w.live(150); err != nil {
						t.Fatal(err)
					}
				}
				w.fs.PowerOffAt(n)
				err := w.live(150)
				if err != nil && !stopped(err) {
					t.Errorf("power off at %d: %v", n, err)
				}
				mode := faultfs.CrashModes[n%3]
				w.crash(mode, seed<<32+uint64(n))
				if err := w.survives(); err != nil {
					t.Errorf("power off at %d, %v: %v", n, mode, err)
				}
				if err == nil {
					break
				}
			}
		})
	}
}

// TestEveryOperationFails lets each operation of each kind fail at its n-th call, then
// cuts the power. A store that goes on must keep its promises until then, too.
func TestEveryOperationFails(t *testing.T) {
	faults := []faultfs.Fault{
		{Err: faultfs.EIO},
		{Err: faultfs.EIO, Applied: true},
		{Err: faultfs.EIO, Short: 700, Partial: true, Seed: 3},
	}
	kinds := []faultfs.Kind{faultfs.Open, faultfs.Read, faultfs.ReadDir, faultfs.Lock, faultfs.Create, faultfs.Write,
		faultfs.Sync, faultfs.Truncate, faultfs.Rename, faultfs.Remove, faultfs.Mkdir, faultfs.SyncDir}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for i, fault := range faults {
				for n := 1; ; n += thin(n) {
					w := newWorld(t, uint64(i*1000+n))
					if n%2 == 0 {
						if err := w.live(100); err != nil {
							t.Fatal(err)
						}
					}
					before := w.fs.Count(kind)
					w.fs.Fail(kind, n, fault)
					err := w.live(150)
					if err != nil && !stopped(err) {
						t.Errorf("fault %d at %d: %v", i, n, err)
					}
					if w.fs.Count(kind) < before+n {
						break
					}
					mode := faultfs.CrashModes[n%3]
					w.crash(mode, uint64(n))
					if err := w.survives(); err != nil {
						t.Errorf("fault %d at %d, then %v: %v", i, n, mode, err)
					}
				}
			}
		})
	}
}

// TestRandomCrashes crashes the same store again and again.
func TestRandomCrashes(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		w := newWorld(t, seed)
		for round := range 10 {
			w.fs.PowerOffAt(1 + w.rng.IntN(700))
			if err := w.liveOn(); err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			w.crash(faultfs.CrashModes[w.rng.IntN(3)], w.rng.Uint64())
		}
		if err := w.survives(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// liveOn opens and checks what a crash has left, and works on until the next one.
func (w *world) liveOn() error {
	err := w.open()
	if err == nil {
		if err = w.check(); err == nil {
			err = w.adopt()
		}
		if err != nil && !w.isOff() {
			return err
		}
		if err == nil {
			err = w.setUp()
		}
		if err == nil {
			err = w.work(400)
		}
	}
	if w.isOff() {
		return nil
	}
	return err
}

func (w *world) isOff() bool {
	select {
	case <-w.fs.Off():
		return true
	default:
		return false
	}
}

// TestRecoveryIsInterrupted cuts the power at each operation of a recovery that changes
// something, and opens again.
func TestRecoveryIsInterrupted(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 2
	}
	for seed := range uint64(seeds) {
		for n := 1; ; n++ {
			w := newWorld(t, seed)
			w.fs.PowerOffAt(100 + int(seed)*40)
			if err := w.live(400); err != nil && !stopped(err) {
				t.Fatal(err)
			}
			w.crash(faultfs.KeepRandom, seed)
			w.fs.PowerOffAt(n)
			err := w.open()
			if err == nil {
				err = w.e.Close()
			}
			done := err == nil
			if err != nil && !stopped(err) {
				t.Errorf("seed %d, recovery cut off at %d: %v", seed, n, err)
			}
			mode := faultfs.CrashModes[n%3]
			w.crash(mode, uint64(n))
			if err := w.survives(); err != nil {
				t.Errorf("seed %d, recovery cut off at %d, %v: %v", seed, n, mode, err)
			}
			if done {
				break
			}
		}
	}
}
