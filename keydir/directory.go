package keydir

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir/keylog"
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
	// ErrPins says that what is pinned cannot be relied on: the file cannot be understood, or
	// somebody has altered it. It is an ErrPinned, too.
	ErrPins error = pinsError{}
	// ErrLog says that the directory's log does not prove what it should.
	ErrLog = errors.New("the key directory's log does not prove this")
	// ErrCheckpoint says that a checkpoint is not one that the directory's log signed. If
	// it came in a message, that is its sender's fault.
	ErrCheckpoint = errors.New("the checkpoint is not signed by the key directory's log")
)

type pinsError struct{}

func (pinsError) Error() string        { return "the pins cannot be relied on" }
func (pinsError) Is(target error) bool { return target == ErrPinned }

// ForkError says that the broker has shown different directories to different people, or
// at different times: two checkpoints with the signature of its log of which it does not
// prove that they are of one history. Kept together they are the evidence.
type ForkError struct {
	Ours, Theirs []byte
	// Detail says what does not fit.
	Detail string
}

// Error says what was found. It contains no key.
func (e *ForkError) Error() string {
	return "the broker has shown two histories of its key directory: " + e.Detail
}

// Hint says what to do about it.
func (e *ForkError) Hint() string {
	return "keep both checkpoints as evidence, send nothing more through this broker, and ask its operator; compare keys by their fingerprints"
}

// Config says whom to believe.
type Config struct {
	// Verifier says whose the certificates of entries are. It must be set.
	Verifier seal.Verifier
	// Pins remembers what was seen (default: in memory, for the life of the Directory).
	Pins *Pins
	// Scope names the directory in Pins, which may know several. It must be set with Pins.
	Scope string
	// StrictPins refuses every key but the pinned one, also one that its owner has
	// properly replaced.
	StrictPins bool
	// AllowUnproven takes keys of which nothing proves whose they are, if there is none
	// that is proven.
	AllowUnproven bool
	// Notice is told, in a sentence for a person, of every key that is pinned for the
	// first time, replaced, or unproven, and if the log is too long to be read for a key
	// that was never seen (default: nobody is told). It must not call the Directory.
	Notice func(string)
	// FirstLook is the longest log, in records, that is read whole when a key is seen for the
	// first time (default 50,000). A longer one is left to Audit, and Notice is told.
	FirstLook int64
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// Asker is a connection to a broker. *client.Client is one.
type Asker interface {
	// Command sends one line and returns the one line that answers it, without its line
	// feed. A reply that reports an error is an error with its code (sealmq.CodeOf).
	// sealmq.ErrInterrupted says that the connection was lost before the reply came.
	Command(ctx context.Context, line string) (reply string, err error)
}

// ask sends a command and returns what follows the prefix of its reply.
func ask(ctx context.Context, c Asker, line, prefix string) (string, error) {
	reply, err := c.Command(ctx, line)
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(reply, prefix)
	if !ok {
		first, _, _ := strings.Cut(reply, " ")
		return "", fmt.Errorf("the broker answered with %.80q", first)
	}
	return rest, nil
}

// Directory looks up and publishes public keys, and believes nothing that is not proven:
// an entry must be signed by its owner's certificate, stand in the directory's log, the
// log must continue the one that was seen before, and the key must be the pinned one or
// follow it. It is safe for concurrent use.
type Directory struct {
	c   Asker
	cfg Config

	mu    sync.Mutex
	peers map[[32]byte]error // what CheckPeer has decided

	reading chan struct{} // of size one, filled while the log is read
	seen    *firstLook    // what was read of it, and was right
}

// New makes the directory of the broker that c is connected to. Nothing is asked
// before it is needed.
func New(c Asker, cfg Config) (*Directory, error) {
	if cfg.Verifier == nil {
		return nil, errors.New("keydir: Config.Verifier is not set")
	}
	switch {
	case cfg.Pins == nil:
		cfg.Pins = NewPins()
	case cfg.Scope == "":
		return nil, errors.New("keydir: Config.Scope is not set: Pins may know several directories")
	}
	if cfg.FirstLook == 0 {
		cfg.FirstLook = defaultFirstLook
	}
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	return &Directory{c: c, cfg: cfg, peers: make(map[[32]byte]error), reading: make(chan struct{}, 1)}, nil
}

// Find returns the key to seal for, of the given suite or, if suite is empty, of the best
// one that there is. It is asked anew every time; what is returned is pinned. The errors
// wrap sealmq.ErrNoKey, ErrUnproven, ErrRollback, ErrPinned, ErrLog, what a
// seal.KeyEntry's Verify returns, or are a *ForkError.
//
// A bare key is of a suite of CipherMQ's: the one that is asked for, else seal.CipherMQG5.
func (d *Directory) Find(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	key, err := d.look(ctx, name, suite)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", name, err)
	}
	return key, nil
}

// look asks again if the pins of the name changed since the question was asked: another
// process that shares them has seen a newer answer, and an accusation is not sound.
func (d *Directory) look(ctx context.Context, name string, suite seal.Suite) (key *seal.PublicKey, err error) {
	err = d.settled(name, func() error {
		key, err = d.lookOnce(ctx, name, suite)
		return err
	})
	return key, err
}

// settled repeats a question, whose answer pins do not agree with, until nobody has changed
// the pins of the name meanwhile.
func (d *Directory) settled(name string, ask func() error) error {
	for {
		before, err := d.cfg.Pins.Keys(d.cfg.Scope)
		if err != nil {
			return err
		}
		refusal := ask()
		if !errors.Is(refusal, ErrRollback) && !errors.Is(refusal, ErrPinned) {
			return refusal
		}
		after, err := d.cfg.Pins.Keys(d.cfg.Scope)
		if err != nil || maps.Equal(before[name], after[name]) {
			return refusal
		}
	}
}

func (d *Directory) lookOnce(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	r, err := d.fetch(ctx, name, suite)
	if sealmq.CodeOf(err) == sealmq.NoKey {
		return nil, d.explain(ctx, name, d.missing(name, suite, err), nil)
	}
	if err != nil {
		return nil, err
	}
	if r.entry != nil {
		if err := d.verify(r); err != nil {
			return nil, err
		}
	} else if !d.cfg.AllowUnproven {
		return nil, d.unproven(r)
	}
	if err := d.newest(ctx, r); err != nil {
		return nil, err
	}
	return r.key, d.explain(ctx, name, d.pin(ctx, r, d.cfg.StrictPins), r)
}

// unproven refuses a bare key, and names it beside the pinned one.
func (d *Directory) unproven(r *record) error {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return err
	}
	pinned := "none is pinned"
	if old, ok := s.Keys[r.name][bareSuite]; ok {
		pinned = "pinned is " + seal.ReadOut(old.Fingerprint)
	}
	return &Error{Kind: ErrUnproven, Detail: fmt.Sprintf("it was registered without its owner's signature; %s, and the directory shows %s", pinned, r.key.Digits()),
		hint: fmt.Sprintf("ask %s to publish it with \"sealmq key publish\"; or, having compared the fingerprint %s in another way, allow it with --allow-unproven", r.name, r.key.Fingerprint())}
}

// verify reports whether an entry is its owner's, and stands in the log as that.
func (d *Directory) verify(r *record) error {
	sender, err := r.entry.Verify(d.cfg.Verifier, r.name, d.cfg.Now())
	if err != nil {
		return err
	}
	if sender.Issuer != r.leaf.Issuer {
		return notProven("the entry of %s stands in it as that of another authority's %s", r.name, r.name)
	}
	return nil
}

// record is a key that stands in the log.
type record struct {
	name  string
	asked seal.Suite
	key   *seal.PublicKey
	entry *seal.KeyEntry // nil of a bare key
	leaf  keylog.Leaf
	index int64
	now   sighting
	own   *Pin // the pinned key that was reset, and that this one of the caller's own replaces
}

// slot is the name of its pin.
func (r *record) slot() string {
	if r.entry == nil {
		return bareSuite
	}
	return string(r.key.Suite())
}

// fetch asks for a key and checks that it is what was asked for, well formed, and in the
// log. Whether it is to be believed is not asked.
func (d *Directory) fetch(ctx context.Context, name string, suite seal.Suite) (*record, error) {
	since, err := d.since()
	if err != nil {
		return nil, err
	}
	line := "find_key " + name
	if suite != "" {
		line += " " + string(suite)
	}
	var f keylog.Found
	if err := d.query(ctx, &f, "Key: ", line); err != nil {
		return nil, err
	}
	r := &record{name: name, asked: suite, index: f.Index}
	if f.Client != name {
		return nil, notProven("asked for %s, it answers about %.255q", name, f.Client)
	}
	if f.Proven {
		err = r.readEntry(f)
	} else {
		err = r.readBare(f)
	}
	if err != nil {
		return nil, err
	}
	if r.now, err = d.see(ctx, since, f.Checkpoint, f.LogKey); err != nil {
		return nil, err
	}
	if err := tlog.CheckRecord(f.Proof, r.now.tree.N, r.now.tree.Hash, f.Index, r.leaf.Record()); err != nil {
		return nil, notProven("the key of %s does not stand in it", name)
	}
	return r, nil
}

func (r *record) readEntry(f keylog.Found) error {
	e, err := seal.ParseKeyEntry(f.Entry)
	if err != nil {
		return fmt.Errorf("the entry that the directory shows: %w", err)
	}
	if e.Owner != r.name || r.asked != "" && e.Suite() != r.asked {
		return notProven("asked for %s, it answers with an entry of %.255q for suite %s", r.name, e.Owner, e.Suite())
	}
	r.entry, r.key = e, e.PublicKey()
	r.leaf = keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: f.Issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
	return nil
}

func (r *record) readBare(f keylog.Found) error {
	suite := r.asked
	if suite == "" {
		suite = seal.CipherMQG5
	}
	key, err := seal.NewPublicKey(suite, f.Key)
	if err != nil {
		return notProven("it answers with something that is no key: %v", err)
	}
	r.key = key
	r.leaf = keylog.Leaf{Owner: r.name, Hash: sha256.Sum256(f.Key)}
	return nil
}

// missing explains that there is no key. That there was one is no answer to be believed.
func (d *Directory) missing(name string, suite seal.Suite, err error) error {
	s, perr := d.cfg.Pins.view(d.cfg.Scope)
	if perr != nil {
		return perr
	}
	pins := maps.Clone(s.Keys[name])
	maps.DeleteFunc(pins, func(slot string, _ Pin) bool {
		return suite != "" && slot != string(suite) && (slot != bareSuite || !bare(suite))
	})
	if len(pins) > 0 {
		return &Error{Kind: ErrRollback, Detail: fmt.Sprintf("it knows no key of %s, and showed one before", name), pins: pins,
			hint: "the broker lies, or was restored from an old backup: ask its operator"}
	}
	return &Error{Kind: errNoKeyKind, Err: err,
		hint: fmt.Sprintf("ask %s to publish a key with \"sealmq key publish\"", name)}
}

// bare reports whether bare keys are for the suite.
func bare(s seal.Suite) bool {
	switch s {
	case seal.CipherMQG3, seal.CipherMQG4, seal.CipherMQG5, seal.CipherMQG6:
		return true
	}
	return false
}

// errNoKeyKind begins the error of a key that nobody has published.
var errNoKeyKind = errors.New("not in the directory")

// hides reports whether an entry of a suite should have been shown in place of r.
func (r *record) hides(suite seal.Suite) bool {
	switch {
	case r.asked != "":
		return r.entry == nil && suite == r.asked
	case r.entry == nil:
		return true
	}
	for _, s := range seal.Suites() {
		switch s {
		case r.key.Suite():
			return false
		case suite:
			return true
		}
	}
	return false
}

// pin compares a key with what was seen of it before, and remembers it.
func (d *Directory) pin(ctx context.Context, r *record, strict bool) error {
	var notice string
	pin := d.newPin(r)
	err := d.cfg.Pins.update(ctx, d.cfg.Scope, func(s *pinnedOf) error {
		var err error
		notice, err = r.compare(s.Keys[r.name], pin, strict)
		if old, ok := s.Keys[r.name][r.slot()]; err != nil && ok && r.own != nil && *r.own == old {
			notice, err = fmt.Sprintf("key of %s pinned in place of the one that was reset: %s (%s)", r.name, pin.Fingerprint, r.key.Digits()), nil
		}
		if err != nil || notice == "" {
			return err
		}
		if s.Keys == nil {
			s.Keys = make(map[string]map[string]Pin)
		}
		if s.Keys[r.name] == nil {
			s.Keys[r.name] = make(map[string]Pin)
		}
		s.Keys[r.name][r.slot()] = pin
		return nil
	})
	if err == nil && notice != "" {
		d.cfg.Notice(notice)
	}
	return err
}

func (d *Directory) newPin(r *record) Pin {
	pin := Pin{Fingerprint: r.key.Fingerprint(), Proven: r.entry != nil, FirstSeen: d.cfg.Now().UTC().Truncate(time.Second)}
	if r.entry != nil {
		pin.Serial, pin.Entry, pin.Issuer = r.entry.Serial, hexHash(r.entry.Hash()), r.leaf.Issuer
	}
	return pin
}

// compare returns a notice if the pin is to be written.
func (r *record) compare(pins map[string]Pin, pin Pin, strict bool) (notice string, err error) {
	old, known := pins[r.slot()]
	ways := map[string]Pin{r.slot(): old}
	refuse := func(kind error, hint, format string, args ...any) error {
		return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...), hint: hint, pins: ways}
	}
	const lies = "the broker lies, or was restored from an old backup: ask its operator"
	forget := fmt.Sprintf("compare the fingerprint with %s in another way; if it is right, forget the old one with \"sealmq key directory --forget %s\"", r.name, r.name)
	hidden := maps.Clone(pins)
	maps.DeleteFunc(hidden, func(slot string, old Pin) bool {
		return !old.Proven || slot == r.slot() || !r.hides(seal.Suite(slot))
	})
	if len(hidden) > 0 {
		ways = hidden
		return "", refuse(ErrRollback, lies, "it showed a key for %s before, and shows one for %s", first(hidden), r.key.Suite())
	}
	changed := func(kind error, format string, args ...any) error {
		both := fmt.Sprintf("; pinned is %s, and the directory shows %s", seal.ReadOut(old.Fingerprint), r.key.Digits())
		return refuse(kind, forget, "%s", fmt.Sprintf(format, args...)+both)
	}
	switch {
	case !known && r.entry == nil:
		return fmt.Sprintf("key of %s pinned, which nothing proves: %s (%s)", r.name, pin.Fingerprint, r.key.Digits()), nil
	case !known:
		return fmt.Sprintf("key of %s pinned: %s (%s)", r.name, pin.Fingerprint, r.key.Digits()), nil
	case r.entry == nil && old.Fingerprint == pin.Fingerprint:
		return "", nil
	case r.entry == nil:
		return "", changed(ErrPinned, "a bare key was replaced, and nothing says by whom")
	case old.Entry == pin.Entry && (old.Fingerprint != pin.Fingerprint || old.Serial != pin.Serial):
		return "", changed(ErrPins, "the pins file was altered: what it says of entry %d of %s is not in that entry", pin.Serial, r.name)
	case old.Entry == pin.Entry && old.Issuer != pin.Issuer:
		return "", changed(ErrPins, "the pins file was altered, or two authorities have signed entry %d of %s: its issuer is not the pinned one", pin.Serial, r.name)
	case old.Entry == pin.Entry:
		return "", nil
	case old.Serial > pin.Serial:
		return "", refuse(ErrRollback, lies, "it showed entry %d of %s before, and shows entry %d", old.Serial, r.name, pin.Serial)
	case old.Serial == pin.Serial:
		return "", changed(ErrPinned, "%s has signed two entries with the number %d", r.name, pin.Serial)
	case old.Issuer != pin.Issuer:
		return "", changed(ErrPinned, "the new entry is signed with a certificate of another authority")
	case old.Serial+1 == pin.Serial && r.entry.Previous != [32]byte(old.Entry):
		return "", changed(ErrPinned, "entry %d does not follow the pinned one", pin.Serial)
	case strict && old.Fingerprint != pin.Fingerprint:
		return "", changed(ErrPinned, "%s has replaced the key, and pins are strict", r.name)
	case old.Fingerprint == pin.Fingerprint:
		return fmt.Sprintf("entry of %s renewed, with the same key", r.name), nil
	}
	return fmt.Sprintf("key of %s was replaced by its owner (entry %d): %s (%s)", r.name, pin.Serial, pin.Fingerprint, r.key.Digits()), nil
}

// Publish makes signer's next entry of the key's suite, stores it, and reads it back with
// all checks. A key that is published already stays as it is, and its entry is returned.
func (d *Directory) Publish(ctx context.Context, signer *seal.Signer, key *seal.PublicKey) (*seal.KeyEntry, error) {
	name := signer.Name()
	for try := 1; ; try++ {
		e, err := d.publish(ctx, signer, key)
		again := errors.Is(err, sealmq.ErrInterrupted) || sealmq.CodeOf(err) == sealmq.Mismatch || sealmq.CodeOf(err) == sealmq.InUse
		if again && try < retries && ctx.Err() == nil {
			continue // somebody else was faster, or nobody knows: look again
		}
		if err != nil {
			return nil, fmt.Errorf("publish the key of %s: %w", name, err)
		}
		return e, nil
	}
}

func (d *Directory) publish(ctx context.Context, signer *seal.Signer, key *seal.PublicKey) (*seal.KeyEntry, error) {
	name := signer.Name()
	next := seal.KeyEntry{Owner: name, Key: key, Serial: 1, Created: d.cfg.Now()}
	current, valid, err := d.own(ctx, name, key.Suite(), func(e *seal.KeyEntry) bool {
		return e.PublicKey().Fingerprint() == key.Fingerprint()
	})
	if err != nil {
		return nil, err
	}
	if current != nil {
		if valid && current.key.Fingerprint() == key.Fingerprint() {
			return current.entry, nil
		}
		next.Serial, next.Previous = current.entry.Serial+1, current.entry.Hash()
	} else if err := d.afterReset(ctx, &next); err != nil {
		return nil, err
	}
	entry, err := seal.NewKeyEntry(signer, next)
	if err != nil {
		return nil, err
	}
	put, err := seal.ParseKeyEntry(entry)
	if err != nil {
		return nil, err
	}
	line := "put_key " + string(key.Suite()) + " " + base64.StdEncoding.EncodeToString(entry)
	if _, err := ask(ctx, d.c, line, "Key stored "); err != nil {
		return nil, err
	}
	return d.readBack(ctx, put)
}

// readBack looks for an entry that was just put. Nothing else is pinned than this one, or
// a later one of the same key, which another process of the owner's has made.
func (d *Directory) readBack(ctx context.Context, put *seal.KeyEntry) (*seal.KeyEntry, error) {
	known := func(e *seal.KeyEntry) bool {
		return (e.Serial != put.Serial || e.Hash() == put.Hash()) && e.PublicKey().Fingerprint() == put.PublicKey().Fingerprint()
	}
	read, valid, err := d.own(ctx, put.Owner, put.Suite(), known)
	switch {
	case err != nil:
		return nil, err
	case read == nil || read.entry.Serial < put.Serial:
		return nil, &Error{Kind: ErrRollback, Detail: "it does not show the entry that was just put", hint: "the broker lies: ask its operator"}
	case !valid:
		return nil, d.verify(read)
	case !known(read.entry):
		return nil, &Error{Kind: ErrPinned,
			Detail: fmt.Sprintf("it shows another key than the one that was just put; put was %s, and the directory shows %s", put.PublicKey().Digits(), read.key.Digits()),
			hint:   "somebody else publishes under this name: whoever has the certificate's key can"}
	}
	return read.entry, nil
}

// own looks an entry of this very client up, with all checks; nil if there is none. It is
// pinned if it is known to be the client's. It is not valid if its certificate is not any
// more: such an entry can still be replaced, and by its owner alone.
func (d *Directory) own(ctx context.Context, name string, suite seal.Suite, known func(*seal.KeyEntry) bool) (r *record, valid bool, err error) {
	err = d.settled(name, func() error {
		if r, valid, err = d.ownOnce(ctx, name, suite, known); err == nil && valid && known(r.entry) {
			err = d.pin(ctx, r, false)
		}
		return err
	})
	return r, valid, err
}

// ownOnce compares with the pins, and leaves them as they are. That the pinned key was reset
// keeps its owner from nothing.
func (d *Directory) ownOnce(ctx context.Context, name string, suite seal.Suite, known func(*seal.KeyEntry) bool) (r *record, valid bool, err error) {
	r, err = d.fetch(ctx, name, suite)
	if sealmq.CodeOf(err) == sealmq.NoKey {
		err = d.explain(ctx, name, d.missing(name, suite, err), nil)
		if errors.Is(err, errNoKeyKind) || errors.Is(err, ErrReset) {
			return nil, false, nil
		}
		return nil, false, err
	}
	if err != nil {
		return nil, false, err
	}
	if r.entry == nil {
		return nil, false, nil // a bare key is no entry, and stays beside it
	}
	err = d.verify(r)
	if err != nil && !errors.Is(err, seal.ErrRevoked) && !errors.Is(err, seal.ErrExpired) {
		return nil, false, err
	}
	valid = err == nil
	if err = d.newest(ctx, r); err == nil {
		err = d.compared(ctx, r)
	}
	if errors.Is(err, ErrReset) && valid && known(r.entry) {
		r.own, err = ownReset(err, r.slot()), nil
	}
	if err != nil {
		return nil, false, err
	}
	return r, valid, nil
}

// compared reports whether a key agrees with the pins.
func (d *Directory) compared(ctx context.Context, r *record) error {
	s, err := d.cfg.Pins.view(d.cfg.Scope)
	if err != nil {
		return err
	}
	_, err = r.compare(s.Keys[r.name], d.newPin(r), false)
	return d.explain(ctx, r.name, err, r)
}
