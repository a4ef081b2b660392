// Package journal is an append-only log of records in fixed-size segment files, with
// group commit. It promises that a record whose sync was reported survives a crash, and
// that damage costs only the records it touches and never goes unnoticed.
//
// It knows records, not queues: it does not interpret a payload, does not decide which
// segment is still needed (Release tells it) and never rewrites a record in place.
// docs/storage.md has the byte layout and the argument for recovery.
package journal

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
)

// Defaults and bounds of Config.
const (
	DefaultSegmentBytes    = 32 << 20
	MinSegmentBytes        = 16 << 10
	MaxSegmentBytes        = 1 << 30
	DefaultCacheBytes      = 8 << 20
	DefaultMaxPendingBytes = 64 << 20
)

// readyTarget is how many empty segments are kept prepared: the next one, and one that
// only urgent records may use when the disk is full.
const readyTarget = 2

// maxFree is how many released segments are kept for reuse before files are removed.
const maxFree = 4

// idleMark is how long after the last batch its synced offset is noted down.
const idleMark = time.Second

// prepareRetry is how often a full disk is looked at again.
const prepareRetry = time.Second

// Errors of Append. They are compared with errors.Is.
var (
	// ErrClosed says that the journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrNoRoom says that there is no prepared space at this moment; WaitRoom waits.
	ErrNoRoom = errors.New("journal has no room yet")
	// ErrDiskFull says that no segment can be made, for want of space or because too many files
	// are open (IsTooManyFiles); it ends by itself when there is room.
	ErrDiskFull = errors.New("no room for the journal")
	// ErrTooLarge says that a record can never fit in a segment.
	ErrTooLarge = errors.New("record is larger than a segment")
)

// Config configures a journal. Dir, FS and StoreID are required.
type Config struct {
	Dir string
	FS  durable.FS
	// StoreID is the random id of the store that the journal belongs to. Segments of
	// another store are refused.
	StoreID [16]byte
	// SegmentBytes is the size of new segment files; existing ones keep theirs.
	SegmentBytes int
	// CacheBytes bounds the most recently written records that are kept in memory.
	CacheBytes int
	// MaxPendingBytes bounds what waits for the disk; appends that are not urgent get
	// ErrNoRoom beyond it.
	MaxPendingBytes int
	// MinFreeBytes is left free in the file system: less is treated as a full disk.
	MinFreeBytes int64
	// Quarantine lets Begin go on past damage below the synced offset.
	Quarantine bool
	// ReadOnly is for a look at what a start would find: nothing is changed, and Begin must not be
	// called.
	ReadOnly bool
	// Sealed is called when a segment takes no more records and all of them are
	// synced. It must not block.
	Sealed func(generation uint64)
	// Committed is called after each sync. It must not block.
	Committed func(CommitInfo)
	Clock     clock.Clock
	Log       *slog.Logger
}

// CommitInfo describes one batch.
type CommitInfo struct {
	Records, Bytes int
	Sync           time.Duration
}

func (c Config) withDefaults() (Config, error) {
	c.SegmentBytes = cmp.Or(c.SegmentBytes, DefaultSegmentBytes)
	if c.SegmentBytes < MinSegmentBytes || c.SegmentBytes > MaxSegmentBytes || c.SegmentBytes%pageBytes != 0 {
		return c, fmt.Errorf("segment size %d is not a multiple of %d between %d and %d",
			c.SegmentBytes, pageBytes, MinSegmentBytes, MaxSegmentBytes)
	}
	c.CacheBytes = cmp.Or(c.CacheBytes, DefaultCacheBytes)
	c.MaxPendingBytes = cmp.Or(c.MaxPendingBytes, DefaultMaxPendingBytes)
	c.Clock = cmp.Or(c.Clock, clock.System)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Sealed == nil {
		c.Sealed = func(uint64) {}
	}
	if c.Committed == nil {
		c.Committed = func(CommitInfo) {}
	}
	return c, nil
}

// Position is the place of a record: its segment's generation in the upper half, the
// byte offset in the lower. Positions of later records are larger.
type Position uint64

func position(generation uint64, off int64) Position { return Position(generation<<32 | uint64(off)) }

// Generation is the generation of the segment.
func (p Position) Generation() uint64 { return uint64(p) >> 32 }

// Offset is the byte offset in the segment's file.
func (p Position) Offset() int64 { return int64(p & 0xffffffff) }

// String is generation:offset.
func (p Position) String() string { return fmt.Sprintf("%d:%d", p.Generation(), p.Offset()) }

// Journal is an open journal. Its methods are safe for concurrent use.
type Journal struct {
	cfg     Config
	opening *opening // nil after Begin

	mu      sync.Mutex
	room    *sync.Cond // broadcast when room may have appeared or the journal failed
	cur     *segment   // takes the next record
	off     int64      // where in cur
	seq     uint64     // of the next record
	pending *batch
	storing time.Time // when the committer took its batch; zero if it has none
	// segments are all that may hold records, by generation.
	segments map[uint64]*segment
	ready    []*segment // empty, with header, in the order of their generations
	free     []*segment // released, to be prepared again or removed
	nextGen  uint64
	nextNum  int
	noSpace  error // why the last preparation failed
	failed   error
	closed   bool
	spare    [][]byte // buffers for runs
	stats    Stats    // its totals
	// What every function of OnSync was called for.
	applied    Position
	appliedSeq uint64

	making sync.Mutex // held while a segment is made, or must not be

	cache cache
	// Owned by the committer after Begin.
	synced   Position
	unmarked bool // no mark says yet that the last batch is synced

	wake       chan struct{} // capacity 1: something is pending
	prepare    chan struct{} // capacity 1: the preparer should look
	stop       chan struct{}
	failedCh   chan struct{}
	background sync.WaitGroup
}

// Failed is closed when a write or sync has failed. Nothing is accepted any more and
// the process should exit: what reached the disk is known only after reopening.
func (j *Journal) Failed() <-chan struct{} { return j.failedCh }

// Err is why Failed was closed, or nil.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// Append gives a record its place and returns at once. The record is durable when a
// function that is handed to OnSync afterwards is called with nil. kind must be at
// least FirstKind; the payload is head and then body, and is copied.
//
// Records that are not urgent leave one segment's worth of room to those that are:
// they get ErrNoRoom (WaitRoom waits for the end of it) or ErrDiskFull.
func (j *Journal) Append(urgent bool, kind byte, head, body []byte) (Position, error) {
	n := RecordBytes(len(head) + len(body))
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.makeRoom(urgent, n); err != nil {
		return 0, err
	}
	r := j.run()
	pos := position(j.cur.gen, r.end())
	r.buf = appendRecord(r.buf, j.cur.sum, j.seq, kind, head, body)
	j.off = r.end()
	j.seq++
	j.pending.records++
	j.pending.bytes += n
	poke(j.wake)
	return pos, nil
}

// OnSync arranges for f to be called once everything appended before is durable, or
// with the error that stopped the journal: then it is not known whether it is. Calls come in
// the order of OnSync, from one goroutine, until the journal is closed; f must not block.
func (j *Journal) OnSync(f func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed || j.opening != nil {
		go f(j.usable())
		return
	}
	j.pending.waiters = append(j.pending.waiters, f)
	poke(j.wake)
}

// Sync waits until everything appended before is durable.
func (j *Journal) Sync() error {
	done := make(chan error, 1)
	j.OnSync(func(err error) { done <- err })
	return <-done
}

func (j *Journal) usable() error {
	if j.failed != nil {
		return j.failed
	}
	if j.closed {
		return ErrClosed
	}
	if j.opening != nil {
		return errNotBegun
	}
	return nil
}

// poke wakes the goroutine that waits for c, now or when it comes to wait.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Stop stops the journal for good, as a failed write or sync of its own does; the owner of the
// store calls it if a file beside the journal could not be made durable. The first cause stays.
func (j *Journal) Stop(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return
	}
	j.failed = fmt.Errorf("journal stopped: %w", err)
	close(j.failedCh)
	j.room.Broadcast()
}

// Applied is the position up to which every OnSync function has been called, and the
// sequence of the first record behind it. After a start from a checkpoint of what those
// functions did, Replay may begin there.
func (j *Journal) Applied() (Position, uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.applied, j.appliedSeq
}

// Close stores what was appended, notes the synced offset and closes the files. A
// second call does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.room.Broadcast()
	j.mu.Unlock()
	close(j.stop)
	j.background.Wait()
	err := j.Err()
	j.mu.Lock()
	defer j.mu.Unlock()
	files := slices.Concat(j.ready, j.free, slices.Collect(maps.Values(j.segments)))
	if j.opening != nil {
		files = append(files, j.opening.doubles...)
	}
	for _, s := range files {
		err = errors.Join(err, s.file.Close())
	}
	j.segments, j.ready, j.free = nil, nil, nil
	return err
}
