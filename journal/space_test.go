package journal_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// fillDisk appends until there is no space for more, and returns the refusal.
func fillDisk(t *testing.T, l *ledger, j *journal.Journal) error {
	t.Helper()
	rng := newRand(4)
	for {
		if err := l.append(t.Context(), j, journal.FirstKind, l.body(rng)); err != nil {
			return err
		}
	}
}

// TestFullDisk: what is not urgent is refused with a clear error, what is urgent has
// room left, and when there is space again all goes on by itself.
func TestFullDisk(t *testing.T) {
	for _, why := range []string{"capacity", "reserve"} {
		t.Run(why, func(t *testing.T) {
			fs, l := faultfs.New(), newLedger()
			fs.SetCapacity(6 * journal.MinSegmentBytes)
			cfg := faultConfig(fs)
			fake := cfg.Clock.(*fakeclock.Clock)
			if why == "reserve" {
				cfg.MinFreeBytes = 3 * journal.MinSegmentBytes / 2
			}
			j, _, err := l.open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			err = fillDisk(t, l, j)
			if !errors.Is(err, journal.ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("refused with %v", err)
			}
			if err := full(j); !errors.Is(err, journal.ErrDiskFull) {
				t.Errorf("Full: %v", err)
			}
			if err := j.WaitRoom(t.Context(), false, 3000); !errors.Is(err, journal.ErrDiskFull) {
				t.Errorf("WaitRoom: %v", err)
			}
			urgent := 0
			for {
				body := l.body(newRand(uint64(urgent)))
				pos, err := j.Append(true, journal.FirstKind, body, nil)
				if err != nil {
					if !errors.Is(err, journal.ErrDiskFull) {
						t.Errorf("urgent: %v", err)
					}
					break
				}
				l.records = append(l.records, written{pos, journal.FirstKind, body})
				urgent += len(body)
			}
			if urgent < journal.MinSegmentBytes/8 {
				t.Errorf("only %d bytes of urgent records found room", urgent)
			}
			l.report(j)
			if err := j.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := l.clone().survives(unlimited(fs), newRand(1)); err != nil {
				t.Errorf("crash with a full disk: %v", err)
			}

			fs.SetCapacity(0)
			waitReady := func() bool {
				fake.Advance(time.Second)
				return full(j) == nil
			}
			eventually(t, "there is room again", waitReady)
			if err := l.run(t.Context(), j, newRand(5), 30); err != nil {
				t.Errorf("after there was space again: %v", err)
			}
		})
	}
}

func unlimited(fs *faultfs.FS) *faultfs.FS {
	left := fs.Snapshot().Crash(faultfs.DropUnsynced, 0)
	left.SetCapacity(0)
	return left
}

// TestReleaseMakesRoomOnAFullDisk: a released segment is used again, nothing is created.
func TestReleaseMakesRoomOnAFullDisk(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	fs.SetCapacity(6 * journal.MinSegmentBytes)
	j, _, err := l.open(faultConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for range 20 {
		if err := fillDisk(t, l, j); !errors.Is(err, journal.ErrDiskFull) {
			t.Fatal(err)
		}
		l.report(j)
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
		// Applied follows once those who wait for the sync have been told.
		eventually(t, "all is applied", func() bool {
			l.from, l.fromSeq = j.Applied()
			return l.from >= l.records[len(l.records)-1].pos
		})
		for _, gen := range j.Generations() {
			if gen < l.from.Generation() {
				j.Release(gen)
				l.released[gen] = true
			}
		}
		waitReady(t, j)
	}
	if n := j.Stats().Recycled; n < 20 {
		t.Errorf("segments were used again %d times", n)
	}
	if err := l.survives(unlimited(fs), newRand(1)); err != nil {
		t.Error(err)
	}
}

// TestFullDiskFailsAnywhere lets writes find no space at every budget.
func TestFullDiskFailsAnywhere(t *testing.T) {
	step := int64(faultfs.SectorBytes) * 5
	for budget := int64(0); budget < 9*journal.MinSegmentBytes; budget += step {
		fs, l := faultfs.New(), newLedger()
		fs.SetCapacity(budget)
		err := workload(t, fs, l, 6, 150)
		if budget > 0 && err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("budget %d: %v", budget, err)
		}
		left := fs.Crash(faultfs.KeepRandom, uint64(budget))
		left.SetCapacity(0)
		if err := l.survives(left, newRand(2)); err != nil {
			t.Errorf("budget %d: %v", budget, err)
		}
	}
}

// TestHungSync: nothing is answered while a sync hangs, memory stays bounded, and
// everything is answered in order when it returns.
func TestHungSync(t *testing.T) {
	fs := faultfs.New()
	cfg := faultConfig(fs)
	cfg.MaxPendingBytes, cfg.SegmentBytes = 4<<10, 256<<10
	j := mustStart(t, cfg)
	defer j.Close()
	waitReady(t, j)
	hang := make(chan struct{})
	hung := make(chan struct{})
	fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind != faultfs.Sync {
			return nil
		}
		select {
		case <-hung:
		default:
			close(hung)
		}
		return &faultfs.Fault{Hang: hang}
	})
	answers := make(chan int, 1000)
	asked := 0
	put := func() error {
		if _, err := j.Append(false, journal.FirstKind, make([]byte, 100), nil); err != nil {
			return err
		}
		n := asked
		asked++
		j.OnSync(func(err error) {
			if err != nil {
				n = -1
			}
			answers <- n
		})
		return nil
	}
	err := put()
	if err != nil {
		t.Fatal(err)
	}
	<-hung
	for err = put(); err == nil && asked < 1000; err = put() {
	}
	if !errors.Is(err, journal.ErrNoRoom) {
		t.Fatalf("with %d waiting: %v", asked, err)
	}
	if _, err := j.Append(true, journal.FirstKind, []byte("x"), nil); err != nil {
		t.Errorf("urgent: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() { waited <- j.WaitRoom(ctx, false, 100) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("WaitRoom: %v", err)
	}
	if len(answers) > 0 {
		t.Errorf("%d were answered before the sync returned", len(answers))
	}
	go func() { waited <- j.WaitRoom(t.Context(), false, 100) }()
	close(hang)
	if err := <-waited; err != nil {
		t.Errorf("WaitRoom: %v", err)
	}
	for want := range asked {
		if got := <-answers; got != want {
			t.Fatalf("answer %d came when %d was due", got, want)
		}
	}
}

func full(j *journal.Journal) error {
	_, err := j.Space()
	return err
}

// TestTooManyOpenFiles: it passes as a full disk does, and is not called one.
func TestTooManyOpenFiles(t *testing.T) {
	fs := faultfs.New()
	j := mustStart(t, faultConfig(fs))
	defer j.Close()
	waitReady(t, j)
	fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Create || op.Kind == faultfs.Open {
			return &faultfs.Fault{Err: syscall.EMFILE}
		}
		return nil
	})
	var err error
	for err == nil || errors.Is(err, journal.ErrNoRoom) {
		if _, err = j.Append(false, journal.FirstKind, make([]byte, 1000), nil); errors.Is(err, journal.ErrNoRoom) {
			err = j.WaitRoom(t.Context(), false, 1000)
		}
	}
	if !errors.Is(err, journal.ErrDiskFull) || !journal.IsTooManyFiles(err) || strings.Contains(err.Error(), "disk") {
		t.Errorf("refused with %v", err)
	}
}
