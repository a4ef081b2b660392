package keylog

import (
	"encoding/base64"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
)

// A log that was restored from a backup has lost records that clients have seen, which looks
// like a broker that lies. An administrator can attest what happened. That makes nobody believe
// anything: the record is in the log, and each client's user decides whether to accept it.

// Restore is an attested restore: the newest checkpoint that anybody saw of the lost log, and
// the one of the log that the record is added to.
type Restore struct{ Lost, Since tlog.Tree }

// AttestRestore adds the record that the log was restored from a backup after its lost
// checkpoint. done gets its place. Code BadArgument if the log continues that checkpoint.
func (l *Log) AttestRestore(by sealmq.Identity, lost tlog.Tree, done func(index int64, err error)) {
	if err := l.allow(by, Attest, "the key directory"); err != nil {
		done(0, err)
		return
	}
	object := treeText(lost)
	answer := func(index int64, err error) {
		l.cfg.Changed(by, Attest, object, err)
		done(index, err)
	}
	if l.cfg.Signer == nil {
		answer(0, errNoDirectory)
		return
	}
	l.order.Lock()
	defer l.order.Unlock()
	c, err := l.attestable(lost)
	if err != nil {
		answer(0, err)
		return
	}
	l.store([]*change{c}, nil, func(err error) {
		if err == nil {
			l.cfg.Log.Warn("restore of the key directory attested", "by", by.ID, "lost", object, "record", c.next.index)
		}
		answer(c.next.index, err)
	})
}

func (l *Log) attestable(lost tlog.Tree) (*change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case lost.N < 1 || lost.N > MaxLog:
		return nil, &sealmq.Error{Code: sealmq.BadArgument, Message: "that is not the number of records and the root of a checkpoint"}
	case l.waiting > 0: // the record names the tree before it
		return nil, &sealmq.Error{Code: sealmq.InUse, Message: "it is still in use: keys are being stored"}
	case l.records() >= l.cfg.Limits.Records:
		return nil, errLimit("changes of keys", l.cfg.Limits.Records)
	}
	since, err := l.tree.Head()
	if err != nil {
		return nil, err
	}
	if lost.N <= since.N {
		root, err := tlog.TreeHash(lost.N, &l.tree)
		if err != nil {
			return nil, err
		}
		if root == lost.Hash {
			return nil, &sealmq.Error{Code: sealmq.BadArgument, Message: "the log continues that checkpoint: nothing of it was lost"}
		}
	}
	leaf := Leaf{Reset: true, Restore: Restore{lost, since}}
	return &change{at: leaf.slot(), next: &record{leaf: leaf}}, nil
}

const wordRestored = "restored"

func (r Restore) text() string {
	return wordRestored + " " + treeText(r.Lost) + " " + treeText(r.Since) + "\n"
}

func treeText(t tlog.Tree) string { return strconv.FormatInt(t.N, 10) + " " + t.Hash.String() }

// parseRestore reads what text has printed; the caller compares the spelling.
func parseRestore(rest string) (r Restore, err error) {
	words := strings.Split(strings.TrimSuffix(rest, "\n"), " ")
	if len(words) != 4 {
		return r, errLeaf
	}
	if r.Lost, err = ParseTree(words[0], words[1]); err == nil {
		r.Since, err = ParseTree(words[2], words[3])
	}
	if r.Lost.N < 1 {
		err = errLeaf
	}
	return r, err
}

// ParseTree reads a size and a root as they are in a checkpoint.
func ParseTree(size, root string) (t tlog.Tree, err error) {
	if t.N, err = strconv.ParseInt(size, 10, 64); err != nil || t.N < 0 || t.N > MaxLog {
		return t, errLeaf
	}
	if t.Hash, err = tlog.ParseHash(root); err != nil || t.Hash.String() != root {
		return t, errLeaf
	}
	return t, nil
}

// Describe prints a checkpoint on one line, with all that is needed to write it out again.
func Describe(checkpoint []byte) string {
	lines := strings.Split(string(checkpoint), "\n")
	if len(lines) < 5 {
		return "no checkpoint"
	}
	signature := lines[4][strings.LastIndexByte(lines[4], ' ')+1:]
	if _, err := base64.StdEncoding.DecodeString(signature); err != nil {
		signature = "none"
	}
	return lines[1] + " records, root " + lines[2] + ", signature " + signature
}
