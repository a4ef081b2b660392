package engine

import "github.com/sealmq/sealmq"

// Publish is one message for any number of queues.
type Publish struct {
	Message sealmq.Message
	// Queues are named once each. Without any the message is Unrouted.
	Queues []string
	// Digest says what the content is, where the bytes of the body do not: if it is not
	// empty, a repeat is the same id with the same digest, whatever exchange, key and body
	// are, and no digest is the same as none. At most MaxDigestBytes, or the request is
	// refused with code BadArgument. Without an id it means nothing.
	Digest []byte
	Repeat Repeat
}

// Repeat says how a repeated message is recognised.
type Repeat uint8

// The ways.
const (
	ByID  Repeat = iota // by its id, if it has one
	Never               // not at all: it is stored, and its id is not remembered
)

// MaxDigestBytes bounds Publish.Digest.
const MaxDigestBytes = 64

// Outcome is what became of a publish.
type Outcome uint8

// The outcomes.
const (
	Stored   Outcome = iota + 1 // in all its queues
	Repeated                    // same id and content (or digest) as before: confirmed, not stored again
	Conflict                    // same id, other content: refused
	Refused                     // by a queue or by the store; Err says why
	Unrouted                    // there is no queue for it
)

// PublishResult answers one Publish.
type PublishResult struct {
	Outcome Outcome
	// Queue is the queue that refused, where one did.
	Queue string
	// Err is set unless the message is Stored or Repeated, and has a code: Duplicate,
	// Unroutable, QueueFull, TooLarge, NoStorage, Unavailable or BadArgument.
	Err error
}
