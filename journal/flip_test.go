package journal_test

import (
	"fmt"
	"runtime/debug"
	"testing"
)

// meaning says what a byte of an image belongs to.
type meaning struct {
	record int // index into records, -1 if none
	mark   bool
	header bool
}

// meanings describes every byte. The paddings of records and what follows the last one
// mean nothing.
func (im *image) meanings() []meaning {
	m := make([]meaning, len(im.bytes))
	for i := range m {
		m[i].record = -1
	}
	for i := range 44 {
		m[i].header = true
	}
	for _, at := range im.marks {
		for i := range int64(33) {
			m[at+i].mark = true
		}
	}
	for k, w := range im.records {
		for i := range 17 + len(w.body) {
			m[w.pos.Offset()+int64(i)].record = k
		}
	}
	return m
}

// TestEveryBitFlip inverts each bit of a segment that was used before, and some bits of
// one that was not and that a crash has left. The record that a flip touches is lost and
// reported with its place, and no other.
func TestEveryBitFlip(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // each reading makes a buffer
	for _, recycled := range []bool{true, false} {
		t.Run(fmt.Sprint("recycled ", recycled), func(t *testing.T) {
			im := newImage(t, recycled)
			means := im.meanings()
			step := 1
			if !recycled {
				step = 29
			}
			if testing.Short() {
				step = 131
			}
			im.each(len(im.bytes)*8/step, func(i int, b []byte) {
				bit := i * step
				at := bit / 8
				b[at] ^= 1 << (bit % 8)
				defer func() { b[at] ^= 1 << (bit % 8) }()
				if err := im.judgeFlip(b, int64(at), means[at]); err != nil {
					t.Errorf("bit %d of byte %d: %v", bit%8, at, err)
				}
			})
		})
	}
}

func (im *image) judgeFlip(b []byte, at int64, m meaning) error {
	o, err := im.inspect(b)
	if err != nil {
		return err
	}
	switch {
	case m.record < 0 && len(o.missing) > 0:
		return fmt.Errorf("%d records are lost, the first at %v, and none was touched", len(o.missing), o.missing[0].pos)
	case m.record >= 0 && (len(o.missing) != 1 || o.missing[0].pos != im.records[m.record].pos):
		return fmt.Errorf("%d records are lost, the touched one is at %v", len(o.missing), im.records[m.record].pos)
	case m.header && len(o.repaired) != 1:
		return fmt.Errorf("the header is not reported as repaired")
	case !m.header && m.record < 0 && !m.mark:
		if len(o.reported)+len(o.repaired) > 0 {
			return fmt.Errorf("reported as %v, although it means nothing", o.reported)
		}
	case !m.header && !im.covers(o.reported, at):
		return fmt.Errorf("it is not reported: %v", o.reported)
	case !m.header && at < im.synced && !im.covers(o.damage, at):
		return fmt.Errorf("it is not reported as damage, although it was promised")
	case !m.header && at >= im.synced && len(o.damage) > 0:
		return fmt.Errorf("it is reported as damage, although it was not promised")
	}
	return nil
}
