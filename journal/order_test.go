package journal_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// TestConcurrentAppends: places rise in the order of the calls, OnSync functions are
// called in their order, and when one is called with nil, a crash at that moment leaves
// everything that was appended before it was asked for.
func TestConcurrentAppends(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	cfg := faultConfig(fs)
	cfg.SegmentBytes = 64 << 10
	j, _, err := l.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	type promise struct {
		records int
		left    *faultfs.FS
	}
	var (
		mu       sync.Mutex
		asked    int
		answered int
		last     journal.Position
		promises []promise
	)
	one := func(body []byte) {
		mu.Lock()
		defer mu.Unlock()
		if err := l.append(t.Context(), j, journal.FirstKind, body); err != nil {
			t.Error(err)
			return
		}
		pos := l.records[len(l.records)-1].pos
		if pos <= last {
			t.Errorf("place %v after %v", pos, last)
		}
		if next := j.Next(); next <= pos {
			t.Errorf("next place %v after %v", next, pos)
		}
		last = pos
		n, records := asked, len(l.records)
		asked++
		j.OnSync(func(err error) {
			if n != answered || err != nil {
				t.Errorf("function %d was called with %v when %d was due", n, err, answered)
			}
			answered++
			if n%16 == 0 {
				promises = append(promises, promise{records, fs.Snapshot()})
			}
		})
	}
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			rng, own := newRand(w), &ledger{serial: w << 32}
			for range 250 {
				one(own.body(rng))
			}
		})
	}
	wg.Wait()
	for range 2 { // what is applied is noted after the answer, but before the next one
		if err := j.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if answered != asked {
		t.Errorf("%d of %d functions were called", answered, asked)
	}
	if at, seq := j.Applied(); at != j.Next() || seq == 0 {
		t.Errorf("applied up to %v, the next record is at %v", at, j.Next())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for i, p := range promises {
		then := l.clone()
		then.synced = p.records
		mode := faultfs.CrashModes[i%3]
		if err := then.survives(p.left.Crash(mode, uint64(i)), newRand(1)); err != nil {
			t.Errorf("%v after answer %d: %v", mode, i*16, err)
		}
	}
}

// TestIdleMark: a second after the last batch a mark says that it was synced, so that
// damage to it is known for what it is. Nothing is written while nothing happens.
func TestIdleMark(t *testing.T) {
	fs := faultfs.New()
	cfg := faultConfig(fs)
	fake := cfg.Clock.(*fakeclock.Clock)
	j := mustStart(t, cfg)
	defer j.Close()
	waitReady(t, j)
	pos, err := j.Append(false, journal.FirstKind, []byte("the last record"), nil)
	if err == nil {
		err = j.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
	damaged := func() error {
		left := fs.Snapshot().Crash(faultfs.DropUnsynced, 0)
		left.FlipBit(testDir+"/00000000.seg", (pos.Offset()+20)*8)
		cfg := faultConfig(left)
		j, _, err := start(cfg, 0, 0, func(journal.Record) error { return nil })
		if err != nil {
			return err
		}
		return j.Close()
	}
	if err := damaged(); err != nil {
		t.Errorf("damage to what no mark covers: %v", err)
	}
	before := j.Next()
	fake.Advance(2 * time.Second)
	eventually(t, "a mark is written", func() bool { at, _ := j.Applied(); return at > before })
	var refused *journal.DamageError
	if err := damaged(); !errors.As(err, &refused) {
		t.Errorf("damage to what a mark covers: %v", err)
	}
	marked := j.Next()
	fake.Advance(time.Minute)
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if now := j.Next(); now != marked {
		t.Errorf("%d bytes were written while nothing happened", now-marked)
	}
}

// TestRecoveredTailIsMarked: what recovery found behind the last mark is covered by one
// soon, also if nothing is written any more.
func TestRecoveredTailIsMarked(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	j, _, err := l.open(faultConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.append(t.Context(), j, journal.FirstKind, []byte("the last record")); err != nil {
		t.Fatal(err)
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	left := fs.Snapshot().Crash(faultfs.DropUnsynced, 0)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second opening adds nothing
		if j, _, err = l.open(faultConfig(left)); err == nil {
			err = j.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var refused *journal.DamageError
	left.FlipBit(testDir+"/00000000.seg", (l.records[0].pos.Offset()+20)*8)
	if _, _, err := l.open(faultConfig(left)); !errors.As(err, &refused) {
		t.Errorf("damage to what was recovered: %v", err)
	}
}

// TestAnsweredBatchIsNotStoredAnyMore: a caller that is answered may ask at once how long the disk takes.
func TestAnsweredBatchIsNotStoredAnyMore(t *testing.T) {
	cfg := faultConfig(faultfs.New())
	fake := cfg.Clock.(*fakeclock.Clock)
	j := mustStart(t, cfg)
	defer j.Close()
	waitReady(t, j)
	if _, err := j.Append(false, journal.FirstKind, []byte("a record"), nil); err != nil {
		t.Fatal(err)
	}
	took := make(chan time.Duration, 1)
	j.OnSync(func(error) {
		fake.Set(4 * time.Second)
		took <- j.Stats().Storing
	})
	if got := <-took; got != 0 {
		t.Errorf("the batch is answered, and is being stored for %v", got)
	}
}
