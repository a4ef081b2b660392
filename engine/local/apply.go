package local

import (
	"fmt"

	"github.com/sealmq/sealmq/journal"
)

// apply changes the state by one record. The checkpoint's position lies inside a segment,
// which has no index file yet: messages before the position in that segment are read from
// the segment. The checkpoint has the effect of all other records before it.
func (r *recovery) apply(rec journal.Record) error {
	e := r.e
	if rec.Kind == kindMessage {
		return r.message(rec)
	}
	if rec.Pos < r.cp.at {
		return nil
	}
	switch rec.Kind {
	case kindSettle:
		return decodeSettle(rec.Payload, func(c copyRef) {
			if q, n := e.state.at(c); n != nil {
				e.forget(q, c.seq)
			}
		})
	case kindReturn:
		return decodeReturn(rec.Payload, func(c copyRef, m mark) {
			if q, n := e.state.at(c); n != nil {
				q.setMark(c.seq, m)
			}
		})
	case kindDeclare:
		d := decoder{b: rec.Payload}
		q := d.queue()
		if d.err == nil {
			r.declare(q)
		}
		return d.err
	case kindDelete:
		d := decoder{b: rec.Payload}
		if q := e.state.byID[uint32(d.uvarint())]; q != nil {
			e.detach(q)
			e.clear(q)
		}
		return d.err
	case kindDefine:
		defs, err := decodeDefinitions(rec.Payload)
		e.state.define(defs)
		return err
	}
	return fmt.Errorf("record of unknown kind %d at %v: %w", rec.Kind, rec.Pos, journal.ErrNewer)
}

// declare adds a queue, unless the definitions know better.
func (r *recovery) declare(d *queue) {
	e := r.e
	e.state.nextID = max(e.state.nextID, d.id+1)
	switch q := e.state.byID[d.id]; {
	case q != nil && q.name == d.name: // declared again, with other options
		q.options, q.paused = d.options, d.paused
	case q != nil:
		r.nameAgain(q, d)
	case d.id < r.known: // deleted before the definitions were written
	case e.state.queues[d.name] != nil: // the deletion of its namesake was lost, so this is a lost queue
	default:
		r.declared[d.id] = true
		if s := r.at[d.id]; s != nil {
			d.next = s.next
		}
		e.state.addQueue(d)
	}
}

// message applies a message record, and notes it for the index file of its segment.
func (r *recovery) message(rec journal.Record) error {
	e := r.e
	m, err := decodeMessage(rec.Payload, nil)
	if err != nil {
		return fmt.Errorf("message at %v: %w", rec.Pos, err)
	}
	if r.hasLostQueue(m.copies) {
		e.log.Warn("a message was dropped that was never confirmed: the declaration of its queue is lost", "position", rec.Pos)
		return nil
	}
	var id uint64
	if m.flags&flagHash != 0 {
		id = e.state.dedup.key.id(m.id)
	}
	if m.flags&flagMoved != 0 && rec.Pos >= r.cp.at {
		if q, n := e.state.at(copyRef{m.fromQueue, m.fromSeq}); n != nil {
			// The id goes on living in the copy that is added next.
			if n.dedup != 0 {
				e.state.dedup.retain(n.dedup - 1)
				defer e.state.dedup.release(n.dedup-1, e.nowSeconds())
			}
			e.forget(q, m.fromSeq)
		}
	}
	place := journal.Place{Pos: rec.Pos, Bytes: rec.Bytes()}
	e.state.use(rec.Pos.Generation()).index(&m, place, id)
	r.add(&indexEntry{place, len(m.body), m.flags, m.arrived, id, m.hash, m.scope, m.copies})
	return nil
}

// add adds the copies of one message that live according to the checkpoint, or that
// came after it, and remembers its id.
func (r *recovery) add(n *indexEntry) {
	e := r.e
	u := e.state.use(n.place.Pos.Generation())
	u.add(len(n.copies), n.place.Bytes)
	slot := noSlot
	hashed := n.flags&flagHash != 0
	for _, c := range n.copies {
		q := e.state.byID[c.queue]
		if q == nil || n.place.Pos < r.cp.at && !r.lived(c) {
			u.live--
			continue
		}
		if have := q.at(c.seq); have != nil { // its record was copied forward
			r.addAgain(q, have, n)
			continue
		}
		if hashed {
			slot = e.state.dedup.revive(n.id, n.scope, n.hash)
		}
		// What came in the future, by a clock that was wrong, would hold up all behind it.
		e.state.put(q, c.seq, newEntry(n.place, n.body, slot, min(n.arrived, e.nowMillis())))
		if r.lived(c) {
			r.found[c.queue]++
		}
	}
	if hashed && slot == noSlot {
		switch i := e.state.dedup.find(n.id, n.scope); {
		case i == noSlot:
			e.state.dedup.add(n.id, n.scope, n.hash, 0, e.nowSeconds())
		case e.state.dedup.slot(i).settledAt != 0: // used again after it was forgotten
			e.state.dedup.slot(i).content = n.hash.short()
		}
	}
}

// addAgain takes the later one of two records of a copy. But a message that comes again, because
// the checkpoint was lost, may have its later record in a segment that was released.
func (r *recovery) addAgain(q *queue, have *entry, n *indexEntry) {
	other := n.place.Pos
	if n.place.Pos > have.pos() && r.gens[n.place.Pos.Generation()] {
		other = have.pos()
		more := int64(n.body) - int64(have.body)
		q.bytes += more
		q.readyBytes += more
		have.body = uint32(n.body)
		have.setPlace(n.place)
	}
	r.e.state.use(other.Generation()).live--
}

// lived reports whether a copy lived at the checkpoint.
func (r *recovery) lived(c copyRef) bool {
	s := r.at[c.queue]
	return s != nil && s.has(c.seq)
}
