package local

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// settleGroup bounds how many settlements share a record, and the time under the lock.
const settleGroup = 256

// Settle ends deliveries.
func (s *session) Settle(batch []engine.Settlement, done func(error)) {
	var told *outcome
	if slices.ContainsFunc(batch, func(b engine.Settlement) bool { return b.Verdict == engine.Dead || b.Verdict == engine.Extend }) {
		told, done = tellOutcome(batch, done)
	}
	for len(batch) > settleGroup {
		if err := s.settleSome(batch[:settleGroup], told, func(error) {}); err != nil {
			done(err)
			return
		}
		batch = batch[settleGroup:]
	}
	if err := s.settleSome(batch, told, done); err != nil {
		done(err)
	}
}

// outcome is what Settle tells of verdicts that had no effect, or another one.
type outcome struct {
	notHeld error // nothing was held that was to be extended
	denied  error // why a Dead was a Return
}

// tellOutcome has done get the outcome if there is no other error.
func tellOutcome(batch []engine.Settlement, done func(error)) (*outcome, func(error)) {
	told := &outcome{}
	if slices.ContainsFunc(batch, func(b engine.Settlement) bool { return b.Verdict == engine.Extend }) {
		told.notHeld = sealmq.ErrNotHeld // until something is extended
	}
	return told, func(err error) { done(cmp.Or(err, told.notHeld, told.denied)) }
}

// settling is the outcome of one group of settlements.
type settling struct {
	gone []copyRef
	back []byte    // encoding of a return record
	dead []copyRef // to be moved to their dead-letter queues
	told *outcome  // nil if nothing is extended or dead by a verdict
}

// settleSome records and applies one group. If it returns an error, done is not called and
// nothing has changed, unless the store has stopped.
func (s *session) settleSome(batch []engine.Settlement, told *outcome, done func(error)) error {
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
	out := settling{gone: s.gone[:0], told: told}
	for i := range batch {
		s.settleOne(&batch[i], &out, now)
	}
	s.gone = out.gone
	err := e.logSettling(&out)
	if err == nil && len(out.dead) == 0 {
		e.onSync(done)
	}
	s.notifyIfReady()
	e.mu.Unlock()
	if err == nil && len(out.dead) > 0 {
		e.moveDead(out.dead)
		e.onSync(done)
	}
	return unavailable(err)
}

func (s *session) settleOne(b *engine.Settlement, out *settling, now int64) {
	e := s.e
	q := e.state.byID[b.Tag.Queue]
	if q == nil {
		return
	}
	n, h, mine := s.claim(q, b.Tag)
	if !mine {
		return
	}
	if b.Verdict == engine.Extend {
		if h != nil {
			h.extend(now)
			out.told.notHeld = nil
		}
		return
	}
	s.lastAck = now
	verdict := b.Verdict
	switch {
	case verdict != engine.Dead:
	case q.isDead():
		verdict = engine.Return
	case (h == nil || h.sub == nil) && s.cfg.MayDead != nil && !s.cfg.MayDead(q.name, &q.options):
		verdict = engine.Return
		out.told.denied = &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to dead-letter messages of '" + q.name + "': it was returned instead"}
	}
	ends := verdict == engine.Ack || verdict == engine.Drop || verdict == engine.Dead
	if ends && h != nil {
		e.unhold(h)
	}
	switch {
	case verdict == engine.Dead:
		e.decideDead(out, q, b.Tag.Seq, n, b.Reason, b.Tag.Attempt, s.id)
	case verdict == engine.Ack:
		out.remove(e, q, b.Tag.Seq, &q.acked)
	case verdict == engine.Drop:
		out.remove(e, q, b.Tag.Seq, &q.dropped)
	case h != nil: // otherwise it waits already
		e.giveBack(out, n, h, b.Delay, b.Uncounted && b.Verdict == engine.Return, now)
	}
}

// remove removes a copy and counts it.
func (out *settling) remove(e *Engine, q *queue, seq uint64, count *uint64) {
	e.forget(q, seq)
	*count++
	out.gone = append(out.gone, copyRef{q.id, seq})
}

// claim finds the copy of a tag if this session may settle it: it holds the delivery,
// or held it last and the copy waits again (then h is nil).
func (s *session) claim(q *queue, tag sealmq.DeliveryTag) (n *entry, h *held, mine bool) {
	n = q.at(tag.Seq)
	if n == nil {
		return nil, nil, false
	}
	switch n.phase {
	case unacked:
		h = q.held[tag.Seq]
		return n, h, h.sess == s && h.attempt == tag.Attempt
	case waiting, delayed:
		m, ok := q.marks[tag.Seq]
		return n, nil, ok && m.holder == s.id && m.given == tag.Attempt
	}
	return n, nil, false
}

// logSettling records what a group did. Callers hold mu and have made
// sure of the room.
func (e *Engine) logSettling(out *settling) (err error) {
	if len(out.gone) > 0 {
		e.scratch = appendSettle(e.scratch[:0], out.gone)
		_, err = e.urgent(kindSettle, e.scratch)
	}
	if err == nil && len(out.back) > 0 {
		_, err = e.urgent(kindReturn, out.back)
	}
	return err
}

// giveBack returns a delivery to its place, at once or after a delay. A copy that was
// delivered too often goes to the dead-letter queue, and one that has expired is removed.
// An uncounted return leaves the count as it was before the delivery.
func (e *Engine) giveBack(out *settling, n *entry, h *held, delay time.Duration, uncounted bool, now int64) {
	q, seq, attempt, holder := h.q, h.seq, h.attempt, h.sess.id
	e.unhold(h)
	switch {
	case q.isExpired(n, now):
		out.remove(e, q, seq, &q.expired)
		return
	case !uncounted && attempt >= q.options.DeliveryLimit && !q.isDead():
		e.decideDead(out, q, seq, n, sealmq.DeathDeliveryLimit, attempt, holder)
		return
	}
	m := mark{attempts: attempt, given: attempt, holder: holder}
	if uncounted {
		m.attempts--
	}
	if delay > 0 {
		delay = min(delay, sealmq.MaxDelay)
		m.until = now + delay.Milliseconds()
		e.sweepBy(q, m.until)
	}
	q.comeBack(seq, n, m)
	if delay <= 0 {
		e.expireInTime(q, n.arrived())
		q.wake(1)
	}
	out.back = appendReturn(out.back, copyRef{q.id, seq}, m)
}

// Close returns every held delivery to its place.
func (s *session) Close(counted bool) {
	e := s.e
	now := e.nowMillis()
	e.mu.Lock()
	if s.closed {
		e.mu.Unlock()
		return
	}
	s.closed = true
	for _, sub := range s.subs {
		sub.q.unsubscribe(sub)
	}
	err := e.takeBack(s.eachHeld, now, !counted)
	for _, l := range s.held {
		e.stopSweep(l)
	}
	e.mu.Unlock()
	e.warnUncounted(err)
}

// takeBack returns deliveries to their places. An error says that this is not recorded: then
// a crash loses the delivery counts, but no removal.
func (e *Engine) takeBack(list iter.Seq[*held], now int64, uncounted bool) (err error) {
	var out settling
	record := func() {
		failed := e.j.Room(true, len(out.back)+settledBytes*len(out.gone))
		if failed != nil {
			e.removals = append(e.removals, out.gone...)
		} else {
			failed = e.logSettling(&out)
		}
		err = cmp.Or(failed, err)
		e.moveDeadLater(out.dead)
		out = settling{}
	}
	n := 0
	for h := range list {
		e.giveBack(&out, h.q.at(h.seq), h, 0, uncounted, now)
		if n++; n%settleGroup == 0 {
			record()
		}
	}
	if n%settleGroup != 0 {
		record()
	}
	return err
}

func (e *Engine) warnUncounted(err error) {
	if err != nil {
		e.log.Warn("delivery counts are not recorded", "err", err)
	}
}
