package text

import (
	"hash/maphash"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
)

// ledger remembers which deliveries a connection was given and has not settled, by
// message id, in the order in which they were given.
//
// An id may occur several times, as when two queues delivered the same message; settling
// it settles all of them (specification R26). The ledger is not told when the broker
// takes a delivery back after its ack timeout, so an entry may be stale: the engine
// ignores a stale tag, or honours it while the message still waits. The owner bounds
// the ledger with dropOldest.
//
// Entries live in one slice and refer to each other by index: a chain per hash bucket
// to find an id, a list to know the oldest. Adding and settling cost a few stores each
// and allocate only when the slice grows. The zero value is empty; it is not safe for
// concurrent use.
type ledger struct {
	entries []entry
	buckets []int32 // heads of the chains; index into entries plus one
	free    int32   // head of the list of unused entries; index plus one
	oldest  int32   // index plus one
	newest  int32   // index plus one
	n       int
	seed    maphash.Seed
}

// entry is one outstanding delivery. The links are indexes plus one, zero is none.
type entry struct {
	id                  string
	tag                 sealmq.DeliveryTag
	published           int64 // Unix milliseconds
	delivered           int64 // Unix nanoseconds
	hash                uint32
	chain, older, newer int32
}

const minLedger = 32

func (l *ledger) len() int { return l.n }

// add records a delivery.
func (l *ledger) add(d *sealmq.Delivery, now time.Time) {
	if l.free == 0 {
		l.grow()
	}
	i := l.free
	e := &l.entries[i-1]
	l.free = e.chain
	h := uint32(maphash.String(l.seed, d.ID))
	b := &l.buckets[h&uint32(len(l.buckets)-1)]
	*e = entry{id: d.ID, tag: d.Tag, published: d.Published.UnixMilli(), delivered: now.UnixNano(), hash: h, chain: *b, older: l.newest}
	*b = i
	if l.newest != 0 {
		l.entries[l.newest-1].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
	l.n++
}

// settle forgets every delivery of id and appends a settlement for each to dst, like
// the given one. waited adds up the time since the deliveries and since the publishes.
func (l *ledger) settle(dst []broker.Settlement, id []byte, like broker.Settlement, now time.Time, waited *waits) []broker.Settlement {
	if l.n == 0 {
		return dst
	}
	h := uint32(maphash.Bytes(l.seed, id))
	link := &l.buckets[h&uint32(len(l.buckets)-1)]
	for *link != 0 {
		i := *link
		e := &l.entries[i-1]
		if e.hash != h || e.id != string(id) {
			link = &e.chain
			continue
		}
		like.Tag = e.tag
		dst = append(dst, like)
		waited.n++
		waited.sinceDelivery += time.Duration(now.UnixNano() - e.delivered)
		waited.sincePublish += time.Duration(now.UnixMilli()-e.published) * time.Millisecond
		*link = e.chain
		l.remove(i)
	}
	l.shrink()
	return dst
}

// waits adds up how long settled deliveries had waited.
type waits struct {
	n                           int
	sincePublish, sinceDelivery time.Duration
}

// dropOldest forgets the oldest entries until at most keep are left.
func (l *ledger) dropOldest(keep int) {
	for l.n > keep {
		i := l.oldest
		link := &l.buckets[l.entries[i-1].hash&uint32(len(l.buckets)-1)]
		for *link != i {
			link = &l.entries[*link-1].chain
		}
		*link = l.entries[i-1].chain
		l.remove(i)
	}
}

// remove takes an entry that is in no chain any more out of the list.
func (l *ledger) remove(i int32) {
	e := &l.entries[i-1]
	if e.older != 0 {
		l.entries[e.older-1].newer = e.newer
	} else {
		l.oldest = e.newer
	}
	if e.newer != 0 {
		l.entries[e.newer-1].older = e.older
	} else {
		l.newest = e.older
	}
	*e = entry{chain: l.free}
	l.free = i
	l.n--
}

// shrink gives the memory of a burst back once nothing is outstanding.
func (l *ledger) shrink() {
	if l.n == 0 && len(l.entries) > 8*minLedger {
		*l = ledger{}
	}
}

func (l *ledger) grow() {
	if len(l.entries) == 0 {
		l.seed = maphash.MakeSeed()
	}
	old := len(l.entries)
	size := max(minLedger, 2*old)
	entries := make([]entry, size)
	copy(entries, l.entries)
	l.entries = entries
	l.buckets = make([]int32, 2*size)
	for i := l.oldest; i != 0; i = l.entries[i-1].newer {
		e := &l.entries[i-1]
		b := &l.buckets[e.hash&uint32(len(l.buckets)-1)]
		e.chain, *b = *b, i
	}
	for i := size; i > old; i-- {
		l.entries[i-1].chain = l.free
		l.free = int32(i)
	}
}
