package local

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// indexFile is an index file on disk.
type indexFile struct{ ids int }

// retryAfter is how long background work waits after an error, a full disk for instance.
const retryAfter = time.Second

// forwardBatch bounds what is read at once while survivors are copied forward.
const forwardBatch = 256

// forgetGroup bounds how many message ids are forgotten under the lock at once.
const forgetGroup = 100_000

// sealed is the journal's notice that a segment takes no more records.
func (e *Engine) sealed(gen uint64) {
	e.mu.Lock()
	u := e.use(gen)
	u.sealed = true
	if u.live == 0 {
		u.settledBy = e.dedup.settledTotal
	}
	e.mu.Unlock()
	poke(e.wakeReclaimer)
}

// runReclaimer is the one goroutine that takes checkpoints and gives segments back to the
// journal.
func (e *Engine) runReclaimer() {
	defer e.background.Done()
	e.ensureBallast()
	var retry clock.Timer
	for {
		select {
		case <-e.stop:
			if retry != nil {
				retry.Stop()
			}
			e.checkpointPastDamage()
			return
		case <-e.wakeReclaimer:
		}
		err := e.reclaim()
		if err == nil {
			e.reclaimErr.Store(nil)
			continue
		}
		if e.stopping.Err() != nil || e.j.Err() != nil || errors.Is(err, journal.ErrClosed) {
			continue
		}
		if isFatal(err) {
			e.j.Stop(err)
			continue
		}
		if e.reclaimErr.Swap(&err) == nil {
			e.log.Warn("checkpoint was not written, it will be tried again", "err", err)
		}
		if retry == nil {
			retry = e.cfg.Clock.AfterFunc(retryAfter, func() { poke(e.wakeReclaimer) })
		} else {
			retry.Reset(retryAfter)
		}
	}
}

// isFatal tells a broken disk from a full one. After a failed write or sync nothing is
// known of the file, and trying again proves nothing.
func isFatal(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !journal.IsNoSpace(err)
}

// reclaim does one round: checkpoint if a segment was sealed, release what is
// settled, and copy survivors forward where they hold too much space.
func (e *Engine) reclaim() error {
	if err := e.sealDamaged(e.stopping); err != nil {
		return err
	}
	for {
		var noSpace error
		if e.wantsCheckpoint() {
			if noSpace = e.checkpointOrBallast(); noSpace != nil && !journal.IsNoSpace(noSpace) {
				return noSpace
			}
		}
		// Without room for a checkpoint, what is behind the last one can still be freed.
		if err := e.release(); err != nil {
			return err
		}
		e.dropIndexes()
		victim := e.victim()
		if victim == nil {
			return noSpace
		}
		if err := e.forward(victim); err != nil {
			return err
		}
	}
}

// sealDamaged ends the segment that takes records if damage was found in it. The
// checkpoint that follows is behind the damage, so that the next start does not meet
// it: the operator knows of it, and what it cost is recorded.
func (e *Engine) sealDamaged(ctx context.Context) error {
	gen, met := e.damageAfterCheckpoint()
	if !met {
		return nil
	}
	return e.j.Seal(ctx, gen)
}

// damageAfterCheckpoint tells whether the next start would meet damage that was found while
// running, and in which segment.
func (e *Engine) damageAfterCheckpoint() (gen uint64, met bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.damagedIn, e.damagedIn > 0 && e.damagedIn >= e.checkpointAt.Generation()
}

// checkpointPastDamage takes the checkpoint that is missing when the engine is closed soon
// after damage was found.
func (e *Engine) checkpointPastDamage() {
	if _, met := e.damageAfterCheckpoint(); !met || e.j.Err() != nil {
		return
	}
	err := e.sealDamaged(context.Background())
	for range 2 { // what the journal calls applied is behind a batch when the next one is answered
		if err == nil {
			err = e.j.Sync()
		}
	}
	if err == nil {
		_, err = e.takeCheckpoint()
	}
	if err != nil {
		e.log.Warn("checkpoint was not written, the next start will meet damage that is known", "err", err)
	}
}

// wantsCheckpoint reports whether a segment was sealed since the last one, or has no
// index, or whether removals wait that only a checkpoint can still record.
func (e *Engine) wantsCheckpoint() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.unlogged) > 0 {
		return true
	}
	for gen, u := range e.segs {
		if _, ok := e.indexed[gen]; u.sealed && (!ok || gen >= e.checkpointAt.Generation()) {
			return true
		}
	}
	return false
}

// checkpointOrBallast takes a checkpoint. When the disk is full it gives up the ballast
// file for it and then segments that are not needed soon, because without checkpoints
// and index files no segment comes free.
func (e *Engine) checkpointOrBallast() error {
	_, err := e.takeCheckpoint()
	if journal.IsNoSpace(err) && e.dropBallast() {
		_, err = e.takeCheckpoint()
	}
	for journal.IsNoSpace(err) && e.j.LendSpace(func() { _, err = e.takeCheckpoint() }) {
	}
	if err == nil {
		e.ensureBallast()
	}
	return err
}

// release gives segments back in which nothing lives, once everything that settled
// their messages is synced, the checkpoint is behind them, and an index file keeps their
// ids.
func (e *Engine) release() error {
	var gens []uint64
	e.mu.Lock()
	e.logUnlogged()
	for gen, u := range e.segs {
		if len(e.unlogged) > 0 {
			break
		}
		_, indexed := e.indexed[gen]
		if u.sealed && u.live == 0 && indexed && gen < e.checkpointAt.Generation() && !u.released {
			gens = append(gens, gen)
		}
	}
	e.mu.Unlock()
	if len(gens) == 0 {
		return nil
	}
	if err := e.j.Sync(); err != nil {
		return err
	}
	for _, gen := range gens {
		e.j.Release(gen)
		e.mu.Lock()
		e.segs[gen].released = true
		e.mu.Unlock()
	}
	return nil
}

// dropIndexes removes index files of released segments whose ids are all forgotten.
func (e *Engine) dropIndexes() {
	var drop []uint64
	e.mu.Lock()
	e.forgetIDs(forgetGroup)
	for gen, u := range e.segs {
		if _, ok := e.indexed[gen]; ok && u.released && (u.ids == 0 || u.settledBy <= e.dedup.forgotten) {
			drop = append(drop, gen)
			delete(e.segs, gen)
		}
	}
	e.mu.Unlock()
	for _, gen := range drop {
		// A file that comes back after a crash names ids that nobody needs; no more.
		if err := e.cfg.FS.Remove(e.storeDir(indexName(gen))); err != nil {
			e.log.Warn("index file is not removed", "segment", gen, "err", err)
		}
		delete(e.indexed, gen)
	}
}

// victim picks the sealed segment with the fewest living bytes, when sealed segments
// take more than twice the space of what lives in them plus four segments; on a full
// disk also before, if what lives in it leaves half of the remaining room to acks.
func (e *Engine) victim() *segmentUse {
	full := e.j.Full() != nil
	e.full.Store(full)
	room := e.j.RoomLeft()
	e.mu.Lock()
	defer e.mu.Unlock()
	var used, live int64
	var best *segmentUse
	size := int64(e.segmentBytes())
	for gen, u := range e.segs {
		if !u.sealed || u.released || gen >= e.checkpointAt.Generation() {
			continue
		}
		used += size
		live += u.liveBytes()
		if u.live > 0 && (best == nil || u.liveBytes() < best.liveBytes()) {
			best = u
		}
	}
	switch {
	case best == nil || best.liveBytes() > size*3/4:
		return nil
	case full && best.liveBytes()*2 < room:
		return best
	case !full && used > 2*live+4*size:
		return best
	}
	return nil
}

func (e *Engine) segmentBytes() int {
	if e.cfg.SegmentBytes == 0 {
		return journal.DefaultSegmentBytes
	}
	return e.cfg.SegmentBytes
}

// survivor is a record to be copied forward.
type survivor struct {
	place  journal.Place
	copies []copyRef
}

// forward copies the messages that still live in a segment to the end of the journal.
func (e *Engine) forward(u *segmentUse) error {
	all, err := e.survivors(u)
	if err != nil {
		return err
	}
	for len(all) > 0 {
		n := min(len(all), forwardBatch)
		if err := e.forwardSome(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	if err := e.j.Sync(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if u.live > 0 {
		return fmt.Errorf("%d messages of segment %d are in no index and cannot be copied forward", u.live, u.gen)
	}
	return nil
}

// survivors lists what lives in a segment, by its index or, if that is damaged, by the
// segment itself.
func (e *Engine) survivors(u *segmentUse) (all []survivor, err error) {
	entries, _, _, err := e.readIndex(nil, u.gen)
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		err = decodeIndex(u.gen, entries, func(n *indexEntry) {
			all = e.addSurvivor(all, journal.Place{Pos: n.pos, Bytes: n.record}, n.copies)
		})
		return all, err
	}
	if isFatal(err) && !durable.IsNotExist(err) {
		return nil, err
	}
	e.log.Warn("index file is missing or damaged, its segment is read instead", "file", indexName(u.gen), "err", err)
	err = e.j.Scan(u.gen, func(r journal.Record) error {
		if r.Kind != kindMessage {
			return nil
		}
		m, err := decodeMessage(r.Payload, nil)
		if err != nil {
			return err
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		all = e.addSurvivor(all, journal.Place{Pos: r.Pos, Bytes: r.Bytes()}, m.copies)
		return nil
	})
	var damage *journal.Damage
	if errors.As(err, &damage) {
		err = nil // what is in the holes is found damaged when it is read
	}
	return all, err
}

// addSurvivor adds a record if a copy of it still lives at its place. Callers hold mu.
func (e *Engine) addSurvivor(all []survivor, place journal.Place, copies []copyRef) []survivor {
	s := survivor{place: place}
	for _, c := range copies {
		if q := e.byID[c.queue]; q != nil {
			if m := q.at(c.seq); m != nil && m.pos() == place.Pos {
				s.copies = append(s.copies, c)
			}
		}
	}
	if s.copies == nil {
		return all
	}
	return append(all, s)
}

func (e *Engine) forwardSome(some []survivor) error {
	places := make([]journal.Place, len(some))
	for i := range some {
		places[i] = some[i].place
	}
	var failed error
	e.j.Read(places, func(i int, r journal.Record, err error) {
		var damage *journal.Damage
		switch {
		case failed != nil:
		case errors.As(err, &damage) && damage.Err == nil:
			e.quarantine(some[i].copies, places[i].Pos, err)
		case err != nil:
			failed = err
		default:
			failed = e.forwardOne(&some[i], r)
		}
	})
	return failed
}

// forwardOne appends a copy of a record. The copies that still live move to it when it
// is synced; until then they are read from the old place.
func (e *Engine) forwardOne(s *survivor, r journal.Record) error {
	m, err := decodeMessage(r.Payload, nil)
	if err != nil {
		return err
	}
	if err := e.lockWithRoom(len(r.Payload)); err != nil {
		return err
	}
	defer e.mu.Unlock()
	m.copies = m.copies[:0]
	for _, c := range s.copies {
		if q := e.byID[c.queue]; q != nil {
			if n := q.at(c.seq); n != nil && n.pos() == s.place.Pos {
				m.copies = append(m.copies, c)
			}
		}
	}
	if len(m.copies) == 0 {
		return nil
	}
	m.flags |= flagForward
	e.scratch = m.appendHead(e.scratch[:0])
	place, err := e.store(true, &m, e.scratch, e.dedup.key.id(m.id))
	if err != nil {
		return err
	}
	e.forwarded.Add(1)
	copies := m.copies
	return e.j.OnSync(func(err error) {
		if err == nil {
			e.arrived(copies, s.place.Pos, place)
		}
	})
}

// arrived moves copies to their new place.
func (e *Engine) arrived(copies []copyRef, from journal.Position, to journal.Place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range copies {
		var n *entry
		if q := e.byID[c.queue]; q != nil {
			n = q.at(c.seq)
		}
		if n == nil || n.pos() != from {
			e.use(to.Pos.Generation()).settled(e)
			continue
		}
		n.setPos(to.Pos)
		n.over = uint16((to.Bytes - padTo8(int(n.body))) / 8)
		e.use(from.Generation()).settled(e)
	}
}

// unreadablePause is how long a message waits that could not be read.
const unreadablePause = time.Minute

// quarantine takes copies whose record is damaged out of their queues; its bytes are
// kept aside. The damage is counted, logged and shown by health; what follows in the
// queue is delivered. What could not be read at all may be intact: it is tried again
// later, and nothing is settled. Nothing here waits for the disk.
func (e *Engine) quarantine(copies []copyRef, pos journal.Position, cause error) {
	e.damaged.Add(1)
	var damage *journal.Damage
	unread := errors.As(cause, &damage) && damage.Err != nil
	if damage != nil && !unread {
		e.keepAside(damage)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !unread {
		e.damagedIn = max(e.damagedIn, pos.Generation())
		poke(e.wakeReclaimer)
	}
	for _, c := range copies {
		q := e.byID[c.queue]
		if q == nil {
			continue
		}
		n := q.at(c.seq)
		if n == nil || n.pos() != pos {
			continue
		}
		e.log.Error("message is damaged on disk and cannot be delivered",
			"queue", q.name, "seq", c.seq, "position", pos, "err", cause)
		if h := q.held[c.seq]; h != nil {
			s := h.sess
			e.unhold(h)
			defer s.notifyIfReady()
		}
		if unread {
			m := q.marks[c.seq]
			m.until = e.nowMillis() + unreadablePause.Milliseconds()
			q.setMark(c.seq, m)
			e.postpone(q, c.seq, n, m.until)
			continue
		}
		e.forgetCopy(q, c.seq)
		q.damaged++
		e.unlogged = append(e.unlogged, c)
		e.wake(q, 1)
	}
	e.logUnlogged()
}

// forgetIDs forgets message ids whose time is over, at most budget of them.
func (e *Engine) forgetIDs(budget int) {
	before := max(int64(e.nowSeconds())-int64(e.cfg.DedupWindow.Seconds()), 0)
	e.dedup.forget(e.cfg.DedupIDs, uint32(before), budget)
}
