// Package engine is what a broker asks of the part that keeps its queues: the contract
// and its vocabulary. Each engine is a package below it; enginetest is the suite that
// all of them pass.
//
// It does nothing itself, and knows no exchanges, no permissions and no protocol.
package engine

import (
	"time"

	"github.com/sealmq/sealmq"
)

// Engine keeps queues and definitions. The broker decides which queues a message goes
// to; everything after that is the engine's: order, who holds what, what comes back,
// duplicates, delivery counts, limits, dead letters.
//
// Everything is in batches and asynchronous. A method with a done argument takes its
// decision in the order of the calls and calls done exactly once, after what it
// decided is on stable storage, or with an error that wraps sealmq.ErrUnavailable when
// it never will be. done may run before the method returns, on any goroutine; it must
// not block and must not call back into the engine. For the calls of one goroutine the
// done functions run in the order of the calls, unless a call is refused as a whole.
//
// Effects are visible to later calls at once, before done: a queue can be published to
// right after DeclareQueue returned. Messages are visible to consumers only after the
// sync that covers them.
//
// The slices and strings that are handed in belong to the caller again when the method
// returns; the engine copies what it keeps. What the engine hands out (Delivery.Body
// and strings) is immutable and may be kept.
//
// All methods are safe for concurrent use.
type Engine interface {
	// DeclareQueue creates a durable queue. If it exists, nil options match whatever it
	// has; other options that differ after Normalize are an error with code Mismatch.
	// done gets true if the call created the queue. Options that need an ability the
	// engine lacks are refused with code Unsupported.
	DeclareQueue(name string, o *sealmq.QueueOptions, done func(created bool, err error))
	// DeleteQueue removes the queue with its messages; done gets their number.
	// Consumers of it get nothing more and are told (SessionConfig.Ended). Code NoQueue
	// if there is none.
	DeleteQueue(name string, done func(removed int, err error))
	// PurgeQueue removes the waiting messages (not those in a consumer's hands).
	PurgeQueue(name string, done func(removed int, err error))
	// Queue describes one queue.
	Queue(name string) (QueueInfo, bool)
	// Queues describes all, sorted by name.
	Queues() []QueueInfo

	// Publish stores each message in all of its queues or in none, in the order of the
	// batch. Before a message that repeats none and names a queue which does not exist it
	// stops, and returns how many it took: the caller routes the others again, which keeps
	// the order.
	// results[i] answers batch[i] of those that were taken. done may change the results; the
	// slice is the engine's again when it returns.
	//
	// It may wait for room on the disk. A queue that is deleted meanwhile is missing like
	// any other, one that was declared again under its name is not.
	Publish(batch []Publish, done func(results []PublishResult)) (taken int)
	// NewSession opens a consumer's side. A session belongs to one connection.
	NewSession(SessionConfig) Session

	// Define writes durable definitions in order, all or none; they are opaque to the
	// engine. A nil Value removes the key. Order is kept with DeclareQueue and Publish.
	Define(batch []Definition, done func(error))
	// Definitions returns all current definitions, sorted by key.
	Definitions() []Definition

	// Abilities says what the engine can do beyond this contract.
	Abilities() Abilities
	// Health is nil while promises hold. An error with code NoStorage means that
	// publishes are refused; one with code Unavailable, that the store has stopped.
	Health() error
	// Failed is closed when the store has stopped for good and the process must exit.
	Failed() <-chan struct{}
	// Close stops after everything accepted is stored and answered.
	Close() error
}

// Abilities are declared, never assumed: asking for one that is absent is an error
// with code Unsupported.
type Abilities struct {
	Delay            bool // Settlement.Delay
	Uncounted        bool // Settlement.Uncounted
	Extend           bool // the verdict Extend
	Peek             bool // the engine is a Peeker
	Move             bool // the engine is a Mover
	StrictRedelivery bool // what comes back returns to its place in the order
	LongDedup        bool // the dedup horizon outlives a restart
}

// Peeker looks at waiting messages without delivering them.
type Peeker interface {
	// Peek returns up to n messages from the front of the queue (code NoQueue).
	Peek(queue string, n int) ([]sealmq.Delivery, error)
}

// Mover moves waiting messages between queues.
type Mover interface {
	// Move moves up to n messages (0: all) from the front of one queue to the end of
	// another. Each message moves in one atomic step and its delivery count starts again.
	Move(from, to string, n int, done func(moved int, err error))
}

// Finder looks a message up by its id.
type Finder interface {
	// Find returns the message while a copy waits or is unacknowledged, unless its Repeat
	// was Never. It may cost time in proportion to the backlog.
	Find(id string) (sealmq.Message, bool)
}

// Rememberer says for how long it recognises a repeated message.
type Rememberer interface {
	Memory() Memory
}

// Memory is for how long an engine remembers the id of a message whose last copy is settled.
type Memory struct {
	// Window and MaxIDs end it, whichever comes first: the time, or so many ids that were
	// settled since.
	Window time.Duration
	MaxIDs int
	// Reach is how far back that goes now: every id that was settled within it is remembered.
	// It is Window at most, and less if there were too many; 0 if that is not known.
	Reach time.Duration
}

// Definition is one durable key with its value.
type Definition struct {
	Key   string
	Value []byte
}
