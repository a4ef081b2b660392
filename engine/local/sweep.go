package local

import (
	"container/heap"
	"slices"
	"time"
)

// The sweeper does what time demands: messages that expire, delays that end,
// deliveries nobody acknowledges, ids that may be forgotten. One timer serves all.
const (
	maxSweep = time.Second
	minSweep = 5 * time.Millisecond
)

// sweepInterval is how often a queue wants to be looked at: after a quarter of the
// shortest time that it promises. All are looked at as often as any one wants.
func (q *queue) sweepInterval() time.Duration {
	d := min(maxSweep, q.options.AckTimeout/4)
	if q.options.TTL > 0 {
		d = min(d, q.options.TTL/4)
	}
	return max(d, minSweep)
}

// armSweep sees to it that the sweeper runs within d. Callers hold mu.
func (e *Engine) armSweep(d time.Duration) {
	if e.closed || e.sweepTimer == nil {
		return
	}
	at := e.cfg.Clock.Now().Add(d)
	if e.sweepAt.IsZero() || at.Before(e.sweepAt) {
		e.sweepAt = at
		e.sweepTimer.Reset(d)
	}
}

// sweep is one round of the sweeper.
func (e *Engine) sweep() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.sweepAt = time.Time{}
	now := e.nowMillis()
	next := maxSweep
	for _, q := range e.queues {
		next = min(next, q.sweepInterval())
		if len(q.due) > 0 {
			next = min(next, e.dueAgain(q, now))
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
	}
	for s := range e.sessions {
		e.reclaimSilent(s, now)
	}
	e.logUnlogged()
	if _, full := e.j.Space(); full != nil {
		poke(e.wakeReclaimer) // what consumers settled may be enough by now
	}
	e.forgetIDs(forgetGroup)
	e.armSweep(next)
}

// postpone makes a copy wait until a time. Callers hold mu.
func (e *Engine) postpone(q *queue, seq uint64, n *entry, until int64) {
	q.setState(n, delayed)
	heap.Push(&q.due, due{until, seq})
	if len(q.due) > 2*q.delayed+64 {
		q.compactDue()
	}
	e.armSweep(max(time.Duration(until-e.nowMillis())*time.Millisecond, minSweep))
}

// compactDue drops what was settled or returned by other means before it was due.
func (q *queue) compactDue() {
	q.due = slices.DeleteFunc(q.due, func(d due) bool {
		n := q.at(d.seq)
		return n == nil || n.state != delayed || q.marks[d.seq].until != d.at
	})
	heap.Init(&q.due)
}

// dueAgain makes delayed copies wait that are due, and returns the time to the next.
func (e *Engine) dueAgain(q *queue, now int64) time.Duration {
	woken := 0
	for len(q.due) > 0 && q.due[0].at <= now {
		d := heap.Pop(&q.due).(due)
		if n := q.at(d.seq); n != nil && n.state == delayed && q.marks[d.seq].until == d.at {
			q.waitAgain(d.seq, n)
			woken++
		}
	}
	e.wake(q, woken)
	if len(q.due) == 0 {
		return maxSweep
	}
	return max(time.Duration(q.due[0].at-now)*time.Millisecond, minSweep)
}

func (q *queue) isExpired(n *entry, now int64) bool {
	return q.options.TTL > 0 && now-n.arrived() >= q.options.TTL.Milliseconds()
}

// expire removes expired messages from the front, at most budget, and reports whether
// it got through.
func (e *Engine) expire(q *queue, now int64, budget int) bool {
	if q.options.TTL == 0 {
		return true
	}
	for range budget {
		seq, n := q.nextWaiting()
		if n == nil || !q.isExpired(n, now) {
			e.logUnlogged()
			return true
		}
		q.passed(seq)
		e.forgetCopy(q, seq)
		q.expired++
		e.unlogged = append(e.unlogged, copyRef{q.id, seq})
	}
	e.logUnlogged()
	return false
}

// reclaimSilent takes deliveries back whose time is over: counted from the delivery or
// from the last ack of the connection, whichever is later.
func (e *Engine) reclaimSilent(s *session, now int64) {
	late := func(h *held) bool {
		return now-max(h.since, s.lastAck) >= h.q.options.AckTimeout.Milliseconds()
	}
	for h := s.oldest; h != nil; h = h.next {
		if late(h) {
			e.takeBack(s, now, false, late)
			return
		}
		if now-max(h.since, s.lastAck) < minSweep.Milliseconds() {
			return // nor is any that came later
		}
	}
}
