package local

import (
	"maps"
	"slices"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// state is what the records of a journal add up to: queues with the messages in them, the
// ids that are remembered, definitions, and how much of each segment is still needed.
//
// It has neither lock nor clock nor files. The engine changes it under its own lock as it
// appends records, and a start builds it from them.
type state struct {
	queues map[string]*queue
	byID   map[uint32]*queue
	nextID uint32
	// neverDeclared are ids of queues whose declaration a crash has taken while a message
	// for them stayed.
	neverDeclared map[uint32]bool
	defs          map[string][]byte
	defsChanged   bool // queues or definitions, since the last definitions file

	copies int // in all queues
	dedup  dedup
	segs   map[uint64]*segmentUse // by generation
	// freed is told that a sealed segment has a copy less, and whether that was the last.
	freed func(empty bool)
}

func newState(freed func(empty bool)) state {
	return state{
		queues: map[string]*queue{}, byID: map[uint32]*queue{}, nextID: 1, neverDeclared: map[uint32]bool{},
		defs: map[string][]byte{}, segs: map[uint64]*segmentUse{}, freed: freed,
	}
}

func (s *state) addQueue(q *queue) {
	s.queues[q.name] = q
	s.byID[q.id] = q
	s.nextID = max(s.nextID, q.id+1)
	s.defsChanged = true
}

// removeQueue takes a queue out of sight. Its copies are counted until they are forgotten.
func (s *state) removeQueue(q *queue) {
	delete(s.queues, q.name)
	delete(s.byID, q.id)
	s.defsChanged = true
	q.deleted = true
}

// define applies definitions; those without a value are removed.
func (s *state) define(batch []engine.Definition) {
	for _, d := range batch {
		s.defsChanged = true
		if d.Value == nil {
			delete(s.defs, d.Key)
			continue
		}
		s.defs[string([]byte(d.Key))] = append([]byte{}, d.Value...)
	}
}

// definitions returns all definitions, in no order.
func (s *state) definitions() []engine.Definition {
	out := make([]engine.Definition, 0, len(s.defs))
	for k, v := range s.defs {
		out = append(out, engine.Definition{Key: k, Value: v})
	}
	return out
}

// declared captures what a definitions file is to hold.
func (s *state) declared() *definitions {
	c := &definitions{nextID: s.nextID, defs: s.definitions()}
	c.neverDeclared = slices.Collect(maps.Keys(s.neverDeclared))
	for _, q := range s.queues { // copies, which are written while declarations change
		c.queues = append(c.queues, &queue{id: q.id, name: q.name, options: q.options, paused: q.paused})
	}
	return c
}

// adopt makes queues and definitions those of a definitions file.
func (s *state) adopt(c *definitions) {
	s.queues, s.byID, s.defs = map[string]*queue{}, map[uint32]*queue{}, map[string][]byte{}
	s.nextID = c.nextID
	for _, id := range c.neverDeclared {
		s.neverDeclared[id] = true
	}
	for _, q := range c.queues {
		s.addQueue(q)
	}
	s.define(c.defs)
}

// put adds a copy at a sequence number of its queue that is free.
func (s *state) put(q *queue, seq uint64, n entry) {
	s.copies++
	q.put(seq, n)
	q.next = max(q.next, seq+1)
}

// forget removes a copy with everything that counts it.
func (s *state) forget(q *queue, seq uint64, nowSeconds uint32) {
	n := q.remove(seq)
	s.copies--
	if n.dedup != 0 {
		s.dedup.release(n.dedup-1, nowSeconds)
	}
	s.gone(n.pos())
}

// gone counts a copy less in the segment of its record.
func (s *state) gone(pos journal.Position) {
	u := s.use(pos.Generation())
	u.live--
	if !u.sealed {
		return
	}
	if u.live == 0 {
		u.settledBy = s.dedup.settledTotal
	}
	s.freed(u.live == 0)
}

// seal notes that a segment takes no more records.
func (s *state) seal(gen uint64) {
	u := s.use(gen)
	u.sealed = true
	if u.live == 0 {
		u.settledBy = s.dedup.settledTotal
	}
}

// use returns what is known of a segment.
func (s *state) use(gen uint64) *segmentUse {
	u := s.segs[gen]
	if u == nil {
		u = &segmentUse{gen: gen}
		s.segs[gen] = u
	}
	return u
}

// at returns a copy, or nil if it is gone.
func (s *state) at(c copyRef) (*queue, *entry) {
	q := s.byID[c.queue]
	if q == nil {
		return nil, nil
	}
	return q, q.at(c.seq)
}

// copyAt returns a copy if it lives at a position.
func (s *state) copyAt(c copyRef, pos journal.Position) *entry {
	if _, n := s.at(c); n != nil && n.pos() == pos {
		return n
	}
	return nil
}

// livingAt appends those copies to dst that live at a position.
func (s *state) livingAt(pos journal.Position, dst, copies []copyRef) []copyRef {
	for _, c := range copies {
		if s.copyAt(c, pos) != nil {
			dst = append(dst, c)
		}
	}
	return dst
}

// relocate moves copies to another record of their message.
func (s *state) relocate(copies []copyRef, from journal.Position, to journal.Place) {
	for _, c := range copies {
		if n := s.copyAt(c, from); n != nil {
			n.setPlace(to)
			s.gone(from)
		} else { // settled, or relocated meanwhile
			s.gone(to.Pos)
		}
	}
}
