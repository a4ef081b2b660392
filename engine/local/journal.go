package local

import (
	"context"
	"io"
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
// The methods promise what those of *journal.Journal do. After Failed is closed, Err says why:
// storage has failed, after which what is durable is known only to the next start; or, where
// a journal is replicated, this node has lost its place to another one, which it learns
// from its next append.
type Journal interface {
	Generations() []uint64
	Scan(generation uint64) iter.Seq2[journal.Record, error]
	Replay(from journal.Position, seq uint64) iter.Seq2[journal.Record, error]
	Judge() *journal.Report
	Begin() (*journal.Report, error)

	Append(urgent bool, kind byte, head, body []byte) (journal.Position, error)
	OnSync(f func(error))
	Sync() error
	Room(urgent bool, n int) error
	WaitRoom(ctx context.Context, urgent bool, n int) error
	Read(places []journal.Place, f func(i int, r journal.Record, err error))

	Applied() (journal.Position, uint64)
	Seal(ctx context.Context, generation uint64) error
	Release(generation uint64)
	Copy(to journal.Position, f func(name string, size int64, content io.Reader) error) error
	Space() (left int64, full error)
	LendSpace(f func()) bool

	Failed() <-chan struct{}
	Err() error
	Stop(cause error)
	Stats() journal.Stats
	Close() error
}

var _ Journal = (*journal.Journal)(nil)
