package local

import (
	"maps"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/journal"
)

// Bounds of one Peek. What has a larger body than maxPeekBytes comes alone.
const (
	maxPeek      = 1000
	maxPeekBytes = 16 << 20
)

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
	bytes := 0
	for seq, m := range q.copiesFrom(from) {
		if seq >= q.visible || len(s.taken) == n {
			break
		}
		if m.phase == waiting {
			if bytes += int(m.body); bytes > maxPeekBytes && len(s.taken) > 0 {
				break
			}
			mark, back := q.marks[seq]
			s.taken = append(s.taken, taken{q: q, seq: seq, attempt: mark.attempts, back: back})
			s.places = append(s.places, m.place())
		}
	}
	e.mu.Unlock()
	return s.read(nil)
}

// Find returns the message with an id while a copy of it lives. It looks through
// memory in proportion to the backlog, one queue at a time, for each publisher that uses the id.
func (e *Engine) Find(id, publisher string) (found sealmq.Message, ok bool) {
	var slots []uint32
	var queues []*queue
	e.mu.Lock()
	for slot := range e.state.dedup.findAll(e.state.dedup.key.id(id)) {
		if e.state.dedup.slot(slot).settledAt == 0 {
			slots = append(slots, slot)
		}
	}
	if len(slots) > 0 {
		queues = slices.Collect(maps.Values(e.state.queues))
	}
	e.mu.Unlock()
	for _, slot := range slots[:min(len(slots), maxSameID)] {
		if m, there := e.findSlot(queues, slot, id); there && (!ok || m.Publisher == publisher) {
			found, ok = m, true
		}
	}
	return found, ok
}

// maxSameID bounds how many messages of one id Find looks at.
const maxSameID = 16

// findSlot returns the message that a slot is for.
func (e *Engine) findSlot(queues []*queue, slot uint32, id string) (m sealmq.Message, ok bool) {
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
