package local

import (
	"errors"
	"strings"

	"github.com/sealmq/sealmq"
)

// errTargetGone says that a message cannot be moved because its target was deleted.
var errTargetGone = &sealmq.Error{Code: sealmq.NoQueue, Message: "the target queue was deleted"}

// transfer moves one copy (in dying) to the end of another queue: one record that
// stores it there and settles it here. The target's declaration is synced first, or a
// torn batch could keep the move and lose the target. admit may refuse, under the lock.
// The move is not synced when transfer returns. errGone says that there is nothing to move:
// the copy was settled with its queue, or is damaged and was taken out.
func (e *Engine) transfer(q *queue, seq uint64, reason string, dest *queue, admit func(*sealmq.Message) error) error {
	e.mu.Lock()
	durable := dest.durable
	e.mu.Unlock()
	if !durable {
		if err := e.j.Sync(); err != nil {
			return unavailable(err)
		}
	}
	for {
		t := &taken{q: q, seq: seq}
		place, _ := e.placeOf(t)
		r, err := e.readRecord(place)
		m, place, err := e.messageOf(t, place, r, err, nil)
		switch {
		case err == errGone, isUnread(err):
			return err
		case err != nil:
			e.quarantine([]copyRef{{q.id, seq}}, place.Pos, err)
			return errGone
		}
		if err := e.lockWithRoom(place.Bytes + movedBytes); err != nil {
			return err
		}
		n := q.at(seq)
		switch {
		case q.deleted || n == nil || n.phase != dying:
			err = errGone
		case n.place() != place:
			e.mu.Unlock()
			continue // it was copied forward meanwhile
		case dest.deleted:
			err = errTargetGone
		default:
			if err = admit(&sealmq.Message{ID: m.id, Body: m.body}); err == nil {
				err = e.appendMoved(q, seq, n, &m, reason, dest)
			}
		}
		e.mu.Unlock()
		return err
	}
}

// movedBytes is what a moved message may need beyond its record: the reason and the
// queue of its death.
const movedBytes = 1024

// appendMoved stores a copy at the end of dest and settles it in q. Callers hold mu and
// have made sure of the room.
func (e *Engine) appendMoved(q *queue, seq uint64, n *entry, m *messageRecord, reason string, dest *queue) error {
	now := e.nowMillis()
	m.flags = m.flags&(flagHash|flagScope) | flagMoved
	m.arrived, m.fromQueue, m.fromSeq = now, q.id, seq
	m.deathReason, m.deathQueue = "", ""
	if reason != "" {
		m.deathReason, m.deathQueue = reason, q.name
	}
	m.copies = append(m.copies[:0], copyRef{dest.id, dest.next})
	e.scratch = m.appendHead(e.scratch[:0])
	place, err := e.store(true, m, e.scratch, e.state.dedup.key.id(m.id))
	if err != nil {
		return err
	}
	slot := n.dedup
	if slot != 0 {
		e.state.dedup.retain(slot - 1)
	}
	if dest.options.DropOldest {
		e.dropOldest(dest, len(m.body))
	}
	at := dest.next
	e.state.put(dest, at, newEntry(place, len(m.body), slot-1, now))
	e.expireInTime(dest, now)
	e.forget(q, seq)
	if reason != "" {
		q.dead++
	}
	e.j.OnSync(func(err error) {
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			dest.visible = max(dest.visible, at+1)
			dest.wake(1)
		}
	})
	return nil
}

// Move moves waiting messages from the front of one queue to the end of another.
func (e *Engine) Move(from, to string, n int, done func(int, error)) {
	e.move(from, to, done, func(src, dst *queue) (int, error) { return e.moveFront(src, dst, n) })
}

// MoveMessages moves waiting messages with these ids to the end of another queue.
func (e *Engine) MoveMessages(from, to string, ids []string, done func(int, error)) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[strings.Clone(id)] = true
	}
	e.move(from, to, done, func(src, dst *queue) (int, error) { return e.moveWanted(src, dst, wanted) })
}

// move runs a move in the background and answers once it is synced.
func (e *Engine) move(from, to string, done func(int, error), run func(src, dst *queue) (int, error)) {
	e.mu.Lock()
	src, dst := e.state.queues[from], e.state.queues[to]
	var err error
	switch {
	case src == nil || dst == nil:
		err = sealmq.ErrNoQueue
	case e.closed:
		err = sealmq.ErrUnavailable
	case src == dst:
		err = &sealmq.Error{Code: sealmq.BadArgument, Message: "source and destination are the same queue"}
	default:
		e.background.Go(func() {
			moved, err := run(src, dst)
			if syncErr := e.j.Sync(); err == nil {
				err = unavailable(syncErr)
			}
			done(moved, err)
		})
	}
	e.mu.Unlock()
	if err != nil {
		done(0, err)
	}
}

func (e *Engine) moveFront(src, dst *queue, n int) (moved int, err error) {
	e.mu.Lock()
	if n <= 0 {
		n = src.ready
	}
	e.mu.Unlock()
	for moved < n && e.stopping.Err() == nil {
		e.mu.Lock()
		seq, m := src.nextWaiting()
		if m == nil || src.deleted || dst.deleted {
			e.mu.Unlock()
			return moved, nil
		}
		src.passed(seq)
		src.setPhase(m, dying)
		e.mu.Unlock()
		switch err := e.moveOne(src, seq, dst, dst.admits); {
		case err == nil:
			moved++
		case err != errGone:
			return moved, storageError(err)
		}
	}
	return moved, nil
}

// moveOne moves a copy that was taken out of reach. If it cannot, it puts the copy back.
func (e *Engine) moveOne(src *queue, seq uint64, dst *queue, admit func(*sealmq.Message) error) error {
	err := e.transfer(src, seq, "", dst, admit)
	if err == nil || err == errGone {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if m := src.at(seq); m != nil && m.phase == dying {
		src.waitAgain(seq, m)
		e.expireInTime(src, m.arrived())
		src.wake(1)
	}
	return err
}

// scanGroup bounds how many copies are looked at under the lock at a time.
const scanGroup = 4096

// moveWanted moves the copies with these ids. Memory has no ids, but the slots of those that
// are remembered.
func (e *Engine) moveWanted(src, dst *queue, wanted map[string]bool) (moved int, err error) {
	slots := make(map[uint32]bool, len(wanted))
	e.mu.Lock()
	for id := range wanted {
		for slot := range e.state.dedup.findAll(e.state.dedup.key.id(id)) {
			slots[slot+1] = true
		}
	}
	e.mu.Unlock()
	// Two ids may share a slot by a collision, so the id in the record decides.
	admit := func(m *sealmq.Message) error {
		if !wanted[m.ID] {
			return errNotWanted
		}
		return dst.admits(m)
	}
	for next, more := uint64(0), true; more; {
		var seqs []uint64
		seqs, next, more = e.listWanted(src, next, slots)
		for _, seq := range seqs {
			if e.stopping.Err() != nil || !e.takeToMove(src, seq, dst) {
				continue
			}
			switch err := e.moveOne(src, seq, dst, admit); {
			case err == nil:
				moved++
			case err != errNotWanted && err != errGone:
				return moved, storageError(err)
			}
		}
	}
	return moved, nil
}

var errNotWanted = errors.New("another message")

// listWanted lists copies that have one of these slots, from next on, and says where to go on.
func (e *Engine) listWanted(q *queue, next uint64, slots map[uint32]bool) (seqs []uint64, on uint64, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	looked := 0
	for seq, n := range q.copiesFrom(next) {
		if looked++; looked > scanGroup {
			return seqs, seq, true
		}
		if slots[n.dedup] {
			seqs = append(seqs, seq)
		}
	}
	return seqs, 0, false
}

// takeToMove takes a copy that waits out of reach, so that it can be moved.
func (e *Engine) takeToMove(src *queue, seq uint64, dst *queue) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := src.at(seq)
	if n == nil || n.phase != waiting || seq >= src.visible || src.deleted || dst.deleted {
		return false
	}
	src.setPhase(n, dying)
	return true
}
