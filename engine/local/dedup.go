package local

import (
	"encoding/binary"
	"iter"
	"math"
	"math/bits"

	"github.com/dchest/siphash"
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// dedup remembers message ids: while a copy waits or is unacknowledged, and then for a
// bounded time and number. An id costs 32 bytes in slots and 8 to 16 in the index.
//
// Only keyed hashes are kept. The key is the store's secret, so that no publisher can
// make an id or a content that collides with another's. Two ids that share 64 bits are
// treated as one id with different contents: the second is refused, never lost. So are two
// publishers whose names share 32 bits, if they use the same id.
type dedup struct {
	key   hashKey
	slots [][]dedupSlot // chunks of slotChunk
	used  uint32        // slots ever used
	free  uint32        // head of the list of free slots, by link; noSlot if none
	// index finds slots by the low bits of the hash, with linear probing. Its size is a
	// power of two, larger than any slot's number; so a cell has slot+1 in as many bits as
	// the size has, and above them as many of the hash's high bits as there is room for:
	// they tell most ids apart without a look at the slot. 0 is empty.
	index []uint32
	bits  uint // of slot+1 in a cell
	count int

	// The settled ids in the order of settling, oldest first, by link.
	oldest, newest uint32
	settled        int
	settledTotal   uint64 // ids ever settled
	forgotten      uint64 // of these, forgotten
	forgottenAt    uint32 // the latest second in which one of these was settled; 0 if there is none
	found          uint32 // ids settled in this second or before were found at the start
}

type hashKey struct{ k0, k1 uint64 }

type contentHash [2]uint64

// A dedupSlot is live while settledAt is 0; then link counts copies. Afterwards link
// is the next settled slot.
type dedupSlot struct {
	id        uint64
	content   shortHash
	scope     uint32 // who uses the id; 0 is all together
	settledAt uint32 // seconds
	link      uint32
}

// shortHash is what a slot keeps of a content's hash. It is compared with that of one message of
// the same id at a time, so 96 bits are plenty.
type shortHash [3]uint32

func (h contentHash) short() shortHash {
	return shortHash{uint32(h[0]), uint32(h[0] >> 32), uint32(h[1])}
}

const (
	slotChunk = 1 << 14
	noSlot    = ^uint32(0)
	minIndex  = 1 << 10
)

func newDedup(key hashKey) dedup {
	return dedup{key: key, free: noSlot, oldest: noSlot, newest: noSlot,
		index: make([]uint32, minIndex), bits: uint(bits.Len(minIndex - 1))}
}

// cell is what the index holds for a slot.
func (d *dedup) cell(id uint64, slot uint32) uint32 { return uint32(id>>32)&^d.low() | (slot + 1) }

// low masks slot+1 in a cell.
func (d *dedup) low() uint32 { return 1<<d.bits - 1 }

func (d *dedup) slot(i uint32) *dedupSlot { return &d.slots[i/slotChunk][i%slotChunk] }

func (k hashKey) id(id string) uint64 {
	return siphash.Hash(k.k0, k.k1, stringBytes(id))
}

// scope hashes the scope of an id.
func (k hashKey) scope(s string) uint32 {
	if s == "" {
		return 0
	}
	return max(uint32(siphash.Hash(k.k0, k.k1, stringBytes(s))), 1)
}

// content hashes what makes two publishes the same. head is the unambiguous encoding
// of exchange, routing key and id.
func (k hashKey) content(scratch []byte, m *sealmq.Message) (contentHash, []byte) {
	a, b := siphash.Hash128(k.k0, k.k1, m.Body)
	scratch = appendString(scratch[:0], m.Exchange)
	scratch = appendString(scratch, m.Key)
	scratch = appendString(scratch, m.ID)
	scratch = binary.LittleEndian.AppendUint64(scratch, a)
	scratch = binary.LittleEndian.AppendUint64(scratch, b)
	a, b = siphash.Hash128(k.k0, k.k1, scratch)
	return contentHash{a, b}, scratch
}

// notContent begins what a digest is hashed with. No encoding of a content begins like
// it, because no exchange has a name of that length.
var notContent = binary.AppendUvarint(nil, math.MaxUint64)

// digest hashes the digest that a caller gave for the content. It equals the hash of a
// content only by a collision of 128 bits.
func (k hashKey) digest(scratch []byte, id string, digest []byte) (contentHash, []byte) {
	scratch = append(scratch[:0], notContent...)
	scratch = appendString(scratch, id)
	scratch = append(scratch, digest...)
	a, b := siphash.Hash128(k.k0, k.k1, scratch)
	return contentHash{a, b}, scratch
}

// find returns the slot of an id in a scope, or noSlot.
func (d *dedup) find(id uint64, scope uint32) uint32 {
	for slot := range d.findAll(id) {
		if d.slot(slot).scope == scope {
			return slot
		}
	}
	return noSlot
}

// findAll yields the slots of an id in all scopes.
func (d *dedup) findAll(id uint64) iter.Seq[uint32] {
	return func(yield func(uint32) bool) { d.eachOf(id, yield) }
}

func (d *dedup) eachOf(id uint64, yield func(uint32) bool) {
	mask, low, tag := uint64(len(d.index)-1), d.low(), uint32(id>>32)
	for i := id & mask; ; i = (i + 1) & mask {
		c := d.index[i]
		if c == 0 {
			return
		}
		if slot := c&low - 1; (c^tag)&^low == 0 && d.slot(slot).id == id && !yield(slot) {
			return
		}
	}
}

// known says what a message is whose id was used before, or 0. What is known in its scope tells,
// and else what is known in that of all.
func (d *dedup) known(id uint64, scope uint32, content contentHash) engine.Outcome {
	slot := d.find(id, scope)
	if slot == noSlot {
		slot = d.find(id, 0)
	}
	switch {
	case slot == noSlot:
		return 0
	case d.slot(slot).content == content.short():
		return engine.Repeated
	}
	return engine.Conflict
}

// add remembers a new id with a number of copies; without copies it is settled.
func (d *dedup) add(id uint64, scope uint32, content contentHash, copies int, nowSeconds uint32) uint32 {
	if (d.count+1)*5 > len(d.index)*4 || int(d.used)+1 >= len(d.index) {
		d.grow()
	}
	i := d.free
	if i != noSlot {
		d.free = d.slot(i).link
	} else {
		i = d.used
		if int(i/slotChunk) == len(d.slots) {
			d.slots = append(d.slots, make([]dedupSlot, slotChunk))
		}
		d.used++
	}
	*d.slot(i) = dedupSlot{id: id, scope: scope, content: content.short(), link: uint32(copies)}
	d.place(i)
	d.count++
	if copies == 0 {
		d.settle(i, nowSeconds)
	}
	return i
}

func (d *dedup) place(i uint32) {
	mask := uint64(len(d.index) - 1)
	p := d.slot(i).id & mask
	for d.index[p] != 0 {
		p = (p + 1) & mask
	}
	d.index[p] = d.cell(d.slot(i).id, i)
}

// grow makes an index of twice the size and fills it slot by slot, which is the order in memory.
func (d *dedup) grow() {
	size := 2 * len(d.index)
	d.index = make([]uint32, size)
	d.bits = uint(bits.Len(uint(size - 1)))
	for i := range d.used {
		if !d.slot(i).unindexed() {
			d.place(i)
		}
	}
}

// unindexed reports whether a slot is free, or superseded by revive.
func (s *dedupSlot) unindexed() bool { return s.id == 0 && s.content == (shortHash{}) }

// retain counts another copy of a live id; it reports false if the id is settled.
func (d *dedup) retain(i uint32) bool {
	s := d.slot(i)
	if s.settledAt != 0 {
		return false
	}
	s.link++
	return true
}

// release counts one copy less, and settles the id if that was the last one.
func (d *dedup) release(i uint32, nowSeconds uint32) {
	s := d.slot(i)
	if s.settledAt != 0 {
		return
	}
	if s.link--; s.link == 0 {
		d.settle(i, nowSeconds)
	}
}

func (d *dedup) settle(i uint32, nowSeconds uint32) {
	s := d.slot(i)
	s.settledAt, s.link = max(nowSeconds, 1), noSlot
	if d.newest == noSlot {
		d.oldest = i
	} else {
		d.slot(d.newest).link = i
	}
	d.newest = i
	d.settled++
	d.settledTotal++
}

// revive returns a live slot for an id with one more copy, whether the id is new, live
// or settled. Recovery needs it where a copy was moved or copied forward.
func (d *dedup) revive(id uint64, scope uint32, content contentHash) uint32 {
	i := d.find(id, scope)
	if i == noSlot {
		return d.add(id, scope, content, 1, 0)
	}
	if d.retain(i) {
		return i
	}
	d.unplace(i)
	d.count--
	d.slot(i).id, d.slot(i).content = 0, shortHash{} // stays in its place among the settled
	return d.add(id, scope, content, 1, 0)
}

// forget removes settled ids beyond max and those settled before the given second, at
// most budget of them, and reports whether it finished.
func (d *dedup) forget(maxIDs int, before uint32, budget int) bool {
	for d.oldest != noSlot && (d.settled > maxIDs || d.slot(d.oldest).settledAt < before) {
		if budget--; budget < 0 {
			return false
		}
		i := d.oldest
		s := d.slot(i)
		d.oldest = s.link
		if d.oldest == noSlot {
			d.newest = noSlot
		}
		if !s.unindexed() {
			d.unplace(i)
			d.count--
		}
		d.forgottenAt = max(d.forgottenAt, s.settledAt)
		*s = dedupSlot{link: d.free, settledAt: 1}
		d.free = i
		d.settled--
		d.forgotten++
	}
	return true
}

// unplace takes a slot out of the index and closes the gap (Knuth, 6.4, algorithm R).
func (d *dedup) unplace(i uint32) {
	mask := uint64(len(d.index) - 1)
	p := d.slot(i).id & mask
	for d.index[p]&d.low() != i+1 {
		p = (p + 1) & mask
	}
	for q := (p + 1) & mask; d.index[q] != 0; q = (q + 1) & mask {
		home := d.slot(d.index[q]&d.low()-1).id & mask
		if (q-home)&mask >= (q-p)&mask {
			d.index[p] = d.index[q]
			p = q
		}
	}
	d.index[p] = 0
}

// covered is for how many seconds back every settled id is remembered, at most window. ok
// is false if that is not known: too many ids were found at the start, and it is not stored
// when those were settled.
func (d *dedup) covered(maxIDs int, now, window uint32) (seconds uint32, ok bool) {
	edge := d.forgottenAt
	if d.settled > 0 && d.settled >= maxIDs { // the next one to be forgotten
		edge = max(edge, d.slot(d.oldest).settledAt)
	}
	switch {
	case edge > d.found: // others of that second may be forgotten too
		return min(window, max(now, edge+1)-edge-1), true
	case edge == 0, now > d.found && now-d.found > window:
		return window, true
	}
	return 0, false
}

// horizon is the second in which the oldest settled id was settled; 0 if there is none.
func (d *dedup) horizon() uint32 {
	if d.oldest == noSlot {
		return 0
	}
	return d.slot(d.oldest).settledAt
}
