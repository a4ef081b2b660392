package local

import (
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/journal"
)

// maxPeek bounds one Peek.
const maxPeek = 1000

// Peek returns waiting messages without delivering them.
func (e *Engine) Peek(name string, from uint64, n int) ([]sealmq.Delivery, error) {
	n = min(max(n, 1), maxPeek)
	s := session{e: e}
	e.mu.Lock()
	q := e.state.queues[name]
	if q == nil {
		e.mu.Unlock()
		return nil, sealmq.ErrNoQueue
	}
	for seq, m := range q.copiesFrom(from) {
		if seq >= q.visible || len(s.taken) == n {
			break
		}
		if m.phase == waiting {
			mark, back := q.marks[seq]
			s.taken = append(s.taken, taken{q: q, seq: seq, attempt: mark.attempts, back: back})
			s.places = append(s.places, m.place())
		}
	}
	e.mu.Unlock()
	return s.read(nil)
}

// Find returns the message with an id while a copy of it lives. It looks through
// memory in proportion to the backlog, one queue at a time.
func (e *Engine) Find(id string) (m sealmq.Message, ok bool) {
	hash := e.state.dedup.key.id(id)
	e.mu.Lock()
	slot := e.state.dedup.find(hash)
	live := slot != noSlot && e.state.dedup.slot(slot).settledAt == 0
	var queues []*queue
	if live {
		for _, q := range e.state.queues {
			queues = append(queues, q)
		}
	}
	e.mu.Unlock()
	for _, q := range queues {
		s := session{e: e}
		e.mu.Lock()
		for seq, n := range q.copiesFrom(0) {
			if n.dedup == slot+1 {
				s.taken, s.places = []taken{{q: q, seq: seq}}, []journal.Place{n.place()}
				break
			}
		}
		e.mu.Unlock()
		if out, err := s.read(nil); err == nil && len(out) == 1 && out[0].ID == id {
			return out[0].Message, true
		}
	}
	return m, false
}
