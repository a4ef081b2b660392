package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// A scanner walks the records of several segments and notes the holes between them.
type scanner struct {
	segments map[uint64]*segment
	// Segments before that of from may be missing, later ones may not. Everything
	// before from was synced, and fromSeq is the next sequence there, if it is known.
	from    Position
	fromSeq uint64

	next    uint64   // expected sequence, 0 before the first record
	synced  Position // the largest that a mark names, and at least from
	tail    Position // behind the last record that is not a mark
	holes   []*Damage
	ends    map[uint64]int64 // offset behind the last record of each segment scanned
	records int
	buf     []byte
	visit   func(Record) bool
}

// errStopped says that the loop over the records ended early.
var errStopped = errors.New("the loop over the records ended early")

// run yields the records of some segments and then, if they cannot be read to the end,
// the error. It returns why it did not come to the end.
func (sc *scanner) run(gens []uint64, yield func(Record, error) bool) error {
	sc.visit = func(r Record) bool { return yield(r, nil) }
	err := sc.scanAll(gens)
	if err != nil && err != errStopped {
		yield(Record{}, err)
	}
	return err
}

func (sc *scanner) scanAll(gens []uint64) error {
	sc.ends = map[uint64]int64{}
	from := sc.from.Generation()
	if from > 0 && !slices.Contains(gens, from) {
		sc.holes = append(sc.holes, &Damage{File: fmt.Sprintf("segment with generation %d", from), Pos: position(from, 0), FirstSeq: sc.fromSeq,
			LastSeq: sc.fromSeq, Reason: "the segment is missing", certain: true})
	}
	for _, gen := range slices.Sorted(maps.Keys(sc.segments)) {
		if s := sc.segments[gen]; gen < from && s.cut != 0 {
			sc.holes = append(sc.holes, s.cutOff(s.cut))
		}
	}
	var before *segment
	for _, gen := range gens {
		if gen <= from {
			sc.next = 0
		}
		s := sc.segments[gen]
		if err := sc.scan(s, before); err != nil {
			return err
		}
		before = s
	}
	return nil
}

func (sc *scanner) scan(s, before *segment) error {
	if int64(cap(sc.buf)) < s.size {
		sc.buf = make([]byte, s.size)
	}
	buf := sc.buf[:s.size]
	if err := s.read(buf, 0); err != nil {
		return err
	}
	off := pageBytes
	for off < len(buf) {
		if sc.next == 0 && sc.from != 0 && position(s.gen, int64(off)) >= sc.from {
			sc.next = sc.fromSeq
		}
		r, ok := decodeRecord(buf[off:], s.sum)
		if ok && r.Seq >= sc.next {
			if off == pageBytes && before != nil && sc.next != 0 && r.Seq > sc.next {
				sc.gap(before, r.Seq)
			}
			if err := sc.take(s, off, r); err != nil {
				return err
			}
			off += r.Bytes()
			continue
		}
		to, r := findRecord(buf, off+minRecordBytes, s.sum, max(sc.next, 1), sc.next != 0)
		if to < 0 {
			break
		}
		sc.hole(s, int64(off), int64(to), r.Seq)
		off = to
	}
	sc.end(s, buf, int64(off))
	return nil
}

// end notes where the records of a segment end, and what should be behind them.
func (sc *scanner) end(s *segment, buf []byte, off int64) {
	from := sc.from.Offset()
	short := s.gen == sc.from.Generation() && off < from
	if s.cut != 0 && (short || off > pageBytes) {
		seq := sc.next
		if short {
			seq = max(seq, sc.fromSeq)
		}
		sc.hole(s, off, s.size, seq)
		h := sc.holes[len(sc.holes)-1]
		h.Reason, h.certain = s.cutOff(off).Reason, true
		sc.next = seq
		off = s.size
	} else if short {
		sc.hole(s, off, from, sc.fromSeq)
		sc.next = max(sc.next, sc.fromSeq)
		off = from
	} else if n := sc.torn(s, buf, off); n > 0 && s.cut == 0 {
		sc.holes = append(sc.holes, &Damage{File: s.name, Pos: position(s.gen, off), Bytes: n,
			FirstSeq: sc.next, LastSeq: sc.next, Reason: "torn record at the end"})
	}
	sc.ends[s.gen] = off
}

// cutOff is what a file has lost that is too short. It had its full size before it got its
// first record.
func (s *segment) cutOff(off int64) *Damage {
	return &Damage{File: s.name, Pos: position(s.gen, off), Bytes: s.size - off,
		Reason: fmt.Sprintf("the file ends at %d of %d bytes", s.cut, s.size), certain: true}
}

// torn returns how many bytes at off look like the record that comes next, although it
// is not valid: 0 if nothing does but what an earlier life of the file has left.
func (sc *scanner) torn(s *segment, buf []byte, off int64) int64 {
	if off+recordHeaderBytes > int64(len(buf)) || sc.next == 0 {
		return 0
	}
	b := buf[off:]
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	fits := n >= recordHeaderBytes && n <= int64(len(b))
	if binary.LittleEndian.Uint64(b[8:]) == sc.next {
		switch {
		case fits:
			return n
		case lengthFlipped(b, s.sum):
			return recordHeaderBytes
		case (off+8)%sectorBytes == 0 && (b[16] == kindMark || b[16] == kindVoid || b[16] >= FirstKind):
			return recordHeaderBytes
		}
		return 0 // from within a record of an earlier life
	}
	// If nothing but its sequence is wrong, its checksum tells.
	var seq [8]byte
	binary.LittleEndian.PutUint64(seq[:], sc.next)
	if !fits {
		return 0
	}
	sum := crc32.Update(crc32.Update(s.sum, castagnoli, b[4:8]), castagnoli, seq[:])
	if crc32.Update(sum, castagnoli, b[16:n]) != binary.LittleEndian.Uint32(b) {
		return 0
	}
	return n
}

// sectorBytes is what a disk writes as a whole. A header whose sequence begins a sector may
// be there without its length.
const sectorBytes = 512

// lengthFlipped reports whether b begins with a record in which one bit of the length is
// wrong.
func lengthFlipped(b []byte, sum uint32) bool {
	n := binary.LittleEndian.Uint32(b[4:])
	for bit := range 32 {
		m := n ^ 1<<bit
		if m < recordHeaderBytes || int64(m) > int64(len(b)) {
			continue
		}
		var length [4]byte
		binary.LittleEndian.PutUint32(length[:], m)
		if crc32.Update(crc32.Update(sum, castagnoli, length[:]), castagnoli, b[8:m]) == binary.LittleEndian.Uint32(b) {
			return true
		}
	}
	return false
}

// hole notes that no valid record is between two offsets, and that seq comes next. How
// many are missing is not known if there was none before.
func (sc *scanner) hole(s *segment, from, to int64, seq uint64) {
	h := &Damage{File: s.name, Pos: position(s.gen, from), Bytes: to - from, Reason: "no valid record", void: true}
	if sc.next != 0 && sc.next < seq {
		h.FirstSeq, h.LastSeq = sc.next, seq-1
	}
	h.seq = max(sc.next, seq) - h.missing()
	sc.holes = append(sc.holes, h)
}

// gap notes that records are missing at the end of a segment, because the next one
// begins with seq.
func (sc *scanner) gap(before *segment, seq uint64) {
	end := sc.ends[before.gen]
	if n := len(sc.holes); n > 0 && sc.holes[n-1].Pos.Generation() == before.gen {
		switch h := sc.holes[n-1]; {
		case h.void && h.certain: // it is why they are missing
			h.FirstSeq, h.LastSeq = cmp.Or(h.FirstSeq, sc.next), seq-1
			return
		case !h.void && h.Pos == position(before.gen, end):
			sc.holes = sc.holes[:n-1] // the torn record is part of it
		}
	}
	sc.hole(before, end, before.size, seq)
	sc.ends[before.gen] = before.size
}

func (sc *scanner) take(s *segment, off int, r Record) error {
	r.Pos = position(s.gen, int64(off))
	sc.next = max(sc.next, r.nextSeq())
	if r.Kind == kindMark {
		if len(r.Payload) >= 16 {
			sc.synced = max(sc.synced, Position(binary.LittleEndian.Uint64(r.Payload[8:])))
		}
		return nil
	}
	sc.tail = r.Pos + Position(r.Bytes())
	if r.Kind == kindVoid {
		return nil
	}
	sc.records++
	if !sc.visit(r) {
		return errStopped
	}
	return nil
}

// judge tells damage from what was never promised.
func (sc *scanner) judge() *Report {
	report := &Report{Records: sc.records}
	for _, h := range sc.holes {
		if h.Promised = h.certain || h.void && h.Pos < sc.synced; h.Promised {
			report.Damage = append(report.Damage, h)
		} else {
			report.Dropped = append(report.Dropped, h)
		}
	}
	return report
}
