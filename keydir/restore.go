package keydir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/keydir/keylog"
)

// A broker whose data folder was restored from a backup shows an older log than before, as one
// that lies does. What tells them apart is a person: an administrator attests the restore, with
// a record in the log, and each client's user accepts it.

// ErrNotRestored says that there is no attested restore to accept.
var ErrNotRestored = errors.New("there is no restore of the key directory to accept")

// AttestRestore puts a record into the log that says that it was restored from a backup and has
// lost what came up to a checkpoint: the newest one that anybody has seen. Only administrators
// may. It returns the record. The error wraps ErrLog if the broker says that it was done, and
// the log does not prove it.
func (d *Directory) AttestRestore(ctx context.Context, lost tlog.Tree) (RestoreRecord, error) {
	rest, err := ask(ctx, d.c, fmt.Sprintf("attest_restore %d %s", lost.N, lost.Hash), "Restore attested ")
	if err != nil {
		return RestoreRecord{}, err
	}
	a, err := d.Audit(ctx, "")
	if err != nil {
		return RestoreRecord{}, fmt.Errorf("the broker says that it was attested, which cannot be seen: %w", err)
	}
	for _, r := range a.Restores {
		if strconv.FormatInt(r.Index, 10) == rest && r.Lost == lost {
			return r, nil
		}
	}
	return RestoreRecord{}, notProven("the broker says that record %.20q attests it, and it does not", rest)
}

// Accepted is a restore that was accepted, and what that gave up.
type Accepted struct {
	RestoreRecord
	// Before is the checkpoint that was seen last, and Now the one that takes its place.
	Before, Now []byte
	// Forgotten are the pins of keys that the restored log does not have, by owner and suite.
	// The next key of such a name is taken as the first.
	Forgotten map[string]map[string]Pin
}

// AcceptRestore makes what is remembered follow a restore that an administrator has attested:
// the log that is shown takes the place of the one that was seen. It reads the whole log. Keys
// that the restored log does not have are forgotten, and so is the proof that nothing was
// changed between the backup and the restore. confirm is shown all of this before anything is
// changed; its error ends it. The error wraps ErrNotRestored if there is nothing to accept.
func (d *Directory) AcceptRestore(ctx context.Context, confirm func(*Accepted) error) (*Accepted, error) {
	page, err := d.keyLog(ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	tree, err := keylog.OpenCheckpoint(page.Checkpoint, page.LogKey)
	if err != nil {
		return nil, &Error{Kind: ErrLog, Detail: "its checkpoint", Err: err}
	}
	h, keys := newHistory(""), make(map[place]map[[32]byte]bool)
	h.tell = func(_ int64, leaf keylog.Leaf) {
		at := place{leaf.Owner, leaf.Suite}
		if keys[at] == nil {
			keys[at] = make(map[[32]byte]bool)
		}
		keys[at][leaf.Hash] = true
	}
	if err := d.readOn(ctx, tree, h); err != nil {
		return nil, err
	}
	shown := restored{logKey: page.LogKey, checkpoint: page.Checkpoint, restores: h.restores,
		root: func(n int64) (tlog.Hash, error) { return tlog.TreeHash(n, &h.tree) },
		has: func(owner, slot string, pin Pin) bool {
			// Of a bare key only its fingerprint is pinned, which is not in the log.
			return slot == bareSlot || keys[place{owner, slot}][pin.Entry]
		}}
	known, err := d.cfg.Pins.directory()
	if err != nil {
		return nil, err
	}
	a, _, err := judgeRestore(known, shown, tree)
	if err == nil {
		err = confirm(a)
	}
	if err != nil {
		return nil, err
	}
	// A person may have taken long to confirm.
	err = d.cfg.Pins.change(context.WithoutCancel(ctx), func(known pinnedOf) (after pinnedOf, err error) {
		a, after, err = judgeRestore(known, shown, tree)
		return after, err
	})
	return a, err
}

// restored is what the broker shows of a log that was read whole.
type restored struct {
	logKey     string
	checkpoint []byte
	restores   []RestoreRecord
	root       func(n int64) (tlog.Hash, error) // of the first n records
	has        func(owner, slot string, pin Pin) bool
}

// judgeRestore decides whether a restore explains that the log does not continue what was seen,
// and what to remember then. It is part of the judge: a pure function.
func judgeRestore(known pinnedOf, shown restored, tree tlog.Tree) (*Accepted, pinnedOf, error) {
	refuse := func(remedy, format string, args ...any) (*Accepted, pinnedOf, error) {
		return nil, known, &Error{Kind: ErrNotRestored, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	if len(known.Checkpoint) == 0 {
		return refuse("go on as usual", "nothing was seen of this directory before")
	}
	if known.LogKey != shown.logKey {
		return refuse("if the broker was set up again with a new data folder, name another file for pins; otherwise ask its operator to restore directory/log.key too",
			"its checkpoints are signed with another key than before")
	}
	seen, err := memory{logKey: known.LogKey, checkpoint: known.Checkpoint}.open()
	if err != nil {
		return nil, known, err
	}
	if seen.tree.N <= tree.N {
		root, err := shown.root(seen.tree.N)
		if err != nil {
			return nil, known, err
		}
		if root == seen.tree.Hash {
			return refuse("go on as usual", "the log continues what was seen before")
		}
	}
	var attested []string
	for _, r := range slices.Backward(shown.restores) {
		text := keylog.Leaf{Reset: true, Restore: r.Restore}.Text()
		if slices.Contains(known.Restores, text) {
			continue
		}
		if !covers(r.Restore, seen.tree) {
			attested = append(attested, fmt.Sprintf("%d records, root %s", r.Lost.N, r.Lost.Hash))
			continue
		}
		a := &Accepted{RestoreRecord: r, Before: known.Checkpoint, Now: shown.checkpoint, Forgotten: make(map[string]map[string]Pin)}
		after := pinnedOf{LogKey: known.LogKey, Checkpoint: shown.checkpoint, Restores: append(slices.Clone(known.Restores), text), Keys: make(map[string]map[string]Pin)}
		for owner, pins := range known.Keys {
			keep, gone := maps.Clone(pins), maps.Clone(pins)
			maps.DeleteFunc(keep, func(slot string, pin Pin) bool { return !shown.has(owner, slot, pin) })
			maps.DeleteFunc(gone, func(slot string, pin Pin) bool { return shown.has(owner, slot, pin) })
			if len(keep) > 0 {
				after.Keys[owner] = keep
			}
			if len(gone) > 0 {
				a.Forgotten[owner] = gone
			}
		}
		return a, after, nil
	}
	detail := "no administrator has attested one"
	if len(attested) > 0 {
		detail = "what was attested is about another log (" + strings.Join(attested, "; ") + ")"
	}
	return refuse(fmt.Sprintf("ask an administrator what happened; if the broker was restored, they run \"sealmq key attest-restore %d %s\"", seen.tree.N, seen.tree.Hash),
		"%s; seen before: %s; shown now: %s", detail, keylog.Describe(known.Checkpoint), keylog.Describe(shown.checkpoint))
}

// covers reports whether a checkpoint may be of the log that was lost in a restore. Where that
// left the restored one is not known.
func covers(r keylog.Restore, t tlog.Tree) bool { return t.N < r.Lost.N || t == r.Lost }

// lost reports whether a checkpoint may be of a log that was lost in a restore that was
// accepted. Such a log can be compared with nothing any more.
func (m memory) lost(t tlog.Tree) bool {
	for text := range strings.Lines(m.accepted) {
		if leaf, err := keylog.ParseLeaf(text); err == nil && covers(leaf.Restore, t) {
			return true
		}
	}
	return false
}
