package crash

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

// The queues of a run. Every third message goes to the direct exchange and its queue; the
// others go to the fan-out exchange and so to left and right.
const (
	direct = iota
	left
	right
	queues
)

var queueNames = [queues]string{"direct", "left", "right"}

const (
	directExchange = "one"
	fanoutExchange = "all"
	routingKey     = "k"
)

// route says where message n of any publisher goes.
func route(n int) (exchange string, to []int) {
	if n%3 == 0 {
		return directExchange, []int{direct}
	}
	return fanoutExchange, []int{left, right}
}

// What happened to one copy of a message.
type copyState uint16

const (
	delivered  copyState = 1 << iota // seen by a consumer of the queue
	ackSent                          // an ack was sent
	acked                            // ACK_CONFIRMED was received
	rejectSent                       // a nack to the dead-letter queue was sent
	rejected                         // its NACK_CONFIRMED was received
	dead                             // seen by a consumer of the dead-letter queue
	deadAckSent
	deadAcked
)

// record is one message.
type record struct {
	confirmed bool
	loose     bool // it has no promised place among the publisher's messages
	copies    [queues]copyState
}

// Ledger records what the clients were promised. It is safe for concurrent use.
type Ledger struct {
	seed int64

	mu      sync.Mutex
	pubs    [][]record
	c       Counts
	waiting int // confirmed copies that were not delivered yet
}

// Counts are the counters of a Report that a ledger fills.
type Counts struct {
	Attempted, Confirmed, Delivered, Dead, Redelivered    int
	Lost, Duplicates, Reordered, Altered, Invented, Acked int
	Problems                                              []string
}

// NewLedger is a ledger for that many publishers.
func NewLedger(seed int64, publishers int) *Ledger {
	return &Ledger{seed: seed, pubs: make([][]record, publishers)}
}

// Counts returns the counters.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c
}

// wrong counts a problem, and describes it if there are not too many.
func (l *Ledger) wrong(counter *int, format string, args ...any) {
	*counter++
	if len(l.c.Problems) < maxProblems {
		l.c.Problems = append(l.c.Problems, fmt.Sprintf(format, args...))
	}
}

// Waiting is how many confirmed copies were not delivered yet.
func (l *Ledger) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// Next is the number of a publisher's next message.
func (l *Ledger) Next(pub int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pubs[pub] = append(l.pubs[pub], record{})
	l.c.Attempted++
	return len(l.pubs[pub]) - 1
}

// Confirm notes that ACK came for a message; a repeated one changes nothing.
func (l *Ledger) Confirm(pub, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.pubs[pub][n]
	if r.confirmed {
		return
	}
	r.confirmed = true
	l.c.Confirmed++
	_, to := route(n)
	for _, q := range to {
		if r.copies[q]&delivered == 0 {
			l.waiting++
		}
	}
}

// Loosen drops the promise of order for all messages that are not confirmed. If the disk
// kept only a part of an unsynced batch, a later message may be stored and an earlier one
// not. When the earlier one is published again, it comes after the later one.
func (l *Ledger) Loosen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, records := range l.pubs {
		for n := max(0, len(records)-4*window); n < len(records); n++ {
			records[n].loose = records[n].loose || !records[n].confirmed
		}
	}
}

func messageID(pub, n int) string { return "p" + strconv.Itoa(pub) + "-" + strconv.Itoa(n) }

func parseID(id string) (pub, n int, ok bool) {
	p, rest, ok := strings.Cut(strings.TrimPrefix(id, "p"), "-")
	pub, err := strconv.Atoi(p)
	n, err2 := strconv.Atoi(rest)
	return pub, n, ok && err == nil && err2 == nil && pub >= 0 && n >= 0 && messageID(pub, n) == id
}

// Body is the body of a message; it is always the same. Most bodies are small, a few have
// several pages.
func (l *Ledger) Body(pub, n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(l.seed), uint64(pub)<<40|uint64(n)))
	size := 20 + rng.IntN(600)
	if rng.IntN(8) == 0 {
		size = 4000 + rng.IntN(12_000)
	}
	data := make([]byte, size)
	for i := range data {
		data[i] = "0123456789abcdefghijklmnopqrstuv"[rng.IntN(32)]
	}
	id := messageID(pub, n)
	return fmt.Appendf(nil, `{"message_id":%q,"sum":"%08x","data":%q}`, id, crc32.ChecksumIEEE(append([]byte(id), data...)), data)
}

// Order follows the deliveries of one connection, or of one drained queue.
type Order struct {
	// All checks every delivery, not only first ones, because nothing else consumes from
	// the queue or returns messages to it.
	All  bool
	seen map[string]bool // with All
	last map[int]int     // by publisher
}

// twice reports whether a drained queue has delivered this id before.
func (o *Order) twice(id string) bool {
	if !o.All {
		return false
	}
	if o.seen == nil {
		o.seen = make(map[string]bool)
	}
	defer func() { o.seen[id] = true }()
	return o.seen[id]
}

func (o *Order) next(pub, n int) (before int, ok bool) {
	if o.last == nil {
		o.last = make(map[int]int)
	}
	before, seen := o.last[pub]
	if seen && n <= before {
		return before, false
	}
	o.last[pub] = n
	return before, true
}

// find is the record of a delivered id, or nil if no such message was published to q.
func (l *Ledger) find(q int, id string) (r *record, pub, n int) {
	pub, n, ok := parseID(id)
	if !ok || pub >= len(l.pubs) || n >= len(l.pubs[pub]) {
		return nil, 0, 0
	}
	_, to := route(n)
	for _, t := range to {
		if t == q {
			return &l.pubs[pub][n], pub, n
		}
	}
	return nil, 0, 0
}

// genuine checks that a delivered message was published to the queue with this content.
func (l *Ledger) genuine(q int, from, id string, body []byte) (r *record, pub, n int) {
	r, pub, n = l.find(q, id)
	if r == nil {
		l.wrong(&l.c.Invented, "%s delivered %q, which nobody published there", from, id)
		return nil, 0, 0
	}
	if want := l.Body(pub, n); !bytes.Equal(body, want) {
		l.wrong(&l.c.Altered, "%s delivered %s with a body of %d bytes that differs from the %d published ones", from, id, len(body), len(want))
	}
	return r, pub, n
}

// Deliver notes a delivery from a queue; attempt is the broker's count for it.
func (l *Ledger) Deliver(q int, o *Order, id string, body []byte, attempt int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := queueNames[q]
	r, pub, n := l.genuine(q, name, id, body)
	if r == nil {
		return
	}
	s := &r.copies[q]
	switch {
	case *s&acked != 0:
		l.wrong(&l.c.Duplicates, "%s delivered %s after ACK_CONFIRMED (attempt %d)", name, id, attempt)
	case *s&(rejected|dead) != 0:
		l.wrong(&l.c.Duplicates, "%s delivered %s, which had moved to the dead-letter queue (attempt %d)", name, id, attempt)
	}
	if first := attempt == 1 && *s&delivered == 0; first || o.All {
		if o.twice(id) {
			l.wrong(&l.c.Duplicates, "%s had %s twice", name, id)
		} else if r.loose {
			// Its place was not promised.
		} else if before, ok := o.next(pub, n); !ok {
			l.wrong(&l.c.Reordered, "%s delivered %s after %s (attempt %d)", name, id, messageID(pub, before), attempt)
		}
	}
	if *s&delivered != 0 {
		l.c.Redelivered++
		return
	}
	*s |= delivered
	l.c.Delivered++
	if r.confirmed {
		l.waiting--
	}
}

// DeliverDead notes a delivery from the dead-letter queue of q.
func (l *Ledger) DeliverDead(q int, id string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := queueNames[q] + ".dead"
	r, _, _ := l.genuine(q, name, id, body)
	if r == nil {
		return
	}
	s := &r.copies[q]
	switch {
	case *s&deadAcked != 0:
		l.wrong(&l.c.Duplicates, "%s delivered %s after ACK_CONFIRMED", name, id)
	case *s&acked != 0:
		l.wrong(&l.c.Duplicates, "%s delivered %s, which was acknowledged in %s", name, id, queueNames[q])
	case *s&rejectSent == 0:
		l.wrong(&l.c.Invented, "%s delivered %s, which nobody had rejected", name, id)
	}
	if *s&dead != 0 {
		l.c.Redelivered++
		return
	}
	*s |= dead
	l.c.Dead++
	if *s&delivered == 0 && r.confirmed {
		l.waiting--
	}
	*s |= delivered
}

// note adds to the state of a copy.
func (l *Ledger) note(q int, id string, state copyState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, _, _ := l.find(q, id); r != nil {
		r.copies[q] |= state
	}
}

// Check counts lost messages. All queues must have been drained before: everything in them
// was delivered and acknowledged.
func (l *Ledger) Check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pub, records := range l.pubs {
		for n := range records {
			r := &records[n]
			if !r.confirmed {
				l.wrong(&l.c.Lost, "%s was never confirmed", messageID(pub, n))
				continue
			}
			_, to := route(n)
			for _, q := range to {
				if why := missing(r.copies[q]); why != "" {
					l.wrong(&l.c.Lost, "%s lost %s, which %s", queueNames[q], messageID(pub, n), why)
				}
			}
		}
	}
}

// missing says how a copy was lost, or returns "".
func missing(s copyState) string {
	switch {
	case s&delivered == 0:
		return "was confirmed and never delivered"
	case s&dead != 0 && s&deadAckSent == 0:
		return "was dead-lettered and never acknowledged"
	case s&dead == 0 && s&ackSent == 0:
		return "was delivered and never acknowledged"
	case s&dead == 0 && s&rejected != 0:
		return "was rejected and is not in the dead-letter queue"
	}
	return ""
}
