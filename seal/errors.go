package seal

import (
	"errors"
	"fmt"
)

// Kinds of refusal, for errors.Is. An Error that wraps one says more, never plaintext
// or key material.
var (
	// ErrMalformed says that the bytes are no envelope of a suite that this version knows.
	ErrMalformed = errors.New("malformed envelope")
	// ErrNotSealed says that the bytes do not even try to be an envelope: somebody has sent
	// plain text, or something else. It is an ErrMalformed, too.
	ErrNotSealed error = notSealedError{}
	// ErrVersion says that the envelope is of a later version of the format.
	ErrVersion = errors.New("the envelope is of a later version")
	// ErrSuite says that the suite is not one that is accepted here.
	ErrSuite = errors.New("the suite is not accepted")
	// ErrWrongKey says that the envelope was sealed for another key. With legacy suites it
	// may also mean that the wrapped content key was changed.
	ErrWrongKey = errors.New("the envelope was not sealed for this key")
	// ErrChanged says that the content does not belong to its tag: the content or what
	// is bound to it was changed in transit.
	ErrChanged = errors.New("the sealed content was changed")
	// ErrReceiver says that the envelope is addressed to somebody else.
	ErrReceiver = errors.New("the envelope is addressed to another receiver")
	// ErrID says that the message was delivered under an id that is not its own.
	ErrID = errors.New("the envelope names another message id")
	// ErrRoute says that the message was sent to another exchange or with another
	// routing key than the ones that are expected.
	ErrRoute = errors.New("the message was sent elsewhere")
	// ErrSignature says that the sender's signature is missing or wrong.
	ErrSignature = errors.New("the signature is wrong")
	// ErrUntrusted says that the sender's certificate is not of an accepted authority.
	ErrUntrusted = errors.New("the sender's certificate is not trusted")
	// ErrNoCertificates says of an ErrUntrusted that the envelope names certificates by their
	// hash, and that their keeper has none with that hash.
	ErrNoCertificates = errors.New("nobody has the sender's certificates")
	// ErrSender says that the sender's certificate belongs to another name.
	ErrSender = errors.New("the sender is another one")
	// ErrExpired says that the sender's certificate had expired when the message was
	// sealed, or has since and the message is too old to make an exception.
	ErrExpired = errors.New("the sender's certificate has expired")
	// ErrNotYetValid says that the sender's certificate was not valid yet.
	ErrNotYetValid = errors.New("the sender's certificate was not valid yet")
	// ErrRevoked says that the sender's certificate was revoked. Such a message belongs
	// in quarantine: it may be the thief's or the owner's.
	ErrRevoked = errors.New("the sender's certificate is revoked")
	// ErrUndecided says that the sender could not be checked now. The same message may
	// open later.
	ErrUndecided = errors.New("the sender cannot be checked now")
	// ErrTime says that the message was sealed outside its epoch or in the future.
	ErrTime = errors.New("the time of the message is wrong")
	// ErrFuture says of an ErrTime that the message was sealed in the future, by the
	// clock here. The same message may open later.
	ErrFuture = errors.New("that is in the future")
	// ErrEpoch says that an epoch breaks its own bounds or those of the format.
	ErrEpoch = errors.New("the epoch breaks its bounds")
	// ErrTooLarge says that a content or an envelope is over a limit of the format.
	ErrTooLarge = errors.New("too large to be sealed")
)

type notSealedError struct{}

func (notSealedError) Error() string        { return "the message is not sealed" }
func (notSealedError) Is(target error) bool { return target == ErrMalformed }

// Error is why something was not opened or not sealed.
type Error struct {
	// Kind is one of the variables above.
	Kind error
	// Detail says what exactly; it may be empty.
	Detail string
	// Remedy says what to do about it; it may be empty.
	Remedy string
	// Err is the cause; it may be nil.
	Err error
}

// Error gives the kind, the detail and the cause, and not the hint.
func (e *Error) Error() string {
	s := e.Kind.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap makes the kind and the cause known to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err != nil {
		return []error{e.Kind, e.Err}
	}
	return []error{e.Kind}
}

// Hint is the Remedy or, if there is none, the hint of the cause; it may be empty.
func (e *Error) Hint() string {
	var cause interface{ Hint() string }
	if e.Remedy == "" && errors.As(e.Err, &cause) {
		return cause.Hint()
	}
	return e.Remedy
}

// refuse makes an Error without a cause.
func refuse(kind error, hint, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...), Remedy: hint}
}

func malformed(format string, args ...any) error {
	return refuse(ErrMalformed, "", format, args...)
}

func notSealed() error {
	return refuse(ErrNotSealed, `have its sender use "sealmq send" or package seal; a queue that was declared with --sealed lets nothing else in`,
		"it came as it is, readable for everybody on its way, and nothing says who sent it")
}
