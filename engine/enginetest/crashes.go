package enginetest

import (
	"errors"
	"fmt"
	"testing"
)

// Crashes has clients use an engine whose machine loses its power, and checks what they
// were promised.
func Crashes(t *testing.T, newMachine func() Machine) { crashes(t, newMachine, testing.Short()) }

func crashes(t *testing.T, newMachine func() Machine, short bool) {
	t.Run("no crash", func(t *testing.T) { noCrash(t, newMachine, seeds(20, 5, short)) })
	t.Run("at every change", func(t *testing.T) { crashAtEveryChange(t, newMachine, short) })
	t.Run("again and again", func(t *testing.T) { crashAgain(t, newMachine, seeds(40, 5, short)) })
	t.Run("in the middle of a recovery", func(t *testing.T) { crashRecovery(t, newMachine, seeds(12, 2, short)) })
}

// Stopped reports whether an error is what clients see of an engine that has stopped.
func (w *World) Stopped(err error) bool {
	return w.isOff() || errors.Is(err, errWorkEnded) || isDown(err)
}

// Thin makes a sweep over n = 1, 2, 3 … shorter: all of the first, then fewer and fewer.
func Thin(n int) int { return thin(n, testing.Short()) }

func thin(n int, short bool) int {
	if short {
		return 1 + n/4
	}
	return 1 + n/80
}

// seeds is how many seeds a test tries.
func seeds(all, few uint64, short bool) uint64 {
	if short {
		return few
	}
	return all
}

func noCrash(t *testing.T, newMachine func() Machine, seeds uint64) {
	for seed := range seeds {
		w := NewWorld(t, newMachine(), seed)
		if err := errors.Join(w.Live(300), w.Survives()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// crashAtEveryChange cuts the power before each operation that changes something, half of
// the time from the very first start on. Promises must hold for what is left.
func crashAtEveryChange(t *testing.T, newMachine func() Machine, short bool) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n += thin(n, short) {
				w := NewWorld(t, newMachine(), seed)
				if seed%2 == 1 {
					if err := w.Live(150); err != nil {
						t.Fatal(err)
					}
				}
				w.Machine.PowerOffAt(n)
				err := w.Live(150)
				if err != nil && !w.Stopped(err) {
					t.Errorf("power off at %d: %v", n, err)
				}
				w.Reboot(seed<<32 + uint64(n))
				if err := w.Survives(); err != nil {
					t.Errorf("power off at %d: %v", n, err)
				}
				if err == nil {
					break
				}
			}
		})
	}
}

// crashAgain crashes the same engine again and again.
func crashAgain(t *testing.T, newMachine func() Machine, seeds uint64) {
	for seed := range seeds {
		w := NewWorld(t, newMachine(), seed)
		for round := range 10 {
			w.Machine.PowerOffAt(1 + w.rng.IntN(700))
			if err := w.liveOn(400); err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			w.Reboot(w.rng.Uint64())
		}
		if err := w.Survives(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// crashRecovery cuts the power at each operation of a recovery that changes something, and
// opens again.
func crashRecovery(t *testing.T, newMachine func() Machine, seeds uint64) {
	for seed := range seeds {
		for n := 1; ; n++ {
			w := NewWorld(t, newMachine(), seed)
			w.Machine.PowerOffAt(100 + int(seed)*40)
			if err := w.Live(400); err != nil && !w.Stopped(err) {
				t.Fatal(err)
			}
			w.Reboot(seed)
			w.Machine.PowerOffAt(n)
			err := w.Open()
			if err == nil {
				err = w.Close()
			}
			if err != nil && !w.Stopped(err) {
				t.Errorf("seed %d, recovery cut off at %d: %v", seed, n, err)
			}
			w.Reboot(uint64(n))
			if err := w.Survives(); err != nil {
				t.Errorf("seed %d, recovery cut off at %d: %v", seed, n, err)
			}
			if err == nil {
				break
			}
		}
	}
}
