package keylog

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// Config is what a Log needs.
type Config struct {
	// Define has the store keep definitions, all of one call or none, in the order of the
	// calls. done is called exactly once, possibly before Define returns, after they are on
	// stable storage or with an error that says that they are not.
	Define func(batch []Definition, done func(error))
	// Allow decides whether a caller may do something with the keys of a client, or, with an
	// empty name, with the log as a whole.
	Allow func(by sealmq.Identity, act Action, name string) error
	// Changed is told of every change, and of every allowed reset with its outcome. Of the
	// Log it may call Counts only.
	Changed func(by sealmq.Identity, act Action, name string, outcome error)
	// Signer signs checkpoints. It must stay the same for the life of the store: clients take
	// a log with another signer for another log. Verifier says whose certificates are. Both
	// are nil of a Log that keeps bare keys only, without proof.
	Signer   *Signer
	Verifier seal.Verifier
	// Limits bound what is kept. All must be set.
	Limits Limits
	// Log is told of changed keys.
	Log *slog.Logger
	// Now is the time of day.
	Now func() time.Time
}

// Action is what a caller wants to do.
type Action string

// The actions.
const (
	ReadKey    Action = "read_key"
	WriteKey   Action = "write_key" // a bare key
	PutEntry   Action = "put_key"
	StoreChain Action = "put_chain"
	ResetKey   Action = "reset_key"
	Attest     Action = "attest_restore"
)

// Limits bound a Log.
type Limits struct {
	Keys    int // bare keys and entries together
	Records int // of the log, at most MaxLog: clients do not read a longer one
	Changes int // records of one owner and suite since its last reset
	Chains  int // of all identities
}

// Definition is what the store keeps: a key and its value. An empty value removes the key.
type Definition struct {
	Key   string
	Value []byte
}

// Log is the key directory: the current keys, and the append-only log of all changes. A
// change takes effect when it is stored; changes are stored and join the
// tree in the order in which they were decided. It is safe for concurrent use.
//
// Its methods take the caller first; Config.Allow says what the caller may do. A done function is
// called exactly once, on any goroutine, and must not call the Log. The caller's slices and
// strings are not kept.
type Log struct {
	cfg Config

	// order serialises decisions, so that the store gets the changes in the order in which
	// they were decided. It is not held across a sync. No done function takes it, because
	// Define may call one.
	order sync.Mutex
	next  uint64 // the sequence number of the next leaf's definition
	rates rates

	// mu guards what follows. It is held for calculations only.
	mu      sync.Mutex
	pending []*batch // in the order in which the store got them
	slots   map[slot]*slotState
	keys    int // slots that hold a key, or will if what is under way is stored
	tree    Tree
	leaves  []string
	waiting int    // leaves under way
	signed  []byte // the checkpoint of all leaves; nil if it has to be made
	chains  chains
}

// slot is a place for a key: of an owner and a suite, or of a client's bare key, which has no
// suite.
type slot struct{ owner, suite string }

// slotState is what is known of a slot.
type slotState struct {
	current *record // what is stored; nil if there is none
	reset   *record // the latest reset, without data
	latest  *change // the last one under way
	busy    int     // changes under way
	changes int     // records since the reset, those under way included
}

// record is a key in the directory, or the reset that took one out.
type record struct {
	leaf  Leaf
	data  []byte // the entry, or the bare key
	index int64
	// registrar is the authority of the client that registered a bare key; empty if an older
	// version did not store it.
	registrar string
}

// unlogged is the index of a key that has no leaf.
const unlogged = -1

// batch is what one call gave to the store.
type batch struct {
	changes []*change
	done    []func(error)
	decided bool
	err     error
}

// change is a record on its way to the store.
type change struct {
	at    slot
	next  *record
	batch *batch
}

// errNoDirectory says that a Log keeps bare keys only.
var errNoDirectory = &sealmq.Error{Code: sealmq.Unsupported, Message: "this broker keeps no proven key directory"}

// Open reads the definitions that are stored, those that Owns reports; it understands all or
// nothing.
func Open(cfg Config, stored []Definition) (*Log, error) {
	if (cfg.Signer == nil) != (cfg.Verifier == nil) {
		return nil, errors.New("a key directory needs a signer and a verifier")
	}
	l := &Log{cfg: cfg, slots: make(map[slot]*slotState), chains: chains{make(map[[32]byte]*storedChain), make(map[clientOf]int)}}
	leaves, err := l.read(stored)
	if err != nil {
		return nil, err
	}
	for _, s := range leaves {
		if err := l.load(s); err != nil {
			return nil, err
		}
	}
	for _, s := range l.slots {
		if s.current != nil {
			l.keys++
		}
	}
	return l, nil
}

// load takes a leaf from the store.
func (l *Log) load(stored storedLeaf) error {
	leaf, index := stored.leaf, l.tree.Size()
	if err := l.append(leaf); err != nil {
		return err
	}
	l.next = stored.sequence + 1
	s := l.at(leaf.slot())
	s.changes++
	c := s.current
	switch {
	case leaf.Reset:
		s.reset, s.changes = &record{leaf: leaf, index: index}, 0
		if c == nil {
			break
		}
		c.index = unlogged // of another leaf, or of none
		if leaf.Proven && c.leaf.Serial <= leaf.Serial {
			s.current = nil // a store that was repaired by hand: what was reset stays reset
		}
	case c != nil && c.leaf == leaf:
		c.index = index
	}
	return nil
}

// Complete gives a place in the log to the keys that were registered before there was one.
func (l *Log) Complete() {
	if l.cfg.Signer == nil {
		return
	}
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	var missing []*change
	for at, s := range l.slots {
		if s.current != nil && s.current.index == unlogged {
			copied := *s.current
			missing = append(missing, &change{at: at, next: &copied})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(missing, func(a, b *change) int {
		return strings.Compare(a.at.owner+" "+a.at.suite, b.at.owner+" "+b.at.suite)
	})
	const most = 1000 // definitions in one call
	for part := range slices.Chunk(missing, most) {
		l.store(part, nil, func(err error) {
			if err != nil {
				l.cfg.Log.Warn("keys have no place in the log", "keys", len(part), "err", err)
				return
			}
			l.cfg.Log.Info("keys put into the log", "keys", len(part))
		})
	}
}

// Counts are the sizes of a Log, changes under way included.
type Counts struct{ Keys, Records, Chains int }

// Counts returns how much there is.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{Keys: l.keys, Records: l.records(), Chains: len(l.chains.bySum)}
}

// records is the size of the log when everything under way is stored. The caller holds mu.
func (l *Log) records() int { return len(l.leaves) + l.waiting }

// at returns the state of a slot. The caller holds mu.
func (l *Log) at(at slot) *slotState {
	s := l.slots[at]
	if s == nil {
		s = &slotState{}
		l.slots[at] = s
	}
	return s
}

// forget drops the state of a slot of which nothing is known. The caller holds mu.
func (l *Log) forget(at slot) {
	if s := l.slots[at]; s != nil && *s == (slotState{}) {
		delete(l.slots, at)
	}
}

// store gives changes their places in the log and hands them to the store, with other
// definitions that are kept or removed with them. The caller holds order.
func (l *Log) store(changes []*change, with []Definition, done func(error)) {
	b := &batch{changes: changes, done: []func(error){done}}
	definitions := with
	l.mu.Lock()
	for _, c := range changes {
		c.batch = b
		s := l.at(c.at)
		held := s.holds()
		s.latest = c
		s.busy++
		s.changes++
		l.count(s, held)
		if l.cfg.Signer != nil {
			l.waiting++
			definitions = append(definitions, defineLeaf(l.next, c.next.leaf))
			l.next++
		}
	}
	l.pending = append(l.pending, b)
	l.mu.Unlock()
	l.cfg.Define(definitions, func(err error) { l.decide(b, err) })
}

// holds reports whether there is a key in the slot when everything under way is stored.
func (s *slotState) holds() bool {
	if s.latest != nil {
		return !s.latest.next.leaf.Reset
	}
	return s.current != nil
}

// count keeps the number of keys in step with a slot that has changed.
func (l *Log) count(s *slotState, held bool) {
	switch holds := s.holds(); {
	case holds && !held:
		l.keys++
	case held && !holds:
		l.keys--
	}
}

// decide takes the store's answer. A change joins the tree when it is known to be stored, and
// so are those that were decided before it, or refused.
func (l *Log) decide(b *batch, err error) {
	l.mu.Lock()
	b.decided, b.err = true, err
	var ready []*batch
	for len(l.pending) > 0 && l.pending[0].decided {
		first := l.pending[0]
		l.pending = l.pending[1:]
		for _, c := range first.changes {
			l.settle(c)
		}
		ready = append(ready, first)
	}
	l.mu.Unlock()
	for _, b := range ready {
		for _, done := range b.done {
			done(b.err)
		}
	}
}

// settle has a change take effect, or takes it back. The caller holds mu.
func (l *Log) settle(c *change) {
	s, b := l.slots[c.at], c.batch
	held := s.holds()
	if s.latest == c {
		s.latest = nil
	}
	s.busy--
	if l.cfg.Signer != nil {
		l.waiting--
		if b.err == nil {
			c.next.index, b.err = l.tree.Size(), l.append(c.next.leaf)
		}
	}
	switch {
	case b.err != nil:
		s.changes--
	case c.next.leaf.Reset:
		s.current, s.reset, s.changes = nil, c.next, s.busy
	default:
		s.current = c.next
	}
	l.count(s, held)
	l.forget(c.at)
}

// append adds a leaf to the tree. The caller holds mu.
func (l *Log) append(leaf Leaf) error {
	text := leaf.Text()
	if err := l.tree.Append(text); err != nil {
		return err
	}
	l.leaves = append(l.leaves, text)
	l.signed = nil
	return nil
}

func (l Leaf) slot() slot { return slot{l.Owner, l.Suite} }

func bareKey(client string, key []byte, registrar string) *record {
	return &record{leaf: Leaf{Owner: client, Hash: sha256.Sum256(key)}, data: key, index: unlogged, registrar: registrar}
}

// bounded refuses a change over the limits. The caller holds mu.
func (l *Log) bounded(s *slotState) error {
	switch {
	case !s.holds() && l.keys >= l.cfg.Limits.Keys:
		return errLimit("keys", l.cfg.Limits.Keys)
	case l.cfg.Signer == nil:
		return nil
	case s.changes >= l.cfg.Limits.Changes:
		return errLimit("changes of one key", l.cfg.Limits.Changes)
	case l.records() >= l.cfg.Limits.Records:
		return errLimit("changes of keys", l.cfg.Limits.Records)
	}
	return nil
}

func errLimit(what string, limit int) error {
	return &sealmq.Error{Code: sealmq.LimitReached, Message: "the limit of " + strconv.Itoa(limit) + " " + what + " is reached"}
}

func errBusy(owner string) error {
	return &sealmq.Error{Code: sealmq.InUse, Message: "it is still in use: another key entry of '" + owner + "' is being stored"}
}

func errNoKey(client, suite string) error {
	message := "no key of '" + client + "' is known"
	if suite != "" {
		message = "no key of '" + client + "' is known for suite " + suite
	}
	return &sealmq.Error{Code: sealmq.NoKey, Message: message}
}
