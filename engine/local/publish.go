package local

import (
	"errors"
	"fmt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// publishing is the state of one Publish call.
type publishing struct {
	results []engine.PublishResult
	ids     []uint64
	scopes  []uint32
	hashes  []contentHash
	scratch []byte
	queues  []*queue
	copies  []copyRef
	seen    []reached
}

// reached is how far a queue becomes visible with a batch.
type reached struct {
	q   *queue
	seq uint64
	n   int
}

// Publish stores each message in all of its queues or in none.
func (e *Engine) Publish(batch []engine.Publish, done func([]engine.PublishResult)) (taken int) {
	p := prepare(e.state.dedup.key, batch)
	now := e.nowMillis()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.publishDone(p, journal.ErrClosed, done)
		return len(batch)
	}
	// Close waits for the end of this, so that what was appended is answered as stored.
	e.background.Add(1)
	defer e.background.Done()
	e.forgetIDs(2*len(batch) + 8)
	for taken < len(batch) {
		need, err := e.publishOne(p, taken, &batch[taken], now)
		if errors.Is(err, journal.ErrNoRoom) {
			e.mu.Unlock()
			err = e.j.WaitRoom(e.stopping, false, need)
			e.mu.Lock()
			if err == nil {
				continue
			}
			p.results[taken] = engine.PublishResult{Outcome: engine.Refused, Err: storageError(err)}
		} else if err != nil {
			break
		}
		taken++
	}
	p.results = p.results[:taken]
	e.j.OnSync(func(err error) { e.publishDone(p, err, done) })
	e.mu.Unlock()
	return taken
}

// prepare computes the hashes, which needs no lock.
func prepare(key hashKey, batch []engine.Publish) *publishing {
	p := &publishing{
		results: make([]engine.PublishResult, len(batch)),
		ids:     make([]uint64, len(batch)),
		scopes:  make([]uint32, len(batch)),
		hashes:  make([]contentHash, len(batch)),
	}
	for i := range batch {
		m := &batch[i].Message
		if !recognised(&batch[i]) || len(batch[i].Queues) == 0 {
			continue
		}
		p.ids[i] = key.id(m.ID)
		if i > 0 && batch[i].Scope == batch[i-1].Scope && p.ids[i-1] != 0 {
			p.scopes[i] = p.scopes[i-1]
		} else {
			p.scopes[i] = key.scope(batch[i].Scope)
		}
		if d := m.Digest; len(d) > 0 {
			p.hashes[i], p.scratch = key.digest(p.scratch, m.ID, d)
		} else {
			p.hashes[i], p.scratch = key.content(p.scratch, m)
		}
	}
	return p
}

// maxHead bounds a message record without its body: an entry has 16 bits for
// the size beyond the body, in units of 8 bytes.
const maxHead = 8 * (1<<16 - 8)

var errDigest = &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("the digest is longer than %d bytes", sealmq.MaxDigestBytes)}

// recognised reports whether a repeat of the message is recognised.
func recognised(req *engine.Publish) bool { return req.Message.ID != "" && req.Repeat == engine.ByID }

// publishOne decides about one message and stores it. If one of the queues does not exist it
// returns ErrNoQueue, and if the caller must wait for room in the journal ErrNoRoom with the
// bytes that need it; then it has changed nothing. Callers hold mu.
func (e *Engine) publishOne(p *publishing, i int, req *engine.Publish, now int64) (need int, err error) {
	res := &p.results[i]
	if stop, err := e.decide(p, i, req); stop {
		return 0, err
	}
	rec := p.record(i, req, now)
	e.scratch = rec.appendHead(e.scratch[:0])
	if len(e.scratch) > maxHead {
		refuse(res, "", &sealmq.Error{Code: sealmq.TooLarge, Message: fmt.Sprintf(
			"properties and queues of the message take more than %d bytes", maxHead)})
		return 0, nil
	}
	if journal.RecordBytes(len(e.scratch)+len(rec.body))+movedBytes > e.maxPayload {
		refuse(res, "", storageError(journal.ErrTooLarge))
		return 0, nil
	}
	place, err := e.store(false, &rec, e.scratch, p.ids[i])
	switch {
	case errors.Is(err, journal.ErrNoRoom):
		return len(e.scratch) + len(rec.body), err
	case err != nil:
		if errors.Is(err, journal.ErrDiskFull) && !e.reclaimer.full.Swap(true) {
			poke(e.reclaimer.wake)
		}
		refuse(res, "", storageError(err))
		return 0, nil
	}
	dedupSlot := noSlot
	if rec.flags&flagHash != 0 {
		dedupSlot = e.state.dedup.add(p.ids[i], p.scopes[i], p.hashes[i], len(p.queues), uint32(now/1000))
	}
	for _, q := range p.queues {
		if q.options.DropOldest {
			e.dropOldest(q, len(rec.body))
		}
		p.reach(q, q.next)
		e.state.put(q, q.next, newEntry(place, len(rec.body), dedupSlot, now))
		e.expireInTime(q, now)
		q.published++
	}
	res.Outcome = engine.Stored
	return 0, nil
}

// decide finds the queues of a message and decides whether it is stored. If it is not, stop
// is true, and the result is set unless one of the queues does not exist.
func (e *Engine) decide(p *publishing, i int, req *engine.Publish) (stop bool, err error) {
	s, res := &e.state, &p.results[i]
	if len(req.Queues) == 0 {
		res.Outcome, res.Err = engine.Unrouted, sealmq.ErrUnroutable
		return true, nil
	}
	if len(req.Message.Digest) > sealmq.MaxDigestBytes {
		return refuse(res, "", errDigest), nil
	}
	if recognised(req) {
		if outcome := s.dedup.known(p.ids[i], p.scopes[i], p.hashes[i]); outcome != 0 {
			if res.Outcome = outcome; outcome == engine.Conflict {
				res.Err = sealmq.ErrDuplicate
			}
			return true, nil
		}
	}
	p.queues = p.queues[:0]
	for _, name := range req.Queues {
		q := s.queues[name]
		if q == nil {
			return true, sealmq.ErrNoQueue
		}
		p.queues = append(p.queues, q)
	}
	for _, q := range p.queues {
		if err := q.admits(&req.Message); err != nil {
			q.refused++
			return refuse(res, q.name, err), nil
		}
	}
	for _, name := range req.Copies {
		if q := s.queues[name]; q != nil && q.admits(&req.Message) == nil {
			p.queues = append(p.queues, q)
		} else if q != nil {
			q.refused++
		}
	}
	if s.copies+len(p.queues) > e.cfg.MaxMessages {
		return refuse(res, "", &sealmq.Error{Code: sealmq.QueueFull, Message: fmt.Sprintf("the broker is full: %d messages", e.cfg.MaxMessages)}), nil
	}
	return false, nil
}

func refuse(res *engine.PublishResult, queue string, err error) bool {
	*res = engine.PublishResult{Outcome: engine.Refused, Queue: queue, Err: err}
	return true
}

// record makes the record of a message that is stored at the end of its queues.
func (p *publishing) record(i int, req *engine.Publish, now int64) messageRecord {
	m := &req.Message
	rec := messageRecord{
		published: m.Published.UnixMilli(), arrived: now, publisher: m.Publisher,
		exchange: m.Exchange, key: m.Key, id: m.ID, properties: m.Properties, body: m.Body,
	}
	if recognised(req) {
		rec.flags |= flagHash
		rec.hash = p.hashes[i]
		if rec.scope = p.scopes[i]; rec.scope != 0 {
			rec.flags |= flagScope
		}
	}
	p.copies = p.copies[:0]
	for _, q := range p.queues {
		p.copies = append(p.copies, copyRef{q.id, q.next})
	}
	rec.copies = p.copies
	return rec
}

// reach notes that a queue is visible up to seq once the batch is synced.
func (p *publishing) reach(q *queue, seq uint64) {
	for k := range p.seen {
		if p.seen[k].q == q {
			p.seen[k].seq = seq
			p.seen[k].n++
			return
		}
		if k == 64 {
			break // many queues: a second entry for one of them does no harm
		}
	}
	p.seen = append(p.seen, reached{q, seq, 1})
}

// publishDone makes a synced batch visible and answers it.
func (e *Engine) publishDone(p *publishing, err error, done func([]engine.PublishResult)) {
	if err != nil {
		for i := range p.results {
			p.results[i] = engine.PublishResult{Outcome: engine.Refused, Err: unavailable(err)}
		}
	} else if len(p.seen) > 0 {
		e.mu.Lock()
		for _, r := range p.seen {
			r.q.visible = max(r.q.visible, r.seq+1)
			r.q.wake(r.n)
		}
		e.mu.Unlock()
	}
	done(p.results)
}

// dropOldest makes room for one more message, by removing the oldest that wait. The new
// message is in the journal before them, so that a crash between the two leaves one too
// many and never one too few.
func (e *Engine) dropOldest(q *queue, body int) {
	for q.isOver(body) {
		seq, ok := q.oldestWaiting()
		if !ok {
			break
		}
		e.forget(q, seq)
		q.dropped++
		e.removals = append(e.removals, copyRef{q.id, seq})
		e.sweepSoon(q) // which warns if it is a dead-letter queue
	}
	e.recordRemovals()
}

// forget removes a copy from memory with everything that counts it. Callers hold mu.
func (e *Engine) forget(q *queue, seq uint64) {
	if e.state.forget(q, seq, e.nowSeconds()); q.live == 0 {
		e.sweepSoon(q)
	}
}
