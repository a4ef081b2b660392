package journal

import (
	"context"
	"errors"
	"fmt"
)

// Room reports whether a record of n payload bytes fits now: nil, ErrNoRoom,
// ErrDiskFull, ErrTooLarge, or why the journal stopped. While nobody else appends, the
// answer holds.
func (j *Journal) Room(urgent bool, n int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.makeRoom(urgent, RecordBytes(n))
}

// WaitRoom blocks until Room no longer says ErrNoRoom, and returns what it says then.
func (j *Journal) WaitRoom(ctx context.Context, urgent bool, n int) error {
	return j.await(ctx, func() error { return j.makeRoom(urgent, RecordBytes(n)) })
}

// await calls f under mu, again and again, until it does not say ErrNoRoom.
func (j *Journal) await(ctx context.Context, f func() error) error {
	defer context.AfterFunc(ctx, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.room.Broadcast()
	})()
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		err := ctx.Err()
		if err == nil {
			err = f()
		}
		if !errors.Is(err, ErrNoRoom) {
			return err
		}
		j.room.Wait()
	}
}

// Space is how many bytes urgent records can still take without a new segment, and
// ErrDiskFull if records that are not urgent find no room.
func (j *Journal) Space() (left int64, full error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	left = j.cur.size - j.off
	for _, s := range j.ready {
		left += s.size - pageBytes
	}
	return left, j.full()
}

// full reports that the next segment cannot be made and the reserve is in use. Callers
// hold mu.
func (j *Journal) full() error {
	if j.noSpace != nil && len(j.ready) < readyTarget {
		return fmt.Errorf("%w: %w", ErrDiskFull, j.noSpace)
	}
	return nil
}

// makeRoom makes cur a segment in which n bytes fit, with a mark before them if need be.
// Callers hold mu.
func (j *Journal) makeRoom(urgent bool, n int) error {
	if err := j.usable(); err != nil {
		return err
	}
	need := int64(n + markBytes + reserveBytes)
	if need > int64(j.cfg.SegmentBytes)-pageBytes {
		return ErrTooLarge
	}
	if !urgent {
		if j.pending.bytes >= j.cfg.MaxPendingBytes {
			return ErrNoRoom
		}
		left := j.cur.size - j.off
		if left < need {
			left = 0 // what a roll leaves unused is not room
		}
		for _, s := range j.ready {
			left += s.size - pageBytes
		}
		enough := int64(j.cfg.SegmentBytes) - pageBytes
		if j.noSpace == nil {
			enough /= 4 // the rest is on its way
		}
		if left-need < enough {
			return j.noRoom()
		}
	}
	if j.off+need <= j.cur.size {
		return nil
	}
	if len(j.ready) == 0 || j.ready[0].size-pageBytes < need {
		return j.noRoom()
	}
	j.roll()
	return nil
}

// MaxPayload is the largest payload that fits in a segment of the given size.
func MaxPayload(segmentBytes int) int {
	return (segmentBytes - pageBytes - markBytes - reserveBytes - recordHeaderBytes) &^ (recordAlign - 1)
}

func (j *Journal) noRoom() error {
	poke(j.prepare)
	if j.noSpace != nil && len(j.free) == 0 {
		return fmt.Errorf("%w: %w", ErrDiskFull, j.noSpace)
	}
	return ErrNoRoom
}

// roll moves on to the next prepared segment. Callers hold mu.
func (j *Journal) roll() {
	j.pending.sealed = append(j.pending.sealed, j.cur.gen)
	j.cur, j.ready = j.ready[0], j.ready[1:]
	j.off = pageBytes
	j.segments[j.cur.gen] = j.cur
	poke(j.prepare)
}

// Seal ends a segment: if it is the one that takes records, the next one begins, with a
// mark. It waits until there is one, or returns ErrDiskFull. Config.Sealed tells when it is
// done.
func (j *Journal) Seal(ctx context.Context, generation uint64) error {
	return j.await(ctx, func() error {
		if err := j.usable(); err != nil || j.cur.gen != generation {
			return err
		}
		if err := j.full(); err != nil {
			return err
		}
		if len(j.ready) == 0 {
			poke(j.prepare)
			return ErrNoRoom
		}
		j.roll()
		j.off = j.run().end()
		poke(j.wake)
		return nil
	})
}
