package engine

import (
	"time"

	"github.com/sealmq/sealmq"
)

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
