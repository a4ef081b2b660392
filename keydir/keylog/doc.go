// Package keylog is the key directory as a broker keeps it: the current keys, and an
// append-only log of everything that was ever put into the directory or taken out.
//
//	leaf 0      leaf 1      leaf 2           a leaf is one line of text:
//	entry       entry       reset            whose key, which suite, which number, its hash
//	"alice" 1   "alice" 2   "alice" 2
//	   └────┬──────┘           │
//	      hash                 │             a Merkle tree (package tlog) over all leaves
//	        └────────┬─────────┘
//	               root ──▶ checkpoint       size and root, signed with the log's key
//
// A record proof shows that a leaf is in the tree of a checkpoint; a consistency proof
// shows that the tree of one checkpoint continues that of another.
//
// It promises that a leaf and a checkpoint have one spelling each, that OpenCheckpoint
// returns nothing that the log's key has not signed, and that a checkpoint covers only what
// is on stable storage: a crash never makes the log forget what it has signed.
//
// It keeps its state as definitions in a store, and asks what a caller may do: both are
// package broker's. Package keydir checks what the log shows.
package keylog
