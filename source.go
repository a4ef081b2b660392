package sealmq

import (
	"context"
	"time"
)

// Connection is one connection to a broker: over the network a client.Client, within one
// process what broker.Broker.Connect returns. All of its methods, and those of its
// subscription, may be called from many goroutines.
//
// An error that the broker answered is an *Error with a code. ErrClosed says that the
// connection was closed or has ended for good. Any other error means that it is not known
// whether the broker did what it was asked: ErrInterrupted, or the error of the call's context.
type Connection interface {
	Publisher
	Source
	Administrator
	// Close ends the connection at once. What was not answered fails with ErrClosed. Its
	// deliveries that are not settled become available to others, and count as delivered;
	// Subscription.Close before it avoids that.
	Close() error
}

// Publisher publishes messages. Of a Message it takes Exchange, Key, ID, Body and Digest;
// Publisher and Published are the broker's to fill in. The slices are the caller's again when
// the method returns.
//
// A message that has to pass the line protocol on its way has an ID and no Properties, and
// its Body is a JSON object on one line, with the ID as its member message_id. Only a
// connection over the line protocol refuses others.
//
// Without an error the message is on stable storage in all its queues, by this publish or by
// an earlier one of the same publisher with the same ID and content: a publish whose result is
// not known can be repeated. Codes of errors:
//
//   - Duplicate: the ID was used for other content, and the message was not stored.
//   - Unroutable, NoExchange: there is no queue for it.
//   - QueueFull, NoStorage, Unavailable: not now (Code.Info has Retry).
//   - TooLarge, NotSealed, Denied, BadName, BadArgument: not this message.
type Publisher interface {
	// Publish publishes one message and waits for the result. Many goroutines that
	// publish at the same time share system calls and syncs.
	Publish(ctx context.Context, m Message) error
	// PublishBatch publishes messages in their order and waits for all results; results[i] is
	// that of batch[i]. A message that is refused holds none of the others back. When ctx ends,
	// its error is the result of what is not answered, which may be stored nevertheless.
	//
	// Over the line protocol only a message with a Digest is known to be Repeated.
	PublishBatch(ctx context.Context, batch []Message) (results []PublishResult)
}

// Source delivers the messages of a queue.
type Source interface {
	// Consume subscribes to a queue, which is created if it is missing. At most prefetch
	// deliveries (1 to MaxPrefetch; 0: as the queue says) are in this consumer's hands at a
	// time; how many it is sent in addition depends on what it settles. A connection consumes
	// one queue: a second Consume has code InUse.
	//
	// A connection that was lost and is made again keeps its subscription.
	Consume(ctx context.Context, queue string, prefetch int) (Subscription, error)
}

// Subscription is the consuming side of a connection.
//
// A delivery is in the consumer's hands until it is settled, until the queue's ack timeout
// is over (see Extend), or until the connection is lost or closed. What was not settled by
// then is delivered again, to this consumer or another one: a consumer gets each message at
// least once. So to settle what is not in hand any more is no error and has no effect, unless
// the message still waits and was in hand last: then Ack settles it.
//
// The methods that settle take deliveries as Next returned them, in any order and any number.
// They do not wait for the broker: settlements go out together, in the order of the calls.
// One that a lost connection swallowed is lost with it. Close waits for all of them, AckWait
// for its own.
type Subscription interface {
	// Next waits until there is a delivery, fills dst with as many as there are, in the order
	// of the queue, and returns their number. It is 0 only with an error: of ctx; with code
	// NoQueue when the queue was deleted; ErrClosed when the subscription or the connection
	// was closed. An error that comes with deliveries is the next call's. A Body must not be
	// changed, and may share memory with those of other messages: copy one that is kept for long.
	//
	// A client.Client fills in only ID, Queue and Body unless its Config.Meta is set.
	Next(ctx context.Context, dst []Delivery) (int, error)
	// Ack says that the messages are done with and must not come again.
	Ack(list ...Delivery) error
	// AckWait is Ack, and waits until it is on stable storage: the messages never come
	// again, not even after a crash. After ErrInterrupted some may.
	AckWait(ctx context.Context, list ...Delivery) error
	// Nack returns messages to their place in the queue, to be delivered again after delay
	// (at most MaxDelay; 0: at once). It counts towards the queue's delivery limit, at which
	// a message is dead-lettered instead.
	Nack(delay time.Duration, list ...Delivery) error
	// Release is Nack for messages that were not tried, because the consumer stops or cannot
	// work now: it does not count towards the delivery limit.
	Release(delay time.Duration, list ...Delivery) error
	// Dead puts messages into the queue's dead-letter queue. reason is kept with them, as one
	// line that is cut after MaxNameBytes bytes.
	Dead(reason string, list ...Delivery) error
	// Extend says that work on these messages goes on: the ack timeout of each starts again,
	// and so does that of what Next has not returned yet. It is to be called well within the
	// queue's ack timeout for as long as the work takes.
	Extend(list ...Delivery) error
	// SetPrefetch changes the prefetch. A lower one takes nothing back. After Close it returns
	// ErrClosed.
	SetPrefetch(n int) error
	// Close ends the subscription. It releases what Next has not returned, and these
	// deliveries, and waits until the broker has stored this and all earlier settlements.
	// Other deliveries stay in hand and can still be settled.
	Close(ctx context.Context, unsettled ...Delivery) error
}

// MaxDelay is the longest delay of Nack and Release.
const MaxDelay = 24 * time.Hour

// Administrator declares and describes what messages pass through. A missing permission
// has code Denied.
type Administrator interface {
	// DeclareQueue creates a queue. If there is one, nil options match whatever it has; other
	// options that differ have code Mismatch.
	DeclareQueue(ctx context.Context, queue string, o *QueueOptions) error
	// Bind routes messages with this key from the exchange to the queue. Missing parts are
	// created, the exchange as a direct one. Binding twice has no further effect.
	Bind(ctx context.Context, queue, exchange, key string) error
	// Queue describes one queue.
	Queue(ctx context.Context, name string) (QueueInfo, error)
	// PurgeQueue removes the waiting messages of a queue and returns their number.
	PurgeQueue(ctx context.Context, queue string) (removed int, err error)
	// Move moves up to n messages (0: all) from the front of one queue to the end of
	// another, for example from a dead-letter queue to where they came from.
	Move(ctx context.Context, from, to string, n int) (moved int, err error)
	// MoveMessages moves the waiting messages that have one of these ids, up to MaxMoveIDs,
	// to the end of another queue. An id that is not there is no error.
	MoveMessages(ctx context.Context, from, to string, ids []string) (moved int, err error)
	// Peek looks at up to n messages (0: DefaultPeek) of a queue without taking them: at the
	// front or, if from is above 0, at those whose PeekedMessage.Seq is from or more. The next
	// page begins at the last Seq plus 1.
	Peek(ctx context.Context, queue string, from uint64, n int) ([]PeekedMessage, error)
}

// Manager looks after a whole broker on behalf of its operators: what an Administrator does,
// for all queues and connections. It needs the role admin or server, and everything that it
// changes is audited by the broker.
type Manager interface {
	Administrator
	// Queues describes all queues, sorted by name. With many of them it may be a second old.
	Queues(ctx context.Context) ([]QueueInfo, error)
	// ChangeQueue gives a queue these options in place of those that it has.
	ChangeQueue(ctx context.Context, queue string, o QueueOptions) error
	// PauseQueue makes a queue deliver nothing until ResumeQueue, across restarts. Publishes go on.
	PauseQueue(ctx context.Context, queue string) error
	// ResumeQueue lets a queue deliver again.
	ResumeQueue(ctx context.Context, queue string) error
	// DeleteQueue removes a queue with its bindings and its messages, and returns the number of
	// these.
	DeleteQueue(ctx context.Context, queue string) (removed int, err error)
	// Exchanges describes all exchanges, sorted by name.
	Exchanges(ctx context.Context) ([]ExchangeInfo, error)
	// Bindings lists the bindings of a queue or, with an empty name, of all queues, sorted by
	// queue, exchange and key.
	Bindings(ctx context.Context, queue string) ([]BindingInfo, error)
	// Keys describes the current keys of up to n clients (1 to 200) of the key directory, from a
	// name on, in the order of names.
	Keys(ctx context.Context, from string, n int) ([]KeyInfo, error)
	// Connections describes all open connections of the network, sorted by id.
	Connections(ctx context.Context) ([]ConnectionInfo, error)
	// CloseConnection closes one of them. Its client may connect again. Code BadArgument if
	// there is none with this id.
	CloseConnection(ctx context.Context, id uint64) error
}
