package keylog

import "golang.org/x/mod/sumdb/tlog"

// Tree is a log in memory: the hashes over its leaves, as package tlog numbers them. It is a
// tlog.HashReader. The zero Tree is empty. It is not safe for concurrent use.
type Tree struct {
	hashes []tlog.Hash
	size   int64
}

// Size is the number of leaves.
func (t *Tree) Size() int64 { return t.size }

// Append adds a leaf.
func (t *Tree) Append(text string) error {
	hashes, err := tlog.StoredHashes(t.size, []byte(text), t)
	if err != nil {
		return err
	}
	t.hashes = append(t.hashes, hashes...)
	t.size++
	return nil
}

// Head is the size and the root.
func (t *Tree) Head() (tlog.Tree, error) {
	root, err := tlog.TreeHash(t.size, t)
	return tlog.Tree{N: t.size, Hash: root}, err
}

// ReadHashes returns the hashes with these numbers.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		list[i] = t.hashes[x]
	}
	return list, nil
}
