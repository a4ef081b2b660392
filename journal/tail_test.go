package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// TestEveryTail reads a segment that ends at each byte: because the file is cut off
// there, or because nothing behind it was written. What is before it must be read, what
// is behind must not, and if a checkpoint says how far it once was, that is damage.
func TestEveryTail(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // each reading makes a buffer
	for _, recycled := range []bool{false, true} {
		im := newImage(t, recycled)
		zeros := make([]byte, len(im.bytes))
		step := 1
		if !recycled {
			step = 53
		}
		if testing.Short() {
			step = 211
		}
		im.each(len(im.bytes)/step, func(i int, b []byte) {
			end := i * step
			kept := copy(b[end:], zeros)
			if err := im.judgeTail(b, end); err != nil {
				t.Errorf("recycled %v, zeros from %d on: %v", recycled, end, err)
			}
			copy(b[end:end+kept], im.bytes[end:])
			if err := im.judgeTail(b[:end], end); err != nil {
				t.Errorf("recycled %v, cut off at %d: %v", recycled, end, err)
			}
		})
	}
}

func (im *image) judgeTail(b []byte, end int) error {
	intact := 0
	for _, w := range im.records {
		from := int(w.pos.Offset())
		got := make([]byte, 17+len(w.body)) // what was cut off may have been zeros
		if from < len(b) {
			copy(got, b[from:])
		}
		if !bytes.Equal(got, im.bytes[from:from+len(got)]) {
			break
		}
		intact++
	}
	from := journal.Position(im.records[0].pos.Generation()<<32 | uint64(im.end))
	for _, from := range []journal.Position{from, 0} {
		if from == 0 && end%16 != 1 {
			continue
		}
		o, err := im.inspectFrom(b, from)
		if err != nil {
			return err
		}
		if got := len(im.records) - len(o.missing); got != intact {
			return fmt.Errorf("%d records were read, want %d", got, intact)
		}
		cut := len(b) < len(im.bytes) && intact > 0 ||
			from != 0 && len(b) == len(im.bytes) && !bytes.Equal(b[:im.end], im.bytes[:im.end]) && end > 44
		if cut && len(o.damage) == 0 {
			return fmt.Errorf("from %v: no damage is reported: %v", from, o.reported)
		}
	}
	return nil
}

// openImage opens a journal whose only segment is b.
func (im *image) openImage(fs *faultfs.FS, quarantine bool) (*journal.Journal, *found, error) {
	cfg := faultConfig(fs)
	cfg.SegmentBytes, cfg.Quarantine = imageBytes, quarantine
	return newLedger().open(cfg)
}

// TestOpenAfterBitFlip opens damaged segments as a node does. Damage to what was promised
// is refused and leaves the files as they are; with Quarantine everything else is there,
// the damaged bytes are kept aside, and later openings find nothing to complain about.
func TestOpenAfterBitFlip(t *testing.T) {
	step := 251
	if testing.Short() {
		step = 4099
	}
	for _, recycled := range []bool{false, true} {
		im := newImage(t, recycled)
		means := im.meanings()
		im.each(len(im.bytes)*8/step, func(i int, b []byte) {
			bit := i * step
			at := bit / 8
			b[at] ^= 1 << (bit % 8)
			defer func() { b[at] ^= 1 << (bit % 8) }()
			var touched *written
			if k := means[at].record; k >= 0 {
				touched = &im.records[k]
			}
			promised := (touched != nil || means[at].mark) && int64(at) < im.synced
			if err := im.judgeOpen(b, touched, promised); err != nil {
				t.Errorf("recycled %v, bit %d of byte %d: %v", recycled, bit%8, at, err)
			}
		})
	}
}

func (im *image) judgeOpen(b []byte, touched *written, promised bool) error {
	name := filepath.Join(testDir, im.name)
	fs := faultfs.New()
	fs.Put(name, b)
	j, f, err := im.openImage(fs, false)
	var damage *journal.DamageError
	switch {
	case err == nil && promised:
		return errors.Join(errors.New("promised damage is not refused"), j.Close())
	case promised && (!errors.As(err, &damage) || !strings.Contains(err.Error(), im.name+" at offset ")):
		return fmt.Errorf("damage is refused with %v", err)
	case promised && !bytes.Equal(fs.Get(name), b):
		return errors.New("a refused journal was changed")
	case promised:
		if j, f, err = im.openImage(fs, true); err != nil {
			return err
		}
		if len(f.report.Damage) != 1 {
			return fmt.Errorf("reported damage: %v", f.report.Damage)
		}
		d := f.report.Damage[0]
		aside := fmt.Sprintf("%s/damaged-%d-%d.bin", testDir, d.Pos.Generation(), d.Pos.Offset())
		if !bytes.Equal(fs.Get(aside), b[d.Pos.Offset():d.Pos.Offset()+d.Bytes]) {
			return errors.New("the damaged bytes are not kept aside")
		}
	case err != nil:
		return err
	}
	l := &ledger{released: map[uint64]bool{}}
	for _, w := range im.records {
		if touched == nil || w.pos != touched.pos {
			l.records = append(l.records, w)
		}
	}
	l.synced = len(l.records)
	err = l.check(f)
	if err := errors.Join(err, j.Close()); err != nil {
		return err
	}
	return l.survives(fs, newRand(1))
}

// TestOldBytesAreNoTornRecord: what an earlier life of the file has left behind the last
// record is not reported, even where a number in it is the next record's.
func TestOldBytesAreNoTornRecord(t *testing.T) {
	im := newImage(t, true)
	for (im.end+markBytes+8)%512 == 0 { // a sector may begin with a sequence
		im = newImage(t, true)
	}
	end := int(im.end) + markBytes
	for _, length := range []uint32{0, 16, 1 << 30} {
		b := bytes.Clone(im.bytes)
		binary.LittleEndian.PutUint32(b[end+4:], length)
		binary.LittleEndian.PutUint64(b[end+8:], binary.LittleEndian.Uint64(b[im.end+8:])+1)
		b[end+16] = byte(journal.FirstKind)
		o, err := im.inspect(b)
		if err != nil || len(o.missing)+len(o.reported) > 0 {
			t.Errorf("length %d: %d records are missing, reported %v, %v", length, len(o.missing), o.reported, err)
		}
	}
}
