package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// stopped is a journal of several segments that was stopped in order, so that all of
// its records are promised.
func stopped(t *testing.T, seed uint64) (*faultfs.FS, *ledger) {
	t.Helper()
	fs, l := faultfs.New(), newLedger()
	for round := range uint64(3) {
		if err := workload(t, fs, l, seed+round*1000, 80); err != nil {
			t.Fatal(err)
		}
	}
	return fs, l
}

// harm is something that happens to the files of a stopped journal.
type harm struct {
	name string
	do   func(fs *faultfs.FS, rng *rand.Rand)
}

func anySegment(fs *faultfs.FS, rng *rand.Rand) (name string, size int64) {
	var names []string
	for _, n := range fs.Files() {
		if strings.HasSuffix(n, ".seg") {
			names = append(names, n)
		}
	}
	name = names[rng.IntN(len(names))]
	return name, int64(len(fs.Get(name)))
}

func overwrite(fs *faultfs.FS, name string, from int64, with []byte) {
	b := fs.Get(name)
	copy(b[from:], with)
	fs.Put(name, b)
}

var harms = []harm{
	{"a flipped bit", func(fs *faultfs.FS, rng *rand.Rand) {
		name, size := anySegment(fs, rng)
		fs.FlipBit(name, rng.Int64N(size*8))
	}},
	{"a range of zeros", func(fs *faultfs.FS, rng *rand.Rand) {
		name, size := anySegment(fs, rng)
		overwrite(fs, name, rng.Int64N(size), make([]byte, 1+rng.IntN(9000)))
	}},
	{"a range of garbage", func(fs *faultfs.FS, rng *rand.Rand) {
		name, size := anySegment(fs, rng)
		b := make([]byte, 1+rng.IntN(9000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		overwrite(fs, name, rng.Int64N(size), b)
	}},
	{"a page of another segment", func(fs *faultfs.FS, rng *rand.Rand) {
		from, _ := anySegment(fs, rng)
		to, size := anySegment(fs, rng)
		b := fs.Get(from)
		page := rng.Int64N(int64(len(b)) / 4096)
		overwrite(fs, to, min(page, size/4096-1)*4096, b[page*4096:][:4096])
	}},
	{"a file cut off", func(fs *faultfs.FS, rng *rand.Rand) {
		name, size := anySegment(fs, rng)
		fs.Cut(name, 8192+rng.Int64N(size-8192)) // of a shorter one nothing tells that it was used
	}},
	{"a file of zeros", func(fs *faultfs.FS, rng *rand.Rand) {
		name, size := anySegment(fs, rng)
		fs.Put(name, make([]byte, size))
	}},
	{"a file there twice", func(fs *faultfs.FS, rng *rand.Rand) {
		name, _ := anySegment(fs, rng)
		fs.Put("/"+testDir+"/99999999.seg", fs.Get(name))
	}},
	{"a file removed", func(fs *faultfs.FS, rng *rand.Rand) {
		name, _ := anySegment(fs, rng)
		if err := errors.Join(fs.Remove(name), fs.SyncDir(testDir)); err != nil {
			panic(err)
		}
	}},
}

// TestHarmedJournal damages a journal in all kinds of ways. Either it opens with all
// that was promised, or it refuses and names the place; with Quarantine it opens with
// all that was not touched, and the next openings find nothing to complain about.
func TestHarmedJournal(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 30
	}
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				if err := judgeHarm(t, h, seed); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

func judgeHarm(t *testing.T, h harm, seed uint64) error {
	fs, l := stopped(t, seed)
	rng := newRand(seed)
	before := fs.Snapshot()
	h.do(fs, rng)
	file, hit := l.touched(before, fs)

	cfg := l.config(fs)
	j, f, err := l.open(cfg)
	var refused *journal.DamageError
	var one *journal.Damage
	switch {
	case err == nil:
		l.forgive(hit)
		if err := errors.Join(l.check(f), readAll(j, f.records), j.Close()); err != nil {
			return fmt.Errorf("damage to %s went unnoticed: %w", file, err)
		}
		l.adopt(f)
		return l.survives(fs, rng)
	case errors.As(err, &one) && len(hit) > 0: // found by scanning a segment before From
		return nil
	case !errors.As(err, &refused):
		return fmt.Errorf("%s: %w", file, err)
	case h.name != "a file removed" && h.name != "a file of zeros" && !strings.Contains(err.Error(), file):
		return fmt.Errorf("the refusal does not name %s: %w", file, err)
	}
	cfg.Quarantine = true
	l.records = slices.DeleteFunc(l.records, func(w written) bool { return hit[w.pos] })
	l.synced = len(l.records)
	if j, f, err = l.open(cfg); err != nil {
		return fmt.Errorf("%s: with quarantine: %w", file, err)
	}
	err = errors.Join(l.check(f), readAll(j, f.records))
	if len(f.report.Damage) == 0 {
		err = errors.Join(err, errors.New("nothing is reported"))
	}
	l.adopt(f)
	l.from, l.fromSeq = j.Applied() // as an owner does that goes on without the damaged records
	if err := errors.Join(err, j.Close()); err != nil {
		return fmt.Errorf("%s: with quarantine: %w", file, err)
	}
	return l.survives(fs, rng)
}

// touched compares the files with what they were, and returns the name of the one that
// changed and which records are not what they were.
func (l *ledger) touched(before, after *faultfs.FS) (file string, hit map[journal.Position]bool) {
	hit = map[journal.Position]bool{}
	content := map[uint64][2][]byte{} // by generation
	for _, name := range before.Files() {
		if !strings.HasSuffix(name, ".seg") {
			continue
		}
		old := before.Get(name)
		var now []byte
		if slices.Contains(after.Files(), name) {
			now = after.Get(name)
		}
		if !bytes.Equal(old, now) {
			file = name[1:]
		}
		content[binary.LittleEndian.Uint64(old[16:])] = [2][]byte{old, append(now, make([]byte, len(old)-len(now))...)}
	}
	for _, w := range l.records {
		c, ok := content[w.pos.Generation()]
		if !ok {
			continue
		}
		from, to := w.pos.Offset(), w.pos.Offset()+17+int64(len(w.body))
		if !bytes.Equal(c[0][from:to], c[1][from:to]) {
			hit[w.pos] = true
		}
	}
	if c, ok := content[l.next.Generation()]; ok {
		from, to := l.next.Offset(), l.next.Offset()+markBytes
		hit[l.next] = !bytes.Equal(c[0][from:to], c[1][from:to]) // the mark of Close
	}
	return file, hit
}

// forgive no longer expects records of which nothing on the disk tells that they were
// there: at the end of a segment before From, whose owner knows, and at the end of the
// journal, if the mark of Close is gone with them.
func (l *ledger) forgive(hit map[journal.Position]bool) {
	last := map[uint64]journal.Position{}
	for _, w := range l.records {
		last[w.pos.Generation()] = w.pos
	}
	l.records = slices.DeleteFunc(l.records, func(w written) bool {
		gen := w.pos.Generation()
		if gen < l.from.Generation() {
			return hit[w.pos] && hit[last[gen]]
		}
		return hit[w.pos] && w.pos >= l.from && hit[l.next]
	})
	l.synced = len(l.records)
}
