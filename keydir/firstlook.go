package keydir

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// This file looks into the log the first time that a key is seen: afterwards the pin tells.

// defaultFirstLook is some 10 MB to be read once, and about as much of memory.
const defaultFirstLook = 50_000

// firstLook is the beginning of a log that was read and found to be the signed one. Only
// what is new is read the next time.
type firstLook struct {
	tree   treeHashes
	last   map[keySlot]lastLeaf
	resets map[keySlot]*reset // the latest ones
	broken map[string]error   // by owner: why its entries are not in order
}

// keySlot is where keys follow each other: an owner's suite, or its bare keys.
type keySlot struct{ owner, suite string }

type lastLeaf struct {
	index  int64
	leaf   keylog.Leaf
	before keylog.Leaf // the one that it follows
}

func newFirstLook() *firstLook {
	return &firstLook{last: make(map[keySlot]lastLeaf), resets: make(map[keySlot]*reset), broken: make(map[string]error)}
}

func (f *firstLook) take(index int64, leaf keylog.Leaf) {
	at := keySlot{leaf.Owner, leaf.Suite}
	before, known := f.last[at]
	if known && before.leaf == leaf {
		return // the same record again changes nothing
	}
	if err := order(index, leaf, before.leaf); err != nil && f.broken[leaf.Owner] == nil {
		f.broken[leaf.Owner] = err
	}
	if leaf.Reset {
		f.resets[at] = &reset{leaf, index}
	}
	f.last[at] = lastLeaf{index, leaf, before.leaf}
}

// newest looks for a later entry than the one that is shown, the first time that a key is
// seen, and for a reset, if there were entries between the pinned one and this. A log that is
// too long to be read for this is left to Audit, and that is said.
func (d *Directory) newest(ctx context.Context, r *record) error {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return err
	}
	pin, pinned := s.Keys[r.name][r.slot()]
	switch {
	case pinned && (r.entry == nil || r.entry.Serial <= pin.Serial+1):
		return nil
	case pinned && r.now.tree.N > d.cfg.FirstLook:
		return d.jumped(ctx, r, pin, nil)
	case r.now.tree.N > d.cfg.FirstLook:
		d.cfg.Notice(fmt.Sprintf("key of %s: the log of the key directory has %d records, too many to be read for a first look, so an older key may have been shown; "+
			"\"sealmq key verify %s\" reads all", r.name, r.now.tree.N, r.name))
		return nil
	}
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	seen, err := d.readOn(ctx, r.now.tree)
	if err != nil {
		return err
	}
	if err := seen.newest(r); err != nil {
		return err
	}
	if pinned {
		return d.jumped(ctx, r, pin, seen)
	}
	if re := seen.resets[keySlot{r.name, r.leaf.Suite}]; re != nil {
		d.cfg.Notice(fmt.Sprintf("key of %s: an administrator of the broker had reset the one before (record %d of its log): compare the fingerprint with %s", r.name, re.index, r.name))
	}
	return nil
}

// readOn reads what is new of the log up to a tree, or all of it if more was read already.
// The caller has filled reading.
func (d *Directory) readOn(ctx context.Context, tree tlog.Tree) (*firstLook, error) {
	seen := d.seen
	d.seen = nil // what fails is begun anew
	if seen == nil || seen.tree.n > tree.N {
		seen = newFirstLook()
	}
	if err := d.readTree(ctx, tree, &seen.tree, seen.take); err != nil {
		return nil, err
	}
	d.seen = seen
	return seen, nil
}

func (f *firstLook) newest(r *record) error {
	if err := f.broken[r.name]; err != nil {
		return err
	}
	const lies = "the broker lies: ask its operator"
	last := f.last[keySlot{r.name, r.leaf.Suite}]
	switch {
	case last.index > r.index && last.leaf != r.leaf:
		return &Error{Kind: ErrRollback, Detail: fmt.Sprintf("it shows record %d of its log, and record %d is newer", r.index, last.index), hint: lies}
	case last.leaf == r.leaf && r.entry != nil && r.entry.Previous != previous(last.before):
		return notProven("entry %d of %s does not follow the record before it", r.entry.Serial, r.name)
	}
	for at, newest := range f.last {
		if at.owner == r.name && at.suite != "" && !newest.leaf.Reset && r.hides(seal.Suite(at.suite)) {
			return &Error{Kind: ErrRollback, Detail: fmt.Sprintf("it shows a key for %s, and its log has one for %s", r.key.Suite(), at.suite), hint: lies}
		}
	}
	return nil
}
