package keydir

import (
	"errors"
	"fmt"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// Errors of a Directory, for errors.Is. What wraps them says more, and what to do.
var (
	// ErrUnproven says that there is a key, and nothing that proves whose it is.
	ErrUnproven = errors.New("nothing proves whose key this is")
	// ErrRollback says that the directory shows an older state than it did before.
	ErrRollback = errors.New("the key directory shows an older state than before")
	// ErrPinned says that the key is not the pinned one and that this is not accepted:
	// always, if nothing explains the change, and under StrictPins even if its owner signed a
	// newer entry.
	ErrPinned = errors.New("the key is not the pinned one")
	// ErrPins says that the pins cannot be relied on: the file cannot be understood, or
	// somebody has altered it. It is also an ErrPinned.
	ErrPins error = pinned("the pins cannot be relied on")
	// ErrReset says that an administrator of the broker took the pinned key out of the
	// directory, and that the log proves it. It is also an ErrPinned:
	// no later key is accepted before the pin is forgotten.
	ErrReset error = pinned("the pinned key was reset by an administrator of the broker")
	// ErrLog says that the directory's log does not prove what it should.
	ErrLog = errors.New("the key directory's log does not prove this")
	// ErrDirectory says that an entry was signed for another key directory.
	ErrDirectory = errors.New("the entry is for another key directory")
	// ErrCheckpoint says that a checkpoint is not one that the directory's log signed. If it
	// came in a message, that is its sender's fault.
	ErrCheckpoint = errors.New("the checkpoint is not signed by the key directory's log")
	// ErrShown says that a key is another one than the one that the directory shows.
	ErrShown = errors.New("the key is not the one that the directory shows")

	// These two begin errors that need no name of their own.
	errMissing    = errors.New("not in the directory")
	errUncompared = errors.New("it cannot be compared with the key directory")
)

// pinned is a kind of ErrPinned.
type pinned string

func (p pinned) Error() string      { return string(p) }
func (pinned) Is(target error) bool { return target == ErrPinned }

// Error is why a Directory does not believe something. Its Kind is one of the variables above.
type Error = seal.Error

// ForkError says that the broker has shown different directories to different people, or at
// different times: its log signed two checkpoints, and the broker does not prove that they
// belong to one history. Together they are the evidence.
type ForkError struct {
	Ours, Theirs []byte
	// Detail says what does not fit.
	Detail string
}

// Error says what was found. It contains no key.
func (e *ForkError) Error() string {
	return "the broker has shown two histories of its key directory: " + e.Detail +
		" (seen before: " + keylog.Describe(e.Ours) + "; shown now: " + keylog.Describe(e.Theirs) + ")"
}

// Hint says what to do about it.
func (e *ForkError) Hint() string {
	return "keep both checkpoints as evidence, send nothing more through this broker, and ask its operator; compare keys by their fingerprints. " + hintAccept
}

const (
	hintLies   = "the broker lies: ask its operator"
	hintBackup = "the broker lies, or was restored from an old backup: ask its operator. " + hintAccept
	hintAccept = "If it was restored, an administrator attests that with \"sealmq key attest-restore\", and you accept it with \"sealmq key accept-restore\""
)

func notProven(format string, args ...any) *Error {
	return &Error{Kind: ErrLog, Detail: fmt.Sprintf(format, args...),
		Remedy: "the broker or something before it lies, or it was restored from an old backup: ask its operator, and compare fingerprints in another way. " + hintAccept}
}

func rollback(hint, format string, args ...any) *Error {
	return &Error{Kind: ErrRollback, Detail: fmt.Sprintf(format, args...), Remedy: hint}
}
