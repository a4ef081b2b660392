// Package engine is the contract between a broker and whatever keeps its queues, with
// the vocabulary of both. Each engine is a package below it; enginetest is the suite that
// every engine passes.
//
// It does nothing itself, and knows no exchanges, no permissions and no protocol.
package engine

import (
	"time"

	"github.com/sealmq/sealmq"
)

// Engine keeps queues and definitions. The broker decides which queues a message goes
// to; everything after that is the engine's: order, who holds what, what comes back,
// duplicates, delivery counts, limits, dead letters. Engines own their timers: nobody
// calls an engine so that time passes in it.
//
// Everything is in batches and asynchronous. A method with a done argument takes its
// decision in the order of the calls and calls done exactly once: after what it decided
// is durable as Abilities.Guarantee says, or with an error. An error with code
// Unavailable says that it is not known whether the decision was stored; any other error
// says that nothing was. done may run before the method returns, on any goroutine; it
// must not block and must not call back into the engine. For the calls of one goroutine
// the done functions run in the order of the calls, unless a call is refused as a whole.
// Fetch is outside this order. If DeclareQueue, DeleteQueue or Define is refused, done has
// run when the method returns.
//
// Effects are visible to later calls at once, before done: a queue can be published to
// right after DeclareQueue returned. Messages are visible to consumers only when they
// are durable.
//
// The slices and strings that are handed in belong to the caller again when the method
// returns; the engine copies what it keeps. What the engine hands out (Delivery.Body
// and strings) is immutable and may be kept.
//
// All methods are safe for concurrent use.
type Engine interface {
	// DeclareQueue creates a durable queue with the options o, or finds it. If the queue
	// exists, those of its options that are in compare must equal the ones in o, with
	// defaults filled in, or the error has code Mismatch. done gets the queue as it is, and
	// whether the call created it. Options that need an ability the engine lacks are refused
	// with code Unsupported.
	DeclareQueue(name string, o sealmq.QueueOptions, compare Fields, done func(q QueueInfo, created bool, err error))
	// DeleteQueue removes the queue with its messages, whether they are durable yet or
	// not; done gets their number. The conditions in only are checked in the same atomic
	// step: if one does not hold, nothing happens and the error has code InUse. Code NoQueue
	// if there is no such queue. Its subscriptions end (SessionConfig.Ended).
	DeleteQueue(name string, only If, done func(removed int, err error))
	// PurgeQueue removes the messages that were published before the call and wait,
	// durable or not. What a consumer holds stays.
	PurgeQueue(name string, done func(removed int, err error))
	// Queue describes one queue: code NoQueue if there is none, Unavailable if the engine
	// cannot tell.
	Queue(name string) (QueueInfo, error)
	// Queues describes all queues, sorted by name. Code Unavailable if the engine cannot
	// tell.
	Queues() ([]QueueInfo, error)
	// ReportDeadQueues has made called, from now on, with each queue that the engine itself makes
	// for dead letters, before another call can find the queue. made must not block and must not
	// call back into the engine.
	ReportDeadQueues(made func(name string, o sealmq.QueueOptions))

	// Publish stores each message in all of its queues or in none, in the order of the
	// batch. If a message is not a repeat and one of its queues does not exist, Publish stops
	// before it. taken is how many messages it decided about; the caller may route the
	// others again and publish them after these. results[i] answers batch[i] of those that
	// were taken. done may change the results; the slice is the engine's again when done
	// returns.
	//
	// Publish may wait for room on the disk. Whether a queue exists is decided after that,
	// by its name: a queue that was deleted and declared again meanwhile gets the message.
	Publish(batch []Publish, done func(results []PublishResult)) (taken int)
	// NewSession opens a consumer's side. A session belongs to one connection or channel.
	NewSession(SessionConfig) Session

	// Define writes durable definitions in order, all or none; they are opaque to the
	// engine. A nil Value removes the key. Order is kept with DeclareQueue and Publish. An
	// empty batch is answered when everything before it is durable.
	Define(batch []Definition, done func(error))
	// Definitions returns all current definitions, sorted by key.
	Definitions() []Definition

	// Abilities says what the engine can do beyond this contract.
	Abilities() Abilities
	// Health is nil while promises hold. An error with code NoStorage means that
	// publishes are refused; one with code Unavailable, that the store has stopped.
	Health() error
	// Failed is closed when the engine has stopped for good and must be closed. Health
	// then says why. With code Unavailable storage has failed, and the process must exit;
	// another code says that another node has the queues, and the process may stay.
	Failed() <-chan struct{}
	// Close stops after everything accepted is stored and answered.
	Close() error
}

// Abilities are declared, never assumed: asking for one that is absent is an error
// with code Unsupported.
type Abilities struct {
	// Guarantee is what a done function without an error promises.
	Guarantee        Guarantee
	Delay            bool // Settlement.Delay
	Uncounted        bool // Settlement.Uncounted, and Session.Close without counting
	Extend           bool // the verdict Extend
	Peek             bool // the engine is a Peeker
	Move             bool // the engine is a Mover
	StrictRedelivery bool // what comes back returns to its place in the order
	LongDedup        bool // the dedup horizon outlives a restart
	Pause            bool // the engine is a Pauser
}

// Guarantee says where something is that an engine calls stored, the strongest first.
type Guarantee uint8

// The guarantees.
const (
	Synced         Guarantee = iota + 1 // synced to the disk of this machine
	SyncedMajority                      // synced to the disks of a majority of the replicas
	Replicated                          // in the memory of a majority of the replicas
	Buffered                            // in memory: a crash may lose it
)

// Peeker looks at waiting messages without delivering them.
type Peeker interface {
	// Peek returns up to n messages of the queue in their order, from the front or, if from is
	// above 0, from the place that this tag has: those with a Tag.Seq of from or more, which
	// ascends in the order of a queue. Delayed messages are left out. It may return fewer, so that
	// their bodies do not take too much memory, but at least one if one waits. Code NoQueue.
	Peek(queue string, from uint64, n int) ([]sealmq.Delivery, error)
}

// Mover moves waiting messages between queues.
type Mover interface {
	// Move moves up to n messages (0: all) from the front of one queue to the end of
	// another. Each message moves in one atomic step and its delivery count starts again.
	Move(from, to string, n int, done func(moved int, err error))
	// MoveMessages moves those with these ids, in their order, unless they are delayed or
	// their Repeat was Never. It may cost time in proportion to the backlog. What is not
	// there is no error.
	MoveMessages(from, to string, ids []string, done func(moved int, err error))
}

// Changer changes the options of a queue that exists.
type Changer interface {
	// ChangeQueue gives a queue these options, with defaults filled in. They hold for what
	// happens from now on: what waits stays, also beyond a limit, except that a TTL ends it.
	// The owner stays. Like DeclareQueue, it has called done when it returns if it refuses. Code
	// NoQueue.
	ChangeQueue(name string, o sealmq.QueueOptions, done func(error))
}

// Pauser stops the deliveries of queues.
type Pauser interface {
	// PauseQueue makes a queue deliver nothing, neither to subscriptions nor to Fetch, or lets it
	// deliver again. Everything else goes on: publishes, what is in hand and comes back, times,
	// moves. It holds until it is changed, across restarts. Code NoQueue.
	PauseQueue(name string, paused bool, done func(error))
}

// Finder looks a message up by its id.
type Finder interface {
	// Find returns the message while a copy waits or is unacknowledged, unless its Repeat
	// was Never: of several, one of this publisher if there is one. It may cost time in
	// proportion to the backlog.
	Find(id, publisher string) (sealmq.Message, bool)
}

// DedupReporter says for how long an engine recognises a repeated message.
type DedupReporter interface {
	DedupHorizon() DedupHorizon
}

// DedupHorizon is for how long an engine remembers the id of a message after its last
// copy was settled.
type DedupHorizon struct {
	// Window and MaxIDs end it, whichever comes first: the time, or this many ids that
	// were settled since.
	Window time.Duration
	MaxIDs int
	// Covered is how far back the engine remembers at this moment: every id that was
	// settled within it. It is Window at most, and less if there were more than MaxIDs; 0 if
	// it is not known.
	Covered time.Duration
}

// Definition is one durable key with its value.
type Definition struct {
	Key   string
	Value []byte
}
