package engine

import "github.com/sealmq/sealmq"

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
