package keydir

import (
	"context"
	"fmt"

	"github.com/sealmq/sealmq/keydir/keylog"
	"golang.org/x/mod/sumdb/tlog"
)

// Audit is what the whole log of a directory says.
type Audit struct {
	// Size is how many records it has, Checkpoint its signature, LogKey the key of that.
	Size       int64
	Checkpoint []byte
	LogKey     string
	// Records are those of one owner, or of all, in order.
	Records []Record
}

// Record is one record of the log: a key was put into the directory, or an administrator
// took one out.
type Record struct {
	Index int64
	Owner string
	// Reset says that the key was taken out. Proven, Suite, Serial and Entry or Key are then
	// those of that key.
	Reset bool
	// Proven tells an entry with its owner's signature from a bare key. Issuer, Suite,
	// Serial and Entry, the entry's hash, are those of an entry; Key is the SHA-256 of a
	// bare key.
	Proven     bool
	Issuer     string
	Suite      string
	Serial     uint64
	Entry, Key [32]byte

	leaf keylog.Leaf
}

// Audit reads the whole log, checks that it is the one that the newest checkpoint signs
// and that it continues what was seen before, and returns the records of one owner, or all
// if name is empty. An owner who knows the own entries sees here whether anybody else has
// put one. The error wraps ErrLog or ErrRollback, or is a *ForkError.
func (d *Directory) Audit(ctx context.Context, name string) (*Audit, error) {
	now, logKey, err := d.refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the key directory's log: %w", err)
	}
	records, err := d.read(ctx, now.tree, name)
	if err != nil {
		return nil, fmt.Errorf("read the key directory's log: %w", err)
	}
	return &Audit{Size: now.tree.N, Checkpoint: now.signed, LogKey: logKey, Records: records}, nil
}

// pageLeaves is how many records are asked for at a time.
const pageLeaves = keylog.MaxPage

// read reads all records of a tree and recomputes its root.
func (d *Directory) read(ctx context.Context, tree tlog.Tree, name string) ([]Record, error) {
	var records []Record
	err := d.readTree(ctx, tree, &treeHashes{}, func(index int64, leaf keylog.Leaf) {
		if name == "" || leaf.Owner == name {
			records = append(records, newRecord(index, leaf))
		}
	})
	if err != nil {
		return nil, err
	}
	return records, inOrder(records)
}

// treeHashes are the hashes of a tree that was read up to some record, as package tlog
// numbers them.
type treeHashes struct {
	list []tlog.Hash
	n    int64
}

func (h *treeHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		list[i] = h.list[x]
	}
	return list, nil
}

// readTree reads the records of a tree that are not among the hashes yet, and recomputes
// the root. If it returns an error, what take was told is not proven.
func (d *Directory) readTree(ctx context.Context, tree tlog.Tree, hashes *treeHashes, take func(index int64, leaf keylog.Leaf)) error {
	if tree.N > keylog.MaxLog {
		return notProven("it says that it has %d records, and no log has more than %d", tree.N, keylog.MaxLog)
	}
	for hashes.n < tree.N {
		var p keylog.Page
		n := min(pageLeaves, tree.N-hashes.n)
		if err := d.query(ctx, &p, "Key log: ", fmt.Sprintf("key_log %d %d", hashes.n, n)); err != nil {
			return err
		}
		if p.From != hashes.n || len(p.Leaves) == 0 || int64(len(p.Leaves)) > n {
			return notProven("it does not show the records from %d on", hashes.n)
		}
		for _, text := range p.Leaves {
			leaf, err := keylog.ParseLeaf(text)
			if err != nil {
				return notProven("record %d cannot be read", hashes.n)
			}
			more, err := tlog.StoredHashes(hashes.n, []byte(text), hashes)
			if err != nil {
				return err
			}
			hashes.list = append(hashes.list, more...)
			take(hashes.n, leaf)
			hashes.n++
		}
	}
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return notProven("its records are not the ones that it has signed")
	}
	return nil
}

func newRecord(index int64, l keylog.Leaf) Record {
	r := Record{Index: index, Owner: l.Owner, Reset: l.Reset, Proven: l.Proven, Issuer: l.Issuer, Suite: l.Suite, Serial: l.Serial, leaf: l}
	if l.Proven {
		r.Entry = l.Hash
	} else {
		r.Key = l.Hash
	}
	return r
}

// inOrder demands that the entries of each owner and suite are numbered without gaps, and
// that only the newest is reset, as an honest broker takes them. The same record again
// changes nothing.
func inOrder(records []Record) error {
	last := make(map[keySlot]keylog.Leaf)
	for _, r := range records {
		at := keySlot{r.Owner, r.Suite}
		if r.leaf == last[at] {
			continue
		}
		if err := order(r.Index, r.leaf, last[at]); err != nil {
			return err
		}
		last[at] = r.leaf
	}
	return nil
}
