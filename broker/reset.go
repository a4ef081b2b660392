package broker

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// Whose certificate was stolen, or has a new authority, cannot replace an entry. So an
// administrator can take one out. That gives nobody away: it stands in the log, the number of
// the next entry goes on where the last one's stood, and it names the reset. Nothing that was
// signed before it can follow, and who has pinned what was reset is told.

// ResetKey takes the keys of a client out of the directory: those of one suite, the bare one
// if suite is keylog.Unproven, or all if it is empty. Only administrators may. Afterwards
// whoever connects under the name, with a certificate of any accepted authority, can put the
// next entry. done gets the places of the resets in the log. Code NoKey if there is nothing.
func (b *Broker) ResetKey(id Caller, client, suite string, done func(indexes []int64, err error)) {
	client, suite = strings.Clone(client), strings.Clone(suite)
	d := b.directory
	if err := b.checkReset(id, actResetKey, client, suite); err != nil {
		done(nil, err)
		return
	}
	answer := func(indexes []int64, err error) {
		b.audit(id.ID, string(actResetKey), client, err)
		done(indexes, err)
	}
	b.lock()
	defer b.unlock()
	keys := b.keys.Load()
	bare, _ := keys.get(client)
	leaves, err := d.resettable(client, suite, bare, b.limits)
	if err != nil {
		answer(nil, err)
		return
	}
	all := &resetting{open: len(leaves), done: func(indexes []int64, err error) {
		if err == nil {
			b.log.Warn("keys reset", "client", client, "suite", suite, "by", id.ID, "records", indexes)
		}
		answer(indexes, err)
	}}
	var batch []engine.Definition
	var records []func(error)
	for _, leaf := range leaves {
		at := slot{leaf.Owner, leaf.Suite}
		definitions, record := d.begin(at, &logged{leaf: leaf}, all.answered)
		batch, records = append(append(batch, definitions...), undefineKey(at)), append(records, record)
		if !leaf.Proven {
			b.keys.Store(keys.without(client))
		}
	}
	b.change(batch, func() { b.keys.Store(keys) }, func(err error) {
		for _, record := range records {
			record(err)
		}
	})
}

// checkReset reports whether a suite can be asked for, and the caller may.
func (b *Broker) checkReset(id Caller, act action, client, suite string) error {
	if err := checkClient(client); err != nil {
		return err
	}
	if err := b.allow(id, act, client); err != nil {
		return err
	}
	if b.directory == nil {
		return errNoDirectory
	}
	if suite != "" && suite != keylog.Unproven && !slices.Contains(seal.Suites(), seal.Suite(suite)) {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "there is no suite of that name"}
	}
	return nil
}

// resetting gathers the answers of one ResetKey.
type resetting struct {
	done func([]int64, error)

	mu      sync.Mutex
	open    int
	indexes []int64
	err     error
}

func (r *resetting) answered(index int64, err error) {
	r.mu.Lock()
	r.open--
	if err != nil {
		r.err = err
	} else {
		r.indexes = append(r.indexes, index)
	}
	last := r.open == 0
	r.mu.Unlock()
	if !last {
		return
	}
	if r.err != nil {
		r.indexes = nil
	}
	r.done(r.indexes, r.err)
}

func undefineKey(at slot) engine.Definition {
	if at.suite == "" {
		return engine.Definition{Key: keyPrefix + at.owner}
	}
	return engine.Definition{Key: entryPrefix + at.suite + " " + at.owner}
}

// resetSlots are the slots that a suite stands for.
func resetSlots(client, suite string) (list []slot) {
	switch suite {
	case keylog.Unproven:
		return []slot{{client, ""}}
	case "":
		for _, s := range seal.Suites() {
			list = append(list, slot{client, string(s)})
		}
		return append(list, slot{client, ""})
	}
	return []slot{{client, suite}}
}

// resettable returns the leaves that reset what there is. bare is the client's bare key as
// others see it, which is ahead of the log. The caller holds Broker.mu.
func (d *directory) resettable(client, suite string, bare []byte, limits Limits) (leaves []keylog.Leaf, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, at := range resetSlots(client, suite) {
		if d.busy[at] > 0 {
			return nil, errBusy(client)
		}
		now := d.current[at]
		if now == nil || now.index == unlogged {
			continue
		}
		if !now.leaf.Proven && sha256.Sum256(bare) != now.leaf.Hash {
			return nil, errBusy(client) // what the store has refused is not taken back yet
		}
		leaf := now.leaf
		leaf.Reset, leaf.Issuer = true, ""
		leaves = append(leaves, leaf)
	}
	switch {
	case len(leaves) == 0:
		return nil, errNoKey(client, suite)
	case d.total+len(leaves) > limits.KeyLog:
		return nil, errLimit("changes of keys", limits.KeyLog)
	}
	return leaves, nil
}

func errBusy(owner string) error {
	return &sealmq.Error{Code: sealmq.InUse, Message: "it is still in use: another key entry of '" + owner + "' is being stored"}
}

// settleReset has a reset take effect, now that it stands in the tree. The caller holds mu.
func (d *directory) settleReset(a *appending) {
	if a.at.suite != "" {
		d.entries--
	}
	delete(d.current, a.at)
	d.resets[a.at] = a.next
	d.recount(a.at)
}

// recount counts the changes of a key anew: those under way are later ones. The caller holds
// mu.
func (d *directory) recount(at slot) {
	if d.changes[at] = d.busy[at]; d.changes[at] == 0 {
		delete(d.changes, at)
	}
}

// loadReset takes a reset from the store.
func (d *directory) loadReset(at slot, leaf keylog.Leaf, index int64) {
	d.resets[at] = &logged{leaf: leaf, index: index}
	d.recount(at)
	if c := d.current[at]; c != nil {
		c.index = unlogged // of another leaf, or of none
		if at.suite != "" && c.leaf.Serial <= leaf.Serial {
			delete(d.current, at) // a store that was repaired by hand: what was reset stays so
			d.entries--
		}
	}
}

// first reports whether an entry may be put where there is none. The caller holds mu.
func (d *directory) first(at slot, leaf keylog.Leaf, previous [32]byte) error {
	reset := d.resets[at]
	switch {
	case reset == nil && leaf.Serial != 1:
		return errFollow("there is none before it")
	case reset != nil && (leaf.Serial != reset.leaf.Serial+1 || previous != [32]byte(reset.leaf.Record())):
		return errFollow("the one before it was reset by an administrator, and it does not name that")
	}
	return nil
}

// FindReset returns the latest reset of a client's key with the proof that it stands in the
// log. suite is that of the key, or keylog.Unproven. Code NoKey if there was none.
func (b *Broker) FindReset(id Caller, client, suite string) (keylog.FoundReset, error) {
	if err := b.checkReset(id, actReadKey, client, suite); err != nil {
		return keylog.FoundReset{}, err
	}
	at := slot{client, suite}
	if suite == keylog.Unproven {
		at.suite = ""
	}
	return b.directory.findReset(at, suite)
}

func (d *directory) findReset(at slot, suite string) (f keylog.FoundReset, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.resets[at]
	if l == nil {
		return f, &sealmq.Error{Code: sealmq.NoKey, Message: "no key of '" + at.owner + "' for " + suite + " was reset"}
	}
	f = keylog.FoundReset{Leaf: l.leaf.Text(), Index: l.index, LogKey: d.signer.Public()}
	if f.Checkpoint, err = d.checkpoint(); err != nil {
		return keylog.FoundReset{}, err
	}
	f.Proof, err = tlog.ProveRecord(int64(len(d.leaves)), l.index, d.reader())
	return f, err
}
