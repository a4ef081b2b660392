package broker

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// directory is the proven key directory: the current entries, and the append-only log of
// all changes. What a checkpoint covers is on stable storage: a crash must not make the
// log forget what it has signed. So a leaf joins the tree when it is stored, in the order
// in which the definitions were handed to the engine, and is found from then on.
type directory struct {
	signer   *keylog.Signer
	verifier seal.Verifier

	// next is the sequence number of the next leaf's definition. It belongs to Broker.mu.
	next uint64

	// mu is taken by done functions and held for calculations only.
	mu      sync.Mutex
	pending []*appending // in the order in which the engine got them
	leaves  []string
	hashes  []tlog.Hash // as package tlog numbers them
	current map[slot]*logged
	resets  map[slot]*logged // the latest one, without data
	changes map[slot]int     // leaves since then, those under way included
	busy    map[slot]int     // leaves under way
	entries int              // slots that hold an entry, those under way included
	total   int              // leaves, those under way included
	signed  []byte           // the checkpoint of all leaves; nil if it has to be made
}

// logged is a key in the directory, or what has taken one out.
type logged struct {
	leaf  keylog.Leaf
	data  []byte // the entry, or the bare key
	index int64
}

// unlogged is the index of what has no leaf yet.
const unlogged = -1

// appending is a leaf on its way to the store.
type appending struct {
	at      slot
	next    *logged
	done    func(index int64, err error)
	decided bool
	err     error
}

type storedLeaf struct {
	sequence uint64
	leaf     keylog.Leaf
}

func (l storedLeaf) slot() slot { return slot{l.leaf.Owner, l.leaf.Suite} }

// newDirectory builds the tree from what is stored. missing are keys without a leaf: those
// that were registered before there was a log.
func newDirectory(cfg *DirectoryConfig, s *stored) (d *directory, missing []slot, err error) {
	if cfg.Signer == nil || cfg.Verifier == nil {
		return nil, nil, fmt.Errorf("broker: a key directory needs a signer and a verifier")
	}
	d = &directory{signer: cfg.Signer, verifier: cfg.Verifier, current: make(map[slot]*logged), resets: make(map[slot]*logged),
		changes: make(map[slot]int), busy: make(map[slot]int)}
	for at, l := range s.entries {
		d.current[at] = l
		d.entries++
	}
	for client, key := range s.keys {
		d.current[slot{client, ""}] = bareKey(client, key)
	}
	for _, l := range s.leaves {
		index, err := d.append(l.leaf)
		if err != nil {
			return nil, nil, err
		}
		d.next = l.sequence + 1
		d.total++
		if l.leaf.Reset {
			d.loadReset(l.slot(), l.leaf, index)
			continue
		}
		d.changes[l.slot()]++
		if c := d.current[l.slot()]; c != nil && c.leaf == l.leaf {
			c.index = index
		}
	}
	for at, l := range d.current {
		if l.index == unlogged {
			missing = append(missing, at)
		}
	}
	slices.SortFunc(missing, func(a, b slot) int { return strings.Compare(a.owner+" "+a.suite, b.owner+" "+b.suite) })
	return d, missing, nil
}

func bareKey(client string, key []byte) *logged {
	return &logged{leaf: keylog.Leaf{Owner: client, Hash: sha256.Sum256(key)}, data: key, index: unlogged}
}

// complete gives leaves to keys that have none.
func (b *Broker) complete(missing []slot) {
	d := b.directory
	const most = 1000 // definitions in one call
	for part := range slices.Chunk(missing, most) {
		var batch []engine.Definition
		var records []func(error)
		for _, at := range part {
			l := *d.current[at]
			definitions, record := d.begin(at, &l, func(_ int64, err error) {
				if err != nil {
					b.log.Warn("key without a place in the log", "client", at.owner, "err", err)
				}
			})
			batch, records = append(batch, definitions...), append(records, record)
		}
		b.log.Info("keys put into the log", "keys", len(part))
		b.define(batch, func(err error) {
			for _, record := range records {
				record(err)
			}
		})
	}
}

// room reports whether an entry is there already, and otherwise whether it may follow.
// The caller holds Broker.mu, bare is the number of bare keys.
func (d *directory) room(at slot, leaf keylog.Leaf, previous [32]byte, bare int, limits Limits) (index int64, there bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.current[at]
	switch {
	case now != nil && now.leaf == leaf && now.index != unlogged:
		return now.index, true, nil
	case d.busy[at] > 0:
		return 0, false, errBusy(at.owner)
	case now == nil && d.first(at, leaf, previous) != nil:
		return 0, false, d.first(at, leaf, previous)
	case now != nil && now.leaf.Issuer != leaf.Issuer:
		return 0, false, &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to replace the key entry of another authority's '" + at.owner + "', unless an administrator has reset it"}
	case now != nil && leaf.Serial != now.leaf.Serial+1:
		return 0, false, errFollow(fmt.Sprintf("it has serial %d, and the current one has %d", leaf.Serial, now.leaf.Serial))
	}
	if now != nil && previous != now.leaf.Hash {
		return 0, false, errFollow("it names another one before it")
	}
	if now == nil && bare+d.entries >= limits.Keys {
		return 0, false, errLimit("keys", limits.Keys)
	}
	return 0, false, d.bounded(at, limits)
}

// bounded refuses a leaf over the limits. The caller holds mu.
func (d *directory) bounded(at slot, limits Limits) error {
	if d.changes[at] >= limits.KeyChanges {
		return errLimit("changes of one key", limits.KeyChanges)
	}
	if d.total >= limits.KeyLog {
		return errLimit("changes of keys", limits.KeyLog)
	}
	return nil
}

func errFollow(why string) error {
	return &sealmq.Error{Code: sealmq.Mismatch, Message: "the key entry does not follow the current one: " + why}
}

// begin gives a leaf its place. The returned definitions must be handed to the engine
// before the next leaf's, and record be called with the answer. The caller holds Broker.mu.
func (d *directory) begin(at slot, next *logged, done func(index int64, err error)) ([]engine.Definition, func(error)) {
	a := &appending{at: at, next: next, done: done}
	key := leafKey(d.next)
	d.next++
	d.mu.Lock()
	d.pending = append(d.pending, a)
	d.changes[at]++
	d.busy[at]++
	d.total++
	if at.suite != "" && d.current[at] == nil {
		d.entries++
	}
	d.mu.Unlock()
	return []engine.Definition{{Key: key, Value: encode(leafDefinition{definitionVersion, next.leaf.Text()})}},
		func(err error) { d.record(a, err) }
}

// record takes the store's answer, and lets all leaves join the tree of which it is known
// that they are stored and what stands before them.
func (d *directory) record(a *appending, err error) {
	d.mu.Lock()
	a.decided, a.err = true, err
	var ready []*appending
	for len(d.pending) > 0 && d.pending[0].decided {
		first := d.pending[0]
		d.pending = d.pending[1:]
		d.settle(first)
		ready = append(ready, first)
	}
	d.mu.Unlock()
	for _, a := range ready {
		a.done(a.next.index, a.err)
	}
}

func (d *directory) settle(a *appending) {
	d.busy[a.at]--
	if d.busy[a.at] == 0 {
		delete(d.busy, a.at)
	}
	if a.err == nil {
		a.next.index, a.err = d.append(a.next.leaf)
	}
	switch {
	case a.err == nil && a.next.leaf.Reset:
		d.settleReset(a)
		return
	case a.err == nil:
		d.current[a.at] = a.next
		return
	}
	d.total--
	if d.changes[a.at]--; d.changes[a.at] == 0 {
		delete(d.changes, a.at)
	}
	if a.at.suite != "" && d.current[a.at] == nil {
		d.entries--
	}
}

// append adds a leaf to the tree. The caller holds mu.
func (d *directory) append(leaf keylog.Leaf) (int64, error) {
	text := leaf.Text()
	index := int64(len(d.leaves))
	hashes, err := tlog.StoredHashes(index, []byte(text), d.reader())
	if err != nil {
		return unlogged, err
	}
	d.hashes = append(d.hashes, hashes...)
	d.leaves = append(d.leaves, text)
	d.signed = nil
	return index, nil
}

func (d *directory) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		list := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			list[i] = d.hashes[x]
		}
		return list, nil
	})
}

// checkpoint signs all leaves. The caller holds mu.
func (d *directory) checkpoint() ([]byte, error) {
	if d.signed != nil {
		return d.signed, nil
	}
	size := int64(len(d.leaves))
	root, err := tlog.TreeHash(size, d.reader())
	if err != nil {
		return nil, err
	}
	d.signed, err = d.signer.Checkpoint(tlog.Tree{N: size, Hash: root})
	return d.signed, err
}

func (d *directory) find(client, suite string) (keylog.Found, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.choose(client, suite)
	if l == nil || l.index == unlogged {
		return keylog.Found{}, errNoKey(client, suite)
	}
	f := keylog.Found{Client: client, Suite: l.leaf.Suite, Proven: l.leaf.Proven, Index: l.index, LogKey: d.signer.Public()}
	if f.Proven {
		f.Entry, f.Issuer = l.data, l.leaf.Issuer
	} else {
		f.Key = l.data
	}
	var err error
	if f.Checkpoint, err = d.checkpoint(); err != nil {
		return keylog.Found{}, err
	}
	f.Proof, err = tlog.ProveRecord(int64(len(d.leaves)), l.index, d.reader())
	return f, err
}

// choose finds what is asked for. The caller holds mu.
func (d *directory) choose(client, suite string) *logged {
	if suite != "" {
		if l := d.current[slot{client, suite}]; l != nil {
			return l
		}
		if !forBareKeys(seal.Suite(suite)) {
			return nil
		}
		return d.current[slot{client, ""}]
	}
	for _, s := range seal.Suites() { // the best one first
		if l := d.current[slot{client, string(s)}]; l != nil {
			return l
		}
	}
	return d.current[slot{client, ""}]
}

// forBareKeys reports whether CipherMQ's clients register keys of the suite.
func forBareKeys(s seal.Suite) bool {
	switch s {
	case seal.CipherMQG3, seal.CipherMQG4, seal.CipherMQG5, seal.CipherMQG6:
		return true
	}
	return false
}

func (d *directory) page(from int64, n int) (keylog.Page, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	size := int64(len(d.leaves))
	if from < 0 || from > size || n < 0 {
		return keylog.Page{}, badSize(from)
	}
	checkpoint, err := d.checkpoint()
	if err != nil {
		return keylog.Page{}, err
	}
	to := min(size, from+int64(min(n, keylog.MaxPage)))
	leaves := append([]string{}, d.leaves[from:to]...)
	return keylog.Page{From: from, Leaves: leaves, Size: size, Checkpoint: checkpoint, LogKey: d.signer.Public()}, nil
}

func (d *directory) consistency(from, to int64) (keylog.Consistency, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if from < 1 || from > int64(len(d.leaves)) {
		return keylog.Consistency{}, badSize(from)
	}
	if to < from || to > int64(len(d.leaves)) {
		return keylog.Consistency{}, badSize(to)
	}
	proof, err := tlog.ProveTree(to, from, d.reader())
	if proof == nil {
		proof = tlog.TreeProof{}
	}
	return keylog.Consistency{From: from, To: to, Proof: proof}, err
}

func badSize(size int64) error {
	return &sealmq.Error{Code: sealmq.BadArgument, Message: keylog.ErrSize(size).Error()}
}

// counts are the entries and leaves.
func (d *directory) counts() (entries, leaves int) {
	if d == nil {
		return 0, 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.entries, d.total
}

// register gives a bare key that is being registered its leaf. fresh says that it is another
// one than before. Nil definitions mean that it has a leaf already. The caller holds
// Broker.mu.
func (d *directory) register(client string, key []byte, fresh bool, limits Limits, done func(error)) ([]engine.Definition, func(error), error) {
	at, next := slot{client, ""}, bareKey(client, slices.Clone(key))
	d.mu.Lock()
	now := d.current[at]
	known := d.busy[at] == 0 && now != nil && now.leaf == next.leaf && now.index != unlogged
	err := d.bounded(at, limits)
	d.mu.Unlock()
	switch {
	case known:
		return nil, nil, nil
	case err != nil && fresh:
		return nil, nil, err
	case err != nil:
		return nil, nil, nil
	}
	definitions, record := d.begin(at, next, func(_ int64, err error) { done(err) })
	return definitions, record, nil
}
