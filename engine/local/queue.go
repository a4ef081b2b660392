package local

import (
	"sort"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// The life of one copy of a message in a queue:
//
//	          publish                take               ack
//	(absent) ─────────▶ waiting ───────────▶ unacked ─────────▶ gone
//	                     ▲  ▲  │ expire, purge,  │ │
//	      due or now     │  │  │ drop ──▶ gone   │ └─ too often, or dead ─▶ dying ─▶ gone
//	         ┌───────────┘  └──┼─────────────────┘                             (in <queue>.dead)
//	         │                 │      return
//	      delayed ◀────────────┴── return with delay
//
// Every change to the right of waiting is a record in the journal, but for take.
type state uint8

const (
	gone state = iota
	waiting
	unacked
	delayed
	dyingState
)

// entry is what memory holds of one copy: 28 bytes, whatever its size. A million of
// them are scanned by no garbage collector, because they hold no pointer.
type entry struct {
	posLow, posHigh uint32
	body            uint32 // bytes of the body
	dedup           uint32 // slot+1; 0 for a message without id
	arrivedLow      uint32 // when it came to this queue, in Unix milliseconds, low and
	arrivedHigh     uint16 // high part
	over            uint16 // the record's size beyond the body, in units of 8 bytes
	state           state
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
		body: uint32(body), dedup: dedupSlot + 1, state: waiting,
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

// held is a delivery in a session's hands. It is in the session's list, oldest first.
type held struct {
	q          *queue
	seq        uint64
	sess       *session
	sub        *subscription // nil for a fetched message
	attempt    uint32
	since      int64 // Unix milliseconds
	prev, next *held
}

// mark is what a copy has that came back at least once.
type mark struct {
	attempts uint32 // deliveries that count
	given    uint32 // attempt of the last delivery, if there is a holder
	until    int64  // delayed until, Unix milliseconds
	reason   string // of its death, while dying
	holder   uint64 // id of the session that held it last
}

// queue is one queue. The engine's lock guards it.
type queue struct {
	id      uint32
	name    string
	options sealmq.QueueOptions
	deleted bool

	chunks   []*chunk // ascending by base
	next     uint64   // sequence number of the next message
	visible  uint64   // below it everything is synced
	head     uint64   // below it nothing waits that was never delivered
	back     seqHeap  // waiting again, below head
	held     map[uint64]*held
	marks    map[uint64]mark
	due      dueHeap // delayed, and copies that were settled meanwhile
	delayed  int     // copies in that state
	unsynced uint64  // drop_oldest has looked at unsynced copies below it
	warned   int64   // when its being full was last logged, Unix milliseconds
	durable  bool    // its declaration is synced

	live       int   // copies in any state but gone
	ready      int   // waiting, unsynced ones included
	bytes      int64 // of bodies of all that live
	readyBytes int64 // of bodies of those that wait
	subs       []*subscription
	turn       int // whose turn it is among subs

	published, delivered, acked, returned, expired, dropped, dead, refused, damaged uint64
}

func newQueue(id uint32, name string, o sealmq.QueueOptions) *queue {
	return &queue{id: id, name: name, options: o}
}

// at returns the entry with a sequence number if it is not gone.
func (q *queue) at(seq uint64) *entry {
	i := q.chunkIndex(seq)
	if i < 0 {
		return nil
	}
	c := q.chunks[i]
	if k := seq - c.base; k < uint64(len(c.entries)) && c.entries[k].state != gone {
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
	if n.state == waiting {
		q.ready++
		q.readyBytes += int64(n.body)
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
	q.chunks = append(q.chunks, nil)
	copy(q.chunks[i+1:], q.chunks[i:])
	q.chunks[i] = c
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
	if n.state == waiting {
		q.ready--
		q.readyBytes -= int64(n.body)
	}
	if n.state == delayed {
		q.delayed--
	}
	delete(q.marks, seq)
	if c.live == 0 && c.base+chunkLen <= q.next {
		if i == 0 {
			q.chunks[0] = nil
			q.chunks = q.chunks[1:]
		} else {
			q.chunks = append(q.chunks[:i], q.chunks[i+1:]...)
		}
	}
	return n
}

// setState moves a copy between states that are not gone.
func (q *queue) setState(n *entry, to state) {
	if n.state == waiting {
		q.ready--
		q.readyBytes -= int64(n.body)
	}
	if to == waiting {
		q.ready++
		q.readyBytes += int64(n.body)
	}
	if n.state == delayed {
		q.delayed--
	}
	if to == delayed {
		q.delayed++
	}
	n.state = to
}

// nextWaiting finds the next copy to deliver: what came back first, then the head.
func (q *queue) nextWaiting() (seq uint64, n *entry) {
	for len(q.back) > 0 {
		seq := q.back[0]
		if n := q.at(seq); n != nil && n.state == waiting && seq < q.head {
			return seq, n
		}
		q.back.pop() // settled or taken by other means meanwhile
	}
	for q.head < q.visible {
		i := q.chunkIndex(q.head)
		if i < 0 { // nothing lives in this chunk: go on with the next
			i = sort.Search(len(q.chunks), func(i int) bool { return q.chunks[i].base > q.head })
			if i == len(q.chunks) {
				q.head = q.visible
				break
			}
			q.head = min(q.chunks[i].base, q.visible)
			continue
		}
		c := q.chunks[i]
		for k := q.head - c.base; q.head < q.visible && k < chunkLen; k++ {
			if k < uint64(len(c.entries)) && c.entries[k].state == waiting {
				return q.head, &c.entries[k]
			}
			q.head++
		}
	}
	return 0, nil
}

// oldestWaiting finds the oldest copy that waits, synced or not. Unsynced ones that it
// passed never wait again, so it goes on where it was.
func (q *queue) oldestWaiting() (seq uint64, ok bool) {
	if seq, n := q.nextWaiting(); n != nil {
		return seq, true
	}
	for q.unsynced = max(q.unsynced, q.visible); q.unsynced < q.next; q.unsynced++ {
		if n := q.at(q.unsynced); n != nil && n.state == waiting {
			return q.unsynced, true
		}
	}
	return 0, false
}

// passed notes that the copy that nextWaiting returned was taken from its place.
func (q *queue) passed(seq uint64) {
	if seq == q.head {
		q.head++
	} else if len(q.back) > 0 && q.back[0] == seq {
		q.back.pop()
	}
}

// waitAgain makes a copy that was delivered or delayed wait at its place.
func (q *queue) waitAgain(seq uint64, n *entry) {
	q.setState(n, waiting)
	if seq < q.head {
		q.back.push(seq)
	}
}

func (q *queue) hasWaiting() bool {
	if q.ready == 0 {
		return false
	}
	_, n := q.nextWaiting()
	return n != nil
}

// rest gives back what an empty queue has kept from busier times.
func (q *queue) rest() {
	if len(q.held) == 0 {
		q.held = nil
	}
	if q.live == 0 {
		q.chunks, q.marks, q.back, q.due = nil, nil, nil, nil
	}
	if len(q.subs) == 0 {
		q.subs = nil
	}
}

func (q *queue) setMark(seq uint64, m mark) {
	if q.marks == nil {
		q.marks = map[uint64]mark{}
	}
	q.marks[seq] = m
}

// each calls f for every live copy in order, until f returns false.
func (q *queue) each(f func(seq uint64, n *entry) bool) {
	for _, c := range q.chunks {
		for k := range c.entries {
			if c.entries[k].state != gone && !f(c.base+uint64(k), &c.entries[k]) {
				return
			}
		}
	}
}

// waiting is how many copies are in nobody's hands, delayed and unsynced ones included.
func (q *queue) waiting() int { return q.live - len(q.held) }

func (q *queue) info() engine.QueueInfo {
	return engine.QueueInfo{
		Name: q.name, Options: q.options, Ready: q.waiting(), Unacked: len(q.held),
		Bytes: q.bytes, Consumers: len(q.subs),
		Published: q.published, Delivered: q.delivered, Acked: q.acked, Returned: q.returned,
		Expired: q.expired, Dropped: q.dropped, DeadLettered: q.dead, Refused: q.refused,
	}
}

// seqHeap is a min-heap of sequence numbers.
type seqHeap []uint64

func (h *seqHeap) push(seq uint64) {
	*h = append(*h, seq)
	s := *h
	for i := len(s) - 1; i > 0; {
		p := (i - 1) / 2
		if s[p] <= s[i] {
			break
		}
		s[p], s[i] = s[i], s[p]
		i = p
	}
}

func (h *seqHeap) pop() {
	s := *h
	n := len(s) - 1
	s[0] = s[n]
	s = s[:n]
	for i := 0; ; {
		l := 2*i + 1
		if l >= n {
			break
		}
		if l+1 < n && s[l+1] < s[l] {
			l++
		}
		if s[i] <= s[l] {
			break
		}
		s[i], s[l] = s[l], s[i]
		i = l
	}
	*h = s
}

// dueHeap is a min-heap of delayed copies by the time they are due (container/heap).
type dueHeap []due

type due struct {
	at  int64
	seq uint64
}

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(a, b int) bool { return h[a].at < h[b].at }
func (h dueHeap) Swap(a, b int)      { h[a], h[b] = h[b], h[a] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	s := *h
	x := s[len(s)-1]
	*h = s[:len(s)-1]
	return x
}
