package keydir

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// The judge decides what is believed. It is a pure function: what is remembered, what the
// broker said and the time go in; what to remember from now on and a notice or a refusal come
// out. If it needs more evidence it says which, and is asked again with it.
//
//	 remembered ─┐            ┌─▶ need: a proof, a reset, the log ──▶ fetched, and judged again
//	 answer ─────┼─▶ judge ───┼─▶ the key, notices         ┐
//	 time ───────┘            └─▶ a refusal                ┴─▶ what to remember

// memory is what is remembered of a directory and of one name in it.
type memory struct {
	logKey     string
	checkpoint []byte
	accepted   string         // the records of the restores that were accepted
	pins       map[string]Pin // by suite; not to be changed
}

func (m memory) equal(o memory) bool {
	return m.logKey == o.logKey && string(m.checkpoint) == string(o.checkpoint) && m.accepted == o.accepted && maps.Equal(m.pins, o.pins)
}

// question is what is asked about a name.
type question struct {
	name          string
	suite         seal.Suite // empty: the best one that there is
	strict        bool
	allowUnproven bool
	longestLog    int64 // the longest log that is read
	now           time.Time
	// given says that another key is compared with what is shown: nothing is pinned, and the
	// directory may have no key.
	given bool
	// own is set if the caller asks for its own entry, to replace it. It reports whether an
	// entry is known to be the caller's.
	own func(*seal.KeyEntry) bool
}

// answer is what the broker said. Nothing in it is believed.
type answer struct {
	shown   *shown // nil: it shows no key, which is what missing says
	missing error
	failed  error        // asking failed, so nothing is known
	page    *keylog.Page // the newest checkpoint
	// What the judge needed:
	proofs map[sizes]*keylog.Consistency // nil: the log never was so large
	resets []resetAnswer                 // in the order in which they were asked for
	log    *ownersLog                    // of the log that shown.tree signs
}

// sizes are those of two trees, the smaller one first.
type sizes struct{ from, to int64 }

type resetAnswer struct {
	slot  string
	found *keylog.FoundReset // nil: there was none
}

// need names evidence that is missing.
type need struct {
	proof sizes  // a consistency proof,
	reset string // or the latest reset of the key of a suite,
	log   bool   // or what the log has of the owner,
	page  bool   // or the newest checkpoint
}

// verdict is what the judge decides.
type verdict struct {
	need    *need  // nil, or nothing is decided
	memory  memory // what to remember from now on, also after a refusal
	shown   *shown // the key that is believed; nil if there is none to be believed
	notices []string
	err     error
	// For the caller's own entry: current is false if its certificate is not valid any more.
	// Without an entry, reset is the latest one, which the next entry has to name.
	current bool
	reset   *logRecord
}

// logRecord is a record of the log, with its place.
type logRecord struct {
	index  int64
	leaf   keylog.Leaf
	before keylog.Leaf // the one of the same owner and suite that it follows; zero if there is none
}

// missing is an error that asks for evidence.
type missing struct{ need need }

func (*missing) Error() string { return "internal error: evidence is missing" }

// judge decides about a key that was looked up.
func judge(q question, m memory, a *answer) verdict { return decide(q, m, a, (*decision).judge) }

// decision is one run of the judge.
type decision struct {
	q    question
	a    *answer
	v    verdict
	seen map[string]tlog.Tree // the checkpoints that were observed
}

// decide makes one run of the judge, by how: (*decision).judge, or a variant of it.
func decide(q question, m memory, a *answer, how func(*decision) error) verdict {
	d := &decision{q: q, a: a, v: verdict{memory: m}, seen: make(map[string]tlog.Tree)}
	err := how(d)
	if more, ok := errors.AsType[*missing](err); ok {
		return verdict{need: &more.need}
	}
	if err != nil {
		d.v.shown, d.v.notices, d.v.err = nil, nil, err
	}
	return d.v
}

// judge decides about a key that was looked up, or about its absence.
func (d *decision) judge() error {
	s := d.a.shown
	switch {
	case d.a.failed != nil:
		return d.a.failed
	case s == nil:
		return d.absent()
	}
	tree, err := d.contains(&s.found.Place, s.leaf, "the key")
	if err != nil {
		return err
	}
	if d.q.own != nil {
		return d.judgeOwn(s, tree)
	}
	if err := s.trusted(); err != nil {
		return err
	}
	if d.v.shown = s; d.q.given {
		return nil
	}
	if s.entry == nil && !d.q.allowUnproven {
		return d.unproven(s)
	}
	if err := d.newest(s, tree); err != nil {
		return err
	}
	if err := d.agrees(s, d.q.strict); err != nil {
		return err
	}
	d.pin(s)
	return nil
}

// judgeOwn compares the caller's own entry with the pins, and pins it only if it is known to
// be the caller's. An entry whose certificate has expired or was revoked, or that is for another
// directory, can still be replaced, by its owner alone. A reset of the pinned key does not stop its owner.
func (d *decision) judgeOwn(s *shown, tree tlog.Tree) error {
	if s.entry == nil {
		return d.startAfterReset() // a bare key is no entry, and stays beside it
	}
	err := s.trusted()
	if err != nil && !errors.Is(err, seal.ErrRevoked) && !errors.Is(err, seal.ErrExpired) && !errors.Is(err, ErrDirectory) {
		return err
	}
	d.v.current = err == nil
	mine := d.v.current && d.q.own(s.entry)
	if err = d.newest(s, tree); err == nil {
		err = d.agrees(s, false)
	}
	if old, pinned := d.v.memory.pins[s.slot()]; errors.Is(err, ErrReset) && mine && pinned {
		d.replacesReset(s, old)
	} else if err != nil {
		return err
	} else if mine {
		d.pin(s)
	}
	d.v.shown = s
	return nil
}

// absent decides about the answer that there is no key. It is not believed if one is pinned.
func (d *decision) absent() error {
	q := d.q
	pins := maps.Clone(d.v.memory.pins)
	maps.DeleteFunc(pins, func(slot string, _ Pin) bool {
		return q.suite != "" && slot != string(q.suite) && (slot != bareSlot || !ciphermq.IsBox(q.suite))
	})
	var err error = &Error{Kind: errMissing, Err: d.a.missing, Remedy: fmt.Sprintf("ask %s to publish a key with \"sealmq key publish\"", q.name)}
	if len(pins) > 0 {
		err = d.explain(rollback(hintBackup, "it knows no key of %s, and showed one before", q.name), pins, nil)
		if errors.Is(err, ErrRollback) {
			// Its log tells whether all of it is older.
			if d.a.page == nil {
				return &missing{need{page: true}}
			}
			if _, older := d.observe(d.a.page.Checkpoint, d.a.page.LogKey); older != nil {
				return older
			}
		}
	}
	switch missing := errors.Is(err, errMissing); {
	case q.own != nil && (missing || errors.Is(err, ErrReset)):
		return d.startAfterReset()
	case q.given && missing:
		return nil
	}
	return err
}

// startAfterReset finds the reset that the caller's next entry has to name, where there is no
// entry.
func (d *decision) startAfterReset() (err error) {
	d.v.reset, err = d.lastReset(string(d.q.suite))
	return err
}

// unproven refuses a bare key. The error names it and the pinned one.
func (d *decision) unproven(s *shown) error {
	pinned := "none is pinned"
	if old, ok := d.v.memory.pins[bareSlot]; ok {
		pinned = "pinned is " + seal.ReadOut(old.Fingerprint)
	}
	return &Error{Kind: ErrUnproven, Detail: fmt.Sprintf("it was registered without its owner's signature; %s, and the directory shows %s", pinned, s.key.Digits()),
		Remedy: fmt.Sprintf("ask %s to publish it with \"sealmq key publish\"; or compare the fingerprint %s in another way, and then allow it with --allow-unproven", s.name, s.key.Fingerprint())}
}

// pin remembers a key, and says so.
func (d *decision) pin(s *shown) {
	old, known := d.v.memory.pins[s.slot()]
	what := fmt.Sprintf("%s (%s)", s.key.Fingerprint(), s.key.Digits())
	if s.unbound() {
		what += "; its entry is of an older version and names no key directory, so any broker could show it"
	}
	switch {
	case !known && s.entry == nil:
		d.notice("unproven key of %s pinned: %s", s.name, what)
	case !known:
		d.notice("key of %s pinned: %s", s.name, what)
	case s.entry == nil || old.Entry == hexHash(s.entry.Hash()):
		return
	case old.Fingerprint == s.key.Fingerprint():
		d.notice("entry of %s renewed, with the same key", s.name)
	default:
		d.notice("key of %s was replaced by its owner (entry %d): %s", s.name, s.entry.Serial, what)
	}
	d.remember(s)
}

// replacesReset pins the caller's own key in place of the one that was reset.
func (d *decision) replacesReset(s *shown, old Pin) {
	d.notice("key of %s pinned in place of the one that was reset: %s (%s)", s.name, s.key.Fingerprint(), s.key.Digits())
	d.remember(s)
}

func (d *decision) remember(s *shown) {
	pins := maps.Clone(d.v.memory.pins)
	if pins == nil {
		pins = make(map[string]Pin)
	}
	pins[s.slot()] = s.pin(d.q.now)
	d.v.memory.pins = pins
}

func (d *decision) notice(format string, args ...any) {
	d.v.notices = append(d.v.notices, fmt.Sprintf(format, args...))
}

// agrees compares a key with the pins, and finds out whether a refusal is explained by a
// reset.
func (d *decision) agrees(s *shown, strict bool) error {
	refusal, pins := compare(d.v.memory.pins, s, strict)
	if refusal == nil {
		return nil
	}
	return d.explain(refusal, pins, s)
}

// compare refuses a key that does not follow what is pinned, and returns the pins that are in
// its way.
func compare(pins map[string]Pin, s *shown, strict bool) (refusal *Error, inTheWay map[string]Pin) {
	hidden := maps.Clone(pins)
	maps.DeleteFunc(hidden, func(slot string, old Pin) bool {
		return !old.Proven || slot == s.slot() || !s.hides(seal.Suite(slot))
	})
	if len(hidden) > 0 {
		return rollback(hintBackup, "it showed a key for %s before, and shows one for %s", first(hidden), s.key.Suite()), hidden
	}
	old, known := pins[s.slot()]
	if !known {
		return nil, nil
	}
	if refusal := s.follows(old, strict); refusal != nil {
		return refusal, map[string]Pin{s.slot(): old}
	}
	return nil, nil
}

// follows refuses a key that is neither the pinned one nor follows it.
func (s *shown) follows(old Pin, strict bool) *Error {
	changed := func(kind error, format string, args ...any) *Error {
		return &Error{Kind: kind,
			Detail: fmt.Sprintf(format, args...) + fmt.Sprintf("; pinned is %s, and the directory shows %s", seal.ReadOut(old.Fingerprint), s.key.Digits()),
			Remedy: hintForget(s.name)}
	}
	if s.entry == nil {
		if old.Fingerprint == s.key.Fingerprint() {
			return nil
		}
		return changed(ErrPinned, "a bare key was replaced, and nothing says by whom")
	}
	now := s.pin(time.Time{})
	switch {
	case old.Entry == now.Entry && (old.Fingerprint != now.Fingerprint || old.Serial != now.Serial):
		return changed(ErrPins, "the pins file was altered: the pin of %s does not match entry %d", s.name, now.Serial)
	case old.Entry == now.Entry && old.Issuer != now.Issuer:
		return changed(ErrPins, "the pins file was altered, or two authorities have signed entry %d of %s: its issuer is not the pinned one", now.Serial, s.name)
	case old.Entry == now.Entry:
		return nil
	case old.Serial > now.Serial:
		return rollback(hintBackup, "it showed entry %d of %s before, and shows entry %d", old.Serial, s.name, now.Serial)
	case old.Serial == now.Serial:
		return changed(ErrPinned, "%s has signed two entries with the number %d", s.name, now.Serial)
	case old.Issuer != now.Issuer:
		return changed(ErrPinned, "the new entry is signed with a certificate of another authority")
	case old.Serial+1 == now.Serial && s.entry.Previous != [32]byte(old.Entry):
		return changed(ErrPinned, "entry %d does not follow the pinned one", now.Serial)
	case strict && old.Fingerprint != now.Fingerprint:
		return changed(ErrPinned, "%s has replaced the key, and pins are strict", s.name)
	}
	return nil
}

func hintForget(name string) string {
	return fmt.Sprintf("compare the fingerprint with %s in another way; if it is right, forget the old one with \"sealmq key directory --forget %s\"", name, name)
}

// first is the first of some suites, so that an error has one text.
func first[V any](slots map[string]V) string { return slices.Min(slices.Collect(maps.Keys(slots))) }

// judgeGiven compares a key that came another way with the pinned one and the one that is
// shown, which is nil if there is none, or failed says why none can be believed.
func judgeGiven(q question, m memory, key *seal.PublicKey, s *shown, failed error) (notice string, err error) {
	old, known := m.pins[string(key.Suite())]
	if !known && ciphermq.IsBox(key.Suite()) {
		old, known = m.pins[bareSlot]
	}
	right := known && old.Fingerprint == key.Fingerprint()
	refusal := &Error{Kind: ErrShown, Detail: "given is " + key.Digits(), Err: failed,
		Remedy: fmt.Sprintf("compare the fingerprints with %s in another way; --to %s takes the directory's key, and \"sealmq key directory --forget %s\" forgets the pinned one", q.name, q.name, q.name)}
	if known {
		refusal.Detail += ", pinned is " + seal.ReadOut(old.Fingerprint)
	}
	switch {
	case known && !right:
		refusal.Kind = ErrPinned
	case failed != nil:
		refusal.Kind = errUncompared
	case s == nil || s.key.Fingerprint() == key.Fingerprint():
		return "", nil
	}
	if s != nil {
		refusal.Detail += ", the directory shows " + s.key.Digits()
	}
	if q.strict && !right {
		return "", refusal
	}
	return fmt.Sprintf("key of %s: %v; it is used anyway: compare it with %s", q.name, refusal, q.name), nil
}
