package local

import (
	"errors"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// session is the consumer's side of one connection. The engine's lock guards it.
type session struct {
	e        *Engine
	id       uint64
	cfg      engine.SessionConfig
	subs     []*subscription
	turn     int
	prefetch int // asked for by SetPrefetch; 0: the queue's
	unacked  int
	oldest   *held // the deliveries it holds, by next; since never falls
	newest   *held
	lastAck  int64
	closed   bool
	acks     settleEncoder

	takeMu sync.Mutex // serialises Take; guards what follows
	taken  []taken
	places []journal.Place
}

type subscription struct {
	sess   *session
	q      *queue
	credit int
	inHand int
	// notified says that the session was told and has not called Take since.
	notified bool
}

func (s *subscription) hasCredit() bool { return s.inHand < s.credit }

type taken struct {
	q       *queue
	seq     uint64
	attempt uint32
	back    bool // it came back before
}

// NewSession opens the consumer's side of a connection.
func (e *Engine) NewSession(cfg engine.SessionConfig) engine.Session {
	if cfg.Notify == nil {
		cfg.Notify = func() {}
	}
	if cfg.Ended == nil {
		cfg.Ended = func(string) {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextSess++
	s := &session{e: e, id: e.nextSess, cfg: cfg}
	e.sessions[s] = struct{}{}
	return s
}

// Consume subscribes. It is answered in the order of the calls, after the queue's own
// declaration.
func (s *session) Consume(name string, prefetch int, done func(error)) {
	e := s.e
	e.mu.Lock()
	q := e.queues[name]
	err := error(sealmq.ErrNoQueue)
	switch {
	case e.closed:
		err = sealmq.ErrUnavailable
	case q != nil && !s.closed:
		s.subscribe(q, prefetch)
		err = unavailable(e.j.OnSync(func(err error) { done(unavailable(err)) }))
	}
	e.mu.Unlock()
	if err != nil {
		done(err)
	}
}

func (s *session) subscribe(q *queue, prefetch int) {
	if prefetch == 0 {
		prefetch = s.prefetch
	}
	if prefetch == 0 {
		prefetch = q.options.Prefetch
	}
	var sub *subscription
	for _, have := range s.subs {
		if have.q == q {
			sub = have
		}
	}
	if sub == nil {
		sub = &subscription{sess: s, q: q}
		s.subs = append(s.subs, sub)
		q.subs = append(q.subs, sub)
	}
	sub.credit = min(prefetch, sealmq.MaxPrefetch)
	if q.hasWaiting() {
		s.cfg.Notify()
	}
}

// SetPrefetch changes the credit of every subscription.
func (s *session) SetPrefetch(n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	n = min(max(n, 0), sealmq.MaxPrefetch)
	if n > 0 {
		s.prefetch = n
	}
	for _, sub := range s.subs {
		sub.credit = n
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
}

// wake tells up to n sessions that a queue has something, taking turns; first those that
// have come since they were last told.
func (e *Engine) wake(q *queue, n int) {
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

// Unacked is the number of deliveries the session holds.
func (s *session) Unacked() int {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.unacked
}

// Take appends what may be delivered now. If everything that it took turns out to be
// damaged it takes again, so that an empty answer means that nothing waits.
func (s *session) Take(dst []sealmq.Delivery, limit, maxBytes int) ([]sealmq.Delivery, error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	had := len(dst)
	for {
		s.choose(limit, maxBytes)
		var err error
		if dst, err = s.read(dst); err != nil || len(dst) > had || len(s.taken) == 0 {
			return dst, err
		}
	}
}

// choose fills taken and places.
func (s *session) choose(limit, maxBytes int) {
	s.taken, s.places = s.taken[:0], s.places[:0]
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed {
		return
	}
	for _, sub := range s.subs {
		sub.notified = false
	}
	s.turn++
	for i := range s.subs {
		if limit <= 0 || maxBytes <= 0 {
			return
		}
		limit, maxBytes = s.takeFrom(s.subs[(s.turn+i)%len(s.subs)], limit, maxBytes, now)
	}
}

// takeFrom takes from one queue, a fair share if others could take too.
func (s *session) takeFrom(sub *subscription, limit, maxBytes int, now int64) (int, int) {
	e, q := s.e, sub.q
	share := min(limit, sub.credit-sub.inHand)
	if len(q.subs) > 1 && q.ready > 0 {
		hungry := 0
		for _, other := range q.subs {
			if other.hasCredit() {
				hungry++
			}
		}
		share = min(share, (q.ready+hungry-1)/max(hungry, 1))
	}
	e.expire(q, now, settleGroup)
	for share > 0 && maxBytes > 0 {
		seq, n := q.nextWaiting()
		if n == nil || q.isExpired(n, now) {
			break
		}
		q.passed(seq)
		maxBytes -= int(n.body)
		s.hold(q, sub, seq, n, now)
		share--
		limit--
	}
	if len(q.subs) > 1 && q.hasWaiting() {
		e.wake(q, 1)
	}
	return limit, maxBytes
}

// hold gives a waiting copy to the session.
func (s *session) hold(q *queue, sub *subscription, seq uint64, n *entry, now int64) {
	attempt, back := uint32(1), false
	if q.marks != nil {
		var m mark
		m, back = q.marks[seq]
		attempt = m.attempts + 1
	}
	h := s.e.freeHeld
	if h != nil {
		s.e.freeHeld = h.next
	} else {
		h = new(held)
	}
	*h = held{q: q, seq: seq, sess: s, sub: sub, attempt: attempt, since: now, prev: s.newest}
	if s.newest == nil {
		s.oldest = h
	} else {
		s.newest.next = h
	}
	s.newest = h
	q.setState(n, unacked)
	if q.held == nil { // most of many queues are idle, and a map is large
		q.held = map[uint64]*held{}
	}
	q.held[seq] = h
	q.delivered++
	s.unacked++
	if sub != nil {
		sub.inHand++
	}
	s.taken = append(s.taken, taken{q, seq, attempt, back})
	s.places = append(s.places, n.place())
}

// unhold takes a copy out of a session's hands. h must not be used afterwards.
func (e *Engine) unhold(h *held) {
	s := h.sess
	delete(h.q.held, h.seq)
	s.unacked--
	if h.sub != nil {
		h.sub.inHand--
	}
	if h.prev == nil {
		s.oldest = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		s.newest = h.prev
	} else {
		h.next.prev = h.prev
	}
	*h = held{next: e.freeHeld}
	e.freeHeld = h
}

// read turns what was taken into deliveries. Damaged messages are left out.
func (s *session) read(dst []sealmq.Delivery) ([]sealmq.Delivery, error) {
	var failed error
	s.e.j.Read(s.places, func(i int, r journal.Record, err error) {
		d, err := s.e.deliver(&s.taken[i], s.places[i], r, err)
		switch {
		case err == nil:
			dst = append(dst, d)
		case !errors.Is(err, errGone):
			failed = err
		}
	})
	return dst, failed
}

// errGone says that a message is not there to be delivered.
var errGone = errors.New("message is gone")

// deliver makes a delivery of what was read for t at place. When that is not the
// message, it may have been copied forward since place was looked up; if it was not, it
// is damaged.
func (e *Engine) deliver(t *taken, place journal.Place, r journal.Record, err error) (sealmq.Delivery, error) {
	for {
		var refs [4]copyRef
		var m messageRecord
		if err == nil {
			m, err = decodeMessage(r.Payload, refs[:0])
		}
		if err == nil {
			return sealmq.Delivery{
				Message: m.message(), Queue: t.q.name, Attempt: t.attempt, Returned: t.back,
				Tag:         sealmq.DeliveryTag{Queue: t.q.id, Attempt: t.attempt, Seq: t.seq},
				DeathReason: m.deathReason, DeathQueue: m.deathQueue,
			}, nil
		}
		now, ok := e.placeOf(t)
		if !ok {
			return sealmq.Delivery{}, errGone
		}
		if now == place {
			e.quarantine([]copyRef{{t.q.id, t.seq}}, place.Pos, err)
			return sealmq.Delivery{}, errGone
		}
		place = now
		e.j.Read([]journal.Place{place}, func(_ int, again journal.Record, againErr error) { r, err = again, againErr })
	}
}

// placeOf tells where a copy is now.
func (e *Engine) placeOf(t *taken) (journal.Place, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := t.q.at(t.seq); n != nil && !t.q.deleted {
		return n.place(), true
	}
	return journal.Place{}, false
}

// Fetch takes one message as an outstanding delivery.
func (s *session) Fetch(name string) (d sealmq.Delivery, ok bool, err error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	for {
		if err := s.fetchOne(name); err != nil {
			return d, false, err
		}
		out, err := s.read(nil)
		if err != nil || len(s.taken) == 0 {
			return d, false, err
		}
		if len(out) > 0 {
			return out[0], true, nil
		}
	}
}

func (s *session) fetchOne(name string) error {
	s.taken, s.places = s.taken[:0], s.places[:0]
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[name]
	if q == nil || s.closed || e.closed {
		return sealmq.ErrNoQueue
	}
	e.expire(q, now, settleGroup)
	if seq, n := q.nextWaiting(); n != nil && !q.isExpired(n, now) {
		q.passed(seq)
		s.hold(q, nil, seq, n, now)
	}
	return nil
}
