package engine

import "github.com/sealmq/sealmq"

// Publish is one message for any number of queues.
type Publish struct {
	// Message is refused with code BadArgument if its digest is over sealmq.MaxDigestBytes.
	Message sealmq.Message
	// Queues are where the message goes, each named once. If there are none, the message is
	// Unrouted.
	Queues []string
	// Copies are queues that get the message too if they exist and have room. They refuse nothing.
	Copies []string
	Repeat Repeat
	// Scope is within which the id is unique: a message is compared with the one that used its id
	// in the same scope or, if there is none, in the empty one. That is the scope of all publishers
	// together, and of what an older version stored.
	Scope string
}

// Repeat says how a repeated message is recognised.
type Repeat uint8

// The ways.
const (
	ByID  Repeat = iota // by its id, if it has one
	Never               // not at all: it is stored, and its id is not remembered
)

// Outcome is what became of a publish.
type Outcome uint8

// The outcomes.
const (
	Stored   Outcome = iota + 1 // in all its queues, and in those of Copies that had room
	Repeated                    // same scope, id and content (or digest) as before: confirmed, not stored again
	Conflict                    // same scope and id, other content: refused
	Refused                     // by a queue or by the store; Err says why
	Unrouted                    // there is no queue for it
)

// PublishResult answers one Publish.
type PublishResult struct {
	Outcome Outcome
	// Queue is the queue that refused the message; empty if none did.
	Queue string
	// Err is set unless the message is Stored or Repeated, and has a code: Duplicate,
	// Unroutable, QueueFull, TooLarge, NoStorage, Unavailable or BadArgument.
	Err error
}
