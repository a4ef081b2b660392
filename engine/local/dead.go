package local

import (
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
)

// deadLetterer has the copies whose death is decided and recorded, and that must still be
// moved.
type deadLetterer struct {
	waiting []copyRef
	retry   clock.Timer   // wakes the dead-letterer for what could not be moved
	wake    chan struct{} // capacity 1
}

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
	q.die(seq, n, m)
	out.dead = append(out.dead, copyRef{q.id, seq})
	out.back = appendReturn(out.back, copyRef{q.id, seq}, m)
}

// moveDeadLater leaves decided copies to the dead-letterer. Callers hold mu.
func (e *Engine) moveDeadLater(list []copyRef) {
	if len(list) > 0 {
		e.dead.waiting = append(e.dead.waiting, list...)
		poke(e.dead.wake)
	}
}

// runDeadLetterer moves decided copies that no settlement waits for: those of closed
// sessions, of ack timeouts, and what a crash left. It reads bodies, so it works without
// the lock.
func (e *Engine) runDeadLetterer() {
	for {
		select {
		case <-e.stopping.Done():
			return
		case <-e.dead.wake:
		}
		e.mu.Lock()
		list := e.dead.waiting
		e.dead.waiting = nil
		e.mu.Unlock()
		e.moveDead(list)
	}
}

// moveDead moves decided copies. A copy that cannot be moved is tried again later and
// does not delay the others.
func (e *Engine) moveDead(list []copyRef) {
	var left []copyRef
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
	e.dead.waiting = append(e.dead.waiting, left...)
	if !e.closed {
		e.dead.retry.Reset(retryAfter)
	}
}

// moveOneDead moves one decided copy to its dead-letter queue.
func (e *Engine) moveOneDead(d copyRef) error {
	e.mu.Lock()
	q, n := e.state.at(d)
	if n == nil || n.phase != dying {
		e.mu.Unlock()
		return nil
	}
	reason := q.marks[d.seq].reason
	e.mu.Unlock()
	dlq, err := e.deadQueue(q)
	if err != nil {
		return err
	}
	if err := e.transfer(q, d.seq, reason, dlq, nil); err != errGone {
		return err
	}
	return nil
}

// deadQueue returns the dead-letter queue of q and makes it if there is none.
func (e *Engine) deadQueue(q *queue) (*queue, error) {
	name := deadName(q.name)
	if err := e.lockWithRoom(1024); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if dlq := e.state.queues[name]; dlq != nil {
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
