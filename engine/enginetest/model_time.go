package enginetest

import (
	"math"
	"time"
)

// tick does what time demands and sets the timer for the next moment that matters. It
// is called with mu locked.
func (m *Model) tick() {
	now := m.now()
	var next time.Time
	due := func(at time.Time) bool {
		if !at.After(now) {
			return true
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
		return false
	}
	for _, name := range m.state.names() {
		q := m.state.queues[name]
		for _, e := range append([]*entry(nil), q.entries...) {
			m.tickEntry(q, e, due)
		}
	}
	m.forget(due)
	m.stopTimer()
	if !next.IsZero() {
		m.timer = m.cfg.Clock.AfterFunc(next.Sub(now), m.wake)
	}
}

func (m *Model) wake() {
	m.mu.Lock()
	m.notify()
	m.end()
}

func (m *Model) tickEntry(q *queue, e *entry, due func(time.Time) bool) {
	if e.holder != nil {
		since := e.delivered
		if e.holder.lastAck.After(since) {
			since = e.holder.lastAck
		}
		if due(since.Add(q.options.AckTimeout)) {
			m.comeBack(q, e, 0, false)
		}
		return
	}
	if e.dying != "" {
		m.moveDead(q, e, e.dying)
		return
	}
	if due(e.notBefore) && q.options.TTL > 0 && e.synced && due(e.entered.Add(q.options.TTL)) {
		m.expire(q, e)
	}
}

func (q *queue) expired(e *entry, now time.Time) bool {
	return q.options.TTL > 0 && !e.entered.Add(q.options.TTL).After(now)
}

func (m *Model) expire(q *queue, e *entry) {
	q.totals.Expired++
	m.write(gone{q.name, e.seq, m.now()})
}

// forget drops ids that are remembered long enough, or that are too many.
func (m *Model) forget(due func(time.Time) bool) {
	for {
		var oldest scoped
		first := uint64(math.MaxUint64)
		for id, i := range m.state.ids {
			if i.copies > 0 {
				continue
			}
			if due(i.ended.Add(m.cfg.DedupWindow)) {
				m.write(forgotten{id})
				continue
			}
			if i.order < first {
				oldest, first = id, i.order
			}
		}
		if first == math.MaxUint64 || len(m.state.ids) <= m.cfg.DedupMaxIDs {
			return
		}
		m.write(forgotten{oldest})
	}
}
