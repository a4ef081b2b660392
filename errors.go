package sealmq

import "errors"

// Error is an error with a code and one sentence that is safe to show to a peer.
type Error struct {
	Code    Code
	Message string
	// Err is the cause, for the operator only.
	Err error
}

// Error is the message and, if there is one, the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches any *Error of the same code, so that errors.Is(err, ErrNoQueue) holds
// for every "no such queue", whatever its message.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf returns the code of the first *Error in err's chain, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// ErrInterrupted says that the connection was lost before the reply: the command may have
// been executed or not.
var ErrInterrupted = errors.New("connection lost before the reply")

// ErrClosed says that a connection was closed, or has ended for good; what wraps it says why.
var ErrClosed = errors.New("connection is closed")

// Sentinels for errors.Is.
var (
	ErrNoQueue     = &Error{Code: NoQueue, Message: "no such queue"}
	ErrNoKey       = &Error{Code: NoKey, Message: "no such key"}
	ErrNoExchange  = &Error{Code: NoExchange, Message: "no such exchange"}
	ErrUnroutable  = &Error{Code: Unroutable, Message: "no queue is bound for this routing key"}
	ErrMismatch    = &Error{Code: Mismatch, Message: "it exists with other options"}
	ErrDuplicate   = &Error{Code: Duplicate, Message: "the message id was used for other content"}
	ErrQueueFull   = &Error{Code: QueueFull, Message: "the queue is full"}
	ErrTooLarge    = &Error{Code: TooLarge, Message: "the message is too large"}
	ErrNotSealed   = &Error{Code: NotSealed, Message: "the queue takes sealed messages only"}
	ErrDenied      = &Error{Code: Denied, Message: "not allowed"}
	ErrNoStorage   = &Error{Code: NoStorage, Message: "the broker's disk is full; try again later"}
	ErrNotHeld     = &Error{Code: NotHeld, Message: "this connection does not hold the message"}
	ErrUnsupported = &Error{Code: Unsupported, Message: "the storage engine cannot do this"}
	ErrUnavailable = &Error{Code: Unavailable, Message: "the broker is stopping or its store has failed"}
)
