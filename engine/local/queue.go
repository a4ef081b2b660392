package local

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
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
type phase uint8

const (
	gone phase = iota
	waiting
	unacked
	delayed
	dying
)

// mark is what a copy has that came back at least once.
type mark struct {
	attempts uint32 // deliveries that count
	given    uint32 // attempt of the last delivery, if there is a holder
	until    int64  // delayed until, Unix milliseconds
	reason   string // of its death, while dying
	holder   uint64 // id of the session that held it last
}

// queue is one queue: the copies in it with their phases, its order, its limits and its
// counts. Like all of state it has neither lock nor clock.
type queue struct {
	alarm
	soon    bool // it will be swept within maxSweep
	id      uint32
	name    string
	options sealmq.QueueOptions
	deleted bool
	paused  bool // nothing is delivered

	chunks   []*chunk // ascending by base
	next     uint64   // sequence number of the next message
	visible  uint64   // below it everything is synced
	head     uint64   // below it nothing waits that was never delivered
	back     dueHeap  // waiting again, below head; all are due
	held     map[uint64]*held
	marks    map[uint64]mark
	due      dueHeap // delayed, and copies that were settled meanwhile
	delayed  int     // copies in that state
	unsynced uint64  // drop_oldest has looked at unsynced copies below it
	durable  bool    // its declaration is synced

	live       int   // copies in any state but gone
	ready      int   // waiting, unsynced ones included
	bytes      int64 // of bodies of all that live
	readyBytes int64 // of bodies of those that wait
	subs       []*subscription
	turn       int // whose turn it is among subs

	warned      int64  // when it was last logged that it drops dead letters, Unix milliseconds
	warnedDrops uint64 // how many it had dropped then

	published, delivered, acked, returned, expired, dropped, dead, refused uint64
}

func newQueue(id uint32, name string, o sealmq.QueueOptions) *queue {
	return &queue{id: id, name: name, options: o}
}

// nextWaiting finds the next copy to deliver: what came back first, then the head.
func (q *queue) nextWaiting() (seq uint64, n *entry) {
	for len(q.back) > 0 {
		seq := q.back[0].seq
		if n := q.at(seq); n != nil && n.phase == waiting && seq < q.head {
			return seq, n
		}
		heap.Pop(&q.back) // settled or taken by other means meanwhile
	}
	for seq, n := range q.copiesFrom(q.head) {
		if seq >= q.visible {
			break
		}
		if n.phase == waiting {
			q.head = seq
			return seq, n
		}
	}
	q.head = max(q.head, q.visible)
	return 0, nil
}

// oldestWaiting finds the oldest copy that waits, synced or not. Unsynced ones that it
// passed never wait again, so it goes on where it was.
func (q *queue) oldestWaiting() (seq uint64, ok bool) {
	if seq, n := q.nextWaiting(); n != nil {
		return seq, true
	}
	for q.unsynced = max(q.unsynced, q.visible); q.unsynced < q.next; q.unsynced++ {
		if n := q.at(q.unsynced); n != nil && n.phase == waiting {
			return q.unsynced, true
		}
	}
	return 0, false
}

// oldest is when the copy at the front came here, and zero if none waits.
func (q *queue) oldest() (t time.Time) {
	if q.ready > 0 {
		if seq, ok := q.oldestWaiting(); ok {
			return time.UnixMilli(q.at(seq).arrived()).UTC()
		}
	}
	return t
}

// take moves the copy that nextWaiting returned into a consumer's hands. It returns the
// number of the delivery, and whether the copy came back before.
func (q *queue) take(seq uint64, n *entry) (attempt uint32, back bool) {
	q.passed(seq)
	q.setPhase(n, unacked)
	q.delivered++
	m, back := q.marks[seq]
	return m.attempts + 1, back
}

// comeBack returns a copy that was delivered to its place, at once or when m says.
func (q *queue) comeBack(seq uint64, n *entry, m mark) {
	q.setMark(seq, m)
	q.returned++
	if m.until > 0 {
		q.delay(seq, n)
	} else {
		q.waitAgain(seq, n)
	}
}

// delay makes a copy wait until the time in its mark.
func (q *queue) delay(seq uint64, n *entry) {
	q.setPhase(n, delayed)
	heap.Push(&q.due, due{q.marks[seq].until, seq})
	if len(q.due) > 2*q.delayed+64 {
		q.due = slices.DeleteFunc(q.due, func(d due) bool { return q.dueCopy(d) == nil })
		heap.Init(&q.due)
	}
}

// dueCopy returns the copy that an end of a delay is for, or nil if that was settled or
// returned by other means.
func (q *queue) dueCopy(d due) *entry {
	if n := q.at(d.seq); n != nil && n.phase == delayed && q.marks[d.seq].until == d.at {
		return n
	}
	return nil
}

// endDelays makes copies wait whose delay is over, and returns how many.
func (q *queue) endDelays(now int64) (ended int) {
	for len(q.due) > 0 && q.due[0].at <= now {
		d := heap.Pop(&q.due).(due)
		if n := q.dueCopy(d); n != nil {
			q.waitAgain(d.seq, n)
			ended++
		}
	}
	return ended
}

// die takes a copy out of reach until it is moved to the dead-letter queue.
func (q *queue) die(seq uint64, n *entry, m mark) {
	q.setPhase(n, dying)
	q.setMark(seq, m)
}

// passed notes that the copy that nextWaiting returned was taken from its place.
func (q *queue) passed(seq uint64) {
	if seq == q.head {
		q.head++
	} else if len(q.back) > 0 && q.back[0].seq == seq {
		heap.Pop(&q.back)
	}
}

// waitAgain makes a copy that was delivered or delayed wait at its place.
func (q *queue) waitAgain(seq uint64, n *entry) {
	q.setPhase(n, waiting)
	if seq < q.head {
		heap.Push(&q.back, due{seq: seq})
	}
}

// hasWaiting reports whether there is something to deliver.
func (q *queue) hasWaiting() bool {
	if q.ready == 0 || q.paused {
		return false
	}
	_, n := q.nextWaiting()
	return n != nil
}

// rest frees the memory that an empty queue has kept from busier times.
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

// unsubscribe takes a subscription out of the queue's list. It may have been told of what
// waits, and not have taken it.
func (q *queue) unsubscribe(sub *subscription) {
	q.subs = slices.DeleteFunc(q.subs, func(have *subscription) bool { return have == sub })
	if len(q.subs) == 0 {
		sub.sess.e.sweepSoon(q)
	}
	if q.hasWaiting() {
		q.wake(1)
	}
}

// wake tells up to n sessions that there is something, taking turns; first those that
// have come since they were last told.
func (q *queue) wake(n int) {
	if q.paused {
		return
	}
	for _, told := range []bool{false, true} {
		for range q.subs {
			if n <= 0 {
				return
			}
			q.turn++
			if sub := q.subs[q.turn%len(q.subs)]; sub.hasCredit() && sub.notified == told {
				sub.notify()
				n--
			}
		}
	}
}

func (q *queue) info() engine.QueueInfo {
	return engine.QueueInfo{
		Name: q.name, Options: q.options, Paused: q.paused, Ready: q.waiting(), Delayed: q.delayed, Unacked: len(q.held), Oldest: q.oldest(),
		Bytes: q.bytes, Consumers: len(q.subs),
		Published: q.published, Delivered: q.delivered, Acked: q.acked, Returned: q.returned,
		Expired: q.expired, Dropped: q.dropped, DeadLettered: q.dead, Refused: q.refused,
	}
}

// isOver reports whether one more message needs others to go, by drop_oldest.
func (q *queue) isOver(body int) bool {
	o := &q.options
	return o.MaxMessages > 0 && int64(q.live) >= o.MaxMessages || o.MaxBytes > 0 && q.bytes+int64(body) > o.MaxBytes
}

// admits checks the limits of a queue.
func (q *queue) admits(m *sealmq.Message) error { return q.admitsSize(len(m.ID), len(m.Body)) }

func (q *queue) admitsSize(id, body int) error {
	o := &q.options
	if n := sealmq.PushOverheadBytes + id + body; n > o.MaxLineBytes {
		return &sealmq.Error{Code: sealmq.TooLarge, Message: fmt.Sprintf(
			"the message needs a line of %d bytes and queue '%s' delivers at most %d", n, q.name, o.MaxLineBytes)}
	}
	// What drop_oldest can make room with is what waits.
	live, bytes := int64(q.live), q.bytes
	if o.DropOldest {
		live, bytes = int64(q.live-q.ready), q.bytes-q.readyBytes
	}
	if o.MaxMessages > 0 && live >= o.MaxMessages {
		return &sealmq.Error{Code: sealmq.QueueFull, Message: fmt.Sprintf("queue '%s' is full: %d messages", q.name, o.MaxMessages)}
	}
	if o.MaxBytes > 0 && bytes+int64(body) > o.MaxBytes {
		return &sealmq.Error{Code: sealmq.QueueFull, Message: fmt.Sprintf("queue '%s' is full: %d bytes", q.name, o.MaxBytes)}
	}
	return nil
}

// mayDelete checks the conditions of a deletion; q may be nil.
func (q *queue) mayDelete(only engine.If) error {
	inUse := func(why string) error {
		return &sealmq.Error{Code: sealmq.InUse, Message: fmt.Sprintf("queue '%s' %s", q.name, why)}
	}
	switch {
	case q == nil:
		return sealmq.ErrNoQueue
	case only&engine.IfUnused != 0 && len(q.subs) > 0:
		return inUse("has consumers")
	case only&engine.IfEmpty != 0 && q.live > 0:
		return inUse("has messages")
	}
	return nil
}

// isDead reports whether q is a dead-letter queue: nothing dies there again.
func (q *queue) isDead() bool { return strings.HasSuffix(q.name, sealmq.DeadSuffix) }

// nextExpiry is when the next copy expires; 0 if nothing waits that is synced.
func (q *queue) nextExpiry() int64 {
	if _, n := q.nextWaiting(); n != nil {
		return n.arrived() + q.options.TTL.Milliseconds()
	}
	return 0
}

// isExpired reports whether a copy's time to live is over.
func (q *queue) isExpired(n *entry, now int64) bool {
	return q.options.TTL > 0 && now-n.arrived() >= q.options.TTL.Milliseconds()
}
