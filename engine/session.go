package engine

import (
	"time"

	"github.com/sealmq/sealmq"
)

// SessionConfig describes the connection or channel that opens a session.
type SessionConfig struct {
	// Notify says that Take may have something. It must not block, may be called from any
	// goroutine and more often than needed, and not after Close returned.
	Notify func()
	// Ended says that a subscription has ended although nobody cancelled it; nil if
	// nobody wants to know. why has code NoQueue if the queue was deleted; then the call
	// comes before the done function of DeleteQueue. It is made once for each such
	// subscription, maybe before Consume has returned its id. From then on Take gives nothing
	// more for it, except what a Take returns that was under way. What is said of Notify
	// holds for it too, and it must not call back into the engine.
	Ended func(sub sealmq.SubscriptionID, queue string, why error)
	// MayDead says whether the verdict Dead is for this session to give in a queue with these
	// options, of what it has fetched or does not hold any more; nil lets it. What it holds
	// through a subscription is for it to judge. It must not block and must not call back into the engine.
	MayDead func(queue string, o *sealmq.QueueOptions) bool
}

// Session is a consumer's side: subscriptions, and the deliveries that it holds. Its
// methods may be called from several goroutines.
type Session interface {
	// Consume subscribes to a queue and returns the subscription's id, which is never 0.
	// One session may have several subscriptions to one queue. Code NoQueue if there is no
	// such queue; with an error there is no subscription.
	Consume(queue string, o ConsumeOptions, done func(error)) sealmq.SubscriptionID
	// Cancel ends a subscription. What the session holds stays in its hands. A subscription
	// that is unknown or has ended is no error.
	Cancel(sub sealmq.SubscriptionID, done func(error))
	// SetPrefetch changes the prefetch of one subscription, or of all if sub is 0; n is
	// read as ConsumeOptions.Prefetch. A lower one takes nothing back.
	SetPrefetch(sub sealmq.SubscriptionID, n int)
	// SetCredit limits the deliveries that the session holds through all of its
	// subscriptions together, ended ones included. NoLimit, the default, lifts the limit.
	SetCredit(n int)
	// Fetch takes one message without a subscription, as an outstanding delivery or, with
	// noAck, for good. It finds what this goroutine published before. It may wait for that
	// to become durable, and for the disk; done may therefore run after those of later
	// calls. Code NoQueue if there is no such queue.
	Fetch(queue string, noAck bool, done func(Fetched, error))
	// Take appends to dst what may be delivered at this moment, within prefetch and credit:
	// at most max messages, and no more once their bodies reach maxBytes (so one message
	// always fits). It may wait for a disk or a network, for a bounded time. Messages of one
	// queue come in their order.
	Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error)
	// Settle ends deliveries, or prolongs them. A settlement has an effect if this session
	// holds the delivery, or held it last and the message waits again; others are ignored.
	// An Extend needs a delivery that is held. If the batch has Extends and this session
	// holds none of their deliveries, done gets an error with code NotHeld; what else is in
	// the batch has its effect all the same. If a Dead is not for this session to give
	// (SessionConfig.MayDead), it is a Return, and done gets an error with code Denied.
	Settle(batch []Settlement, done func(error))
	// Unacked is the number of deliveries the session holds. It takes no lock: sessions are
	// described to operators by the thousand.
	Unacked() int
	// Close ends all subscriptions and returns every held delivery to its place. counted
	// says whether these deliveries count towards the delivery limit. It may be called twice.
	Close(counted bool)
}

// ConsumeOptions are the options of one subscription.
type ConsumeOptions struct {
	// Prefetch is how many deliveries the subscription may hold: a number from 1 to
	// sealmq.MaxPrefetch, or one of the constants below.
	Prefetch int
	// NoAck says that a delivery is settled by being taken. Of Prefetch only Paused matters.
	NoAck bool
}

// Special values of a prefetch.
const (
	QueuesOwn = 0  // the one in the queue's options
	NoLimit   = -1 // any number
	Paused    = -2 // nothing more, until it is changed
)

// Fetched is what a Fetch found.
type Fetched struct {
	Delivery sealmq.Delivery
	Found    bool // if not, nothing waited and Delivery is empty
	Waiting  int  // how many messages wait behind it
}

// Verdict says how a delivery ends, or that it goes on.
type Verdict uint8

// The verdicts.
const (
	Ack    Verdict = iota + 1 // settled, never delivered again
	Return                    // back to its place, after Delay; counts towards the delivery limit unless Uncounted
	Dead                      // to the dead-letter queue, with Reason
	Drop                      // settled like Ack, and counted as dropped
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
	Delay     time.Duration // Return only; 0 at once; at most sealmq.MaxDelay
	Reason    string        // Dead only; at most sealmq.MaxNameBytes bytes
}
