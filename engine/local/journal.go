package local

import (
	"context"
	"iter"

	"github.com/sealmq/sealmq/journal"
)

// Journal is what the engine needs of its journal. *journal.Journal keeps it in files; one
// that is replicated to several nodes can take its place.
//
// A journal is an ordered log of records. What the engine knows is a function of that log,
// so that every reader of it comes to the same state: a decision is in a record before
// anybody is told of it, times and random choices are in the records too, and a record
// depends on nothing but the records before it and the store's identity. The checkpoint
// and the index files of the engine only save reading. When a settled id was settled is
// not in the log: a start counts its time from then on.
//
// Records lie in segments. A position names a segment by its generation and a place in it.
// Later records have larger positions, and generations are never used again.
//
// All methods are safe for concurrent use once Begin has returned. Those that may wait for
// a disk or a network are Scan, Replay, Begin, Sync, WaitRoom, Read, Seal, LendSpace and
// Close.
type Journal interface {
	// A start: Generations and Scan, then Replay to its end, then Begin.

	// Generations returns the segments that exist, in ascending order.
	Generations() []uint64
	// Scan yields the records of one segment. The last thing may be an error: a
	// *journal.Damage if there are holes between the records.
	Scan(generation uint64) iter.Seq2[journal.Record, error]
	// Replay yields the records of the segment of from and of all later segments, in order.
	// from and seq are what Applied said when the last checkpoint was taken, or 0.
	Replay(from journal.Position, seq uint64) iter.Seq2[journal.Record, error]
	// Begin makes what was replayed durable and lets records be appended. It refuses with a
	// *journal.DamageError if records are gone that were promised.
	Begin() (*journal.Report, error)

	// Append gives a record the next position and returns at once; the payload, head and
	// then body, is copied. Nothing is promised before the sync. Appends that are not urgent
	// leave room to those that are: acks, copies and what else makes room.
	Append(urgent bool, kind byte, head, body []byte) (journal.Position, error)
	// OnSync arranges for f to be called when everything that was appended before is
	// durable, or with the error that stopped the journal: then it is not known whether it
	// is. Calls come in the order of OnSync, from one goroutine; f must not block. If OnSync
	// returns an error, f is never called.
	OnSync(f func(error)) error
	// Sync waits until everything that was appended before is durable.
	Sync() error
	// Room tells whether a record with n bytes of payload can be appended: nil,
	// journal.ErrNoRoom, journal.ErrDiskFull, journal.ErrTooLarge, or why the journal stopped.
	// While nobody else appends, the answer holds.
	Room(urgent bool, n int) error
	// WaitRoom waits while Room would say ErrNoRoom, and returns what it says then.
	WaitRoom(ctx context.Context, urgent bool, n int) error

	// Read calls f for each place, in order, with its record or with an error:
	// journal.ErrReleased, or a *journal.Damage. The payload may be kept and must not be
	// changed. Records can be read as soon as they are synced.
	Read(places []journal.Place, f func(i int, r journal.Record, err error))

	// Applied is the position up to which every function of OnSync has been called, and the
	// sequence of the next record: where a checkpoint of the engine's state may begin.
	Applied() (journal.Position, uint64)
	// Seal ends a segment if it is the one that takes records. When a segment is ended, by
	// Seal or because it is full, and its records are synced, Config.Sealed is called.
	Seal(ctx context.Context, generation uint64) error
	// Release gives up a segment that is not needed any more, not even after a crash at this
	// moment.
	Release(generation uint64)
	// Space is how many bytes urgent records can still take without a new segment, and
	// journal.ErrDiskFull if others find no room.
	Space() (left int64, full error)
	// LendSpace runs f after it gave up disk space that is not needed soon, and reports false
	// if there is none. f must not wait for room in the journal.
	LendSpace(f func()) bool

	// Failed is closed when nothing can be appended any more. Err then says why: storage has
	// failed, after which what is durable is known only to the next start; or, where a
	// journal is replicated, this node has lost its place to another one, which it learns
	// from its next append. Whatever waits for a sync is answered with that error.
	Failed() <-chan struct{}
	Err() error
	// Stop makes the journal fail for a cause outside it: another file of the store could not
	// be made durable.
	Stop(cause error)
	// Stats are the journal's counters and levels.
	Stats() journal.Stats
	// Close stores what was appended and ends the journal.
	Close() error
}

var _ Journal = (*journal.Journal)(nil)
