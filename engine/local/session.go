package local

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// session is the consumer's side of one connection. The engine's lock guards it.
type session struct {
	e       *Engine
	id      uint64
	cfg     engine.SessionConfig
	subs    []*subscription
	lastSub sealmq.SubscriptionID
	turn    int
	credit  int          // shared by all subscriptions
	inHand  int          // through subscriptions, ended ones included
	unacked atomic.Int64 // inHand, and what was fetched; changed under Engine.mu
	oldest  *held        // the deliveries it holds, by next; since never falls
	newest  *held
	lastAck int64
	closed  bool
	acks    settleEncoder

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

type taken struct {
	q       *queue
	seq     uint64
	attempt uint32
	back    bool // it came back before
	noAck   bool
	sub     sealmq.SubscriptionID
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
	e.nextSess++
	s := &session{e: e, id: e.nextSess, cfg: cfg, credit: math.MaxInt}
	e.sessions[s] = struct{}{}
	return s
}

// Consume subscribes. It is answered in the order of the calls, after the queue's own
// declaration.
func (s *session) Consume(name string, o engine.ConsumeOptions, done func(error)) (id sealmq.SubscriptionID) {
	e := s.e
	e.mu.Lock()
	q := e.queues[name]
	err := error(sealmq.ErrNoQueue)
	switch {
	case e.closed, s.closed:
		err = sealmq.ErrUnavailable
	case q != nil:
		id = s.subscribe(q, o)
		err = unavailable(e.j.OnSync(func(err error) { done(unavailable(err)) }))
	}
	e.mu.Unlock()
	if err != nil {
		done(err)
	}
	return id
}

func (s *session) subscribe(q *queue, o engine.ConsumeOptions) sealmq.SubscriptionID {
	s.lastSub++
	sub := &subscription{id: s.lastSub, sess: s, q: q, noAck: o.NoAck}
	sub.setPrefetch(o.Prefetch)
	s.subs = append(s.subs, sub)
	q.subs = append(q.subs, sub)
	if q.hasWaiting() {
		s.cfg.Notify()
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
		e.unsubscribe(sub)
	}
	err := e.j.OnSync(func(err error) { done(unavailable(err)) })
	e.mu.Unlock()
	if err != nil {
		done(unavailable(err))
	}
}

// forget takes a subscription out of the session's list.
func (s *session) forget(sub *subscription) {
	s.subs = slices.DeleteFunc(s.subs, func(have *subscription) bool { return have == sub })
}

// unsubscribe takes a subscription out of its queue's list.
func (e *Engine) unsubscribe(sub *subscription) {
	q := sub.q
	q.subs = slices.DeleteFunc(q.subs, func(have *subscription) bool { return have == sub })
	if q.hasWaiting() { // it may have been told of what waits, and not have taken it
		e.wake(q, 1)
	}
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
	return int(s.unacked.Load())
}

// Take appends what may be delivered at this moment. If everything that it took turns out
// to be damaged it takes again, so that an empty answer means that nothing waits.
func (s *session) Take(dst []sealmq.Delivery, limit, maxBytes int) ([]sealmq.Delivery, error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	had := len(dst)
	for {
		s.choose(limit, maxBytes)
		var err error
		dst, err = s.read(dst)
		s.settleTaken()
		if err != nil || len(dst) > had || len(s.taken) == 0 {
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
	share := min(limit, sub.spare())
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
		t := s.hold(q, sub, seq, n, now)
		t.sub, t.noAck = sub.id, sub.noAck
		share--
		limit--
	}
	if len(q.subs) > 1 && q.hasWaiting() {
		e.wake(q, 1)
	}
	return limit, maxBytes
}

// hold gives a waiting copy to the session. What needs no ack counts for no credit.
func (s *session) hold(q *queue, sub *subscription, seq uint64, n *entry, now int64) *taken {
	if sub != nil && sub.noAck {
		sub = nil
	}
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
	s.unacked.Add(1)
	if sub != nil {
		sub.inHand++
		s.inHand++
	}
	s.taken = append(s.taken, taken{q: q, seq: seq, attempt: attempt, back: back})
	s.places = append(s.places, n.place())
	return &s.taken[len(s.taken)-1]
}

// settleTaken settles what was taken for good, once it was read.
func (s *session) settleTaken() {
	if !slices.ContainsFunc(s.taken, func(t taken) bool { return t.noAck }) {
		return
	}
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range s.taken {
		if h := t.q.held[t.seq]; t.noAck && h != nil && h.sess == s {
			e.unhold(h)
			t.q.acked++
			e.forgetCopy(t.q, t.seq)
			e.unlogged = append(e.unlogged, copyRef{t.q.id, t.seq})
		}
	}
	e.logUnlogged()
}

// unhold takes a copy out of a session's hands. h must not be used afterwards.
func (e *Engine) unhold(h *held) {
	s := h.sess
	delete(h.q.held, h.seq)
	s.unacked.Add(-1)
	if h.sub != nil {
		h.sub.inHand--
		s.inHand--
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
	if s.onRead == nil {
		s.onRead = s.readOne
	}
	s.out, s.readErr = dst, nil
	s.e.j.Read(s.places, s.onRead)
	dst, s.out = s.out, nil
	return dst, s.readErr
}

func (s *session) readOne(i int, r journal.Record, err error) {
	d, err := s.e.deliver(&s.taken[i], s.places[i], r, err)
	switch {
	case err == nil:
		s.out = append(s.out, d)
	case !errors.Is(err, errGone):
		s.readErr = err
	}
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
				Message: m.message(), Queue: t.q.name, Subscription: t.sub, Attempt: t.attempt, Returned: t.back,
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
		r, err = e.readRecord(place)
	}
}

func (e *Engine) readRecord(place journal.Place) (r journal.Record, err error) {
	e.j.Read([]journal.Place{place}, func(_ int, found journal.Record, readErr error) { r, err = found, readErr })
	return r, err
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

// Fetch takes one message. What waits is older than anything that is not synced yet, so
// a sync is awaited only if nothing waits.
func (s *session) Fetch(name string, noAck bool, done func(engine.Fetched, error)) {
	e := s.e
	f, unsynced, err := s.fetch(name, noAck)
	if !unsynced {
		done(f, err)
		return
	}
	e.mu.Lock()
	err = sealmq.ErrUnavailable
	if !e.closed {
		e.background.Add(1)
		err = e.j.OnSync(func(err error) {
			go func() {
				defer e.background.Done()
				if err == nil {
					f, _, err = s.fetch(name, noAck)
				} else {
					err = unavailable(err)
				}
				done(f, err)
			}()
		})
		if err != nil {
			e.background.Done()
		}
	}
	e.mu.Unlock()
	if err != nil {
		done(f, unavailable(err))
	}
}

// fetch takes one message that is synced. unsynced says that there are only others.
func (s *session) fetch(name string, noAck bool) (f engine.Fetched, unsynced bool, err error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	for {
		if f.Waiting, unsynced, err = s.fetchOne(name, noAck); err != nil || len(s.taken) == 0 {
			return f, unsynced, err
		}
		out, err := s.read(nil)
		s.settleTaken()
		if err != nil {
			return f, false, err
		}
		if len(out) > 0 {
			f.Delivery, f.Found = out[0], true
			return f, false, nil
		}
	}
}

func (s *session) fetchOne(name string, noAck bool) (waiting int, unsynced bool, err error) {
	s.taken, s.places = s.taken[:0], s.places[:0]
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[name]
	switch {
	case e.closed, s.closed:
		return 0, false, sealmq.ErrUnavailable
	case q == nil:
		return 0, false, sealmq.ErrNoQueue
	}
	e.expire(q, now, settleGroup)
	seq, n := q.nextWaiting()
	if n == nil || q.isExpired(n, now) {
		return q.waiting(), q.visible < q.next, nil
	}
	q.passed(seq)
	s.hold(q, nil, seq, n, now).noAck = noAck
	return q.waiting(), false, nil
}
