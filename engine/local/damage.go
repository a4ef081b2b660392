package local

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/journal"
)

// unreadablePause is how long a message waits that could not be read.
const unreadablePause = time.Minute

// damageFound is the damage that was found since Open, or by it.
type damageFound struct {
	last    uint64            // the latest segment in which some was found while running
	asides  []*journal.Damage // damaged bytes that wait to be written to files of their own
	found   atomic.Uint64     // damaged places
	notKept atomic.Uint64     // of these, places whose bytes could not be kept aside
}

// quarantine takes copies whose record is damaged out of their queues and keeps its bytes
// aside. The damage is counted, logged and shown by health; what follows in the queue is
// delivered. A record that could not be read at all may be intact: it is tried again
// later, and nothing is settled. Nothing here waits for the disk.
func (e *Engine) quarantine(copies []copyRef, pos journal.Position, cause error) {
	e.damage.found.Add(1)
	var damage *journal.Damage
	errors.As(cause, &damage)
	unread := isUnread(cause)
	kept := true
	var lost []taken
	e.mu.Lock()
	if !unread {
		e.damage.last = max(e.damage.last, pos.Generation())
		kept = damage == nil || e.keepAside(damage)
		poke(e.reclaimer.wake)
	}
	for _, c := range copies {
		q, n := e.state.at(c)
		if n == nil || n.pos() != pos {
			continue
		}
		lost = append(lost, taken{q: q, seq: c.seq})
		e.withdraw(q, c.seq, n, unread)
	}
	e.recordRemovals()
	e.mu.Unlock()
	for _, t := range lost {
		e.log.Error("message is damaged on disk and cannot be delivered",
			"queue", t.q.name, "seq", t.seq, "position", pos, "err", cause)
	}
	if !kept {
		e.giveUpAside(damage, errors.New("too many wait for the disk"))
	}
}

// isUnread reports whether a record could not be read at all: it may be intact.
func isUnread(err error) bool {
	var damage *journal.Damage
	return errors.As(err, &damage) && damage.Err != nil
}

// withdraw takes a copy that cannot be delivered out of its queue: for good, or for a
// while if its record could not be read. Callers hold mu.
func (e *Engine) withdraw(q *queue, seq uint64, n *entry, unread bool) {
	if h := q.held[seq]; h != nil {
		s := h.sess
		e.unhold(h)
		defer s.notifyIfReady()
	}
	if unread {
		m := q.marks[seq]
		m.until = e.nowMillis() + unreadablePause.Milliseconds()
		q.setMark(seq, m)
		q.delay(seq, n)
		e.sweepBy(q, m.until)
		return
	}
	e.forget(q, seq)
	e.removals = append(e.removals, copyRef{q.id, seq})
	q.wake(1)
}

// Damaged bytes that wait to be written are bounded in number and size.
const (
	maxAsides     = 64
	maxAsideBytes = 16 << 20
)

// keepAside leaves damaged bytes to the reclaimer, which writes them to a file of their
// own: a consumer gets what is intact even if the disk does not answer. It reports false
// if too many wait. Callers hold mu.
func (e *Engine) keepAside(d *journal.Damage) bool {
	waiting := d.Bytes
	for _, other := range e.damage.asides {
		waiting += other.Bytes
	}
	if n := len(e.damage.asides); n == maxAsides || n > 0 && waiting > maxAsideBytes {
		return false
	}
	e.damage.asides = append(e.damage.asides, d)
	return true
}

func (e *Engine) giveUpAside(d *journal.Damage, err error) {
	e.damage.notKept.Add(1)
	e.log.Warn("damaged bytes are not kept aside", "file", d.File, "position", d.Pos, "bytes", d.Bytes, "err", err)
}

// saveAsides writes the damaged bytes that wait. What cannot be written is counted and
// given up. Only the reclaimer calls it.
func (e *Engine) saveAsides() {
	for {
		e.mu.Lock()
		if len(e.damage.asides) == 0 {
			e.mu.Unlock()
			return
		}
		d := e.damage.asides[0]
		e.damage.asides = e.damage.asides[1:]
		e.mu.Unlock()
		if err := d.SaveAside(e.cfg.FS); err != nil {
			e.giveUpAside(d, err)
		}
	}
}

// sealDamaged ends the segment that takes records if damage was found in it, and reports
// whether the next start would find damage that was found while running. The checkpoint that
// follows is behind the damage, so that it does not: the operator knows of it, and what it
// cost is recorded.
func (e *Engine) sealDamaged(ctx context.Context) (found bool, err error) {
	e.mu.Lock()
	gen := e.damage.last
	found = gen > 0 && gen >= e.saved.at.Generation()
	e.mu.Unlock()
	if found {
		err = e.j.Seal(ctx, gen)
	}
	return found, err
}

// lastCheckpoint takes a checkpoint when the engine is closed. It tells the next start how far
// the journal went, and is behind damage that was found.
func (e *Engine) lastCheckpoint() {
	found, err := e.sealDamaged(context.Background())
	if e.j.Err() != nil {
		return
	}
	// Twice: what the journal calls applied is behind a batch when the next one is answered.
	err = cmp.Or(err, e.j.Sync(), e.j.Sync())
	if at, _ := e.j.Applied(); err == nil && (found || at > e.saved.at) {
		_, err = e.takeCheckpoint()
	}
	if err != nil {
		e.log.Warn("the last checkpoint was not written", "err", err)
	}
}
