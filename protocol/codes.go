package protocol

import (
	"errors"

	"github.com/sealmq/sealmq"
)

// Reply is what the protocols say for an error code: a row of the table of codes. A
// protocol with numbers of its own for errors has them in a column here.
type Reply struct {
	Code sealmq.Code
	// Sentence is for people. It is the error's own, if that brings one.
	Sentence string
}

// replies is the table of codes. An error whose code is not here is an internal error.
var replies = [...]Reply{
	{sealmq.BadName, "the name is not valid"},
	{sealmq.BadArgument, "the argument is not valid"},
	{sealmq.NoExchange, "no such exchange"},
	{sealmq.NoQueue, "no such queue"},
	{sealmq.NoKey, "no such key"},
	{sealmq.NotSealed, "the queue takes sealed messages only"},
	{sealmq.Unroutable, "no queue is bound for this routing key"},
	{sealmq.Mismatch, "it exists with other options"},
	{sealmq.Duplicate, "the message id was used for other content"},
	{sealmq.QueueFull, "the queue is full"},
	{sealmq.TooLarge, "the message is too large"},
	{sealmq.LimitReached, "a limit of the broker is reached"},
	{sealmq.Denied, "not allowed"},
	{sealmq.NoStorage, "the broker's disk is full; try again later"},
	{sealmq.Unsupported, "the storage engine cannot do this"},
	{sealmq.InUse, "it is still in use"},
	{sealmq.NotHeld, "this connection does not hold the message"},
	{sealmq.Unavailable, "the broker is stopping or its store has failed"},
}

// Replies is the table of codes.
func Replies() []Reply { return replies[:] }

// ReplyTo is what a peer may know of err. ok is false for an internal error, which may
// carry anything, so nothing of it is shown.
func ReplyTo(err error) (r Reply, ok bool) {
	var e *sealmq.Error
	if !errors.As(err, &e) {
		return Reply{}, false
	}
	for _, r := range replies {
		if r.Code == e.Code {
			if e.Message != "" {
				r.Sentence = e.Message
			}
			return r, true
		}
	}
	return Reply{}, false
}
