package text

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// ledger has the deliveries that a connection was given and has not settled, by message
// id, in the order in which they were given. It is needed because the line protocol
// acknowledges by message id, and the engine by delivery tag.
//
// An id may occur several times, for example because two queues delivered the same
// message; settling it settles all of them (specification R26). There is one exception. A
// queue may deliver two messages of one id, the second long after the first was taken back,
// and a peer that acknowledges the first may not have seen the second. Of such messages each
// ack settles the one that was given first.
//
// An entry stays until its settlement is stored. A refused settlement leaves it as it was,
// so that the peer can try again. A settlement that is asked for twice is handed to the
// broker twice, so that it is confirmed only when it is true.
//
// The ledger does not learn that the broker took a delivery back after its ack timeout, so
// an entry may be stale: the engine ignores a stale tag, or honours it while the message
// still waits. The owner bounds the ledger with dropOldest.
//
// Entries live in one slice and refer to each other by index: a chain for each hash bucket
// to find an id, a list to know the oldest. Adding and settling cost a few stores each and
// allocate only when the slice grows. The zero value is empty. A ledger is not safe for
// concurrent use.
type ledger struct {
	entries []entry
	buckets []int32 // heads of the chains; index into entries plus one
	free    int32   // head of the list of unused entries; index plus one
	oldest  int32   // index plus one
	newest  int32   // index plus one
	n       int
	pending int    // entries with pending settlements
	turn    uint64 // of the newest entry
	matches []int32
	seed    maphash.Seed
}

// entry is one outstanding delivery. The links are indexes plus one, zero is none.
type entry struct {
	id                  string
	tag                 sealmq.DeliveryTag
	turn                uint64 // no other entry of the ledger has or had the same
	published           int64  // Unix milliseconds
	delivered           int64  // Unix nanoseconds
	hash                uint32
	pending             uint32 // settlements that the broker has not answered
	chain, older, newer int32
}

// pending is an entry whose settlement the broker has not answered.
type pending struct {
	turn  uint64
	index int32 // plus one
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
	l.turn++
	*e = entry{id: d.ID, tag: d.Tag, turn: l.turn, published: d.Published.UnixMilli(), delivered: now.UnixNano(),
		hash: h, chain: *b, older: l.newest}
	*b = i
	if l.newest != 0 {
		l.entries[l.newest-1].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
	l.n++
}

// settle appends to dst a settlement like the given one for each delivery that an ack of id
// means, and to list the entries, for settled.
func (l *ledger) settle(dst []engine.Settlement, list []pending, id []byte, like engine.Settlement) ([]engine.Settlement, []pending) {
	if l.n == 0 {
		return dst, list
	}
	l.matches = l.matches[:0]
	h := uint32(maphash.Bytes(l.seed, id))
	for i := l.buckets[h&uint32(len(l.buckets)-1)]; i != 0; i = l.entries[i-1].chain {
		if e := &l.entries[i-1]; e.hash == h && e.id == string(id) {
			l.matches = append(l.matches, i)
		}
	}
	if len(l.matches) > 1 {
		l.chooseFirst()
	}
	for _, i := range l.matches {
		e := &l.entries[i-1]
		if e.pending++; e.pending == 1 {
			l.pending++
		}
		like.Tag = e.tag
		dst = append(dst, like)
		list = append(list, pending{e.turn, i})
	}
	return dst, list
}

// chooseFirst reduces the matches of each queue to those of the message that was given
// first. Entries without a pending settlement come before the others.
func (l *ledger) chooseFirst() {
	slices.SortFunc(l.matches, func(a, b int32) int {
		x, y := &l.entries[a-1], &l.entries[b-1]
		return cmp.Or(cmp.Compare(x.tag.Queue, y.tag.Queue), cmp.Compare(min(x.pending, 1), min(y.pending, 1)), cmp.Compare(x.turn, y.turn))
	})
	var first *entry
	l.matches = slices.DeleteFunc(l.matches, func(i int32) bool {
		e := &l.entries[i-1]
		if first == nil || first.tag.Queue != e.tag.Queue {
			first = e
		}
		return e.tag.Seq != first.tag.Seq
	})
}

// settled ends pending settlements: stored, or refused, as if never asked for. An extension
// ends like a refused one.
func (l *ledger) settled(list []pending, stored bool, now time.Time) (w latencies) {
	for _, a := range list {
		if int(a.index) > len(l.entries) {
			continue
		}
		e := &l.entries[a.index-1]
		if e.turn != a.turn {
			continue // another settlement of the same delivery came first
		}
		if !stored {
			if e.pending--; e.pending == 0 {
				l.pending--
			}
			continue
		}
		w.n++
		w.sinceDelivery += time.Duration(now.UnixNano() - e.delivered)
		w.sincePublish += time.Duration(now.UnixMilli()-e.published) * time.Millisecond
		l.drop(a.index)
	}
	if stored {
		l.shrink()
	}
	return w
}

// latencies adds up how long settled deliveries had waited.
type latencies struct {
	n                           int
	sincePublish, sinceDelivery time.Duration
}

// dropOldest drops the oldest entries until at most keep are left. Entries with pending
// settlements stay and do not count.
func (l *ledger) dropOldest(keep int) {
	for i := l.oldest; l.n-l.pending > keep; {
		e := &l.entries[i-1]
		next := e.newer
		if e.pending == 0 {
			l.drop(i)
		}
		i = next
	}
}

// drop takes an entry out of its chain and out of the list.
func (l *ledger) drop(i int32) {
	e := &l.entries[i-1]
	link := &l.buckets[e.hash&uint32(len(l.buckets)-1)]
	for *link != i {
		link = &l.entries[*link-1].chain
	}
	*link = e.chain
	if e.pending > 0 {
		l.pending--
	}
	l.remove(i)
}

// remove takes an entry that is in no chain out of the list.
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

// shrink frees the memory of a burst once nothing is outstanding.
func (l *ledger) shrink() {
	if l.n == 0 && len(l.entries) > 8*minLedger {
		*l = ledger{turn: l.turn}
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
