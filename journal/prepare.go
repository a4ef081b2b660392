package journal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
)

// prepareSegments keeps empty segments ready, so that no record waits for a file to be
// made. Released segments are used again first, then new ones are created.
func (j *Journal) prepareSegments() {
	retry := j.cfg.Clock.AfterFunc(prepareRetry, func() { poke(j.prepare) })
	defer retry.Stop()
	retry.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-j.prepare:
		}
		for more, err := true, error(nil); more && err == nil; {
			j.making.Lock()
			more, err = j.prepareOne()
			j.making.Unlock()
			if err != nil && !IsNoSpace(err) {
				j.Stop(err)
				return
			}
			j.setNoSpace(err)
			if err != nil {
				retry.Reset(prepareRetry)
			}
		}
	}
}

// setNoSpace publishes the outcome of a preparation to those who wait for room.
func (j *Journal) setNoSpace(err error) {
	j.mu.Lock()
	before := j.noSpace
	j.noSpace = err
	j.room.Broadcast()
	j.mu.Unlock()
	switch {
	case before == nil && err != nil:
		j.cfg.Log.Warn("no room for the journal, publishes are refused", "err", err)
	case before != nil && err == nil:
		j.cfg.Log.Info("room for the journal is back")
	}
}

// prepareOne makes one segment ready or removes one that is too many. It reports
// whether there may be more to do.
func (j *Journal) prepareOne() (more bool, err error) {
	j.mu.Lock()
	if j.failed != nil || len(j.ready) >= readyTarget && len(j.free) <= maxFree {
		j.mu.Unlock()
		return false, nil
	}
	remove := len(j.ready) >= readyTarget
	var s *segment
	if n := len(j.free); n > 0 {
		s, j.free = j.free[n-1], j.free[:n-1]
		remove = remove || s.size != int64(j.cfg.SegmentBytes)
	} else {
		j.nextNum++
	}
	gen, num, again := j.nextGen, j.nextNum-1, s != nil
	j.nextGen++
	j.mu.Unlock()

	switch {
	case remove:
		return true, j.removeSegment(s)
	case again:
		if err = s.writeHeader(j.cfg.StoreID, gen); IsNoSpace(err) {
			// Its sync may have failed, so the file cannot be used again.
			err = errors.Join(err, j.removeSegment(s))
		}
	default:
		if err = j.checkFree(); err == nil {
			s, err = createSegment(j.cfg.FS, j.cfg.Dir, num, j.cfg.SegmentBytes, j.cfg.StoreID, gen)
		}
	}
	if err != nil {
		return false, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if again {
		j.stats.Recycled++
	} else {
		j.stats.Created++
	}
	j.ready = append(j.ready, s)
	return true, nil
}

// LendSpace gives up the file of a segment that is not needed soon and runs f while no
// new one is made, so that f finds its space on a full disk. It reports whether there
// was one; if not, f is not run. The segment that urgent records count on is kept. f
// must not wait for room in the journal.
func (j *Journal) LendSpace(f func()) bool {
	j.making.Lock()
	defer j.making.Unlock()
	j.mu.Lock()
	from := &j.free
	if len(j.free) == 0 && len(j.ready) > 1 {
		from = &j.ready
	}
	n := len(*from)
	if n == 0 || j.failed != nil || j.closed {
		j.mu.Unlock()
		return false
	}
	s := (*from)[n-1]
	*from = (*from)[:n-1]
	j.mu.Unlock()
	if err := j.removeSegment(s); err != nil {
		j.Stop(err)
		return false
	}
	f()
	poke(j.prepare)
	return true
}

func (j *Journal) removeSegment(s *segment) error {
	err := s.file.Close()
	if err == nil {
		err = j.cfg.FS.Remove(s.name)
	}
	if err == nil {
		err = j.cfg.FS.SyncDir(j.cfg.Dir)
	}
	if err != nil {
		return s.wrap("remove", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.Removed++
	return nil
}

// checkFree keeps MinFreeBytes of the file system for others.
func (j *Journal) checkFree() error {
	if j.cfg.MinFreeBytes == 0 {
		return nil
	}
	free, err := j.cfg.FS.FreeBytes(j.cfg.Dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", j.cfg.Dir, err)
	}
	if free < j.cfg.MinFreeBytes+int64(j.cfg.SegmentBytes) {
		return fmt.Errorf("%d bytes free, %d are kept free (storage.min_free_bytes): %w", free, j.cfg.MinFreeBytes, syscall.ENOSPC)
	}
	return nil
}

// IsNoSpace reports whether an error says that there is no space, or that no more files can be
// open, which may end, and not that the disk is broken.
func IsNoSpace(err error) bool {
	return IsTooManyFiles(err) || slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG},
		func(full error) bool { return errors.Is(err, full) })
}

// IsTooManyFiles reports whether an error says that no more files can be open.
func IsTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Release gives up a segment: nothing in it is needed, not even after a crash at this
// moment. The segment that takes records cannot be released.
func (j *Journal) Release(generation uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.segments[generation]
	switch s {
	case nil:
		return
	case j.cur:
		panic("journal: internal error: release of the current segment")
	}
	delete(j.segments, generation)
	j.free = append(j.free, s)
	poke(j.prepare)
}

// Generations returns the segments that may hold records, in ascending order. After Begin
// the last one takes records.
func (j *Journal) Generations() []uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.segments))
}
