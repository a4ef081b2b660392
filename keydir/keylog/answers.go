package keylog

import (
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Found is the reply to find_key.
type Found struct {
	Client string `json:"client"`
	Suite  string `json:"suite,omitempty"` // of an entry
	Proven bool   `json:"proven"`
	Issuer string `json:"issuer,omitempty"` // as the leaf has it; the entry's certificates must agree
	Entry  []byte `json:"entry,omitempty"`
	Key    []byte `json:"key,omitempty"` // a bare key
	Place
}

// Place is where a leaf is in the log, and the proof of it.
type Place struct {
	// Proof proves that the leaf is at Index in the tree that Checkpoint signs.
	Index      int64       `json:"index"`
	Proof      []tlog.Hash `json:"proof"`
	Checkpoint []byte      `json:"checkpoint"`
	LogKey     string      `json:"log_key"`
}

// FoundReset is the reply to find_reset: the latest reset of a key.
type FoundReset struct {
	Leaf string `json:"leaf"`
	Place
}

// Page is the reply to key_log: some leaves, and the newest checkpoint.
type Page struct {
	From       int64    `json:"from"`
	Leaves     []string `json:"leaves"`
	Size       int64    `json:"size"`
	Checkpoint []byte   `json:"checkpoint"`
	LogKey     string   `json:"log_key"`
}

// Consistency is the reply to key_proof: that the tree of size To continues that of From.
type Consistency struct {
	From  int64       `json:"from"`
	To    int64       `json:"to"`
	Proof []tlog.Hash `json:"proof"`
}

// MaxPage bounds the leaves of one Page.
const MaxPage = 1000

// MaxLog bounds a log: a client that reads all of it keeps its hashes meanwhile.
const MaxLog = 1_000_000

// ErrSize says that a log has no tree of the size that was asked for.
func ErrSize(size int64) error { return fmt.Errorf("the log has no tree of size %d", size) }

// OtherAuthority is what the owner of an entry is told whose certificate is of another authority
// than the one of the entry before.
func OtherAuthority(owner string) string {
	return "not allowed to replace the key entry of another authority's '" + owner + "', unless an administrator has reset it"
}

// ChangesLimit ends what a client is told that has changed a key too often.
const ChangesLimit = " changes of one key is reached"
