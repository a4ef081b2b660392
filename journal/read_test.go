package journal_test

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// filled is a journal with records that are not in memory any more, close together.
func filled(t *testing.T) (*faultfs.FS, *journal.Journal, []written) {
	t.Helper()
	fs, l := faultfs.New(), newLedger()
	cfg := faultConfig(fs)
	cfg.SegmentBytes, cfg.CacheBytes = 64<<10, 1
	j, _, err := l.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	if err := l.run(t.Context(), j, newRand(3), 60); err != nil {
		t.Fatal(err)
	}
	return fs, j, l.records[:50]
}

// readEach returns which records could be read, and the errors of the others.
func readEach(t *testing.T, j *journal.Journal, records []written) (failed map[int]error) {
	t.Helper()
	places := make([]journal.Place, len(records))
	for i, r := range records {
		places[i] = journal.Place{Pos: r.pos, Bytes: journal.RecordBytes(len(r.body))}
	}
	failed = map[int]error{}
	next := 0
	j.Read(places, func(i int, r journal.Record, err error) {
		if i != next {
			t.Errorf("place %d came when %d was due", i, next)
		}
		next++
		switch {
		case err != nil:
			failed[i] = err
		case !bytes.Equal(r.Payload, records[i].body):
			t.Errorf("place %d: a wrong payload was read", i)
		}
	})
	if next != len(records) {
		t.Errorf("%d of %d places were read", next, len(records))
	}
	return failed
}

// TestPassingReadErrorCostsNothing: an error that does not come twice is no damage.
func TestPassingReadErrorCostsNothing(t *testing.T) {
	fs, j, records := filled(t)
	flip := func(p []byte) { p[len(p)/2] ^= 1 }
	for _, fault := range []faultfs.Fault{{Err: faultfs.EIO}, {Damage: flip}} {
		fs.Fail(faultfs.Read, 1, fault)
		if failed := readEach(t, j, records); len(failed) > 0 {
			t.Errorf("%v: %d records cannot be read: %v", fault.Err, len(failed), failed)
		}
	}
}

// TestBadSectorCostsItsRecords: what can be read around it is read.
func TestBadSectorCostsItsRecords(t *testing.T) {
	fs, j, records := filled(t)
	bad := records[25].pos.Offset() + 20
	fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Read && op.Off <= bad && bad < op.Off+int64(op.Len) {
			return &faultfs.Fault{Err: faultfs.EIO}
		}
		return nil
	})
	failed := readEach(t, j, records)
	var damage *journal.Damage
	if len(failed) != 1 || !errors.As(failed[25], &damage) || damage.Pos != records[25].pos || damage.File == "" {
		t.Errorf("got %v, want damage to record 25 at %v alone", failed, records[25].pos)
	}
	fs.Hook(nil)
	fs.FlipBit(damage.File, (records[7].pos.Offset()+18)*8)
	failed = readEach(t, j, records)
	if len(failed) != 1 || !errors.As(failed[7], &damage) || damage.Pos != records[7].pos {
		t.Errorf("got %v, want damage to record 7 at %v alone", failed, records[7].pos)
	}
}

func TestReadOfAReleasedSegment(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	j, _, err := l.open(faultConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	rng := newRand(1)
	for j.Next().Generation() == 1 {
		if err := l.append(t.Context(), j, journal.FirstKind, l.body(rng)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	first := l.records[:1]
	if failed := readEach(t, j, first); len(failed) > 0 {
		t.Fatal(failed)
	}
	j.Release(1)
	j.Release(1) // and again, which does nothing
	if failed := readEach(t, j, first); !errors.Is(failed[0], journal.ErrReleased) {
		t.Errorf("got %v", failed)
	}
}

// TestSmallRunsTakeLittleOfTheCache: a run that comes after a large one is kept in memory of
// its own size.
func TestSmallRunsTakeLittleOfTheCache(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	cfg := faultConfig(fs)
	cfg.SegmentBytes, cfg.CacheBytes = 1<<20, 300<<10
	j, _, err := l.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, size := range []int{100 << 10, 8, 100 << 10, 8} {
		if err := errors.Join(l.append(t.Context(), j, journal.FirstKind, make([]byte, size)), j.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	before := fs.Count(faultfs.Read)
	if failed := readEach(t, j, l.records); len(failed) > 0 {
		t.Error(failed)
	}
	if n := fs.Count(faultfs.Read) - before; n > 0 {
		t.Errorf("the disk was read %d times", n)
	}
}

// TestCopyNamesASegmentThatEndsEarly: a copy without the end would look complete.
func TestCopyNamesASegmentThatEndsEarly(t *testing.T) {
	fs, j, _ := filled(t)
	at, _ := j.Applied()
	first := ""
	whole := func() error {
		return j.Copy(at, func(name string, _ int64, content io.Reader) error {
			first = cmp.Or(first, name)
			_, err := io.Copy(io.Discard, content)
			return err
		})
	}
	if err := whole(); err != nil {
		t.Fatal(err)
	}
	fs.Cut(path.Join(testDir, first), 8<<10)
	if err := whole(); err == nil || !strings.Contains(err.Error(), first) {
		t.Errorf("a copy of a file that was cut off: %v", err)
	}
}
