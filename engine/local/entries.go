package local

import (
	"iter"
	"slices"
	"sort"

	"github.com/sealmq/sealmq/journal"
)

// entry is what memory holds of one copy: 28 bytes, however large the message is. It has
// no pointer, so the garbage collector does not scan a backlog.
type entry struct {
	posLow, posHigh uint32
	body            uint32 // bytes of the body
	dedup           uint32 // slot+1; 0 for a message without id
	arrivedLow      uint32 // when it came to this queue, in Unix milliseconds, low and
	arrivedHigh     uint16 // high part
	over            uint16 // the record's size beyond the body, in units of 8 bytes
	phase           phase
}

func (n *entry) pos() journal.Position {
	return journal.Position(uint64(n.posHigh)<<32 | uint64(n.posLow))
}

// setPlace says where the record is. The size of the body must be set.
func (n *entry) setPlace(p journal.Place) {
	n.posLow, n.posHigh = uint32(p.Pos), uint32(p.Pos>>32)
	n.over = uint16((p.Bytes - padTo8(int(n.body))) / 8)
}

func (n *entry) arrived() int64 { return int64(n.arrivedHigh)<<32 | int64(n.arrivedLow) }

func (n *entry) place() journal.Place {
	return journal.Place{Pos: n.pos(), Bytes: padTo8(int(n.body)) + int(n.over)*8}
}

func padTo8(n int) int { return (n + 7) &^ 7 }

func newEntry(place journal.Place, body int, dedupSlot uint32, arrived int64) entry {
	n := entry{
		body: uint32(body), dedup: dedupSlot + 1, phase: waiting,
		arrivedLow: uint32(arrived), arrivedHigh: uint16(arrived >> 32),
	}
	n.setPlace(place)
	return n
}

const chunkLen = 64 // 64 entries fill a size class of the allocator exactly

// chunk holds the entries of chunkLen consecutive sequence numbers.
type chunk struct {
	base    uint64
	live    int
	entries []entry // may be shorter than chunkLen; absent ones are gone
}

// at returns the entry with a sequence number if it is not gone.
func (q *queue) at(seq uint64) *entry {
	i := q.chunkIndex(seq)
	if i < 0 {
		return nil
	}
	c := q.chunks[i]
	if k := seq - c.base; k < uint64(len(c.entries)) && c.entries[k].phase != gone {
		return &c.entries[k]
	}
	return nil
}

// chunkIndex finds the chunk of a sequence number, or -1.
func (q *queue) chunkIndex(seq uint64) int {
	n := len(q.chunks)
	if n == 0 {
		return -1
	}
	base := seq &^ (chunkLen - 1)
	switch base {
	case q.chunks[0].base:
		return 0
	case q.chunks[n-1].base:
		return n - 1
	}
	i := sort.Search(n, func(i int) bool { return q.chunks[i].base >= base })
	if i < n && q.chunks[i].base == base {
		return i
	}
	return -1
}

// put adds a copy at a sequence number that is free.
func (q *queue) put(seq uint64, n entry) {
	c := q.chunkFor(seq)
	k := int(seq - c.base)
	for len(c.entries) <= k {
		c.entries = append(c.entries, entry{})
	}
	c.entries[k] = n
	c.live++
	q.live++
	q.bytes += int64(n.body)
	q.count(&n, 1)
}

// count adds a copy to those in its phase, or with -1 takes it out.
func (q *queue) count(n *entry, by int) {
	switch n.phase {
	case waiting:
		q.ready += by
		q.readyBytes += int64(by) * int64(n.body)
	case delayed:
		q.delayed += by
	}
}

func (q *queue) chunkFor(seq uint64) *chunk {
	if i := q.chunkIndex(seq); i >= 0 {
		return q.chunks[i]
	}
	c := &chunk{base: seq &^ (chunkLen - 1)}
	if n := len(q.chunks); n > 0 && q.chunks[n-1].base < c.base {
		last := q.chunks[n-1]
		if len(last.entries) > chunkLen/2 {
			c.entries = make([]entry, 0, chunkLen) // a busy queue fills its chunks
		}
		if last.live == 0 {
			if c.entries != nil {
				c.entries = last.entries[:0]
			}
			q.chunks = q.chunks[:n-1]
		}
	}
	i := sort.Search(len(q.chunks), func(i int) bool { return q.chunks[i].base > c.base })
	q.chunks = slices.Insert(q.chunks, i, c)
	return c
}

// remove ends a copy's life in this queue and returns what it was.
func (q *queue) remove(seq uint64) entry {
	i := q.chunkIndex(seq)
	c := q.chunks[i]
	n := c.entries[seq-c.base]
	c.entries[seq-c.base] = entry{}
	c.live--
	q.live--
	q.bytes -= int64(n.body)
	q.count(&n, -1)
	delete(q.marks, seq)
	if c.live == 0 && c.base+chunkLen <= q.next {
		if i == 0 {
			q.chunks[0] = nil
			q.chunks = q.chunks[1:]
		} else {
			q.chunks = slices.Delete(q.chunks, i, i+1)
		}
	}
	return n
}

// setPhase moves a copy between phases that are not gone.
func (q *queue) setPhase(n *entry, to phase) {
	q.count(n, -1)
	n.phase = to
	q.count(n, 1)
}

// copiesFrom yields the living copies with sequence numbers from first on, in order. None may be
// removed meanwhile.
func (q *queue) copiesFrom(first uint64) iter.Seq2[uint64, *entry] {
	return func(yield func(uint64, *entry) bool) {
		i := 0
		if len(q.chunks) > 0 && q.chunks[0].base+chunkLen <= first {
			i = sort.Search(len(q.chunks), func(i int) bool { return q.chunks[i].base+chunkLen > first })
		}
		for _, c := range q.chunks[i:] {
			for k := max(first, c.base) - c.base; k < uint64(len(c.entries)); k++ {
				if c.entries[k].phase != gone && !yield(c.base+k, &c.entries[k]) {
					return
				}
			}
		}
	}
}

// copiesWhere lists up to purgeGroup copies with sequence numbers from one up to another for which
// f is true.
func (q *queue) copiesWhere(from, bound uint64, f func(*entry) bool) (seqs []uint64) {
	for seq, n := range q.copiesFrom(from) {
		if seq >= bound || len(seqs) == purgeGroup {
			break
		}
		if f(n) {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// waiting is how many copies no consumer holds, delayed and unsynced ones included.
func (q *queue) waiting() int { return q.live - len(q.held) }
