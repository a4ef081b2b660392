package local

import (
	"cmp"
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sealmq/sealmq/journal"
)

// retryAfter is how long background work waits after an error, a full disk for instance.
const retryAfter = time.Second

// forgetGroup bounds how many message ids are forgotten under the lock at once.
const forgetGroup = 100_000

// reclaimer is what others tell the reclaimer, and what it tells. It needs no lock.
type reclaimer struct {
	wake        chan struct{} // capacity 1
	work        chan func()   // what must not happen beside its rounds; unbuffered
	full        atomic.Bool   // the disk is full: each settled message wakes it
	err         atomic.Pointer[error]
	checkpoints atomic.Uint64
	copied      atomic.Uint64 // records, forward
}

// runReclaimer is the one goroutine that takes checkpoints and gives segments back to the
// journal.
func (e *Engine) runReclaimer() {
	e.ensureBallast()
	retry := e.cfg.Clock.AfterFunc(retryAfter, func() { poke(e.reclaimer.wake) })
	retry.Stop()
	for {
		select {
		case <-e.stopping.Done():
			retry.Stop()
			e.saveTimeIfSet()
			e.lastCheckpoint()
			e.saveAsides()
			return
		case do := <-e.reclaimer.work:
			do()
		case <-e.reclaimer.wake:
		}
		e.saveTimeIfSet()
		err := e.reclaim()
		e.saveAsides()
		if err == nil {
			e.reclaimer.err.Store(nil)
			continue
		}
		if e.stopping.Err() != nil || e.j.Err() != nil || errors.Is(err, journal.ErrClosed) {
			continue
		}
		if isFatal(err) {
			e.j.Stop(err)
			continue
		}
		if e.reclaimer.err.Swap(&err) == nil {
			e.log.Warn("checkpoint was not written, it will be tried again", "err", err)
		}
		retry.Reset(retryAfter)
	}
}

// isFatal tells a broken disk from a full one. After a failed write or sync nothing is
// known of the file, and trying again proves nothing.
func isFatal(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !journal.IsNoSpace(err)
}

// reclaim does one round: take a checkpoint if a segment was sealed, release what is
// settled, and compact while survivors hold too much space.
func (e *Engine) reclaim() error {
	if _, err := e.sealDamaged(e.stopping); err != nil {
		return err
	}
	for {
		var noSpace error
		if e.wantsCheckpoint() {
			if noSpace = e.checkpointWithReserve(); noSpace != nil && !journal.IsNoSpace(noSpace) {
				return noSpace
			}
		}
		// Without room for a checkpoint, what is behind the last one can still be freed.
		if err := e.release(); err != nil {
			return err
		}
		e.dropIndexes()
		u := e.segmentToCompact()
		if u == nil {
			return noSpace
		}
		if err := e.compact(u); err != nil {
			return err
		}
	}
}

// wantsCheckpoint reports whether a segment was sealed since the last checkpoint or has no
// index file, or whether removals wait that only a checkpoint can still record.
func (e *Engine) wantsCheckpoint() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.removals) > 0 {
		return true
	}
	for gen, u := range e.state.segs {
		if u.sealed && (!u.indexed || gen >= e.saved.at.Generation()) {
			return true
		}
	}
	return false
}

// checkpointWithReserve takes a checkpoint. When the disk is full it gives up the ballast
// file for it and then segments that are not needed soon, because without checkpoints
// and index files no segment comes free.
func (e *Engine) checkpointWithReserve() error {
	var err error
	take := func() {
		var unindexed error
		unindexed, err = e.takeCheckpoint()
		err = cmp.Or(err, unindexed)
	}
	take()
	if journal.IsNoSpace(err) && e.files.remove(ballastName) == nil {
		take()
	}
	for journal.IsNoSpace(err) && e.j.LendSpace(take) {
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
	e.recordRemovals()
	for gen, u := range e.state.segs {
		if len(e.removals) > 0 {
			break
		}
		if u.sealed && u.live == 0 && u.indexed && gen < e.saved.at.Generation() && !u.released {
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
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, gen := range gens {
		e.j.Release(gen)
		e.state.segs[gen].released = true
		e.state.segs[gen].checkpoints = e.reclaimer.checkpoints.Load()
	}
	return nil
}

// dropIndexes removes index files of released segments whose ids are all forgotten, once a
// checkpoint was taken after the release: the one before may say of a message that it lives,
// and the next start must find it to see that it was settled later.
func (e *Engine) dropIndexes() {
	var drop []uint64
	e.mu.Lock()
	e.forgetIDs(forgetGroup)
	for gen, u := range e.state.segs {
		if u.indexed && u.released && u.checkpoints < e.reclaimer.checkpoints.Load() && (u.ids == 0 || u.settledBy <= e.state.dedup.forgotten) {
			drop = append(drop, gen)
			delete(e.state.segs, gen)
		}
	}
	e.mu.Unlock()
	for _, gen := range drop {
		// A file that comes back after a crash only names ids that are not needed.
		if err := e.files.remove(indexName(gen)); err != nil {
			e.log.Warn("index file is not removed", "segment", gen, "err", err)
		}
	}
}

// forgetIDs forgets message ids whose time is over, at most budget of them.
func (e *Engine) forgetIDs(budget int) {
	before := max(int64(e.nowSeconds())-int64(e.cfg.DedupWindow.Seconds()), 0)
	e.state.dedup.forget(e.cfg.DedupIDs, uint32(before), budget)
}
