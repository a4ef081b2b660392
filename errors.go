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
	if e, ok := errors.AsType[*Error](err); ok {
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
	ErrNoQueue     = usual(NoQueue)
	ErrNoKey       = usual(NoKey)
	ErrNoExchange  = usual(NoExchange)
	ErrUnroutable  = usual(Unroutable)
	ErrMismatch    = usual(Mismatch)
	ErrDuplicate   = usual(Duplicate)
	ErrQueueFull   = usual(QueueFull)
	ErrTooLarge    = usual(TooLarge)
	ErrNotSealed   = usual(NotSealed)
	ErrDenied      = usual(Denied)
	ErrNoStorage   = usual(NoStorage)
	ErrNotHeld     = usual(NotHeld)
	ErrUnsupported = usual(Unsupported)
	ErrUnavailable = usual(Unavailable)
)

// usual is an error with the sentence of the table.
func usual(code Code) *Error { return &Error{Code: code, Message: code.Info().Sentence} }
