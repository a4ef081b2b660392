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
	model   *Model
	cfg     engine.SessionConfig
	subs    []*subscription // in the order of Consume
	lastSub sealmq.SubscriptionID
	credit  int // shared by all subscriptions, or NoLimit
	lastAck time.Time
	closed  bool
}

type subscription struct {
	id       sealmq.SubscriptionID
	queue    *queue
	prefetch int // as asked for
	noAck    bool
}

// NewSession implements engine.Engine.
func (m *Model) NewSession(cfg engine.SessionConfig) engine.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &session{model: m, cfg: cfg, credit: engine.NoLimit}
	m.sessions = append(m.sessions, s)
	return s
}

func (s *session) Consume(name string, o engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID {
	m := s.model
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if s.closed {
		err = errStopped()
	}
	if err != nil {
		m.answer(func(error) { done(err) })
		return 0
	}
	s.lastSub++
	s.subs = append(s.subs, &subscription{id: s.lastSub, queue: q, prefetch: o.Prefetch, noAck: o.NoAck})
	m.answer(done)
	m.notify()
	return s.lastSub
}

func (s *session) Cancel(id sealmq.SubscriptionID, done func(error)) {
	m := s.model
	m.begin()
	defer m.end()
	s.subs = slices.DeleteFunc(s.subs, func(sub *subscription) bool { return sub.id == id })
	if m.closed {
		m.answer(func(error) { done(errStopped()) })
		return
	}
	m.answer(done)
	m.notify()
}

func (s *session) SetPrefetch(id sealmq.SubscriptionID, n int) {
	s.model.begin()
	defer s.model.end()
	for _, sub := range s.subs {
		if id == 0 || sub.id == id {
			sub.prefetch = n
		}
	}
	s.model.notify()
}

func (s *session) SetCredit(n int) {
	s.model.begin()
	defer s.model.end()
	s.credit = n
	s.model.notify()
}

// mayTake reports whether a subscription may get one more message.
func (s *session) mayTake(sub *subscription) bool {
	prefetch := sub.prefetch
	switch {
	case prefetch == engine.Paused:
		return false
	case sub.noAck:
		return true
	case prefetch == engine.QueuesOwn:
		prefetch = sub.queue.options.Prefetch
	}
	own := len(s.held(func(e *entry) bool { return e.sub == sub }))
	all := len(s.held(func(e *entry) bool { return e.sub != nil }))
	return (prefetch < 0 || own < prefetch) && (s.credit < 0 || all < s.credit)
}

// held lists what the session holds, by queue.
func (s *session) held(of func(*entry) bool) (list []*entry) {
	for _, name := range s.model.state.names() {
		for _, e := range s.model.state.queues[name].entries {
			if e.holder == s && of(e) {
				list = append(list, e)
			}
		}
	}
	return list
}

func (s *session) Fetch(name string, noAck bool, done func(engine.Fetched, error)) {
	m := s.model
	m.begin()
	f, wait, err := s.fetch(name, noAck)
	if !wait {
		m.end()
		done(f, err)
		return
	}
	m.answer(func(err error) {
		if err == nil {
			m.begin()
			f, _, err = s.fetch(name, noAck)
			m.mu.Unlock()
		}
		done(f, err)
	})
	m.end()
}

// fetch takes one message. wait says that there are only some that are not durable.
func (s *session) fetch(name string, noAck bool) (f engine.Fetched, wait bool, err error) {
	m := s.model
	q, err := m.lookUp(name)
	if s.closed {
		err = errStopped()
	}
	if err != nil {
		return f, false, err
	}
	e := m.next(q)
	f.Waiting = len(q.waiting())
	if e == nil {
		return f, slices.ContainsFunc(q.entries, func(e *entry) bool { return !e.synced }), nil
	}
	f.Delivery, f.Found = s.deliver(q, e, nil, noAck), true
	f.Waiting--
	return f, false, nil
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
			if e == nil || !s.mayTake(sub) {
				continue
			}
			dst = append(dst, s.deliver(sub.queue, e, sub, sub.noAck))
			taken++
			size += len(e.message.Body)
			more = true
		}
	}
	return dst, nil
}

// next is the message at the front of a queue that may be delivered now.
func (m *Model) next(q *queue) *entry {
	if q.paused {
		return nil
	}
	list := q.front(m.now())
	if m.loose {
		slices.SortStableFunc(list, func(a, b *entry) int { return int(a.given) - int(b.given) })
	}
	for _, e := range list {
		if e.synced {
			return e
		}
	}
	return nil
}

// deliver hands a message out, through a subscription or none.
func (s *session) deliver(q *queue, e *entry, sub *subscription, noAck bool) sealmq.Delivery {
	m := s.model
	e.attempts++
	e.given = e.attempts
	e.holder, e.lastHolder, e.delivered, e.sub = s, s, m.now(), sub
	q.totals.Delivered++
	d := q.delivery(e)
	if sub != nil {
		d.Subscription = sub.id
	}
	if noAck {
		q.totals.Acked++
		m.write(gone{q.name, e.seq, m.now()})
	}
	return d
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
	var denied error
	for _, b := range batch {
		if b.Verdict == engine.Extend {
			asked = true
			extended = s.extend(b.Tag) || extended
			continue
		}
		if b.Verdict == engine.Dead && !s.mayDead(b.Tag) {
			b, denied = engine.Settlement{Tag: b.Tag, Verdict: engine.Return}, sealmq.ErrDenied
		}
		s.settle(b)
	}
	m.answer(func(err error) {
		if err == nil {
			err = denied
		}
		if err == nil && asked && !extended {
			err = sealmq.ErrNotHeld
		}
		done(err)
	})
}

// mayDead reports whether the session may dead-letter what it was given.
func (s *session) mayDead(tag sealmq.DeliveryTag) bool {
	q := s.model.state.byNumber(tag.Queue)
	if q == nil || s.cfg.MayDead == nil || s.cfg.MayDead(q.name, &q.options) {
		return true
	}
	e := q.find(tag.Seq)
	return e != nil && e.holder == s && e.sub != nil
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
	if e == nil || e.dying != "" || e.given != b.Tag.Attempt || e.lastHolder != s {
		return
	}
	s.lastAck = m.now()
	waits := e.holder == nil
	switch b.Verdict {
	case engine.Ack:
		q.totals.Acked++
		m.write(gone{q.name, e.seq, m.now()})
	case engine.Drop:
		q.totals.Dropped++
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
	e.holder = nil
	m.write(doomed{q.name, e.seq, reason})
	m.moveDead(q, e, reason)
}

// moveDead moves a message that must die, if there is room for it.
func (m *Model) moveDead(q *queue, e *entry, reason string) {
	name := q.name + sealmq.DeadSuffix
	dead := m.state.queues[name]
	if dead == nil {
		m.write(declared{name, sealmq.DeadLetterOptions(q.options)})
		dead = m.state.queues[name]
		if m.made != nil {
			m.made(dead.name, dead.options)
		}
	}
	victims, code := dead.fits(e.message, m.now())
	if code != "" {
		return
	}
	q.totals.DeadLettered++
	m.write(moved{from: q.name, to: name, seq: e.seq, reason: reason, at: m.now()})
	m.drop(dead, victims)
	m.notify()
}

func (s *session) Unacked() int {
	s.model.begin()
	defer s.model.end()
	return len(s.held(func(*entry) bool { return true }))
}

func (s *session) Close(counted bool) {
	m := s.model
	m.begin()
	defer m.end()
	if s.closed {
		return
	}
	s.closed = true
	if !m.closed {
		s.returnAll(counted)
	}
	m.sessions = slices.DeleteFunc(m.sessions, func(other *session) bool { return other == s })
}

func (s *session) returnAll(counted bool) {
	for _, name := range s.model.state.names() {
		q := s.model.state.queues[name]
		for _, e := range slices.Clone(q.entries) {
			if e.holder == s {
				s.model.comeBack(q, e, 0, !counted)
			}
		}
	}
}

// forget ends the subscriptions to a queue that is gone.
func (s *session) forget(q *queue) {
	s.subs = slices.DeleteFunc(s.subs, func(sub *subscription) bool {
		if sub.queue != q {
			return false
		}
		if s.cfg.Ended != nil {
			s.cfg.Ended(sub.id, q.name, sealmq.ErrNoQueue)
		}
		return true
	})
}

// notify tells every session that something may have changed.
func (m *Model) notify() {
	for _, s := range m.sessions {
		if s.cfg.Notify != nil && len(s.subs) > 0 {
			s.cfg.Notify()
		}
	}
}
