package journal

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// A batch is everything that arrived while the batch before it was written and synced.
type batch struct {
	runs    []*run
	waiters []func(error)
	sealed  []uint64 // generations of segments that get no record after this batch
	nextSeq uint64   // of the first record after this batch
	records int
	bytes   int
}

// A run is the part of a batch that goes to one segment with one write. It begins with a
// mark: a record that says up to where the journal is synced. The mark is filled in just
// before the write.
type run struct {
	seg   *segment
	start int64
	seq   uint64 // of the mark
	buf   []byte
}

func (r *run) end() int64 { return r.start + int64(len(r.buf)) }

// run returns the run of the pending batch in the current segment. The first record
// of a run makes room for the run's mark. Callers hold mu.
func (j *Journal) run() *run {
	b := j.pending
	if n := len(b.runs); n > 0 && b.runs[n-1].seg == j.cur {
		return b.runs[n-1]
	}
	r := &run{seg: j.cur, start: j.off, seq: j.seq, buf: append(j.spareBuffer(), zeroMark[:]...)}
	j.seq++
	b.runs = append(b.runs, r)
	return r
}

var zeroMark [markBytes]byte

// One buffer is filled while another is written: two are used again, but none that a rare large
// record has made large. The cache keeps a copy of a run in its exact size.
const (
	maxSpare      = 2
	maxSpareBytes = 4 << 20
)

// spareBuffer returns an empty buffer for a run. Callers hold mu.
func (j *Journal) spareBuffer() []byte {
	n := len(j.spare)
	if n == 0 {
		return make([]byte, 0, 16<<10)
	}
	b := j.spare[n-1]
	j.spare = j.spare[:n-1]
	return b
}

// commit is the one goroutine that writes and syncs. There is no timer: whatever
// arrives while it works is its next batch. Once it is idle, a batch of nothing but a mark
// lets damage to the last batch be told from a torn tail.
func (j *Journal) commit() {
	var quiet atomic.Bool
	idle := j.cfg.Clock.AfterFunc(idleMark, func() { quiet.Store(true); poke(j.wake) })
	defer idle.Stop()
	for {
		stopping := false
		select {
		case <-j.wake:
		case <-j.stop:
			stopping = true
		}
		for {
			mark := j.unmarked && (stopping || quiet.Load())
			b := j.takePending(mark)
			if b == nil {
				break
			}
			j.unmarked = b.records > 0 || j.unmarked && !mark
			j.finish(b, j.store(b))
			if b.records > 0 {
				quiet.Store(false)
				idle.Reset(idleMark)
			}
		}
		if stopping {
			return
		}
	}
}

// takePending returns what has arrived, with at least a mark if that is asked for and fits,
// or nil.
func (j *Journal) takePending(mark bool) *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.pending
	if mark && len(b.runs) == 0 && j.failed == nil && j.off+markBytes+minRecordBytes <= j.cur.size {
		j.off = j.run().end()
	}
	if len(b.runs) == 0 && len(b.waiters) == 0 {
		return nil
	}
	b.nextSeq = j.seq
	j.storing = j.cfg.Clock.Now()
	j.pending = &batch{}
	j.room.Broadcast()
	return b
}

// store makes a batch durable: one write and one sync for each segment it touches.
func (j *Journal) store(b *batch) error {
	if err := j.Err(); err != nil {
		return err
	}
	for _, r := range b.runs {
		fillMark(r.buf, r.seg.sum, r.seq, r.seg.gen, j.synced)
		if _, err := r.seg.file.WriteAt(r.buf, r.start); err != nil {
			return r.seg.wrap("write", err)
		}
		kept := bytes.Clone(r.buf)
		began := j.cfg.Clock.Now()
		if err := r.seg.file.Sync(); err != nil {
			return r.seg.wrap("sync", err)
		}
		took := j.cfg.Clock.Now().Sub(began)
		j.synced = position(r.seg.gen, r.end())
		j.cache.add(position(r.seg.gen, r.start), kept)
		j.mu.Lock()
		j.stats.Syncs++
		j.stats.Bytes += uint64(len(r.buf))
		if len(j.spare) < maxSpare && cap(r.buf) <= maxSpareBytes {
			j.spare = append(j.spare, r.buf[:0])
		}
		j.mu.Unlock()
		j.cfg.Committed(CommitInfo{Records: b.records, Bytes: len(r.buf), Sync: took})
	}
	return nil
}

// finish answers a batch. After an error nothing of it was promised and nothing else
// will be: the disk's state is known only after reopening.
func (j *Journal) finish(b *batch, err error) {
	if err != nil {
		j.Stop(err)
		err = j.Err()
	}
	j.mu.Lock()
	j.storing = time.Time{} // a waiter may ask at once how long the disk takes
	j.mu.Unlock()
	for _, f := range b.waiters {
		f(err)
	}
	j.mu.Lock()
	if err == nil {
		j.stats.Batches++
		j.stats.Records += uint64(b.records)
		j.applied, j.appliedSeq = j.synced, b.nextSeq
	}
	j.mu.Unlock()
	if err == nil {
		for _, gen := range b.sealed {
			j.cfg.Sealed(gen)
		}
	}
}

// Stats are totals since Open and current levels.
type Stats struct {
	Syncs, Batches, Records, Bytes uint64
	Segments, Ready, Free          int
	DiskBytes                      int64
	PendingBytes                   int
	// Storing is how long the batch that is written now has taken; 0 if there is none.
	Storing time.Duration
	// DroppedTail counts the damaged places that the start found and that were never promised.
	DroppedTail uint64
	// Segment files that were used again, made and removed.
	Recycled, Created, Removed uint64
}

// Stats returns the journal's counters.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.stats
	s.Segments, s.Ready, s.Free, s.PendingBytes = len(j.segments), len(j.ready), len(j.free), j.pending.bytes
	if !j.storing.IsZero() {
		s.Storing = j.cfg.Clock.Now().Sub(j.storing)
	}
	for _, seg := range slices.Concat(j.ready, j.free) {
		s.DiskBytes += seg.size
	}
	for _, seg := range j.segments {
		s.DiskBytes += seg.size
	}
	return s
}
