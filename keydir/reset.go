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

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// An administrator of the broker can take a key out of the directory, so that its owner can
// begin anew with a certificate of any accepted authority. This file tells that from a lie.
// It is never a reason to take a key: whoever has pinned what was reset is told, and decides.

// ErrReset says that an administrator of the broker took the pinned key out of the directory,
// which stands in its log. It is an ErrPinned, too: whatever is shown since, if anything, is
// not taken before the pin is forgotten.
var ErrReset error = resetError{}

type resetError struct{}

func (resetError) Error() string {
	return "the pinned key was reset by an administrator of the broker"
}
func (resetError) Is(target error) bool { return target == ErrPinned }

// Reset takes the keys of a name out of the key directory: the one of a suite, the bare one
// if suite is Unproven, or all of them if it is empty. It returns the places in the log where
// that stands. Only administrators may; whoever has pinned a key is told.
func Reset(ctx context.Context, c Asker, name string, suite seal.Suite) (records []int64, err error) {
	line := "reset_key " + name
	if suite != "" {
		line += " " + string(suite)
	}
	rest, err := ask(ctx, c, line, "Key reset ")
	if err != nil {
		return nil, err
	}
	for _, word := range strings.Fields(rest) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, errors.New("the broker answered reset_key without a number")
		}
		records = append(records, n)
	}
	return records, nil
}

// reset is a record of the log that says that a key was reset.
type reset struct {
	leaf  keylog.Leaf
	index int64
}

// lastReset asks for the latest reset of a key; nil if the broker knows of none. The error
// wraps ErrLog if the log does not prove what it says.
func (d *Directory) lastReset(ctx context.Context, name, slot string) (*reset, error) {
	since, err := d.since()
	if err != nil {
		return nil, err
	}
	suite := slot
	if slot == bareSuite {
		suite = keylog.Unproven
	}
	var f keylog.FoundReset
	err = d.query(ctx, &f, "Reset: ", "find_reset "+name+" "+suite)
	if code := sealmq.CodeOf(err); code == sealmq.NoKey || code == sealmq.Unsupported {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	leaf, err := keylog.ParseLeaf(f.Leaf)
	if err != nil || !leaf.Reset || leaf.Owner != name || pinSlot(leaf) != slot {
		return nil, notProven("asked for a reset of %s, it answers with something else", name)
	}
	now, err := d.see(ctx, since, f.Checkpoint, f.LogKey)
	if err != nil {
		return nil, err
	}
	if tlog.CheckRecord(f.Proof, now.tree.N, now.tree.Hash, f.Index, leaf.Record()) != nil {
		return nil, notProven("the reset of %s does not stand in it", name)
	}
	return &reset{leaf, f.Index}, nil
}

// pinSlot is the name of the pin of a leaf's key.
func pinSlot(l keylog.Leaf) string {
	if !l.Proven {
		return bareSuite
	}
	return l.Suite
}

// explain finds out whether a key is refused because what is pinned was reset. r is what the
// directory shows, nil if nothing. What the log does not prove explains nothing.
func (d *Directory) explain(ctx context.Context, name string, refusal error, r *record) error {
	var e *Error
	if !errors.As(refusal, &e) || len(e.pins) == 0 || errors.Is(refusal, ErrPins) {
		return refusal
	}
	resets := make(map[string]*reset)
	for slot, pin := range e.pins {
		re, err := d.lastReset(ctx, name, slot)
		switch {
		case errors.Is(err, ErrLog), err == nil && !re.explains(slot, pin, r):
			return refusal
		case err != nil:
			return err
		}
		resets[slot] = re
	}
	return resetRefusal(name, e.pins, resets, r)
}

// explains reports whether a pinned key was reset before what is shown came.
func (re *reset) explains(slot string, pin Pin, r *record) bool {
	switch {
	case re == nil:
		return false
	case !re.leaf.Proven:
		return r == nil || r.slot() != slot || r.index > re.index
	case re.leaf.Serial < pin.Serial, re.leaf.Serial == pin.Serial && re.leaf.Hash != [32]byte(pin.Entry):
		return false
	case r == nil, r.slot() != slot:
		return true
	case r.entry.Serial == re.leaf.Serial+1:
		return r.entry.Previous == [32]byte(re.leaf.Record())
	}
	return r.entry.Serial > re.leaf.Serial
}

// first is the first of some slots, so that an error has one text.
func first[V any](slots map[string]V) string { return slices.Min(slices.Collect(maps.Keys(slots))) }

func resetRefusal(name string, pins map[string]Pin, resets map[string]*reset, r *record) error {
	slot := first(resets)
	what := slot
	if slot == bareSuite {
		what = "a bare key"
	}
	e := &Error{Kind: ErrReset, pins: pins,
		Detail: fmt.Sprintf("record %d of its log, for %s; pinned is %s, and the directory shows ", resets[slot].index, what, seal.ReadOut(pins[slot].Fingerprint)),
		hint: fmt.Sprintf("compare the fingerprint with %s in another way; if it is right, forget the old one with \"sealmq key directory --forget %s\"; "+
			"if you are %s, publish your key again with \"sealmq key publish\"", name, name, name)}
	switch {
	case r == nil:
		e.Detail += "no key since"
	case r.slot() != slot:
		e.Detail += r.key.Digits() + " for " + string(r.key.Suite())
	default:
		e.Detail += r.key.Digits()
	}
	return e
}

// jumped refuses a later entry than the pinned one's next, if there was a reset between. The
// log was read, if it is not too long.
func (d *Directory) jumped(ctx context.Context, r *record, pin Pin, seen *firstLook) (err error) {
	var re *reset
	if seen != nil {
		re = seen.resets[keySlot{r.name, r.leaf.Suite}]
	} else if re, err = d.lastReset(ctx, r.name, r.slot()); err != nil {
		return err
	}
	if re == nil || re.leaf.Serial < pin.Serial {
		return nil
	}
	return resetRefusal(r.name, map[string]Pin{r.slot(): pin}, map[string]*reset{r.slot(): re}, r)
}

// afterReset makes an entry follow the reset of the one before it, if there was one.
func (d *Directory) afterReset(ctx context.Context, next *seal.KeyEntry) error {
	suite := next.Key.Suite()
	re, err := d.lastReset(ctx, next.Owner, string(suite))
	if err != nil || re == nil {
		return err
	}
	next.Serial, next.Previous = re.leaf.Serial+1, re.leaf.Record()
	d.cfg.Notice(fmt.Sprintf("the key of %s for %s was reset by an administrator of the broker (record %d of its log); the new entry has the number %d, and whoever pinned the old one is told",
		next.Owner, suite, re.index, next.Serial))
	return nil
}

// ownReset returns the pinned key that was reset, and that one of the caller's own may replace.
func ownReset(err error, slot string) *Pin {
	var e *Error
	if errors.As(err, &e) {
		if pin, ok := e.pins[slot]; ok {
			return &pin
		}
	}
	return nil
}

// order demands that a record can follow the one before it of the same owner and suite, whose
// leaf is the zero one if there is none. An honest broker takes no other.
func order(index int64, leaf, before keylog.Leaf) error {
	switch {
	case leaf.Reset && (before.Owner == "" || before.Reset || before.Serial != leaf.Serial || before.Hash != leaf.Hash):
		return notProven("record %d resets a key of %s that is not the newest", index, leaf.Owner)
	case !leaf.Reset && leaf.Proven && leaf.Serial != before.Serial+1:
		return notProven("record %d is entry %d of %s, after entry %d", index, leaf.Serial, leaf.Owner, before.Serial)
	case leaf.Proven && before.Proven && !leaf.Reset && !before.Reset && leaf.Issuer != before.Issuer:
		return notProven("record %d is an entry of another authority's %s, and nobody has reset the one before", index, leaf.Owner)
	}
	return nil
}

// previous is what an entry that follows a leaf has to name.
func previous(before keylog.Leaf) [32]byte {
	if before.Reset {
		return before.Record()
	}
	return before.Hash
}
