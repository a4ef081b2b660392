package keylog

import (
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// Key returns the bare key of a client. The slice must not be changed.
func (l *Log) Key(by sealmq.Identity, client string) ([]byte, bool) {
	if l.cfg.Allow(by, ReadKey, client) != nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.slots[slot{client, ""}]; s != nil && s.current != nil {
		return s.current.data, true
	}
	return nil, false
}

// Find returns the key of a client with the proof that it is in the log: the entry of
// the suite that is named, or of the best suite that there is if none is. A bare key is found
// if there is no entry, and none or a suite that such keys are for was named. Code NoKey if
// there is nothing.
func (l *Log) Find(by sealmq.Identity, client, suite string) (Found, error) {
	if err := l.mayRead(by, client); err != nil {
		return Found{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.choose(client, suite)
	if r == nil || r.index == unlogged {
		return Found{}, errNoKey(client, suite)
	}
	place, err := l.prove(r)
	f := Found{Client: client, Suite: r.leaf.Suite, Proven: r.leaf.Proven, Place: place}
	if f.Proven {
		f.Entry, f.Issuer = r.data, r.leaf.Issuer
	} else {
		f.Key = r.data
	}
	return f, err
}

// mayRead reports whether there is a log, and the caller may read it.
func (l *Log) mayRead(by sealmq.Identity, client string) error {
	if err := l.cfg.Allow(by, ReadKey, client); err != nil {
		return err
	}
	if l.cfg.Signer == nil {
		return errNoDirectory
	}
	return nil
}

// choose finds what is asked for. The caller holds mu.
func (l *Log) choose(client, suite string) *record {
	current := func(suite string) *record {
		if s := l.slots[slot{client, suite}]; s != nil {
			return s.current
		}
		return nil
	}
	if suite != "" {
		if r := current(suite); r != nil || !ciphermq.IsBox(seal.Suite(suite)) {
			return r
		}
		return current("")
	}
	for _, s := range seal.Suites(ciphermq.Suites{}) { // the best one first
		if r := current(string(s)); r != nil {
			return r
		}
	}
	return current("")
}

// FindReset returns the latest reset of a client's key with the proof that it is in the
// log. suite is that of the key, or Unproven. Code NoKey if there was none.
func (l *Log) FindReset(by sealmq.Identity, client, suite string) (f FoundReset, err error) {
	if err := l.checkSlot(by, ReadKey, client, suite); err != nil {
		return f, err
	}
	at := slot{client, suite}
	if suite == Unproven {
		at.suite = ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slots[at]
	if s == nil || s.reset == nil {
		return f, &sealmq.Error{Code: sealmq.NoKey, Message: "no key of '" + client + "' for " + suite + " was reset"}
	}
	place, err := l.prove(s.reset)
	return FoundReset{s.reset.leaf.Text(), place}, err
}

// Page returns up to n leaves of the log from a place on, at most MaxPage, with the newest
// checkpoint.
func (l *Log) Page(by sealmq.Identity, from int64, n int) (Page, error) {
	if err := l.mayRead(by, ""); err != nil {
		return Page{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.tree.Size()
	if from < 0 || from > size || n < 0 {
		return Page{}, badSize(from)
	}
	checkpoint, err := l.checkpoint()
	if err != nil {
		return Page{}, err
	}
	to := min(size, from+int64(min(n, MaxPage)))
	leaves := append([]string{}, l.leaves[from:to]...)
	return Page{From: from, Leaves: leaves, Size: size, Checkpoint: checkpoint, LogKey: l.cfg.Signer.Public()}, nil
}

// Consistency proves that the log as it was with to leaves continues what it was with from.
func (l *Log) Consistency(by sealmq.Identity, from, to int64) (Consistency, error) {
	if err := l.mayRead(by, ""); err != nil {
		return Consistency{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if size := l.tree.Size(); from < 1 || from > size {
		return Consistency{}, badSize(from)
	} else if to < from || to > size {
		return Consistency{}, badSize(to)
	}
	proof, err := tlog.ProveTree(to, from, &l.tree)
	if proof == nil {
		proof = tlog.TreeProof{}
	}
	return Consistency{From: from, To: to, Proof: proof}, err
}

func badSize(size int64) error {
	return &sealmq.Error{Code: sealmq.BadArgument, Message: ErrSize(size).Error()}
}

// prove proves a record, with the checkpoint that the proof is for. The caller holds mu.
func (l *Log) prove(r *record) (Place, error) {
	checkpoint, err := l.checkpoint()
	if err != nil {
		return Place{}, err
	}
	proof, err := tlog.ProveRecord(l.tree.Size(), r.index, &l.tree)
	return Place{r.index, proof, checkpoint, l.cfg.Signer.Public()}, err
}

// checkpoint signs all leaves. The caller holds mu.
func (l *Log) checkpoint() ([]byte, error) {
	if l.signed != nil {
		return l.signed, nil
	}
	head, err := l.tree.Head()
	if err != nil {
		return nil, err
	}
	l.signed, err = l.cfg.Signer.Checkpoint(head)
	return l.signed, err
}
