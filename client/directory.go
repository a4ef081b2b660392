package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sealmq/sealmq/seal"
)

// Errors of a Directory, for errors.Is. What wraps them says more and names what to do.
var (
	// ErrUnproven says that there is a key, and nothing that proves whose it is.
	ErrUnproven = errors.New("nothing proves whose key this is")
	// ErrRollback says that the directory shows an older entry than it did before.
	ErrRollback = errors.New("the key directory shows an older state than before")
	// ErrPinned says that the key is another one than the pinned one, and that this is
	// not accepted: always, if nothing explains the change, and under StrictPins even if
	// its owner signed a newer entry.
	ErrPinned = errors.New("the key is not the pinned one")
	// ErrLog says that the directory's log does not prove what it should.
	ErrLog = errors.New("the key directory's log does not prove this")
	// ErrCheckpoint says that a checkpoint is not one that the directory's log signed. If
	// it came in a message, that is its sender's fault.
	ErrCheckpoint = errors.New("the checkpoint is not signed by the key directory's log")
)

// ForkError is the evidence that the broker has shown different directories to different
// people: two checkpoints with its signature that cannot both be of one log.
type ForkError struct {
	// Ours and Theirs are the two signed checkpoints. Theirs is empty if the broker
	// refuses to show that its log continues Ours.
	Ours, Theirs []byte
	// Detail says what does not fit.
	Detail string
}

// Error says what was found. It contains no key.
func (e *ForkError) Error() string {
	return "the broker has shown two histories of its key directory: " + e.Detail
}

// DirectoryConfig says whom to believe.
type DirectoryConfig struct {
	// Verifier says whose the certificates of entries are. It must be set.
	Verifier seal.Verifier
	// Pins remembers what was seen (default: in memory, for the life of the Directory).
	Pins *Pins
	// Scope names the directory in Pins, which may know several (default: the broker's
	// address).
	Scope string
	// StrictPins refuses every key but the pinned one, also one that its owner has
	// properly replaced.
	StrictPins bool
	// AllowUnproven takes keys of which nothing proves whose they are, if there is none
	// that is proven.
	AllowUnproven bool
	// Notice is told, in a sentence for a person, of every key that is pinned for the
	// first time, replaced, or unproven (default: nobody is told). It must not call the
	// Directory.
	Notice func(string)
}

// Directory looks up and publishes public keys, and believes nothing that is not proven:
// an entry must be signed by its owner's certificate, stand in the directory's log, the
// log must continue the one that was seen before, and the key must be the pinned one or
// follow it. It is safe for concurrent use.
type Directory struct {
	c   *Client
	cfg DirectoryConfig

	mu sync.Mutex
}

// NewDirectory makes the directory of the broker that c is connected to. Nothing is asked
// before it is needed.
func NewDirectory(c *Client, cfg DirectoryConfig) (*Directory, error) {
	if cfg.Verifier == nil {
		return nil, errors.New("client: DirectoryConfig.Verifier is not set")
	}
	return &Directory{c: c, cfg: cfg}, nil
}

// Find returns the key to seal for, of the given suite or, if suite is empty, of the best
// one that there is. It is asked anew every time; what is returned is pinned. The errors
// wrap sealmq.ErrNoKey, ErrUnproven, ErrRollback, ErrPinned, ErrLog, what a
// seal.KeyEntry's Verify returns, or are a *ForkError.
func (d *Directory) Find(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	return nil, fmt.Errorf("find the key of %s: %w", name, ErrLog)
}

// Publish makes signer's next entry of the key's suite, stores it, and reads it back with
// all checks. A key that is published already stays as it is, and its entry is returned.
func (d *Directory) Publish(ctx context.Context, signer *seal.Signer, key *seal.PublicKey) (*seal.KeyEntry, error) {
	return nil, fmt.Errorf("publish the key of %s: %w", signer.Name(), ErrLog)
}

// Checkpoint is the latest signed checkpoint of the log that was seen, or nil. A sender
// puts it into its messages as seal.ExtCheckpoint. It asks nobody.
func (d *Directory) Checkpoint() []byte { return nil }

// CheckPeer compares the checkpoint that a sender put into its messages with what the
// broker shows here. Nil says that both are of one history; a *ForkError is the proof
// that they are not. An error that wraps ErrCheckpoint says that the sender's checkpoint
// is not the log's, which proves nothing about the broker. Any other error says that it
// cannot be decided now. Answers are remembered by content, so asking for every message
// costs little.
func (d *Directory) CheckPeer(ctx context.Context, checkpoint []byte) error { return nil }
