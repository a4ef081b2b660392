package local

import (
	"container/heap"
	"time"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
)

// The sweeper does what is due: it expires messages, ends delays, takes back deliveries
// that were not acknowledged in time, frees memory, and forgets ids. One timer serves all of
// that, and a heap says which queues and deliveries it has to look at. So nothing is spent on
// those that have nothing due, however many there are.
const (
	maxSweep = time.Second
	minSweep = 5 * time.Millisecond
	// sweepGroup bounds how many queues and lists of deliveries are looked at under the lock
	// at once.
	sweepGroup = 256
)

// swept is what the sweeper looks at: a queue, or the deliveries of a session.
type swept interface {
	// sweep does what is due, and returns when there is something again, 0 if nothing is
	// waited for. Callers hold mu.
	sweep(e *Engine, now int64) (next int64)
	alarmClock() *alarm
}

// alarm is when something must be swept next.
type alarm struct {
	at    int64 // Unix milliseconds by Engine.nowMillis; 0 if nothing is waited for
	index int   // in the heap
}

func (a *alarm) alarmClock() *alarm { return a }

// alarms is a heap of what must be swept, for container/heap.
type alarms []swept

func (h alarms) Len() int           { return len(h) }
func (h alarms) Less(a, b int) bool { return h[a].alarmClock().at < h[b].alarmClock().at }
func (h alarms) Swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].alarmClock().index, h[b].alarmClock().index = a, b
}

func (h *alarms) Push(x any) {
	s := x.(swept)
	s.alarmClock().index = len(*h)
	*h = append(*h, s)
}

func (h *alarms) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// sweeper is the timer of the sweeper and what it waits for.
type sweeper struct {
	timer clock.Timer // nil before Open has recovered
	at    int64       // when timer fires; 0: not armed
	due   alarms

	// What sweeps leave to be logged without the lock.
	full      []engine.QueueInfo // dead-letter queues that drop
	uncounted error
}

// sweepBy has the sweeper look at s at a time or before. Callers hold mu.
func (e *Engine) sweepBy(s swept, at int64) {
	a := s.alarmClock()
	if a.at != 0 && a.at <= at {
		return
	}
	set := a.at != 0
	a.at = max(at, e.nowMillis()+minSweep.Milliseconds())
	if set {
		heap.Fix(&e.sweeper.due, a.index)
	} else {
		heap.Push(&e.sweeper.due, s)
	}
	if a.index == 0 {
		e.armSweep(a.at)
	}
}

// sweepSoon has the sweeper look at a queue that may have come to rest, or whose consumers were
// told of something. Callers hold mu.
func (e *Engine) sweepSoon(q *queue) {
	if !q.soon && !q.deleted {
		q.soon = true
		e.sweepBy(q, e.nowMillis()+maxSweep.Milliseconds())
	}
}

// stopSweep forgets what has ended. Callers hold mu.
func (e *Engine) stopSweep(s swept) {
	if a := s.alarmClock(); a.at != 0 {
		heap.Remove(&e.sweeper.due, a.index)
		a.at = 0
	}
}

// armSweep has the sweeper run at a time or before. Callers hold mu.
func (e *Engine) armSweep(at int64) {
	if e.closed || e.sweeper.timer == nil {
		return
	}
	if e.sweeper.at == 0 || at < e.sweeper.at {
		e.sweeper.at = at
		e.sweeper.timer.Reset(max(time.Duration(at-e.nowMillis())*time.Millisecond, minSweep))
	}
}

// sweep is one round of the sweeper.
func (e *Engine) sweep() {
	e.mu.Lock()
	now := e.nowMillis()
	e.sweeper.at = 0
	for n := 0; !e.closed && len(e.sweeper.due) > 0 && e.sweeper.due[0].alarmClock().at <= now; n++ {
		if n%sweepGroup == sweepGroup-1 {
			e.mu.Unlock()
			e.mu.Lock()
			continue
		}
		s := heap.Pop(&e.sweeper.due).(swept)
		s.alarmClock().at = 0
		if next := s.sweep(e, now); next != 0 {
			e.sweepBy(s, next)
		}
	}
	if e.closed {
		e.mu.Unlock()
		return
	}
	e.recordRemovals()
	if _, full := e.j.Space(); full != nil {
		poke(e.reclaimer.wake) // what consumers settled may be enough by now
	}
	e.forgetIDs(forgetGroup)
	by, set := e.noticeStep()
	if set {
		poke(e.reclaimer.wake) // which writes it down
	}
	next := now + maxSweep.Milliseconds()
	if len(e.sweeper.due) > 0 {
		next = min(next, e.sweeper.due[0].alarmClock().at)
	}
	e.armSweep(next)
	full, uncounted := e.sweeper.full, e.sweeper.uncounted
	e.sweeper.full, e.sweeper.uncounted = nil, nil
	e.mu.Unlock()
	e.warnUncounted(uncounted)
	if set {
		e.log.Warn("the clock was set; what waits keeps its age", "by", by)
	}
	for _, q := range full {
		e.log.Warn("dead-letter queue is full, its oldest messages are removed", "queue", q.Name, "removed_since_start", q.Dropped)
	}
}

// sweep does what is due in a queue. Sessions that have credit are told again of what waits.
func (q *queue) sweep(e *Engine, now int64) (next int64) {
	q.soon = false
	by := func(at int64) {
		if next == 0 || at < next {
			next = at
		}
	}
	q.wake(q.endDelays(now))
	if len(q.due) > 0 {
		by(q.due[0].at)
	}
	if q.options.TTL > 0 && q.ready > 0 {
		if !e.expire(q, now, purgeGroup) {
			by(now)
		} else if q.ready > 0 {
			by(max(q.nextExpiry(), now+sweepInterval(q.options.TTL)))
		}
	}
	if q.isDead() && q.dropped > q.warnedDrops {
		if again := q.warned + time.Minute.Milliseconds(); now > again {
			q.warned, q.warnedDrops = now, q.dropped
			e.sweeper.full = append(e.sweeper.full, q.info())
		} else {
			by(again + 1)
		}
	}
	q.rest()
	if len(q.subs) > 0 && q.hasWaiting() {
		for _, sub := range q.subs {
			if sub.hasCredit() {
				sub.notify() // which has the queue swept again
			}
		}
	}
	return next
}

// sweepInterval is how often something is swept that waits for a time: after a quarter of it, so
// that what is due at about the same time is done at once.
func sweepInterval(d time.Duration) int64 {
	return max(min(maxSweep, d/4), minSweep).Milliseconds()
}

// expireInTime has a copy that waits removed when its time is over. Callers hold mu.
func (e *Engine) expireInTime(q *queue, arrived int64) {
	if q.options.TTL > 0 {
		e.sweepBy(q, arrived+q.options.TTL.Milliseconds())
	}
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

// sweep takes deliveries back whose time is over: counted from the delivery or from the last
// ack of the session, whichever is later.
func (l *heldList) sweep(e *Engine, now int64) (next int64) {
	s := l.sess
	late := func(yield func(*held) bool) {
		for h := range l.each { // all that came later are younger
			if now < l.ends(h) || !yield(h) {
				return
			}
		}
	}
	if err := e.takeBack(late, now, false); err != nil {
		e.sweeper.uncounted = err
	}
	s.notifyIfReady()
	if l.root.next == &l.root {
		s.dropList(l)
		return 0
	}
	return max(l.ends(l.root.next), now+sweepInterval(l.timeout))
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
