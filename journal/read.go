package journal

import (
	"errors"
	"fmt"
	"sort"
	"sync"
)

// ErrReleased says that the segment of a position was released: what was there is
// settled.
var ErrReleased = errors.New("segment was released")

// cache keeps the most recently written runs, so that a message that is taken soon is
// never read back. The buffers are immutable once they are here.
type cache struct {
	mu     sync.RWMutex
	limit  int
	total  int
	blocks []block // ascending, without overlap
}

type block struct {
	start Position
	buf   []byte
}

func (c *cache) add(start Position, buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, block{start, buf})
	c.total += cap(buf)
	drop := 0
	for c.total > c.limit && drop < len(c.blocks)-1 {
		c.total -= cap(c.blocks[drop].buf)
		c.blocks[drop] = block{}
		drop++
	}
	c.blocks = c.blocks[drop:]
}

// get returns the n bytes at pos, or nil.
func (c *cache) get(pos Position, n int) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	i := sort.Search(len(c.blocks), func(i int) bool { return c.blocks[i].start > pos }) - 1
	if i < 0 {
		return nil
	}
	off := uint64(pos - c.blocks[i].start)
	if off+uint64(n) > uint64(len(c.blocks[i].buf)) {
		return nil
	}
	return c.blocks[i].buf[off : off+uint64(n) : off+uint64(n)]
}

// Place says where a record is and how much room it takes (Record.Bytes).
type Place struct {
	Pos   Position
	Bytes int
}

// readSpan bounds one read, and readGap the bytes between two records that one read may
// cover for nothing.
const (
	readSpan = 256 << 10
	readGap  = 4 << 10
)

// Read calls f for each place, in order, with its record, or with an error:
// ErrReleased, or a *Damage. Recent records come from memory; places that lie close
// together are read with one call. The payload may be kept and must not be changed.
func (j *Journal) Read(places []Place, f func(i int, r Record, err error)) {
	for i := 0; i < len(places); {
		if b := j.cache.get(places[i].Pos, places[i].Bytes); b != nil {
			if r, ok := j.decodeAt(b, places[i].Pos); ok {
				f(i, r, nil)
				i++
				continue
			}
		}
		last := i
		end := places[i].Pos + Position(places[i].Bytes)
		for k := i + 1; k < len(places); k++ {
			p := places[k]
			if p.Pos < end || p.Pos.Generation() != end.Generation() || p.Pos-end > readGap ||
				uint64(p.Pos-places[i].Pos)+uint64(p.Bytes) > readSpan {
				break
			}
			last, end = k, p.Pos+Position(p.Bytes)
		}
		buf, err := j.readAt(places[i].Pos, int(end-places[i].Pos))
		for k := i; k <= last; k++ {
			var r Record
			ok := err == nil
			if ok {
				at := int(places[k].Pos - places[i].Pos)
				r, ok = j.decodeAt(buf[at:at+places[k].Bytes], places[k].Pos)
			}
			if ok {
				f(k, r, nil)
				continue
			}
			// Alone and once more, so that a bad sector costs only the records that it
			// touches, and an error that passes costs nothing.
			r, alone := j.readOne(places[k])
			f(k, r, alone)
		}
		i = last + 1
	}
}

func (j *Journal) readOne(p Place) (Record, error) {
	buf, err := j.readAt(p.Pos, p.Bytes)
	switch {
	case errors.Is(err, ErrReleased):
		return Record{}, err
	case err != nil:
		return Record{}, j.unreadable(p, fmt.Sprintf("cannot be read: %v", err), nil, err)
	}
	r, ok := j.decodeAt(buf, p.Pos)
	if !ok {
		return Record{}, j.unreadable(p, "checksum does not match", buf, nil)
	}
	return r, nil
}

func (j *Journal) readAt(pos Position, n int) ([]byte, error) {
	s := j.segmentOf(pos)
	if s == nil {
		return nil, ErrReleased
	}
	buf := make([]byte, n)
	_, err := s.file.ReadAt(buf, pos.Offset())
	return buf, err
}

func (j *Journal) decodeAt(b []byte, pos Position) (Record, bool) {
	r, ok := decodeRecord(b, generationSum(j.cfg.StoreID, pos.Generation()))
	r.Pos = pos
	return r, ok
}

// unreadable is a *Damage, or ErrReleased if that explains it.
func (j *Journal) unreadable(p Place, reason string, raw []byte, err error) error {
	s := j.segmentOf(p.Pos)
	if s == nil {
		return ErrReleased
	}
	return &Damage{File: s.name, Pos: p.Pos, Bytes: int64(p.Bytes), Promised: true, Reason: reason, Err: err, raw: raw}
}

func (j *Journal) segmentOf(pos Position) *segment {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segments[pos.Generation()]
}
