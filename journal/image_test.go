package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// image is the content of one full segment of the smallest size, with all that a test must know to
// judge what is read from a damaged copy of it.
type image struct {
	name    string
	bytes   []byte
	records []written
	marks   []int64 // their offsets
	marked  bool    // a mark follows the last record
	end     int64   // behind the last record
	synced  int64   // what the last mark says
}

const imageBytes = journal.MinSegmentBytes

// newImage fills most of a segment. A recycled one has the records of earlier lives
// behind those of its last, and was stopped in order, so that a mark covers all of them;
// the other one is left as a crash leaves it, its last batch not covered by any mark.
func newImage(tb testing.TB, recycled bool) *image {
	tb.Helper()
	fs, l := faultfs.New(), newLedger()
	cfg := faultConfig(fs)
	cfg.SegmentBytes = imageBytes
	rng := newRand(7)
	j, _, err := l.open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	defer j.Close()
	next := func() journal.Position {
		for i := range 1 + rng.IntN(8) {
			body := l.body(rng)
			if i%4 == 0 {
				body = body[:8] // the smallest records are padded
			}
			if err := l.append(context.Background(), j, journal.FirstKind+1, body); err != nil {
				tb.Fatal(err)
			}
		}
		if err := j.Sync(); err != nil {
			tb.Fatal(err)
		}
		return l.records[len(l.records)-1].pos
	}
	gen := uint64(1)
	if recycled {
		gen = 9
	}
	for at := next(); at.Generation() < gen || at.Offset() < imageBytes*7/8; at = next() {
		for _, old := range j.Generations() {
			if old < at.Generation() {
				j.Release(old)
			}
		}
	}
	if recycled {
		if err := j.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	im := &image{marked: recycled}
	for _, w := range l.records {
		if w.pos.Generation() == gen {
			im.records = append(im.records, w)
		}
	}
	for _, name := range fs.Files() {
		if b := fs.Get(name); binary.LittleEndian.Uint64(b[16:]) == gen {
			im.name, im.bytes = filepath.Base(name), b
		}
	}
	im.findMarks()
	return im
}

const (
	firstOffset = 4096
	markBytes   = 40
)

// findMarks looks for the marks: they are between the records.
func (im *image) findMarks() {
	at := int64(firstOffset)
	mark := func() {
		im.synced = int64(binary.LittleEndian.Uint32(im.bytes[at+25:]))
		im.marks = append(im.marks, at)
		at += markBytes
	}
	for _, w := range im.records {
		for at < w.pos.Offset() {
			mark()
		}
		at += int64(journal.RecordBytes(len(w.body)))
	}
	im.end = at
	if im.marked {
		mark()
	}
}

// files is a folder of one file that cannot be changed.
type files struct {
	durable.FS
	name  string
	bytes []byte
}

func (f *files) ReadDir(string) ([]string, error) { return []string{f.name}, nil }

func (f *files) OpenFile(name string, flag int, _ os.FileMode) (durable.File, error) {
	if flag != os.O_RDONLY || filepath.Base(name) != f.name {
		return nil, errors.New("only reading is expected here")
	}
	return file{bytes: f.bytes}, nil
}

type file struct {
	durable.File
	bytes []byte
}

func (f file) Size() (int64, error) { return int64(len(f.bytes)), nil }
func (f file) Close() error         { return nil }
func (f file) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(f.bytes)) {
		n = copy(p, f.bytes[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// each calls f with the numbers below n, split among the processors, each of which has
// a copy of the image of its own.
func (im *image) each(n int, f func(i int, b []byte)) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			b := bytes.Clone(im.bytes)
			for i := w; i < n; i += workers {
				f(i, b)
			}
		})
	}
	wg.Wait()
}

// outcome is what a reader says of a damaged image.
type outcome struct {
	missing  []written
	reported []*journal.Damage // both kinds
	damage   []*journal.Damage
	repaired []string
}

// inspect reads a damaged image and checks that nothing was invented.
func (im *image) inspect(b []byte) (*outcome, error) { return im.inspectFrom(b, 0) }

func (im *image) inspectFrom(b []byte, from journal.Position) (*outcome, error) {
	o := &outcome{}
	next := 0
	report, err := inspect(&files{name: im.name, bytes: b}, "journal", from, 0, func(r journal.Record) error {
		for next < len(im.records) && im.records[next].pos < r.Pos {
			o.missing = append(o.missing, im.records[next])
			next++
		}
		if next == len(im.records) || im.records[next].pos != r.Pos {
			return errors.New("a record was invented at " + r.Pos.String())
		}
		if im.records[next].kind != r.Kind || !bytes.Equal(im.records[next].body, r.Payload) {
			return errors.New("a wrong record was read at " + r.Pos.String())
		}
		next++
		return nil
	})
	if err != nil {
		return nil, err
	}
	o.missing = append(o.missing, im.records[next:]...)
	o.damage, o.repaired = report.Damage, report.Repaired
	o.reported = append(append(o.reported, report.Damage...), report.Dropped...)
	return o, nil
}

// covers reports whether one of the places that are reported contains the offset, and
// names the file.
func (im *image) covers(list []*journal.Damage, off int64) bool {
	for _, d := range list {
		if d.Pos.Offset() <= off && off < d.Pos.Offset()+d.Bytes && strings.HasSuffix(d.File, im.name) &&
			strings.Contains(d.Error(), im.name) {
			return true
		}
	}
	return false
}

// inspect reads a journal without changing it.
func inspect(fs durable.FS, dir string, from journal.Position, seq uint64, visit func(journal.Record) error) (*journal.Report, error) {
	j, err := journal.Open(journal.Config{Dir: dir, FS: fs, StoreID: testStoreID, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer j.Close()
	for r, err := range j.Replay(from, seq) {
		if err == nil {
			err = visit(r)
		}
		if err != nil {
			return nil, err
		}
	}
	return j.Judge(), nil
}
