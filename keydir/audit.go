package keydir

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// Audit is what the whole log of a directory says.
type Audit struct {
	// Size is how many records it has, Checkpoint its signature, LogKey the key of that.
	Size       int64
	Checkpoint []byte
	LogKey     string
	// Records are those of one owner, or of all, in order.
	Records []Record
	// Restores are the restores that administrators have attested.
	Restores []RestoreRecord
}

// RestoreRecord is a record of the log that says that it was restored from a backup.
type RestoreRecord struct {
	Index int64
	keylog.Restore
}

// Record is one record of the log: a key was put into the directory, or an administrator
// took one out.
type Record struct {
	Index int64
	// Leaf is the record. Its Hash is an entry's hash, or the SHA-256 of a bare key; of a
	// reset, that of the key that was taken out.
	keylog.Leaf
	// Newest says that it is the last record of its owner and suite.
	Newest bool
}

// Slot is the suite of the key, or keylog.Unproven of a bare key.
func (r Record) Slot() string {
	if !r.Proven {
		return keylog.Unproven
	}
	return r.Suite
}

// Audit reads the whole log, checks that it is the one that the newest checkpoint signs
// and that it continues what was seen before, and returns the records of one owner, or all
// if name is empty. An owner sees here whether anybody else has put an entry. The error wraps ErrLog or ErrRollback, or is a *ForkError.
func (d *Directory) Audit(ctx context.Context, name string) (*Audit, error) {
	a, err := d.audit(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read the key directory's log: %w", err)
	}
	return a, nil
}

// newestPage asks for the newest checkpoint, and remembers it.
func (d *Directory) newestPage(ctx context.Context) (page *keylog.Page, err error) {
	_, err = d.settle(ctx, question{}, func() (_ *answer, err error) {
		page, err = d.keyLog(ctx, 0, 0)
		return &answer{page: page}, err
	}, judgePage)
	return page, err
}

func (d *Directory) audit(ctx context.Context, name string) (*Audit, error) {
	page, err := d.newestPage(ctx)
	if err != nil {
		return nil, err
	}
	tree, err := keylog.OpenCheckpoint(page.Checkpoint, page.LogKey)
	if err != nil {
		return nil, err
	}
	a := &Audit{Size: tree.N, Checkpoint: page.Checkpoint, LogKey: page.LogKey}
	h := newHistory(name)
	h.tell = func(index int64, leaf keylog.Leaf) { a.Records = append(a.Records, Record{Index: index, Leaf: leaf}) }
	if err := d.readOn(ctx, tree, h); err != nil {
		return nil, err
	}
	a.Restores = h.restores
	for i := range a.Records {
		r := &a.Records[i]
		if err := h.broken[r.Owner]; err != nil {
			return nil, err
		}
		r.Newest = h.last[place{r.Owner, r.Suite}].index == r.Index
	}
	return a, nil
}

// history is the beginning of a log that was read and found to be the signed one.
type history struct {
	owner    string // whose records are kept; empty: everybody's
	tree     keylog.Tree
	last     map[place]logRecord
	resets   map[place]*logRecord // the latest ones
	broken   map[string]error     // by owner: the first record that no honest broker takes
	restores []RestoreRecord
	tell     func(index int64, leaf keylog.Leaf) // told of every record that is kept
}

// place is where keys follow each other: an owner's suite, or its bare keys.
type place struct{ owner, suite string }

func newHistory(owner string) *history {
	return &history{owner: owner, last: make(map[place]logRecord), resets: make(map[place]*logRecord), broken: make(map[string]error),
		tell: func(int64, keylog.Leaf) {}}
}

func (h *history) take(index int64, leaf keylog.Leaf) {
	if r := leaf.Restore; r != (keylog.Restore{}) {
		h.restores = append(h.restores, RestoreRecord{index, r})
		return
	}
	if h.owner != "" && h.owner != leaf.Owner {
		return
	}
	h.tell(index, leaf)
	at := place{leaf.Owner, leaf.Suite}
	last := h.last[at]
	if last.leaf == leaf { // the same record again changes nothing
		last.index = index
		h.last[at] = last
		return
	}
	r := logRecord{index: index, leaf: leaf, before: last.leaf}
	if err := inOrder(r); err != nil && h.broken[leaf.Owner] == nil {
		h.broken[leaf.Owner] = err
	}
	if leaf.Reset {
		h.resets[at] = &r
	}
	h.last[at] = r
}

// of returns what the log has of one owner.
func (h *history) of(owner string) *ownersLog {
	o := &ownersLog{last: make(map[string]logRecord), reset: make(map[string]*logRecord), broken: h.broken[owner]}
	for at, r := range h.last {
		if at.owner == owner {
			o.last[at.suite], o.reset[at.suite] = r, h.resets[at]
		}
	}
	return o
}

// readOwner reads what is new of the log up to the tree that signs a key, or all of it if more
// was read already, and returns what it has of the key's owner.
func (d *Directory) readOwner(ctx context.Context, s *shown) (*ownersLog, error) {
	tree, err := keylog.OpenCheckpoint(s.found.Checkpoint, s.found.LogKey)
	if err != nil {
		return nil, err
	}
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	h := d.read
	d.read = nil // what is wrong is not kept
	if h == nil || h.tree.Size() > tree.N {
		h = newHistory("")
	}
	if err := d.readOn(ctx, tree, h); err != nil {
		return nil, err
	}
	d.read = h
	return h.of(s.name), nil
}

// readOn reads the records of a tree that were not read yet, and recomputes the root. If it
// returns an error, nothing that was read is proven.
func (d *Directory) readOn(ctx context.Context, tree tlog.Tree, h *history) error {
	if tree.N > keylog.MaxLog {
		return notProven("it says that it has %d records, and no log has more than %d", tree.N, keylog.MaxLog)
	}
	for h.tree.Size() < tree.N {
		from := h.tree.Size()
		n := min(keylog.MaxPage, tree.N-from)
		p, err := d.keyLog(ctx, from, n)
		if err != nil {
			return err
		}
		if p.From != from || len(p.Leaves) == 0 || int64(len(p.Leaves)) > n {
			return notProven("it does not show the records from %d on", from)
		}
		for i, text := range p.Leaves {
			index := from + int64(i)
			leaf, err := keylog.ParseLeaf(text)
			if err != nil {
				return notProven("record %d cannot be read", index)
			}
			if r := leaf.Restore; r != (keylog.Restore{}) {
				if since, err := h.tree.Head(); err != nil || since != r.Since {
					return notProven("record %d attests a restore to another log", index)
				}
			}
			if err := h.tree.Append(text); err != nil {
				return err
			}
			h.take(index, leaf)
		}
	}
	head, err := h.tree.Head()
	if err != nil {
		return err
	}
	if head != tree {
		return notProven("its records are not the ones that it has signed")
	}
	return nil
}

// Verified is what a directory has under one name, checked against the whole log.
type Verified struct {
	Audit
	// Keys are the current entries, the best suite first.
	Keys []VerifiedKey
}

// VerifiedKey is an entry that the directory shows and that is the newest one of its log.
type VerifiedKey struct {
	Record
	Key *seal.PublicKey
	// Unbound says that the entry is of an older version and names no directory: any broker
	// could show it. Its owner publishes the key again.
	Unbound bool
}

// Verify reads the whole log, and demands that the directory shows the newest entries that
// it has of a name. That finds an entry or a reset which the broker hides from a client that
// has pinned the one before. It pins what it finds, as Find does; the errors are those of
// Audit and Find.
func (d *Directory) Verify(ctx context.Context, name string) (*Verified, error) {
	a, err := d.Audit(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &Verified{Audit: *a}
	for _, suite := range seal.Suites(ciphermq.Suites{}) {
		for _, r := range a.Records {
			if !r.Proven || !r.Newest || r.Suite != string(suite) {
				continue
			}
			s, err := d.verifyNewest(ctx, r)
			if err != nil {
				return nil, err
			}
			if s != nil {
				v.Keys = append(v.Keys, VerifiedKey{r, s.key, s.unbound()})
			}
		}
	}
	return v, nil
}

// verifyNewest looks up what the newest record of a suite is about; nil if that is a reset and
// there is no entry since.
func (d *Directory) verifyNewest(ctx context.Context, newest Record) (*shown, error) {
	s, err := d.find(ctx, newest.Owner, seal.Suite(newest.Suite))
	if newest.Reset && (sealmq.CodeOf(err) == sealmq.NoKey || errors.Is(err, ErrUnproven)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	serial := uint64(0)
	if s.entry != nil {
		serial = s.entry.Serial
	} else if newest.Reset {
		return nil, nil // the name has a bare key, which is not of this suite
	}
	if serial < newest.Serial || newest.Reset && serial == newest.Serial {
		return nil, fmt.Errorf("key of %s: %w", newest.Owner, rollback(hintLies, "it shows entry %d, and record %d of its log is newer", serial, newest.Index))
	}
	return s, nil
}
