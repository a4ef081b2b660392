package keydir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// Publish makes signer's next entry of the key's suite, stores it, and reads it back with
// all checks. A key that is published already stays as it is, and its entry is returned,
// unless that is of an older version and names no directory.
func (d *Directory) Publish(ctx context.Context, signer *seal.Signer, key *seal.PublicKey) (*seal.KeyEntry, error) {
	name := signer.Name()
	for try := 1; ; try++ {
		e, err := d.publish(ctx, signer, key)
		code := sealmq.CodeOf(err)
		again := errors.Is(err, sealmq.ErrInterrupted) || code == sealmq.Mismatch || code == sealmq.InUse
		if again && try < retries && ctx.Err() == nil {
			continue // another process was faster, or the outcome is not known: look again
		}
		if err != nil {
			return nil, fmt.Errorf("publish the key of %s: %w", name, explainRefusal(name, err))
		}
		return e, nil
	}
}

// explainRefusal adds a hint if only an administrator can help.
func explainRefusal(name string, err error) error {
	hint, message := "", ""
	if refused, ok := errors.AsType[*sealmq.Error](err); ok {
		message = refused.Message
	}
	switch code := sealmq.CodeOf(err); {
	case errors.Is(err, seal.ErrUntrusted), code == sealmq.Denied && message == keylog.OtherAuthority(name):
		hint = fmt.Sprintf("the key of %s was published with a certificate of another authority; an administrator can take it out of the directory with \"sealmq key reset %s\"", name, name)
	case code == sealmq.LimitReached && strings.HasSuffix(message, keylog.ChangesLimit):
		hint = fmt.Sprintf("\"sealmq key directory %s\" shows all changes; an administrator can reset the key with \"sealmq key reset %s\"", name, name)
	default:
		return err
	}
	return &Error{Kind: err, Remedy: hint}
}

func (d *Directory) publish(ctx context.Context, signer *seal.Signer, key *seal.PublicKey) (*seal.KeyEntry, error) {
	next := seal.KeyEntry{Owner: signer.Name(), Key: key, Serial: 1, Created: d.cfg.Now()}
	v, err := d.own(ctx, next.Owner, key.Suite(), func(e *seal.KeyEntry) bool { return e.PublicKey().Fingerprint() == key.Fingerprint() })
	if err != nil {
		return nil, err
	}
	logKey, err := d.logKey(ctx)
	if err != nil {
		return nil, err
	}
	next.Directory = keylog.ID(logKey)
	switch {
	case v.shown != nil && v.current && v.shown.key.Fingerprint() == key.Fingerprint() && !v.shown.unbound():
		return v.shown.entry, nil
	case v.shown != nil:
		next.Serial, next.Previous = v.shown.entry.Serial+1, v.shown.entry.Hash()
	case v.reset != nil:
		next.Serial, next.Previous = v.reset.leaf.Serial+1, v.reset.leaf.Record()
		d.cfg.Notice(fmt.Sprintf("the key of %s for %s was reset by an administrator of the broker (record %d of the log); the new entry has number %d, and senders that pinned the old key are told",
			next.Owner, key.Suite(), v.reset.index, next.Serial))
	}
	entry, err := seal.NewKeyEntry(signer, next)
	if err != nil {
		return nil, err
	}
	put, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	if err != nil {
		return nil, err
	}
	if err := d.putKey(ctx, entry, key.Suite()); err != nil {
		return nil, err
	}
	return d.readBack(ctx, put)
}

// logKey is the key of the directory's log: the one that was seen before, or the broker is
// asked.
func (d *Directory) logKey(ctx context.Context) (string, error) {
	known, err := d.cfg.Pins.recall("")
	if err != nil || known.logKey != "" {
		return known.logKey, err
	}
	page, err := d.newestPage(ctx)
	if err != nil {
		return "", err
	}
	return page.LogKey, nil
}

// readBack looks for an entry that was just put. Nothing else is pinned than this one, or
// a later one of the same key, which another process of the owner's has made.
func (d *Directory) readBack(ctx context.Context, put *seal.KeyEntry) (*seal.KeyEntry, error) {
	known := func(e *seal.KeyEntry) bool {
		return (e.Serial != put.Serial || e.Hash() == put.Hash()) && e.PublicKey().Fingerprint() == put.PublicKey().Fingerprint()
	}
	v, err := d.own(ctx, put.Owner, put.Suite(), known)
	switch {
	case err != nil:
		return nil, err
	case v.shown == nil || v.shown.entry.Serial < put.Serial:
		return nil, rollback(hintLies, "it does not show the entry that was just put")
	case !v.current:
		return nil, v.shown.trusted()
	case !known(v.shown.entry):
		return nil, &Error{Kind: ErrPinned,
			Detail: fmt.Sprintf("it shows another key than the one that was just put; put was %s, and the directory shows %s", put.PublicKey().Digits(), v.shown.key.Digits()),
			Remedy: "somebody else publishes with your name and has your certificate's key: have the certificate revoked"}
	}
	return v.shown.entry, nil
}

// own looks the caller's own entry up.
func (d *Directory) own(ctx context.Context, name string, suite seal.Suite, known func(*seal.KeyEntry) bool) (verdict, error) {
	q := d.question(name, suite)
	q.own = known
	return d.lookUp(ctx, q)
}

// Reset takes the keys of a name out of the directory: the one of a suite, the bare one if
// suite is keylog.Unproven, or all of them if it is empty. It returns the records of the log
// with the resets. Only administrators may; clients that have pinned a key are told. The error
// wraps ErrLog if the broker says that it was done, and the log does not prove it.
func (d *Directory) Reset(ctx context.Context, name string, suite seal.Suite) ([]Record, error) {
	indexes, err := resetKey(ctx, d.c, name, suite)
	if err != nil {
		return nil, err
	}
	a, err := d.Audit(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("the broker says that it was reset, which cannot be seen: %w", err)
	}
	done := slices.DeleteFunc(a.Records, func(r Record) bool { return !r.Reset || !slices.Contains(indexes, r.Index) })
	if len(done) == 0 || len(done) != len(indexes) {
		return nil, notProven("the broker says that records %v are the resets, and they are not", indexes)
	}
	return done, nil
}
