package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// lockWithRoom takes the lock when an urgent record of n bytes fits. Everything is
// appended under the lock, so the room is still there when it returns nil.
func (e *Engine) lockWithRoom(n int) error {
	return e.lockWithRoomFor(func() int { return n })
}

// lockWithRoomFor is lockWithRoom for a record whose size depends on the state: size is
// called with the lock.
func (e *Engine) lockWithRoomFor(size func() int) error {
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return sealmq.ErrUnavailable
		}
		n := size()
		err := e.j.Room(true, n)
		if err == nil {
			return nil
		}
		e.mu.Unlock()
		if !errors.Is(err, journal.ErrNoRoom) {
			return storageError(err)
		}
		if err := e.j.WaitRoom(e.stopping, true, n); err != nil {
			return storageError(err)
		}
	}
}

// DeclareQueue creates a queue, or compares options with those of an existing one.
func (e *Engine) DeclareQueue(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error)) {
	err := o.Validate()
	o = o.Normalize()
	if err == nil {
		err = e.lockWithRoom(declareBytes(o))
	}
	if err != nil {
		done(engine.QueueInfo{}, false, err)
		return
	}
	q := e.state.queues[name]
	created := q == nil
	if created {
		q, err = e.createQueue(name, o)
	} else if !compare.Match(q.options, o) {
		err = &sealmq.Error{Code: sealmq.Mismatch, Message: fmt.Sprintf("queue '%s' exists with other options", name)}
	}
	var info engine.QueueInfo
	if err == nil {
		info = q.info()
	}
	e.answer(err, func(err error) { done(info, created && err == nil, err) })
}

// ChangeQueue records the declaration of a queue again, with other options.
func (e *Engine) ChangeQueue(name string, o sealmq.QueueOptions, done func(error)) {
	if err := o.Validate(); err != nil {
		done(err)
		return
	}
	o = o.Normalize()
	o.Sealed = strings.Clone(o.Sealed)
	e.declareAgain(name, done, func(q *queue) (sealmq.QueueOptions, bool) {
		o.Owner = q.options.Owner
		return o, q.paused
	})
}

// PauseQueue records the declaration of a queue again, paused or not. What waits is delivered
// from the moment at which it is recorded, not stored: a crash in between pauses it again.
func (e *Engine) PauseQueue(name string, paused bool, done func(error)) {
	e.declareAgain(name, done, func(q *queue) (sealmq.QueueOptions, bool) { return q.options, paused })
}

// declareAgain records that a queue has other options from now on, or is paused or not: what
// change makes of it.
func (e *Engine) declareAgain(name string, done func(error), change func(*queue) (o sealmq.QueueOptions, paused bool)) {
	var q *queue
	var o sealmq.QueueOptions
	var paused bool
	err := e.lockWithRoomFor(func() int {
		if q = e.state.queues[name]; q == nil {
			return 0
		}
		o, paused = change(q)
		return declareBytes(o)
	})
	if err != nil {
		done(err)
		return
	}
	if err = sealmq.ErrNoQueue; q != nil {
		e.scratch = appendQueue(e.scratch[:0], q.id, q.name, o, paused)
		_, err = e.urgent(kindDeclare, e.scratch)
	}
	if err == nil {
		q.options, q.paused = o, paused
		e.state.defsChanged = true
		e.sweepBy(q, e.nowMillis()) // which finds out what is due when
		if q.hasWaiting() {
			q.wake(q.ready)
		}
	}
	e.answer(err, done)
}

// declareBytes bounds what the record of a declaration takes. In JSON a character may
// take six times its size.
func declareBytes(o sealmq.QueueOptions) int {
	return 2048 + 6*(len(o.Sealed)+len(o.Owner.ID)+len(o.Owner.Issuer))
}

// createQueue records and adds a queue. Callers hold mu and have made
// sure of the room.
func (e *Engine) createQueue(name string, o sealmq.QueueOptions) (*queue, error) {
	o.Sealed = strings.Clone(o.Sealed)
	o.Owner = sealmq.Owner{ID: strings.Clone(o.Owner.ID), Issuer: strings.Clone(o.Owner.Issuer)}
	q := newQueue(e.state.nextID, strings.Clone(name), o)
	e.scratch = appendQueue(e.scratch[:0], q.id, q.name, o, false)
	if _, err := e.urgent(kindDeclare, e.scratch); err != nil {
		return nil, err
	}
	e.state.addQueue(q)
	e.j.OnSync(func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		q.durable = err == nil
	})
	return q, nil
}

// DeleteQueue removes a queue with its messages.
func (e *Engine) DeleteQueue(name string, only engine.If, done func(int, error)) {
	if err := e.lockWithRoom(64); err != nil {
		done(0, err)
		return
	}
	q := e.state.queues[name]
	err := q.mayDelete(only)
	if err == nil {
		e.scratch = binary.AppendUvarint(e.scratch[:0], uint64(q.id))
		_, err = e.urgent(kindDelete, e.scratch)
	}
	removed := 0
	if err == nil {
		removed = q.live
		e.detach(q)
		e.background.Go(func() { e.clear(q) })
	}
	e.answer(err, func(err error) { done(removed, err) })
}

// detach removes a queue from the state and ends its subscriptions. Its copies are
// counted until clear.
func (e *Engine) detach(q *queue) {
	e.state.removeQueue(q)
	e.stopSweep(q)
	for _, h := range q.held {
		e.unhold(h)
	}
	for _, sub := range q.subs {
		sub.sess.forget(sub)
		sub.sess.cfg.Ended(sub.id, q.name, sealmq.ErrNoQueue)
	}
	q.subs = nil
}

// clear forgets all copies of a detached queue in small groups.
func (e *Engine) clear(q *queue) {
	for {
		e.mu.Lock()
		seqs := q.copiesWhere(0, q.next, func(*entry) bool { return true })
		for _, seq := range seqs {
			e.forget(q, seq)
		}
		e.mu.Unlock()
		if len(seqs) == 0 {
			return
		}
	}
}

// purgeGroup bounds the work under the lock while many messages are removed.
const purgeGroup = 256

// PurgeQueue removes what waits at the time of the call, synced or not.
func (e *Engine) PurgeQueue(name string, done func(int, error)) {
	e.mu.Lock()
	q := e.state.queues[name]
	if q == nil {
		e.mu.Unlock()
		done(0, sealmq.ErrNoQueue)
		return
	}
	bound := q.next
	e.mu.Unlock()
	removed := 0
	for from := uint64(0); ; {
		if err := e.lockWithRoom(purgeGroup * settledBytes); err != nil {
			done(removed, err)
			return
		}
		seqs := q.copiesWhere(from, bound, func(n *entry) bool { return n.phase != unacked })
		for _, seq := range seqs {
			e.forget(q, seq)
			e.removals = append(e.removals, copyRef{q.id, seq})
		}
		e.recordRemovals()
		removed += len(seqs)
		if len(seqs) < purgeGroup {
			e.onSync(func(err error) { done(removed, err) })
			e.mu.Unlock()
			return
		}
		from = seqs[len(seqs)-1] + 1
		e.mu.Unlock()
	}
}

// info describes a queue, with times by the clock.
func (e *Engine) info(q *queue) engine.QueueInfo {
	i := q.info()
	if !i.Oldest.IsZero() {
		i.Oldest = i.Oldest.Add(time.Duration(e.clockAhead()) * time.Millisecond)
	}
	return i
}

// Queue describes one queue.
func (e *Engine) Queue(name string) (engine.QueueInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if q := e.state.queues[name]; q != nil {
		return e.info(q), nil
	}
	return engine.QueueInfo{}, sealmq.ErrNoQueue
}

// Queues describes all queues, sorted by name.
func (e *Engine) Queues() ([]engine.QueueInfo, error) {
	e.mu.Lock()
	out := make([]engine.QueueInfo, 0, len(e.state.queues))
	for _, q := range e.state.queues {
		out = append(out, e.info(q))
	}
	e.mu.Unlock()
	sort.Slice(out, func(a, b int) bool { return out[a].Name < out[b].Name })
	return out, nil
}
