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

	// Publish stores each request in all of its queues or in none. results[i] answers
	// batch[i]. The results slice is the engine's again when done returns.
	Publish(batch []PublishRequest, done func(results []PublishResult))
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
	// Find returns the message while a copy waits or is unacknowledged. It may cost
	// time in proportion to the backlog.
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

// PublishRequest is one message for one or more queues.
type PublishRequest struct {
	Message sealmq.Message
	// Queues are existing queues, each named once; at least one.
	Queues []string
	// Digest says what the content is, where the bytes of the body do not: if it is not
	// empty, a repeat is the same id with the same digest, whatever exchange, key and body
	// are, and no digest is the same as none. At most MaxDigestBytes, or the request is
	// refused with code BadArgument. Without an id it means nothing.
	Digest []byte
}

// MaxDigestBytes bounds PublishRequest.Digest.
const MaxDigestBytes = 64

// Outcome is what became of a publish.
type Outcome uint8

// The outcomes.
const (
	Stored   Outcome = iota + 1 // in all its queues
	Repeated                    // same id and content (or digest) as before: confirmed, not stored again
	Conflict                    // same id, other content: refused
	Refused                     // by a queue or by the store; Err says why
)

// PublishResult answers one PublishRequest.
type PublishResult struct {
	Outcome Outcome
	// Queue is the queue that refused, where one did.
	Queue string
	// Err is set for Conflict and Refused and has a code: Duplicate, QueueFull,
	// TooLarge, NoQueue, NoStorage, Unavailable or BadArgument.
	Err error
}

// SessionConfig describes the connection that opens a session.
type SessionConfig struct {
	// Client names the holder in descriptions.
	Client string
	// Notify says that Take may have something now. It must not block, may be called
	// from any goroutine and more often than needed, and not after Close returned.
	Notify func()
	// Ended says that a subscription has ended because its queue was deleted; nil if
	// nobody wants to know. It is called once for each such subscription, before the done
	// function of DeleteQueue; Take gives nothing of the queue any more, but for what a
	// Take that was under way returns. What is said of Notify holds for it too, and it
	// must not call back into the engine. Purging a queue ends nothing.
	Ended func(queue string)
}

// Session holds the deliveries of one connection. Its methods may be called from
// several goroutines.
type Session interface {
	// Consume subscribes. prefetch 0 means the queue's own. A second Consume of the
	// same queue only changes the prefetch. Code NoQueue if there is no such queue.
	Consume(queue string, prefetch int, done func(error))
	// SetPrefetch changes the credit of every subscription, current and future. 0 gives
	// the current ones nothing more until it is raised or they Consume again; what they
	// hold stays.
	SetPrefetch(n int)
	// Fetch takes one message as an outstanding delivery, without a subscription.
	// ok is false when nothing waits. Code NoQueue if there is no such queue.
	Fetch(queue string) (d sealmq.Delivery, ok bool, err error)
	// Take appends to dst what may be delivered now, within the credit of each
	// subscription: at most max messages, and no more once their bodies reach maxBytes
	// (so one message always fits). It may read from disk. Messages of one queue come
	// in their order.
	Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error)
	// Settle ends deliveries, or prolongs them. A settlement has an effect if this session
	// holds the delivery, or held it last and the message waits again; others are ignored.
	// An Extend needs a delivery that is held. If the batch has Extends and this session
	// holds none of their deliveries, done gets an error with code NotHeld; what else is in
	// the batch has its effect all the same.
	Settle(batch []Settlement, done func(error))
	// Unacked is the number of deliveries the session holds.
	Unacked() int
	// Close returns every held delivery to its place in its queue.
	Close()
}

// Verdict says how a delivery ends, or that it goes on.
type Verdict uint8

// The verdicts.
const (
	Ack    Verdict = iota + 1 // settled, never delivered again
	Return                    // back to its place, after Delay; counts towards the delivery limit unless Uncounted
	Dead                      // to the dead-letter queue, with Reason
	Extend                    // nothing ends: its ack timeout starts again; neither stored nor counted
)

// Settlement is a verdict on one delivery.
type Settlement struct {
	Tag     sealmq.DeliveryTag
	Verdict Verdict
	// Uncounted is for Return only: the delivery does not count towards the delivery limit,
	// so the next one has the same attempt, and may have the same tag. It is stored like
	// any return.
	Uncounted bool
	Delay     time.Duration // Return only; 0 at once; at most MaxDelay
	Reason    string        // Dead only; at most sealmq.MaxNameBytes bytes
}

// MaxDelay bounds Settlement.Delay.
const MaxDelay = 24 * time.Hour

// Definition is one durable key with its value.
type Definition struct {
	Key   string
	Value []byte
}

// QueueInfo describes a queue at one moment.
type QueueInfo struct {
	Name      string              `json:"name"`
	Options   sealmq.QueueOptions `json:"options"`
	Ready     int                 `json:"ready"`     // waiting, delayed ones included
	Unacked   int                 `json:"unacked"`   // in consumers' hands
	Bytes     int64               `json:"bytes"`     // of bodies, ready and unacked
	Consumers int                 `json:"consumers"` // subscriptions
	// Totals since the engine was opened.
	Published    uint64 `json:"published"`
	Delivered    uint64 `json:"delivered"`
	Acked        uint64 `json:"acked"`
	Returned     uint64 `json:"returned"`
	Expired      uint64 `json:"expired"`       // removed by the queue's TTL
	Dropped      uint64 `json:"dropped"`       // removed by drop_oldest
	DeadLettered uint64 `json:"dead_lettered"` // moved to the dead-letter queue
	Refused      uint64 `json:"refused"`       // publishes refused at a limit
}
