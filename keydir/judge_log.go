package keydir

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// This part of the judge is about the log: everything shown must be one log, which only grows;
// it must have nothing newer than what is shown; and it says what was reset.

// observedCheckpoint is a checkpoint that the log's key has signed.
type observedCheckpoint struct {
	tree   tlog.Tree
	signed []byte // nil of the empty log, of which nothing was seen
}

// open returns the latest checkpoint that was seen.
func (m memory) open() (observedCheckpoint, error) {
	if len(m.checkpoint) == 0 {
		return observedCheckpoint{}, nil
	}
	tree, err := keylog.OpenCheckpoint(m.checkpoint, m.logKey)
	if err != nil {
		return observedCheckpoint{}, &Error{Kind: ErrPins, Detail: "the pinned checkpoint was altered", Err: err, Remedy: hintRestorePins}
	}
	return observedCheckpoint{tree, m.checkpoint}, nil
}

// observe takes a checkpoint that came as the answer to a question that was asked after what
// is remembered: it must not be older, and must continue it. It is remembered.
func (d *decision) observe(checkpoint []byte, logKey string) (tlog.Tree, error) {
	if tree, ok := d.seen[string(checkpoint)]; ok {
		return tree, nil
	}
	m := &d.v.memory
	if m.logKey != "" && m.logKey != logKey {
		return tlog.Tree{}, &Error{Kind: ErrLog, Detail: "its checkpoints are signed with another key than before",
			Remedy: "if the broker was set up again with a new data folder, name another file for pins; otherwise ask its operator"}
	}
	tree, err := keylog.OpenCheckpoint(checkpoint, logKey)
	if err != nil {
		return tree, &Error{Kind: ErrLog, Detail: "its checkpoint", Err: err}
	}
	last, err := m.open()
	if err != nil {
		return tree, err
	}
	if tree.N < last.tree.N {
		return tree, rollback(hintBackup, "its log has %d records, and had %d before (seen before: %s; shown now: %s)", tree.N, last.tree.N,
			keylog.Describe(last.signed), keylog.Describe(checkpoint))
	}
	if err := d.oneHistory(last, observedCheckpoint{tree, checkpoint}); err != nil {
		return tree, err
	}
	if tree.N > last.tree.N || last.signed == nil {
		m.logKey, m.checkpoint = logKey, checkpoint
	}
	d.seen[string(checkpoint)] = tree
	return tree, nil
}

// contains demands that a record is where it is said to be, in a log that continues what was
// seen.
func (d *decision) contains(p *keylog.Place, leaf keylog.Leaf, what string) (tlog.Tree, error) {
	tree, err := d.observe(p.Checkpoint, p.LogKey)
	if err == nil && tlog.CheckRecord(p.Proof, tree.N, tree.Hash, p.Index, leaf.Record()) != nil {
		err = notProven("it does not contain %s of %s", what, leaf.Owner)
	}
	return tree, err
}

// oneHistory reports whether the smaller of two trees is the beginning of the larger one.
// The error is a *ForkError if it is not, or if the broker does not prove that it is.
func (d *decision) oneHistory(ours, theirs observedCheckpoint) error {
	small, large := ours, theirs
	if small.tree.N > large.tree.N {
		small, large = large, small
	}
	fork := func(format string, args ...any) error {
		return &ForkError{Ours: ours.signed, Theirs: theirs.signed, Detail: fmt.Sprintf(format, args...)}
	}
	if small.tree.N == large.tree.N {
		if small.tree.Hash != large.tree.Hash && small.signed != nil && large.signed != nil {
			return fork("two logs of %d records", small.tree.N)
		}
		return nil
	}
	if small.tree.N == 0 {
		return nil
	}
	between := sizes{small.tree.N, large.tree.N}
	proof, asked := d.a.proofs[between]
	switch {
	case !asked:
		return &missing{need{proof: between}}
	case proof == nil:
		return fork("it does not prove that its log of %d records continues the one of %d", large.tree.N, small.tree.N)
	case tlog.CheckTree(proof.Proof, large.tree.N, large.tree.Hash, small.tree.N, small.tree.Hash) != nil:
		return fork("its log of %d records does not continue the one of %d", large.tree.N, small.tree.N)
	}
	return nil
}

// judgePage takes the newest checkpoint.
func judgePage(m memory, a *answer) verdict {
	return decide(question{}, m, a, func(d *decision) error {
		_, err := d.observe(a.page.Checkpoint, a.page.LogKey)
		return err
	})
}

// judgePeer compares a checkpoint that a sender put into its messages with what is shown here.
func judgePeer(m memory, a *answer, checkpoint []byte) verdict {
	return decide(question{}, m, a, func(d *decision) error {
		if a.page != nil {
			if _, err := d.observe(a.page.Checkpoint, a.page.LogKey); err != nil {
				return err
			}
		}
		ours, err := d.v.memory.open()
		if err != nil {
			return err
		}
		if d.v.memory.logKey == "" {
			return &missing{need{page: true}}
		}
		tree, err := keylog.OpenCheckpoint(checkpoint, d.v.memory.logKey)
		switch {
		case err != nil:
			return &Error{Kind: ErrCheckpoint, Err: err}
		case tree.N > ours.tree.N && a.page == nil:
			return &missing{need{page: true}}
		case d.v.memory.lost(tree):
			return nil // what was lost in a restore cannot be compared any more
		case tree.N > ours.tree.N:
			return &ForkError{Ours: ours.signed, Theirs: checkpoint,
				Detail: fmt.Sprintf("a sender was shown a log of %d records, and %d are shown here", tree.N, ours.tree.N)}
		}
		return d.oneHistory(ours, observedCheckpoint{tree, checkpoint})
	})
}

// newest looks in the log for something newer than the key that is shown: if no key is
// pinned, and if there are entries between the pinned one and this. A log that is too long
// for that is left to Audit, with a notice.
func (d *decision) newest(s *shown, tree tlog.Tree) error {
	pin, pinned := d.v.memory.pins[s.slot()]
	long := tree.N > d.q.longestLog
	switch {
	case pinned && (s.entry == nil || s.entry.Serial <= pin.Serial+1):
		return nil
	case pinned && long:
		reset, err := d.lastReset(s.slot())
		if err != nil {
			return err
		}
		return d.skipped(s, pin, reset)
	case long:
		d.notice("key of %s: the log of the key directory has %d records, too many to read for the first look-up of a key, so this may be an old key; "+
			"\"sealmq key verify %s\" reads all of them", s.name, tree.N, s.name)
		return nil
	case d.a.log == nil:
		return &missing{need{log: true}}
	}
	if err := d.a.log.hasNothingNewer(s); err != nil {
		return err
	}
	reset := d.a.log.reset[s.leaf.Suite]
	if pinned {
		return d.skipped(s, pin, reset)
	}
	if reset != nil {
		d.notice("key of %s: an administrator of the broker reset the key before this one (record %d of the log): compare the fingerprint with %s", s.name, reset.index, s.name)
	}
	return nil
}

// skipped refuses an entry that does not follow the pinned one directly, if there was a reset
// in between.
func (d *decision) skipped(s *shown, pin Pin, reset *logRecord) error {
	if reset == nil || reset.leaf.Serial < pin.Serial {
		return nil
	}
	return resetRefusal(s.name, s.slot(), pin, reset, s)
}

// ownersLog is what the log has of one owner, by suite.
type ownersLog struct {
	last   map[string]logRecord
	reset  map[string]*logRecord // the latest ones
	broken error                 // the first record that no honest broker takes
}

// hasNothingNewer reports whether a key is the newest that the log has, and of the best suite.
func (o *ownersLog) hasNothingNewer(s *shown) error {
	if o.broken != nil {
		return o.broken
	}
	last := o.last[s.leaf.Suite]
	switch {
	case last.index > s.found.Index && last.leaf != s.leaf:
		return rollback(hintLies, "it shows record %d of its log, and record %d is newer", s.found.Index, last.index)
	case last.leaf == s.leaf && s.entry != nil && s.entry.Previous != named(last.before):
		return notProven("entry %d of %s does not follow the record before it", s.entry.Serial, s.name)
	}
	for suite, newest := range o.last {
		if suite != "" && !newest.leaf.Reset && s.hides(seal.Suite(suite)) {
			return rollback(hintLies, "it shows a key for %s, and its log has one for %s", s.key.Suite(), suite)
		}
	}
	return nil
}

// named is what an entry that follows a leaf has to name.
func named(before keylog.Leaf) [32]byte {
	if before.Reset {
		return before.Record()
	}
	return before.Hash
}

// inOrder demands that a record can follow the one before it of the same owner and suite,
// whose leaf is the zero one if there is none. An honest broker takes no other.
func inOrder(r logRecord) error {
	leaf, before := r.leaf, r.before
	switch {
	case leaf.Reset && (before.Owner == "" || before.Reset || before.Serial != leaf.Serial || before.Hash != leaf.Hash):
		return notProven("record %d resets a key of %s that is not the newest", r.index, leaf.Owner)
	case !leaf.Reset && leaf.Proven && leaf.Serial != before.Serial+1:
		return notProven("record %d is entry %d of %s, after entry %d", r.index, leaf.Serial, leaf.Owner, before.Serial)
	case leaf.Proven && before.Proven && !leaf.Reset && !before.Reset && leaf.Issuer != before.Issuer:
		return notProven("record %d is an entry of another authority's %s, and nobody has reset the one before", r.index, leaf.Owner)
	}
	return nil
}

// An administrator of the broker can take a key out of the directory, so that its owner can
// publish another one with a certificate of any accepted authority. A reset is never a reason
// to accept a key: a client that has pinned the key is told, and its user decides.

// lastReset returns the latest reset of a key; nil if the broker knows of none. The error
// wraps ErrLog if the log does not prove what it says.
func (d *decision) lastReset(slot string) (*logRecord, error) {
	for _, r := range d.a.resets {
		if r.slot != slot {
			continue
		}
		if r.found == nil {
			return nil, nil
		}
		leaf, err := keylog.ParseLeaf(r.found.Leaf)
		if err != nil || !leaf.Reset || leaf.Owner != d.q.name || slotOf(leaf) != slot {
			return nil, notProven("the answer about a reset of %s is about something else", d.q.name)
		}
		if _, err := d.contains(&r.found.Place, leaf, "the reset"); err != nil {
			return nil, err
		}
		return &logRecord{index: r.found.Index, leaf: leaf}, nil
	}
	return nil, &missing{need{reset: slot}}
}

// explain finds out whether a key is refused because what is pinned was reset. s is what the
// directory shows, nil if nothing. What the log does not prove explains nothing.
func (d *decision) explain(refusal *Error, pins map[string]Pin, s *shown) error {
	if refusal.Kind == ErrPins {
		return refusal
	}
	slot := first(pins)
	var reset *logRecord
	for _, other := range slices.Sorted(maps.Keys(pins)) {
		r, err := d.lastReset(other)
		switch {
		case errors.Is(err, ErrLog), err == nil && !r.explains(other, pins[other], s):
			return refusal
		case err != nil:
			return err
		case other == slot:
			reset = r
		}
	}
	return resetRefusal(d.q.name, slot, pins[slot], reset, s)
}

// explains reports whether a pinned key was reset before what is shown came.
func (r *logRecord) explains(slot string, pin Pin, s *shown) bool {
	switch {
	case r == nil:
		return false
	case !r.leaf.Proven:
		return s == nil || s.slot() != slot || s.found.Index > r.index
	case r.leaf.Serial < pin.Serial, r.leaf.Serial == pin.Serial && r.leaf.Hash != [32]byte(pin.Entry):
		return false
	case s == nil, s.slot() != slot:
		return true
	case s.entry.Serial == r.leaf.Serial+1:
		return s.entry.Previous == [32]byte(r.leaf.Record())
	}
	return s.entry.Serial > r.leaf.Serial
}

func resetRefusal(name, slot string, pin Pin, reset *logRecord, s *shown) error {
	what := slot
	if slot == bareSlot {
		what = "a bare key"
	}
	shows := "no key since"
	if s != nil {
		shows = s.key.Digits()
		if s.slot() != slot {
			shows += " for " + string(s.key.Suite())
		}
	}
	return &Error{Kind: ErrReset,
		Detail: fmt.Sprintf("record %d of its log, for %s; pinned is %s, and the directory shows %s", reset.index, what, seal.ReadOut(pin.Fingerprint), shows),
		Remedy: fmt.Sprintf("%s; if you are %s, publish your key again with \"sealmq key publish\"", hintForget(name), name)}
}
