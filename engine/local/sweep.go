package local

import (
	"container/heap"
	"time"
)

// The sweeper does what time demands: messages that expire, delays that end,
// deliveries nobody acknowledges, ids that may be forgotten. One timer serves all.
const (
	maxSweep = time.Second
	minSweep = 5 * time.Millisecond
)

// sweepInterval is how often all queues are looked at: a quarter of the shortest time
// that any queue asks for. Callers hold mu.
func (e *Engine) sweepInterval() time.Duration {
	d := maxSweep
	for _, q := range e.queues {
		d = min(d, q.options.AckTimeout/4)
		if q.options.TTL > 0 {
			d = min(d, q.options.TTL/4)
		}
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
	next := e.sweepInterval()
	for _, q := range e.queues {
		if len(q.due) > 0 {
			next = min(next, e.dueAgain(q, now))
		}
		if q.options.TTL > 0 && q.ready > 0 && !e.expire(q, now, purgeGroup) {
			next = minSweep
		}
		if len(q.held) > 0 {
			e.reclaimSilent(q, now)
		}
	}
	e.forgetIDs(forgetGroup)
	e.armSweep(next)
}

// postpone makes a copy wait until a time. Callers hold mu.
func (e *Engine) postpone(q *queue, seq uint64, n *entry, until int64) {
	q.setState(n, delayed)
	heap.Push(&q.due, due{until, seq})
	e.armSweep(max(time.Duration(until-e.nowMillis())*time.Millisecond, minSweep))
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
	var gone []uint64
	for len(gone) < budget {
		seq, n := q.nextWaiting()
		if n == nil || !q.isExpired(n, now) {
			break
		}
		q.passed(seq)
		e.forgetCopy(q, seq)
		q.expired++
		gone = append(gone, seq)
	}
	e.logSettled(q, gone)
	return len(gone) < budget
}

// reclaimSilent takes deliveries back whose time is over: counted from the delivery or
// from the last ack of the connection, whichever is later.
func (e *Engine) reclaimSilent(q *queue, now int64) {
	limit := q.options.AckTimeout.Milliseconds()
	late := func(h held) bool { return now-max(h.since, h.sess.lastAck) >= limit }
	for _, h := range q.held {
		if late(h) {
			e.takeBack(q, now, late)
			return
		}
	}
}
