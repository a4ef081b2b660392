package local

import (
	"errors"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// taken is a copy that was taken from its queue and must be read.
type taken struct {
	q       *queue
	seq     uint64
	attempt uint32
	back    bool // it came back before
	noAck   bool
	sub     sealmq.SubscriptionID
}

// Take appends what may be delivered at this moment.
func (s *session) Take(dst []sealmq.Delivery, limit, maxBytes int) ([]sealmq.Delivery, error) {
	return s.takeChosen(dst, func() error {
		s.choose(limit, maxBytes)
		return nil
	})
}

// takeChosen reads what choose adds to taken and places. If everything turns out to be
// damaged it takes again, so that an empty answer means that nothing waits.
func (s *session) takeChosen(dst []sealmq.Delivery, choose func() error) ([]sealmq.Delivery, error) {
	s.takeMu.Lock()
	defer s.takeMu.Unlock()
	had := len(dst)
	for {
		s.taken, s.places = s.taken[:0], s.places[:0]
		err := choose()
		if err == nil {
			dst, err = s.read(dst)
			s.settleTaken()
		}
		if err != nil || len(dst) > had || len(s.taken) == 0 {
			return dst, err
		}
	}
}

// choose takes what waits in the queues of the subscriptions.
func (s *session) choose(limit, maxBytes int) {
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

// takeFrom takes from one queue: a fair share if other subscriptions could take too.
func (s *session) takeFrom(sub *subscription, limit, maxBytes int, now int64) (int, int) {
	e, q := s.e, sub.q
	if q.paused {
		return limit, maxBytes
	}
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
		maxBytes -= int(n.body)
		t := s.hold(q, sub, seq, n, now)
		t.sub, t.noAck = sub.id, sub.noAck
		share--
		limit--
	}
	if len(q.subs) > 1 && q.hasWaiting() {
		q.wake(1)
	}
	return limit, maxBytes
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
			e.forget(t.q, t.seq)
			e.removals = append(e.removals, copyRef{t.q.id, t.seq})
		}
	}
	e.recordRemovals()
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

// deliver makes a delivery of what was read for t at place.
func (e *Engine) deliver(t *taken, place journal.Place, r journal.Record, err error) (sealmq.Delivery, error) {
	var refs [4]copyRef
	m, place, err := e.messageOf(t, place, r, err, refs[:0])
	if err != nil {
		if err != errGone {
			e.quarantine([]copyRef{{t.q.id, t.seq}}, place.Pos, err)
		}
		return sealmq.Delivery{}, errGone
	}
	return sealmq.Delivery{
		Message: m.message(), Queue: t.q.name, Subscription: t.sub, Attempt: t.attempt, Returned: t.back,
		Tag:         sealmq.DeliveryTag{Queue: t.q.id, Attempt: t.attempt, Seq: t.seq},
		DeathReason: m.deathReason, DeathQueue: m.deathQueue,
	}, nil
}

// messageOf decodes what was read for t at place. If that is not the message, the message
// was copied forward since place was looked up: then it is read again where it is now, which
// is returned too. Otherwise it is damaged, or errGone says that it is not there any more.
func (e *Engine) messageOf(t *taken, place journal.Place, r journal.Record, err error, refs []copyRef) (messageRecord, journal.Place, error) {
	for {
		var m messageRecord
		if err == nil {
			m, err = decodeMessage(r.Payload, refs)
		}
		if err == nil {
			return m, place, nil
		}
		now, ok := e.placeOf(t)
		if !ok {
			err = errGone
		}
		if !ok || now == place {
			return m, place, err
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
	closed := e.closed
	if !closed {
		e.background.Go(func() {
			err := unavailable(e.j.Sync())
			if err == nil {
				f, _, err = s.fetch(name, noAck)
			}
			done(f, err)
		})
	}
	e.mu.Unlock()
	if closed {
		done(f, sealmq.ErrUnavailable)
	}
}

// fetch takes one message that is synced. unsynced says that there are only others.
func (s *session) fetch(name string, noAck bool) (f engine.Fetched, unsynced bool, err error) {
	out, err := s.takeChosen(nil, func() (err error) {
		f.Waiting, unsynced, err = s.fetchOne(name, noAck)
		return err
	})
	if len(out) > 0 {
		f.Delivery, f.Found = out[0], true
	}
	return f, unsynced, err
}

func (s *session) fetchOne(name string, noAck bool) (waiting int, unsynced bool, err error) {
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.state.queues[name]
	switch {
	case e.closed, s.closed:
		return 0, false, sealmq.ErrUnavailable
	case q == nil:
		return 0, false, sealmq.ErrNoQueue
	case q.paused:
		return q.waiting(), false, nil
	}
	e.expire(q, now, settleGroup)
	seq, n := q.nextWaiting()
	if n == nil || q.isExpired(n, now) {
		return q.waiting(), q.visible < q.next, nil
	}
	s.hold(q, nil, seq, n, now).noAck = noAck
	return q.waiting(), false, nil
}
