package local

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/journal"
)

// dying is a copy that goes to the dead-letter queue: that is decided and recorded, and the
// copy must still be moved.
type dying struct {
	queue uint32
	seq   uint64
}

// isDead reports whether q is a dead-letter queue: nothing dies there again.
func (q *queue) isDead() bool { return strings.HasSuffix(q.name, sealmq.DeadSuffix) }

// decideDead decides that a copy goes to the dead-letter queue. The caller must have it
// moved. The decision is part of the return record, so it survives a crash before the move.
func (e *Engine) decideDead(out *settling, q *queue, seq uint64, n *entry, reason string, attempts uint32, holder uint64) {
	if reason == "" {
		reason = sealmq.DeathRejected
	}
	if len(reason) > sealmq.MaxNameBytes {
		reason = strings.ToValidUTF8(reason[:sealmq.MaxNameBytes], "")
	}
	m := mark{attempts: attempts, reason: strings.Clone(reason), holder: holder}
	q.setState(n, dyingState)
	q.setMark(seq, m)
	out.dead = append(out.dead, dying{q.id, seq})
	out.back = appendReturn(out.back, q.id, seq, m)
}

// moveDeadLater leaves decided copies to the dead-letterer. Callers hold mu.
func (e *Engine) moveDeadLater(list []dying) {
	if len(list) > 0 {
		e.dying = append(e.dying, list...)
		poke(e.wakeDeadLetterer)
	}
}

// runDeadLetterer moves decided copies that no settlement waits for: those of closed
// sessions, of ack timeouts, and what a crash left. It reads bodies, so it works without
// the lock.
func (e *Engine) runDeadLetterer() {
	defer e.background.Done()
	for {
		select {
		case <-e.stop:
			return
		case <-e.wakeDeadLetterer:
		}
		e.mu.Lock()
		list := e.dying
		e.dying = nil
		e.mu.Unlock()
		e.moveDead(list)
	}
}

// moveDead moves decided copies. A copy that cannot be moved is tried again later and
// does not delay the others.
func (e *Engine) moveDead(list []dying) {
	var left []dying
	for _, d := range list {
		if e.stopping.Err() != nil {
			return // the next start finds the decision
		}
		err := e.moveOneDead(d)
		if err == nil {
			continue
		}
		if left == nil && e.j.Err() == nil {
			e.log.Warn("a dead letter waits to be moved", "err", err)
		}
		left = append(left, d)
	}
	if left == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dying = append(e.dying, left...)
	if !e.closed {
		e.deadTimer.Reset(retryAfter)
	}
}

// moveOneDead moves one decided copy to its dead-letter queue.
func (e *Engine) moveOneDead(d dying) error {
	e.mu.Lock()
	q := e.byID[d.queue]
	var n *entry
	if q != nil {
		n = q.at(d.seq)
	}
	if n == nil || n.state != dyingState {
		e.mu.Unlock()
		return nil
	}
	reason := q.marks[d.seq].reason
	e.mu.Unlock()
	dlq, err := e.deadQueue(q)
	if err != nil {
		return err
	}
	return e.transfer(q, d.seq, reason, dlq, nil)
}

// deadQueue returns the dead-letter queue of q and makes it if there is none.
func (e *Engine) deadQueue(q *queue) (*queue, error) {
	name := deadName(q.name)
	if err := e.lockWithRoom(1024); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if dlq := e.queues[name]; dlq != nil {
		return dlq, nil
	}
	return e.createQueue(name, sealmq.DeadLetterOptions(q.options))
}

// deadName names the dead-letter queue. A name that would be too long is shortened, and
// kept apart from others with the same beginning by a hash.
func deadName(name string) string {
	if limit := sealmq.MaxNameBytes - len(sealmq.DeadSuffix); len(name) > limit {
		sum := fmt.Sprintf("-%08x", crc32.Checksum([]byte(name), castagnoli))
		name = strings.ToValidUTF8(name[:limit-len(sum)], "") + sum
	}
	return name + sealmq.DeadSuffix
}

// errTargetGone says that a message cannot be moved because its target was deleted.
var errTargetGone = &sealmq.Error{Code: sealmq.NoQueue, Message: "the target queue was deleted"}

// transfer moves one copy (in dyingState) to the end of another queue: one record that
// stores it there and settles it here. The target's declaration is synced first, or a
// torn batch could keep the move and lose the target. admit may refuse, under the lock.
// The move is not synced when transfer returns.
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
		m, place, err := e.readCopy(&taken{q: q, seq: seq})
		if err != nil {
			if errors.Is(err, errGone) {
				return nil
			}
			return err
		}
		if err := e.lockWithRoom(place.Bytes + movedBytes); err != nil {
			return err
		}
		n := q.at(seq)
		switch {
		case q.deleted || n == nil || n.state != dyingState:
			err = nil
		case n.place() != place:
			e.mu.Unlock()
			continue // it was copied forward meanwhile
		case dest.deleted:
			err = errTargetGone
		default:
			if admit != nil {
				msg := sealmq.Message{ID: m.id, Body: m.body}
				err = admit(&msg)
			}
			if err == nil {
				err = e.appendMoved(q, seq, n, m, reason, dest)
			}
		}
		e.mu.Unlock()
		return err
	}
}

// movedBytes is what a moved message may need beyond its record: the reason and the
// queue of its death.
const movedBytes = 1024

// readCopy reads one copy where it is. errGone says that there is nothing to read.
func (e *Engine) readCopy(t *taken) (m *messageRecord, place journal.Place, err error) {
	place, ok := e.placeOf(t)
	for ok {
		var r journal.Record
		var m messageRecord
		if r, err = e.readRecord(place); err == nil {
			m, err = decodeMessage(r.Payload, nil)
		}
		if err == nil {
			return &m, place, nil
		}
		now, still := e.placeOf(t)
		var damage *journal.Damage
		if errors.As(err, &damage) && damage.Err != nil {
			return nil, place, err // it may be intact
		}
		if still && now == place {
			e.quarantine([]copyRef{{t.q.id, t.seq}}, place.Pos, err)
			break
		}
		place, ok = now, still
	}
	return nil, place, errGone
}

func (e *Engine) appendMoved(q *queue, seq uint64, n *entry, m *messageRecord, reason string, dest *queue) error {
	now := e.nowMillis()
	m.flags = m.flags&flagHash | flagMoved
	m.arrived, m.fromQueue, m.fromSeq = now, q.id, seq
	m.deathReason, m.deathQueue = "", ""
	if reason != "" {
		m.deathReason, m.deathQueue = reason, q.name
	}
	m.copies = append(m.copies[:0], copyRef{dest.id, dest.next})
	e.scratch = m.appendHead(e.scratch[:0])
	place, err := e.store(true, m, e.scratch, e.dedup.key.id(m.id))
	if err != nil {
		return err
	}
	slot := n.dedup
	if slot != 0 {
		e.dedup.retain(slot - 1)
	}
	if reason != "" || dest.options.DropOldest {
		e.dropOldest(dest, len(m.body)) // a dead letter is never refused
	}
	e.copies++
	dest.put(dest.next, newEntry(place, len(m.body), slot-1, now))
	at := dest.next
	dest.next++
	e.forgetCopy(q, seq)
	if reason != "" {
		q.dead++
	}
	return e.j.OnSync(func(err error) {
		if err == nil {
			e.mu.Lock()
			dest.visible = max(dest.visible, at+1)
			e.wake(dest, 1)
			e.mu.Unlock()
		}
	})
}

// Move moves waiting messages from the front of one queue to the end of another.
func (e *Engine) Move(from, to string, n int, done func(int, error)) {
	e.mu.Lock()
	src, dst := e.queues[from], e.queues[to]
	stopped := e.closed
	if src != nil && dst != nil && !stopped {
		e.background.Add(1)
	}
	e.mu.Unlock()
	switch {
	case src == nil || dst == nil:
		done(0, sealmq.ErrNoQueue)
	case stopped:
		done(0, sealmq.ErrUnavailable)
	case src == dst:
		e.background.Done()
		done(0, &sealmq.Error{Code: sealmq.BadArgument, Message: "source and destination are the same queue"})
	default:
		go func() {
			defer e.background.Done()
			moved, err := e.moveAll(src, dst, n)
			if syncErr := e.j.Sync(); err == nil {
				err = unavailable(syncErr)
			}
			done(moved, err)
		}()
	}
}

func (e *Engine) moveAll(src, dst *queue, n int) (moved int, err error) {
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
		src.setState(m, dyingState)
		e.mu.Unlock()
		if err := e.transfer(src, seq, "", dst, dst.admits); err != nil {
			e.mu.Lock()
			if m := src.at(seq); m != nil && m.state == dyingState {
				src.waitAgain(seq, m)
				e.wake(src, 1)
			}
			e.mu.Unlock()
			return moved, storageErrorOr(err)
		}
		moved++
	}
	return moved, nil
}

// storageErrorOr keeps errors that have a code.
func storageErrorOr(err error) error {
	if sealmq.CodeOf(err) != "" {
		return err
	}
	return storageError(err)
}

// maxPeek bounds one Peek.
const maxPeek = 1000

// Peek returns waiting messages from the front without delivering them.
func (e *Engine) Peek(name string, n int) ([]sealmq.Delivery, error) {
	n = min(max(n, 1), maxPeek)
	s := session{e: e}
	e.mu.Lock()
	q := e.queues[name]
	if q == nil {
		e.mu.Unlock()
		return nil, sealmq.ErrNoQueue
	}
	q.each(func(seq uint64, m *entry) bool {
		if m.state == waiting && seq < q.visible {
			mark, back := q.marks[seq]
			s.taken = append(s.taken, taken{q: q, seq: seq, attempt: mark.attempts, back: back})
			s.places = append(s.places, m.place())
		}
		return len(s.taken) < n && seq < q.visible
	})
	e.mu.Unlock()
	return s.read(nil)
}

// Find returns the message with an id while a copy of it lives. It looks through
// memory in proportion to the backlog, one queue at a time.
func (e *Engine) Find(id string) (m sealmq.Message, ok bool) {
	hash := e.dedup.key.id(id)
	e.mu.Lock()
	slot := e.dedup.find(hash)
	live := slot != noSlot && e.dedup.slot(slot).settledAt == 0
	var queues []*queue
	if live {
		for _, q := range e.queues {
			queues = append(queues, q)
		}
	}
	e.mu.Unlock()
	for _, q := range queues {
		s := session{e: e}
		e.mu.Lock()
		q.each(func(seq uint64, n *entry) bool {
			if n.dedup == slot+1 {
				s.taken = append(s.taken, taken{q: q, seq: seq})
				s.places = append(s.places, n.place())
			}
			return len(s.taken) == 0
		})
		e.mu.Unlock()
		if out, err := s.read(nil); err == nil && len(out) == 1 && out[0].ID == id {
			return out[0].Message, true
		}
	}
	return m, false
}
