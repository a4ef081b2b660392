package local

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// session is the consumer's side of one connection or channel. The engine's lock guards
// it.
type session struct {
	e       *Engine
	id      uint64
	cfg     engine.SessionConfig
	subs    []*subscription
	lastSub sealmq.SubscriptionID
	turn    int
	credit  int                         // shared by all subscriptions
	inHand  int                         // through subscriptions, ended ones included
	unacked atomic.Int64                // inHand, and what was fetched; changed under Engine.mu
	held    map[time.Duration]*heldList // by ack timeout
	recent  *heldList                   // the one that was last added to; may be nil
	lastAck int64
	closed  bool
	gone    []copyRef // of settleSome

	takeMu  sync.Mutex // serialises Take; guards what follows
	taken   []taken
	places  []journal.Place
	onRead  func(int, journal.Record, error) // readOne, allocated once
	out     []sealmq.Delivery                // of read
	readErr error
}

type subscription struct {
	id     sealmq.SubscriptionID
	sess   *session
	q      *queue
	noAck  bool
	credit int
	inHand int // never counted with noAck
	// notified says that the session was told and has not called Take since.
	notified bool
}

// spare is how many more messages may be given.
func (s *subscription) spare() int {
	spare := s.credit - s.inHand
	if !s.noAck {
		spare = min(spare, s.sess.credit-s.sess.inHand)
	}
	return spare
}

func (s *subscription) hasCredit() bool { return s.spare() > 0 }

// held is a delivery in a session's hands.
type held struct {
	q          *queue
	seq        uint64
	sess       *session
	sub        *subscription // nil for a fetched message
	attempt    uint32
	since      int64     // Unix milliseconds
	list       *heldList // where it is
	prev, next *held
}

// heldList is a ring of a session's deliveries that have the same ack timeout, in the order in
// which it began.
type heldList struct {
	alarm
	sess    *session
	timeout time.Duration
	root    held // the oldest is root.next
}

// ends is when the ack timeout of a delivery is over.
func (l *heldList) ends(h *held) int64 {
	return max(h.since, l.sess.lastAck) + l.timeout.Milliseconds()
}

func (l *heldList) add(h *held) {
	h.prev, h.next = l.root.prev, &l.root
	h.prev.next, l.root.prev = h, h
}

func (h *held) unlink() { h.prev.next, h.next.prev = h.next, h.prev }

// each yields the deliveries. The one that was yielded may be removed.
func (l *heldList) each(yield func(*held) bool) {
	for h := l.root.next; h != &l.root; {
		next := h.next
		if !yield(h) {
			return
		}
		h = next
	}
}

// extend starts the ack timeout of a delivery again.
func (h *held) extend(now int64) {
	h.since = now
	h.unlink()
	h.list.add(h)
}

// listFor returns the list for deliveries with an ack timeout.
func (s *session) listFor(timeout time.Duration) *heldList {
	if l := s.recent; l != nil && l.timeout == timeout {
		return l
	}
	l := s.held[timeout]
	if l == nil {
		l = &heldList{sess: s, timeout: timeout}
		l.root.prev, l.root.next = &l.root, &l.root
		if s.held == nil {
			s.held = map[time.Duration]*heldList{}
		}
		s.held[timeout] = l
	}
	s.recent = l
	return l
}

func (s *session) dropList(l *heldList) {
	delete(s.held, l.timeout)
	if s.recent == l {
		s.recent = nil
	}
}

// eachHeld yields all deliveries of the session, as heldList.each does.
func (s *session) eachHeld(yield func(*held) bool) {
	for _, timeout := range slices.Sorted(maps.Keys(s.held)) {
		for h := range s.held[timeout].each {
			if !yield(h) {
				return
			}
		}
	}
}

// NewSession opens the consumer's side of a connection.
func (e *Engine) NewSession(cfg engine.SessionConfig) engine.Session {
	if cfg.Notify == nil {
		cfg.Notify = func() {}
	}
	if cfg.Ended == nil {
		cfg.Ended = func(sealmq.SubscriptionID, string, error) {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSession++
	return &session{e: e, id: e.lastSession, cfg: cfg, credit: math.MaxInt}
}

// Consume subscribes. It is answered in the order of the calls, after the queue's own
// declaration.
func (s *session) Consume(name string, o engine.ConsumeOptions, done func(error)) (id sealmq.SubscriptionID) {
	e := s.e
	e.mu.Lock()
	q := e.state.queues[name]
	err := error(sealmq.ErrNoQueue)
	switch {
	case e.closed, s.closed:
		err = sealmq.ErrUnavailable
	case q != nil:
		id, err = s.subscribe(q, o), nil
	}
	e.answer(err, done)
	return id
}

func (s *session) subscribe(q *queue, o engine.ConsumeOptions) sealmq.SubscriptionID {
	s.lastSub++
	sub := &subscription{id: s.lastSub, sess: s, q: q, noAck: o.NoAck}
	sub.setPrefetch(o.Prefetch)
	s.subs = append(s.subs, sub)
	q.subs = append(q.subs, sub)
	if q.hasWaiting() {
		sub.notify()
	}
	return sub.id
}

func (s *subscription) setPrefetch(n int) {
	switch {
	case n == engine.Paused:
		s.credit = 0
	case n < 0, s.noAck:
		s.credit = math.MaxInt
	case n == engine.QueuesOwn:
		s.credit = s.q.options.Prefetch
	default:
		s.credit = min(n, sealmq.MaxPrefetch)
	}
}

// Cancel ends a subscription; what it gave stays in the session's hands.
func (s *session) Cancel(id sealmq.SubscriptionID, done func(error)) {
	e := s.e
	e.mu.Lock()
	if i := slices.IndexFunc(s.subs, func(sub *subscription) bool { return sub.id == id }); i >= 0 {
		sub := s.subs[i]
		s.forget(sub)
		sub.q.unsubscribe(sub)
	}
	e.onSync(done)
	e.mu.Unlock()
}

// forget takes a subscription out of the session's list.
func (s *session) forget(sub *subscription) {
	s.subs = slices.DeleteFunc(s.subs, func(have *subscription) bool { return have == sub })
}

// SetPrefetch changes the credit of one subscription, or of all.
func (s *session) SetPrefetch(id sealmq.SubscriptionID, n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	for _, sub := range s.subs {
		if id == 0 || sub.id == id {
			sub.setPrefetch(n)
		}
	}
	s.notifyIfReady()
}

// SetCredit limits what all subscriptions may hold together.
func (s *session) SetCredit(n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.credit = n; n < 0 {
		s.credit = math.MaxInt
	}
	s.notifyIfReady()
}

// notifyIfReady wakes the session if one of its queues has something for it.
func (s *session) notifyIfReady() {
	if s.closed {
		return
	}
	for _, sub := range s.subs {
		if sub.hasCredit() && sub.q.hasWaiting() {
			sub.notify()
			return
		}
	}
}

func (s *subscription) notify() {
	s.notified = true
	s.sess.cfg.Notify()
	s.sess.e.sweepSoon(s.q)
}

// Unacked is the number of deliveries the session holds.
func (s *session) Unacked() int {
	return int(s.unacked.Load())
}

// hold gives a waiting copy to the session. What needs no ack counts for no credit.
func (s *session) hold(q *queue, sub *subscription, seq uint64, n *entry, now int64) *taken {
	if sub != nil && sub.noAck {
		sub = nil
	}
	attempt, back := q.take(seq, n)
	h := s.e.freeHeld
	if h != nil {
		s.e.freeHeld = h.next
	} else {
		h = new(held)
	}
	l := s.listFor(q.options.AckTimeout)
	*h = held{q: q, seq: seq, sess: s, sub: sub, attempt: attempt, since: now, list: l}
	l.add(h)
	s.e.sweepBy(l, now+l.timeout.Milliseconds())
	if q.held == nil { // most of many queues are idle, and a map is large
		q.held = map[uint64]*held{}
	}
	q.held[seq] = h
	s.unacked.Add(1)
	if sub != nil {
		sub.inHand++
		s.inHand++
	}
	s.taken = append(s.taken, taken{q: q, seq: seq, attempt: attempt, back: back})
	s.places = append(s.places, n.place())
	return &s.taken[len(s.taken)-1]
}

// unhold takes a copy out of a session's hands. h must not be used afterwards.
func (e *Engine) unhold(h *held) {
	s := h.sess
	delete(h.q.held, h.seq)
	if len(h.q.held) == 0 {
		e.sweepSoon(h.q)
	}
	h.unlink()
	s.unacked.Add(-1)
	if h.sub != nil {
		h.sub.inHand--
		s.inHand--
	}
	*h = held{next: e.freeHeld}
	e.freeHeld = h
}
