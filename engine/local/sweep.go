package local

import (
	"time"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
)

// The sweeper does what is due: it expires messages, ends delays, takes back deliveries
// that were not acknowledged in time, and forgets ids. One timer serves all of that.
const (
	maxSweep = time.Second
	minSweep = 5 * time.Millisecond
)

// sweeper is the timer of the sweeper.
type sweeper struct {
	timer clock.Timer // nil before Open has recovered
	at    time.Time   // when timer fires; zero: not armed
}

// armSweep has the sweeper run within d. Callers hold mu.
func (e *Engine) armSweep(d time.Duration) {
	if e.closed || e.sweeper.timer == nil {
		return
	}
	at := e.cfg.Clock.Now().Add(d)
	if e.sweeper.at.IsZero() || at.Before(e.sweeper.at) {
		e.sweeper.at = at
		e.sweeper.timer.Reset(d)
	}
}

// sweep is one round of the sweeper.
func (e *Engine) sweep() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.sweeper.at = time.Time{}
	now := e.nowMillis()
	next := maxSweep
	var full []engine.QueueInfo // dead-letter queues that drop
	for _, q := range e.state.queues {
		next = min(next, e.sweepQueue(q, now))
		if q.isDead() && q.dropped > q.warnedDrops && now-q.warned > time.Minute.Milliseconds() {
			q.warned, q.warnedDrops = now, q.dropped
			full = append(full, q.info())
		}
	}
	var uncounted error
	for s := range e.consumers.sessions {
		if err := e.reclaimSilent(s, now); err != nil {
			uncounted = err
		}
	}
	e.recordRemovals()
	if _, full := e.j.Space(); full != nil {
		poke(e.reclaimer.wake) // what consumers settled may be enough by now
	}
	e.forgetIDs(forgetGroup)
	e.armSweep(next)
	e.mu.Unlock()
	e.warnUncounted(uncounted)
	for _, q := range full {
		e.log.Warn("dead-letter queue is full, its oldest messages are removed", "queue", q.Name, "removed_since_start", q.Dropped)
	}
}

// sweepQueue does what is due in one queue, and returns when it must be swept again.
// Sessions that have credit are told again of what waits.
func (e *Engine) sweepQueue(q *queue, now int64) (next time.Duration) {
	next = q.sweepInterval()
	q.wake(q.endDelays(now))
	if len(q.due) > 0 {
		next = min(next, max(time.Duration(q.due[0].at-now)*time.Millisecond, minSweep))
	}
	if q.options.TTL > 0 && q.ready > 0 && !e.expire(q, now, purgeGroup) {
		next = minSweep
	}
	q.rest()
	if len(q.subs) > 0 && q.hasWaiting() {
		for _, sub := range q.subs {
			if sub.hasCredit() {
				sub.notify()
			}
		}
	}
	return next
}

// expire removes expired messages from the front, at most budget, and reports whether
// it finished.
func (e *Engine) expire(q *queue, now int64, budget int) bool {
	if q.options.TTL == 0 {
		return true
	}
	for range budget {
		seq, n := q.nextWaiting()
		if n == nil || !q.isExpired(n, now) {
			e.recordRemovals()
			return true
		}
		q.passed(seq)
		e.forget(q, seq)
		q.expired++
		e.removals = append(e.removals, copyRef{q.id, seq})
	}
	e.recordRemovals()
	return false
}

// reclaimSilent takes deliveries back whose time is over: counted from the delivery or
// from the last ack of the connection, whichever is later.
func (e *Engine) reclaimSilent(s *session, now int64) error {
	late := func(h *held) bool {
		return now-max(h.since, s.lastAck) >= h.q.options.AckTimeout.Milliseconds()
	}
	for h := range s.held.each {
		if late(h) {
			return e.takeBack(s, now, false, late)
		}
		if now-max(h.since, s.lastAck) < minSweep.Milliseconds() {
			break // all that came later are younger still
		}
	}
	return nil
}

// removalGroup bounds the size of one record of removals.
const removalGroup = 512

// recordRemovals records the removals that wait, if there is room. Callers hold mu.
func (e *Engine) recordRemovals() {
	for len(e.removals) > 0 {
		group := e.removals[:min(len(e.removals), removalGroup)]
		e.scratch = appendSettle(e.scratch[:0], group)
		if _, err := e.urgent(kindSettle, e.scratch); err != nil {
			return
		}
		e.removals = e.removals[len(group):]
	}
	e.removals = nil
}
