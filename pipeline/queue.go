package pipeline

import (
	"context"
	"time"
)

// Queue is where items wait. Its implementations keep an item until a worker has finished
// with it, whatever is killed in between, and recognise an item that is enqueued again
// for all producers together.
//
// All methods are safe for concurrent use. Errors are coded (package sealmq): Unavailable
// says that the queue cannot be reached, and that the call may be repeated; NoStorage and
// QueueFull that nothing was done because there is no room.
type Queue interface {
	// Enqueue stores items. results[i] answers items[i], once it is stored as the queue
	// guarantees. err is for the whole call: then nothing is known of any of them.
	Enqueue(ctx context.Context, items []Item) (results []EnqueueResult, err error)
	// Consumer begins taking items in the name of a worker. Several may take from one
	// queue; each item goes to one of them.
	Consumer(worker string) (Consumer, error)
	// Counts tells how much there is of what.
	Counts(ctx context.Context) (Counts, error)
	// Waiting looks at up to limit items that wait for a worker, without taking them: at the
	// first ones if from is 0, or at those behind an earlier look, which returned it as next.
	// What is no item is left out. next is from if nothing waits there.
	Waiting(ctx context.Context, from uint64, limit int) (items []Item, next uint64, err error)
	// Dead lists up to limit dead items, the oldest first.
	Dead(ctx context.Context, limit int) ([]DeadItem, error)
	// Requeue puts dead items back to the end of the queue, with their attempts counted
	// from zero: those with these ids, or all if ids is nil. It returns how many there were.
	Requeue(ctx context.Context, ids []string) (int, error)
	// Close ends all consumers. What they hold is taken by others.
	Close() error
}

// Outcome is what became of an item that was enqueued.
type Outcome uint8

// The outcomes.
const (
	Stored    Outcome = iota + 1 // it waits now
	Duplicate                    // it was enqueued before, with the same content
	Conflict                     // its id was enqueued before with another content
	Refused                      // it is not stored, because there is no room, the queue is away or takes no such item; Err says why
	Unknown                      // it may be stored or not, and can be enqueued again; Err says why
)

// EnqueueResult answers one item of Enqueue.
type EnqueueResult struct {
	Outcome Outcome
	Err     error // set if Refused, then coded, or Unknown
}

// Consumer takes items for one worker. An item that was taken is this worker's until it
// is finished, or until the consumer is closed or its process is gone.
type Consumer interface {
	// Take waits until there is something or ctx ends, and returns up to max items, those
	// that were tried least first. It does not wait for more than one.
	Take(ctx context.Context, max int) ([]Taken, error)
	// Finish says what became of taken items, each once. It returns when every Done is
	// stored. What a crash swallows of the others comes again at once, as does everything
	// after an error.
	Finish(ctx context.Context, finished []Finished) error
	// Close gives back what is not finished. That does not count as an attempt.
	Close() error
}

// Taken is an item that a worker holds.
type Taken struct {
	// Item is empty if Err is set.
	Item Item
	// Err says that the bytes in the queue are no item: it wraps ErrMalformed.
	Err error
	// Ticket is the queue's own, and comparable.
	Ticket any
}

// Finished is what became of an item.
type Finished struct {
	Ticket any
	Verdict
	// After is how long the item waits for its next attempt; for Retry.
	After time.Duration
	// Reason says why, for Retry and Dead: text for an operator without secrets.
	Reason string
}

// Verdict says how an attempt ended.
type Verdict uint8

// The verdicts.
const (
	Done    Verdict = iota + 1 // delivered: it never comes again
	Retry                      // failed: again after After, in nobody's hands until then
	Release                    // not tried: again at once, and not counted as an attempt
	Dead                       // given up: to the dead items, with Reason
)

// Reasons of dead items.
const (
	ReasonMalformed   = "malformed"
	ReasonConflict    = "conflict"
	ReasonMaxAttempts = "max_attempts_exceeded"
	ReasonRefused     = "refused"
)

// Counts is how much a queue has.
type Counts struct {
	Ready      int // wait for a worker
	Processing int // are held by workers
	Retry      int // wait for their next attempt
	Dead       int
	// Oldest is since when the oldest item waits; zero if nothing does or the queue does
	// not know.
	Oldest time.Time
}

// DeadItem is an item that was given up.
type DeadItem struct {
	Item   Item  // as far as it can be read
	Err    error // why it cannot; wraps ErrMalformed
	Reason string
}
