package enginetest

import (
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// session is one connection's side of a Model, whose mutex guards it.
type session struct {
	model    *Model
	cfg      engine.SessionConfig
	subs     []*subscription // in the order of Consume
	prefetch int             // by SetPrefetch, or 0
	lastAck  time.Time
	closed   bool
}

type subscription struct {
	queue    *queue
	prefetch int  // as asked for, or 0
	paused   bool // by SetPrefetch(0)
}

// NewSession implements engine.Engine.
func (m *Model) NewSession(cfg engine.SessionConfig) engine.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &session{model: m, cfg: cfg}
	m.sessions = append(m.sessions, s)
	return s
}

func (s *session) subscription(q *queue) *subscription {
	for _, sub := range s.subs {
		if sub.queue == q {
			return sub
		}
	}
	return nil
}

func (s *session) Consume(name string, prefetch int, done func(error)) {
	m := s.model
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err == nil && s.closed {
		err = errStopped()
	}
	if err != nil {
		m.answer(func(error) { done(err) })
		return
	}
	if sub := s.subscription(q); sub != nil {
		sub.prefetch, sub.paused = prefetch, false
	} else {
		s.subs = append(s.subs, &subscription{queue: q, prefetch: prefetch})
	}
	m.answer(done)
	m.notify()
}

func (s *session) SetPrefetch(n int) {
	s.model.begin()
	defer s.model.end()
	if n > 0 {
		s.prefetch = n
	}
	for _, sub := range s.subs {
		sub.prefetch, sub.paused = 0, n == 0
	}
	s.model.notify()
}

// credit is how many messages the session may hold for a subscription.
func (s *session) credit(sub *subscription) int {
	switch {
	case sub.paused:
		return 0
	case sub.prefetch > 0:
		return sub.prefetch
	case s.prefetch > 0:
		return s.prefetch
	}
	return sub.queue.options.Prefetch
}

func (s *session) held(q *queue) (list []*entry) {
	for _, e := range q.entries {
		if e.holder == s {
			list = append(list, e)
		}
	}
	return list
}

func (s *session) Fetch(name string) (sealmq.Delivery, bool, error) {
	m := s.model
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err != nil || s.closed {
		return sealmq.Delivery{}, false, err
	}
	e := m.next(q)
	if e == nil {
		return sealmq.Delivery{}, false, nil
	}
	return s.deliver(q, e), true, nil
}

func (s *session) Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
	m := s.model
	m.begin()
	defer m.end()
	if s.closed || m.closed {
		return dst, nil
	}
	taken, size := 0, 0
	for more := true; more; {
		more = false
		for _, sub := range s.subs {
			if taken == max || size >= maxBytes {
				return dst, nil
			}
			e := m.next(sub.queue)
			if e == nil || len(s.held(sub.queue)) >= s.credit(sub) {
				continue
			}
			dst = append(dst, s.deliver(sub.queue, e))
			taken++
			size += len(e.message.Body)
			more = true
		}
	}
	return dst, nil
}

// next is the message at the front of a queue that may be delivered now.
func (m *Model) next(q *queue) *entry {
	for _, e := range q.front(m.now()) {
		if e.synced {
			return e
		}
	}
	return nil
}

func (s *session) deliver(q *queue, e *entry) sealmq.Delivery {
	e.attempts++
	e.given = e.attempts
	e.holder, e.lastHolder, e.delivered = s, s, s.model.now()
	q.totals.Delivered++
	return q.delivery(e)
}

func (q *queue) delivery(e *entry) sealmq.Delivery {
	return sealmq.Delivery{
		Message:     *e.message,
		Tag:         sealmq.DeliveryTag{Queue: q.number, Attempt: e.attempts, Seq: e.seq},
		Queue:       q.name,
		Attempt:     e.attempts,
		Returned:    e.returned,
		DeathReason: e.deathReason,
		DeathQueue:  e.deathQueue,
	}
}

func (s *session) Settle(batch []engine.Settlement, done func(error)) {
	m := s.model
	m.begin()
	defer m.end()
	if m.closed {
		m.answer(func(error) { done(errStopped()) })
		return
	}
	asked, extended := false, false
	for _, b := range batch {
		if b.Verdict == engine.Extend {
			asked = true
			extended = s.extend(b.Tag) || extended
			continue
		}
		s.settle(b)
	}
	m.answer(func(err error) {
		if err == nil && asked && !extended {
			err = sealmq.ErrNotHeld
		}
		done(err)
	})
}

func (s *session) extend(tag sealmq.DeliveryTag) bool {
	q := s.model.state.byNumber(tag.Queue)
	if q == nil {
		return false
	}
	e := q.find(tag.Seq)
	if e == nil || e.holder != s || e.given != tag.Attempt {
		return false
	}
	e.delivered = s.model.now()
	return true
}

func (s *session) settle(b engine.Settlement) {
	m := s.model
	q := m.state.byNumber(b.Tag.Queue)
	if q == nil || s.closed {
		return
	}
	e := q.find(b.Tag.Seq)
	if e == nil || e.given != b.Tag.Attempt || e.lastHolder != s {
		return
	}
	s.lastAck = m.now()
	waits := e.holder == nil
	switch b.Verdict {
	case engine.Ack:
		q.totals.Acked++
		m.write(gone{q.name, e.seq, m.now()})
	case engine.Return:
		if !waits {
			m.comeBack(q, e, b.Delay, b.Uncounted)
		}
	case engine.Dead:
		reason := strings.Clone(b.Reason)
		if reason == "" {
			reason = sealmq.DeathRejected
		}
		m.die(q, e, reason)
	}
}

// comeBack returns a delivery to its place, unless its time is over or it came back too
// often.
func (m *Model) comeBack(q *queue, e *entry, delay time.Duration, uncounted bool) {
	q.totals.Returned++
	e.holder = nil
	if q.expired(e, m.now()) {
		m.expire(q, e)
		return
	}
	if uncounted {
		e.attempts--
	} else if e.attempts >= q.options.DeliveryLimit && !q.isDead() {
		m.die(q, e, sealmq.DeathDeliveryLimit)
		return
	}
	m.write(returned{q.name, e.seq, e.attempts})
	e.notBefore = m.now().Add(delay)
	m.notify()
}

// die moves a message to the dead-letter queue. What dies there returns to its place.
func (m *Model) die(q *queue, e *entry, reason string) {
	if q.isDead() {
		if e.holder != nil {
			m.comeBack(q, e, 0, false)
		}
		return
	}
	name := q.name + sealmq.DeadSuffix
	dead := m.state.queues[name]
	if dead == nil {
		m.write(declared{name, sealmq.DeadLetterOptions(q.options)})
		dead = m.state.queues[name]
	}
	q.totals.DeadLettered++
	m.write(moved{from: q.name, to: name, seq: e.seq, reason: reason, at: m.now()})
	// A dead letter is never refused: at the limit the oldest go, whatever the options say.
	for waiting := dead.front(m.now()); len(waiting) > 1 && dead.over(); waiting = waiting[1:] {
		m.drop(dead, waiting[:1])
	}
	m.notify()
}

func (s *session) Unacked() int {
	s.model.begin()
	defer s.model.end()
	n := 0
	for _, q := range s.model.state.queues {
		n += len(s.held(q))
	}
	return n
}

func (s *session) Close() {
	m := s.model
	m.begin()
	defer m.end()
	if s.closed {
		return
	}
	s.closed = true
	if !m.closed {
		s.returnAll()
	}
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
}

func (s *session) returnAll() {
	for _, name := range s.model.state.names() {
		q := s.model.state.queues[name]
		for _, e := range s.held(q) {
			s.model.comeBack(q, e, 0, false)
		}
	}
}

// forget ends a subscription to a queue that is gone.
func (s *session) forget(q *queue) {
	if s.subscription(q) != nil && s.cfg.Ended != nil {
		s.cfg.Ended(q.name)
	}
	s.subs = slices.DeleteFunc(s.subs, func(sub *subscription) bool { return sub.queue == q })
}

// notify tells every session that something may have changed.
func (m *Model) notify() {
	for _, s := range m.sessions {
		if s.cfg.Notify != nil && len(s.subs) > 0 {
			s.cfg.Notify()
		}
	}
}
