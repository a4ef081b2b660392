package keydir

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// This file checks the directory's log: that all that the broker shows is one log, which
// only grows.

// Error is why a Directory does not believe something.
type Error struct {
	// Kind is one of the variables above.
	Kind error
	// Detail says what exactly; it may be empty.
	Detail string
	// Err is the cause; it may be nil.
	Err error

	hint string
	pins map[string]Pin // the pinned keys that are in the way, by slot
}

// sealed is the same as a refusal of package seal, which prints and wraps alike.
func (e *Error) sealed() *seal.Error {
	return &seal.Error{Kind: e.Kind, Detail: e.Detail, Err: e.Err}
}

// Error gives the kind, the detail and the cause, and not the hint.
func (e *Error) Error() string { return e.sealed().Error() }

// Hint says what to do about it; it may be empty.
func (e *Error) Hint() string { return e.hint }

// Unwrap makes the kind and the cause known to errors.Is and errors.As.
func (e *Error) Unwrap() []error { return e.sealed().Unwrap() }

func notProven(format string, args ...any) error {
	return &Error{Kind: ErrLog, Detail: fmt.Sprintf(format, args...),
		hint: "the broker or something before it lies, or it was restored from an old backup: ask its operator, and compare fingerprints in another way"}
}

// retries bounds how often a question is repeated that a lost connection has swallowed.
const retries = 5

// query asks what changes nothing, and asks again if the connection is lost meanwhile.
func (d *Directory) query(ctx context.Context, into any, prefix, line string) error {
	for try := 1; ; try++ {
		reply, err := ask(ctx, d.c, line, prefix)
		if errors.Is(err, sealmq.ErrInterrupted) && try < retries && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(reply), into); err != nil {
			return notProven("an answer cannot be read")
		}
		return nil
	}
}

// sighting is a checkpoint that the log's key has signed.
type sighting struct {
	tree   tlog.Tree
	signed []byte
}

// remembered opens the latest checkpoint that was seen. A log of which nothing was seen
// is empty.
func remembered(s pinnedOf) (sighting, error) {
	if len(s.Checkpoint) == 0 {
		return sighting{}, nil
	}
	tree, err := keylog.OpenCheckpoint(s.Checkpoint, s.LogKey)
	if err != nil {
		return sighting{}, &Error{Kind: ErrPins, Detail: "the pinned checkpoint was altered", Err: err, hint: restorePins}
	}
	return sighting{tree, s.Checkpoint}, nil
}

// see takes a checkpoint that came as the answer to a question. since is what was
// remembered before the question was asked: the answer must not be older. What it returns
// is of one history with everything that was ever seen, and is remembered.
func (d *Directory) see(ctx context.Context, since sighting, checkpoint []byte, logKey string) (sighting, error) {
	for {
		s, err := d.cfg.Pins.view(d.cfg.Scope)
		if err != nil {
			return sighting{}, err
		}
		if s.LogKey != "" && s.LogKey != logKey {
			return sighting{}, &Error{Kind: ErrLog, Detail: "its checkpoints are signed with another key than before",
				hint: "if the broker's data folder was made anew, begin anew with other pins; else ask its operator"}
		}
		tree, err := keylog.OpenCheckpoint(checkpoint, logKey)
		if err != nil {
			return sighting{}, &Error{Kind: ErrLog, Detail: "its checkpoint", Err: err}
		}
		now := sighting{tree, checkpoint}
		if tree.N < since.tree.N {
			return sighting{}, &Error{Kind: ErrRollback,
				Detail: fmt.Sprintf("its log has %d records, and had %d before", tree.N, since.tree.N),
				hint:   "the broker lies, or was restored from an old backup: ask its operator"}
		}
		last, err := remembered(s)
		if err != nil {
			return sighting{}, err
		}
		if err := d.oneHistory(ctx, last, now); err != nil {
			return sighting{}, err
		}
		ok, err := d.remember(ctx, last, now, logKey)
		if ok || err != nil {
			return now, err
		}
	}
}

// remember keeps the larger of two checkpoints, unless somebody else has changed it
// meanwhile.
func (d *Directory) remember(ctx context.Context, last, now sighting, logKey string) (ok bool, err error) {
	if now.tree.N <= last.tree.N && len(last.signed) > 0 {
		return true, nil
	}
	err = d.cfg.Pins.update(ctx, d.cfg.Scope, func(s *pinnedOf) error {
		if ok = string(s.Checkpoint) == string(last.signed) && (s.LogKey == "" || s.LogKey == logKey); ok {
			s.LogKey, s.Checkpoint = logKey, now.signed
		}
		return nil
	})
	return ok, err
}

// oneHistory reports whether the smaller of two trees is the beginning of the larger one.
// The error is a *ForkError if it is not, or if the broker does not prove that it is.
func (d *Directory) oneHistory(ctx context.Context, ours, theirs sighting) error {
	small, large := ours, theirs
	if small.tree.N > large.tree.N {
		small, large = large, small
	}
	fork := func(format string, args ...any) error {
		return &ForkError{Ours: ours.signed, Theirs: theirs.signed, Detail: fmt.Sprintf(format, args...)}
	}
	if small.tree.N == large.tree.N {
		if small.tree.Hash != large.tree.Hash && len(small.signed) > 0 && len(large.signed) > 0 {
			return fork("two logs of %d records", small.tree.N)
		}
		return nil
	}
	if small.tree.N == 0 {
		return nil
	}
	var c keylog.Consistency
	err := d.query(ctx, &c, "Key proof: ", fmt.Sprintf("key_proof %d %d", small.tree.N, large.tree.N))
	if noTree(err, small.tree.N) || noTree(err, large.tree.N) {
		return fork("it does not prove that its log of %d records continues the one of %d", large.tree.N, small.tree.N)
	}
	if err != nil {
		return fmt.Errorf("compare two states of the key directory: %w", err)
	}
	if tlog.CheckTree(c.Proof, large.tree.N, large.tree.Hash, small.tree.N, small.tree.Hash) != nil {
		return fork("its log of %d records does not continue the one of %d", large.tree.N, small.tree.N)
	}
	return nil
}

// noTree reports whether the broker says definitely that its log was never so large. Any
// other refusal decides nothing: it may be another version's, or a passing fault.
func noTree(err error, size int64) bool {
	var e *sealmq.Error
	return errors.As(err, &e) && e.Message == keylog.ErrSize(size).Error()
}

// since is what is remembered before a question is asked.
func (d *Directory) since() (sighting, error) {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return sighting{}, err
	}
	return remembered(s)
}

// refresh asks for the newest checkpoint.
func (d *Directory) refresh(ctx context.Context) (now sighting, logKey string, err error) {
	since, err := d.since()
	if err != nil {
		return sighting{}, "", err
	}
	var p keylog.Page
	if err := d.query(ctx, &p, "Key log: ", "key_log 0 0"); err != nil {
		return sighting{}, "", err
	}
	now, err = d.see(ctx, since, p.Checkpoint, p.LogKey)
	return now, p.LogKey, err
}

// Checkpoint is the latest signed checkpoint of the log that was seen, or nil. A sender
// puts it into its messages as seal.ExtCheckpoint. It asks nobody.
func (d *Directory) Checkpoint() []byte {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return nil
	}
	return s.Checkpoint
}

// CheckPeer compares the checkpoint that a sender put into its messages with what the
// broker shows here. Nil says that both are of one history; a *ForkError is the proof
// that they are not. An error that wraps ErrCheckpoint says that the sender's checkpoint
// is not the log's, which proves nothing about the broker. Any other error says that it
// cannot be decided now. Answers are remembered by content, so asking for every message
// costs little.
func (d *Directory) CheckPeer(ctx context.Context, checkpoint []byte) error {
	sum := sha256.Sum256(checkpoint)
	d.mu.Lock()
	verdict, known := d.peers[sum]
	d.mu.Unlock()
	if known {
		return verdict
	}
	verdict = d.checkPeer(ctx, checkpoint)
	var fork *ForkError
	if verdict == nil || errors.Is(verdict, ErrCheckpoint) || errors.As(verdict, &fork) {
		d.mu.Lock()
		if len(d.peers) >= maxPeers {
			clear(d.peers)
		}
		d.peers[sum] = verdict
		d.mu.Unlock()
	}
	return verdict
}

// maxPeers bounds the checkpoints whose answers are remembered.
const maxPeers = 4096

func (d *Directory) checkPeer(ctx context.Context, checkpoint []byte) error {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return err
	}
	ours, err := remembered(s)
	if err != nil {
		return err
	}
	logKey := s.LogKey
	if logKey == "" {
		if ours, logKey, err = d.refresh(ctx); err != nil {
			return err
		}
	}
	tree, err := keylog.OpenCheckpoint(checkpoint, logKey)
	if err != nil {
		return &Error{Kind: ErrCheckpoint, Err: err}
	}
	theirs := sighting{tree, checkpoint}
	if theirs.tree.N > ours.tree.N {
		if ours, _, err = d.refresh(ctx); err != nil {
			return err
		}
	}
	if theirs.tree.N > ours.tree.N {
		return &ForkError{Ours: ours.signed, Theirs: checkpoint,
			Detail: fmt.Sprintf("a sender was shown a log of %d records, and %d are shown here", theirs.tree.N, ours.tree.N)}
	}
	return d.oneHistory(ctx, ours, theirs)
}
