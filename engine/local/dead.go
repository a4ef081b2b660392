package local

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
)

// deadLetterer has the copies whose death is decided and recorded, and that must still be
// moved.
type deadLetterer struct {
	waiting []copyRef
	warned  int64         // when it was last logged that some wait, Unix milliseconds
	retry   clock.Timer   // wakes the dead-letterer for what could not be moved
	wake    chan struct{} // capacity 1
	// made is told of queues that are made for dead letters.
	made func(name string, o sealmq.QueueOptions)
}

// ReportDeadQueues has made called under the engine's lock.
func (e *Engine) ReportDeadQueues(made func(name string, o sealmq.QueueOptions)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dead.made = made
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

// moveDead moves decided copies. A copy that cannot be moved, for example because its dead-letter
// queue is full, is tried again later and does not delay those of other queues.
func (e *Engine) moveDead(list []copyRef) {
	var left []copyRef
	var why error
	full := map[uint32]bool{} // queues whose dead-letter queue takes nothing now
	for _, d := range list {
		if e.stopping.Err() != nil {
			return // the next start finds the decision
		}
		if full[d.queue] {
			left = append(left, d)
			continue
		}
		if err := e.moveOneDead(d); err != nil {
			why = cmp.Or(why, err)
			full[d.queue] = sealmq.CodeOf(err) == sealmq.QueueFull
			left = append(left, d)
		}
	}
	if left == nil {
		return
	}
	now := e.nowMillis()
	e.mu.Lock()
	e.dead.waiting = append(e.dead.waiting, left...)
	warn := e.j.Err() == nil && (e.dead.warned == 0 || now-e.dead.warned > time.Minute.Milliseconds())
	if warn {
		e.dead.warned = now
	}
	if !e.closed {
		e.dead.retry.Reset(retryAfter)
	}
	e.mu.Unlock()
	if warn {
		e.log.Warn("dead letters wait in their queue to be moved", "messages", len(left), "err", why)
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
	e.mu.Lock()
	err = nil
	if n := q.at(d.seq); n != nil { // to be refused without being read, as long as there is no room
		err = dlq.admitsSize(0, int(n.body))
	}
	e.mu.Unlock()
	if err == nil {
		err = e.transfer(q, d.seq, reason, dlq, dlq.admits)
	}
	if err == errGone {
		return nil
	}
	return err
}

// deadQueue returns the dead-letter queue of q and makes it if there is none.
func (e *Engine) deadQueue(q *queue) (*queue, error) {
	name := deadName(q.name)
	if err := e.lockWithRoomFor(func() int { return declareBytes(q.options) }); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if dlq := e.state.queues[name]; dlq != nil {
		return dlq, nil
	}
	dlq, err := e.createQueue(name, sealmq.DeadLetterOptions(q.options))
	if err == nil && e.dead.made != nil {
		e.dead.made(dlq.name, dlq.options)
	}
	return dlq, err
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
