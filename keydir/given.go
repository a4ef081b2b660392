package keydir

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// This file judges keys that came another way than through the directory.

// ErrShown says that a key is another one than the one that the directory shows.
var ErrShown = errors.New("the key is not the one that the directory shows")

// CheckKey compares a key that came another way with the one that is pinned for its owner
// and suite, and with the one that the directory shows now. It pins neither, and a name that
// nobody knows is fine. Another key, or a directory that cannot be believed, is told to
// Notice; under StrictPins it is an error, unless the key is the pinned one. The error wraps
// ErrPinned or ErrShown and names the keys, or is one of Find's.
func (d *Directory) CheckKey(ctx context.Context, name string, key *seal.PublicKey) error {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return err
	}
	old, known := s.Keys[name][string(key.Suite())]
	if !known && bare(key.Suite()) {
		old, known = s.Keys[name][bareSuite]
	}
	shown, err := d.shown(ctx, name, key.Suite())
	if errors.Is(err, sealmq.ErrInterrupted) || ctx.Err() != nil {
		return fmt.Errorf("key of %s: %w", name, err)
	}
	if known && err == nil && shown == nil {
		err = d.explain(ctx, name, d.missing(name, key.Suite(), nil), nil)
	}
	right := known && old.Fingerprint == key.Fingerprint()
	refusal := &Error{Kind: ErrShown, Detail: "given is " + key.Digits(), Err: err,
		hint: fmt.Sprintf("compare the fingerprints with %s in another way; --to %s takes the directory's key, and \"sealmq key directory --forget %s\" forgets the pinned one", name, name, name)}
	if known {
		refusal.Detail += ", pinned is " + seal.ReadOut(old.Fingerprint)
	}
	switch {
	case known && !right:
		refusal.Kind = ErrPinned
	case err != nil:
		refusal.Kind = errUncompared
	case shown == nil || shown.Fingerprint() == key.Fingerprint():
		return nil
	}
	if shown != nil {
		refusal.Detail += ", the directory shows " + shown.Digits()
	}
	if d.cfg.StrictPins && !right {
		return fmt.Errorf("key of %s: %w", name, refusal)
	}
	d.cfg.Notice(fmt.Sprintf("key of %s: %v; it is taken all the same: compare it with %s", name, refusal, name))
	return nil
}

// errUncompared begins the error of a key that nothing is known about now.
var errUncompared = errors.New("it cannot be compared with the key directory")

// shown is the key that the directory has for a suite, checked but for whether it is the
// newest one; nil if it has none, or the broker has no directory.
func (d *Directory) shown(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	r, err := d.fetch(ctx, name, suite)
	if code := sealmq.CodeOf(err); code == sealmq.NoKey || code == sealmq.Unsupported {
		return nil, nil
	}
	if err == nil && r.entry != nil {
		err = d.verify(r)
	}
	if err != nil {
		return nil, err
	}
	return r.key, nil
}
