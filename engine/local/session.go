package local

import (
	"errors"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/journal"
)

// settleGroup bounds how many settlements share a record, and the time under the lock.
const settleGroup = 256

// session is the consumer's side of one connection. The engine's lock guards it.
type session struct {
	e        *Engine
	id       uint64
	cfg      broker.SessionConfig
	subs     []*subscription
	turn     int
	prefetch int // asked for by SetPrefetch; 0: the queue's
	unacked  int
	lastAck  int64
	closed   bool

	takeMu sync.Mutex // serialises Take; guards what follows
	taken  []taken
	places []journal.Place
}

type subscription struct {
	sess   *session
	q      *queue
	credit int
	inHand int
}

func (s *subscription) hasCredit() bool { return s.inHand < s.credit }

type taken struct {
	q       *queue
	seq     uint64
	attempt uint32
}

// NewSession opens the consumer's side of a connection.
func (e *Engine) NewSession(cfg broker.SessionConfig) broker.Session {
	if cfg.Notify == nil {
		cfg.Notify = func() {}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nextSess++
	s := &session{e: e, id: e.nextSess, cfg: cfg}
	e.sessions[s] = struct{}{}
	return s
}

// Consume subscribes. It writes nothing, so it is answered at once.
func (s *session) Consume(name string, prefetch int, done func(error)) {
	e := s.e
	e.mu.Lock()
	q := e.queues[name]
	if q == nil || s.closed || e.closed {
		err := sealmq.ErrNoQueue
		if e.closed {
			err = sealmq.ErrUnavailable
		}
		e.mu.Unlock()
		done(err)
		return
	}
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
	e.mu.Unlock()
	done(nil)
}

// SetPrefetch changes the credit of every subscription.
func (s *session) SetPrefetch(n int) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.prefetch = min(max(n, 1), sealmq.MaxPrefetch)
	for _, sub := range s.subs {
		sub.credit = s.prefetch
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
			s.cfg.Notify()
			return
		}
	}
}

// wake tells up to n sessions that a queue has something, taking turns.
func (e *Engine) wake(q *queue, n int) {
	for range q.subs {
		if n <= 0 {
			return
		}
		q.turn++
		if sub := q.subs[q.turn%len(q.subs)]; sub.hasCredit() {
			sub.sess.cfg.Notify()
			n--
		}
	}
}

// Unacked is the number of deliveries the session holds.
func (s *session) Unacked() int {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.unacked
}

// Take appends what may be delivered now.
func (s *session) Take(dst []sealmq.Delivery, limit, maxBytes int) ([]sealmq.Delivery, error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	s.taken, s.places = s.taken[:0], s.places[:0]
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	if n := len(s.subs); n > 0 && !s.closed {
		s.turn++
		for i := range n {
			if limit <= 0 || maxBytes <= 0 {
				break
			}
			limit, maxBytes = s.takeFrom(s.subs[(s.turn+i)%n], limit, maxBytes, now)
		}
	}
	e.mu.Unlock()
	return s.read(dst)
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
	var expired []uint64
	for share > 0 && maxBytes > 0 {
		seq, n := q.nextWaiting()
		if n == nil {
			break
		}
		q.passed(seq)
		if q.isExpired(n, now) {
			e.forgetCopy(q, seq)
			q.expired++
			expired = append(expired, seq)
			continue
		}
		maxBytes -= int(n.body)
		s.hold(q, sub, seq, n, now)
		share--
		limit--
	}
	e.logSettled(q, expired)
	if len(q.subs) > 1 && q.hasWaiting() {
		e.wake(q, 1)
	}
	return limit, maxBytes
}

// hold gives a waiting copy to the session.
func (s *session) hold(q *queue, sub *subscription, seq uint64, n *entry, now int64) {
	attempt := uint32(1)
	if q.marks != nil {
		attempt = q.marks[seq].attempts + 1
	}
	q.setState(n, unacked)
	q.held[seq] = held{sess: s, sub: sub, attempt: attempt, since: now}
	q.delivered++
	s.unacked++
	if sub != nil {
		sub.inHand++
	}
	s.taken = append(s.taken, taken{q, seq, attempt})
	s.places = append(s.places, n.place())
}

// unhold takes a copy out of a session's hands.
func (e *Engine) unhold(q *queue, seq uint64, h held) {
	delete(q.held, seq)
	h.sess.unacked--
	if h.sub != nil {
		h.sub.inHand--
	}
}

// read turns what was taken into deliveries. Damaged messages are left out.
func (s *session) read(dst []sealmq.Delivery) ([]sealmq.Delivery, error) {
	var failed error
	s.e.j.Read(s.places, func(i int, r journal.Record, err error) {
		t := &s.taken[i]
		for errors.Is(err, journal.ErrReleased) {
			// Copied forward since it was taken, or its queue was deleted.
			place, ok := s.e.placeOf(t)
			if !ok {
				return
			}
			if place == s.places[i] {
				break
			}
			s.places[i] = place
			s.e.j.Read([]journal.Place{place}, func(_ int, again journal.Record, againErr error) { r, err = again, againErr })
		}
		var refs [4]copyRef
		var m messageRecord
		if err == nil {
			m, err = decodeMessage(r.Payload, refs[:0])
		}
		var damage *journal.Damage
		switch {
		case err == nil:
			dst = append(dst, sealmq.Delivery{
				Message: m.message(), Queue: t.q.name, Attempt: t.attempt,
				Tag:         sealmq.DeliveryTag{Queue: t.q.id, Attempt: t.attempt, Seq: t.seq},
				DeathReason: m.deathReason, DeathQueue: m.deathQueue,
			})
		case errors.As(err, &damage):
			s.e.quarantine([]copyRef{{t.q.id, t.seq}}, damage)
		default:
			failed = err
		}
	})
	return dst, failed
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
	s.taken, s.places = s.taken[:0], s.places[:0]
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	q := e.queues[name]
	if q == nil || s.closed || e.closed {
		e.mu.Unlock()
		return d, false, sealmq.ErrNoQueue
	}
	e.expire(q, now, settleGroup)
	if seq, n := q.nextWaiting(); n != nil {
		q.passed(seq)
		s.hold(q, nil, seq, n, now)
	}
	e.mu.Unlock()
	out, err := s.read(nil)
	if err != nil || len(out) == 0 {
		return d, false, err
	}
	return out[0], true, nil
}

// Settle ends deliveries.
func (s *session) Settle(batch []broker.Settlement, done func(error)) {
	for len(batch) > settleGroup {
		if err := s.settleSome(batch[:settleGroup], func(error) {}); err != nil {
			done(err)
			return
		}
		batch = batch[settleGroup:]
	}
	if err := s.settleSome(batch, done); err != nil {
		done(err)
	}
}

// settleSome records and applies one group; if it returns an error nothing was done
// and done is not called.
func (s *session) settleSome(batch []broker.Settlement, done func(error)) error {
	e := s.e
	room := 64
	for i := range batch {
		room += 40 + len(batch[i].Reason)
	}
	if err := e.lockWithRoom(room); err != nil {
		return err
	}
	now := e.nowMillis()
	if s.closed {
		batch = nil
	}
	var acks settleEncoder
	acks.reset(e.scratch)
	var back []byte
	var condemned []dying
	for i := range batch {
		b := &batch[i]
		q := e.byID[b.Tag.Queue]
		if q == nil {
			continue
		}
		n, h, mine := s.claim(q, b.Tag)
		if !mine {
			continue
		}
		s.lastAck = now
		switch {
		case b.Verdict == broker.Ack:
			if h.sess != nil {
				e.unhold(q, b.Tag.Seq, h)
			}
			e.forgetCopy(q, b.Tag.Seq)
			q.acked++
			acks.add(q.id, b.Tag.Seq)
		case h.sess == nil: // it waits already; there is nothing to give back
			if b.Verdict == broker.Dead && !q.isDead() {
				q.setState(n, waiting)
				back = e.condemn(back, &condemned, q, b.Tag.Seq, n, b.Reason, b.Tag.Attempt, s.id)
			}
		case b.Verdict == broker.Dead && !q.isDead():
			e.unhold(q, b.Tag.Seq, h)
			back = e.condemn(back, &condemned, q, b.Tag.Seq, n, b.Reason, h.attempt, s.id)
		default:
			e.unhold(q, b.Tag.Seq, h)
			back = e.giveBack(back, &condemned, q, b.Tag.Seq, n, h, b.Delay, now)
		}
	}
	acks.flush()
	e.scratch = acks.b
	err := e.logBoth(acks.b, back)
	if err == nil && len(condemned) == 0 {
		err = e.j.OnSync(func(err error) { done(unavailable(err)) })
	}
	s.notifyIfReady()
	e.mu.Unlock()
	if err == nil && len(condemned) > 0 {
		e.buryNow(condemned)
		err = e.j.OnSync(func(err error) { done(unavailable(err)) })
	}
	return unavailable(err)
}

// claim finds the copy of a tag if this session may settle it: it holds the delivery,
// or held it last and the copy waits again (then h is zero).
func (s *session) claim(q *queue, tag sealmq.DeliveryTag) (n *entry, h held, mine bool) {
	n = q.at(tag.Seq)
	if n == nil {
		return nil, h, false
	}
	switch n.state {
	case unacked:
		h = q.held[tag.Seq]
		return n, h, h.sess == s && h.attempt == tag.Attempt
	case waiting, delayed:
		m, ok := q.marks[tag.Seq]
		return n, held{}, ok && m.holder == s.id && m.attempts == tag.Attempt
	}
	return n, h, false
}

func (e *Engine) logBoth(acks, back []byte) error {
	if len(acks) > 0 {
		if _, err := e.urgent(kindSettle, acks); err != nil {
			return err
		}
	}
	if len(back) > 0 {
		if _, err := e.urgent(kindReturn, back); err != nil {
			return err
		}
	}
	return nil
}

// giveBack returns a delivery to its place, at once or after a delay, or condemns it
// when it was delivered too often. It appends to the encoding of a return record.
func (e *Engine) giveBack(b []byte, condemned *[]dying, q *queue, seq uint64, n *entry, h held, delay time.Duration, now int64) []byte {
	if q.isExpired(n, now) {
		e.forgetCopy(q, seq)
		q.expired++
		e.logSettled(q, []uint64{seq})
		return b
	}
	if h.attempt >= q.options.DeliveryLimit && !q.isDead() {
		return e.condemn(b, condemned, q, seq, n, sealmq.DeathDeliveryLimit, h.attempt, h.sess.id)
	}
	m := mark{attempts: h.attempt, holder: h.sess.id}
	if delay > 0 {
		m.until = now + min(delay, broker.MaxDelay).Milliseconds()
		e.postpone(q, seq, n, m.until)
	} else {
		q.waitAgain(seq, n)
		e.wake(q, 1)
	}
	q.setMark(seq, m)
	q.returned++
	return appendReturn(b, q.id, seq, m)
}

// Close returns every held delivery to its place.
func (s *session) Close() {
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	delete(e.sessions, s)
	for _, sub := range s.subs {
		sub.q.unsubscribe(sub)
	}
	if s.unacked == 0 {
		return
	}
	for _, q := range e.queues {
		if len(q.held) > 0 {
			e.takeBack(q, now, func(h held) bool { return h.sess == s })
		}
	}
}

// takeBack returns those deliveries of a queue for which f is true.
func (e *Engine) takeBack(q *queue, now int64, f func(held) bool) {
	var seqs []uint64
	for seq, h := range q.held {
		if f(h) {
			seqs = append(seqs, seq)
		}
	}
	for len(seqs) > 0 {
		group := seqs[:min(len(seqs), settleGroup)]
		var back []byte
		var condemned []dying
		for _, seq := range group {
			h := q.held[seq]
			e.unhold(q, seq, h)
			back = e.giveBack(back, &condemned, q, seq, q.at(seq), h, 0, now)
		}
		if err := e.logBoth(nil, back); err != nil {
			e.log.Warn("delivery counts are not recorded", "queue", q.name, "err", err)
		}
		e.leaveToUndertaker(condemned)
		seqs = seqs[len(group):]
	}
}

func (q *queue) unsubscribe(sub *subscription) {
	for i, have := range q.subs {
		if have == sub {
			q.subs = append(q.subs[:i], q.subs[i+1:]...)
			return
		}
	}
}
