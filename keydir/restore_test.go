package keydir

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// restoredOffice is a directory that was restored from a backup with alice's first entry, and
// the one that was lost, which also had her second one and carol's.
func restoredOffice(t *testing.T) (w *town, lost, now *office) {
	w = newTown(t)
	lost, now = w.office(), w.office()
	lost.publish("alice", generate(t, small))
	found, err := lost.log.Find(lost.as("alice").id, "alice", "")
	w.must(err)
	now.log.PutEntry(now.as("alice").id, string(small), found.Entry, func(_ int64, err error) { w.must(err) })
	lost.publish("alice", generate(t, small))
	lost.publish("carol", generate(t, small))
	return w, lost, now
}

func (o *office) head(n int64) tlog.Tree {
	o.t.Helper()
	p, err := o.log.Page(o.admin().id, 0, 1000)
	o.must(err)
	var tree keylog.Tree
	for _, leaf := range p.Leaves[:n] {
		o.must(tree.Append(leaf))
	}
	head, err := tree.Head()
	o.must(err)
	return head
}

// keyOf is what an office shows.
func (w *town) keyOf(o *office, name string) *seal.PublicKey {
	w.t.Helper()
	key, err := w.directory(o.as("nobody")).Find(w.t.Context(), name, "")
	w.must(err)
	return key
}

func accept(t *testing.T, d *Directory) (*Accepted, error) {
	return d.AcceptRestore(t.Context(), func(*Accepted) error { return nil })
}

func TestRestoreIsAttestedAndAccepted(t *testing.T) {
	w, lost, now := restoredOffice(t)
	pins, early := NewPins(), NewPins()
	finds(t, w.directory(lost.as("dave"), with(pins)), "alice", "", w.keyOf(lost, "alice"), nil)
	finds(t, w.directory(lost.as("dave"), with(pins)), "carol", "", w.keyOf(lost, "carol"), nil)
	finds(t, w.directory(now.as("eve"), with(early)), "alice", "", w.keyOf(now, "alice"), nil)
	dave, admin := w.directory(now.as("dave"), with(pins)), w.directory(now.admin())
	before := w.directory(lost.as("dave"), with(pins)).Checkpoint()

	_, err := dave.Find(t.Context(), "alice", "")
	if !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), "seen before: 3 records, root "+lost.head(3).Hash.String()) ||
		!strings.Contains(err.Error(), "shown now: 1 records, root "+now.head(1).Hash.String()) || !strings.Contains(hintOf(err), "accept-restore") {
		t.Errorf("%v, hint %s", err, hintOf(err))
	}
	notYet := func(says string) {
		t.Helper()
		if _, err := accept(t, dave); !errors.Is(err, ErrNotRestored) || !strings.Contains(err.Error()+hintOf(err), says) {
			t.Errorf("%v (%s) does not say %q", err, hintOf(err), says)
		}
	}
	notYet("sealmq key attest-restore 3 " + lost.head(3).Hash.String())
	if _, err := admin.AttestRestore(t.Context(), now.head(1)); sealmq.CodeOf(err) != sealmq.BadArgument {
		t.Errorf("nothing was lost: %v", err)
	}
	// An attestation for less than what was seen explains nothing, and one for another log of
	// the same length neither.
	for i, tree := range []tlog.Tree{lost.head(2), {N: 3, Hash: lost.head(2).Hash}} {
		if r, err := admin.AttestRestore(t.Context(), tree); err != nil || r.Index != int64(i+1) {
			t.Fatalf("%+v, %v", r, err)
		}
		notYet("about another log (")
	}
	if _, err := admin.AttestRestore(t.Context(), lost.head(3)); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if _, err := dave.AcceptRestore(t.Context(), func(*Accepted) error { return no }); err != no {
		t.Errorf("%v", err)
	}
	a, err := accept(t, dave)
	if err != nil {
		t.Fatal(err)
	}
	if a.Index != 3 || a.Lost != lost.head(3) || a.Since != now.head(3) || len(a.Forgotten) != 2 || len(a.Forgotten["alice"]) != 1 || string(a.Before) != string(before) {
		t.Errorf("%+v", a)
	}
	finds(t, dave, "alice", "", w.keyOf(now, "alice"), nil)
	finds(t, dave, "carol", "", nil, sealmq.ErrNoKey)
	notYet("continues what was seen before")
	if audit, err := dave.Audit(t.Context(), ""); err != nil || len(audit.Records) != 1 || len(audit.Restores) != 3 {
		t.Errorf("%+v, %v", audit, err)
	}
	// Messages of senders who have not accepted it carry checkpoints of the lost log. A log that
	// grew beyond what was lost is another matter.
	if err := dave.CheckPeer(t.Context(), before); err != nil {
		t.Errorf("a checkpoint from before the restore: %v", err)
	}
	lost.publish("erin", generate(t, small))
	lost.publish("frank", generate(t, small))
	isFork(t, dave.CheckPeer(t.Context(), w.directory(lost.as("x"), with(NewPins())).mustCheckpoint(t)))
	// Who saw nothing of the lost log has nothing to accept.
	finds(t, w.directory(now.as("eve"), with(early)), "alice", "", w.keyOf(now, "alice"), nil)
	if _, err := accept(t, w.directory(now.as("eve"), with(early))); !errors.Is(err, ErrNotRestored) {
		t.Errorf("%v", err)
	}
	// Owners go on.
	third := generate(t, small)
	now.publish("alice", third)
	finds(t, dave, "alice", "", third, nil)
}

func (d *Directory) mustCheckpoint(t *testing.T) []byte {
	t.Helper()
	if _, err := d.Audit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	return d.Checkpoint()
}

// A restore is accepted once: going back again needs another record.
func TestAcceptedRestoreExplainsNothingElse(t *testing.T) {
	w, lost, now := restoredOffice(t)
	pins := NewPins()
	w.directory(lost.as("dave"), with(pins)).mustCheckpoint(t)
	dave := w.directory(now.as("dave"), with(pins))
	seen := lost.head(3)
	if _, err := w.directory(now.admin()).AttestRestore(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	if _, err := accept(t, dave); err != nil {
		t.Fatal(err)
	}
	record := keylog.Leaf{Reset: true, Restore: keylog.Restore{Lost: seen, Since: now.head(1)}}.Text()
	known, err := pins.directory()
	if err != nil || !slices.Equal(known.Restores, []string{record}) {
		t.Fatalf("%q, %v", known.Restores, err)
	}
	// The same beginning and the same record, and then another history.
	fork := restored{logKey: known.LogKey, checkpoint: known.Checkpoint, restores: []RestoreRecord{{1, keylog.Restore{Lost: seen, Since: now.head(1)}}},
		root: func(int64) (tlog.Hash, error) { return tlog.Hash{}, nil }}
	if _, _, err := judgeRestore(known, fork, tlog.Tree{N: 2}); !errors.Is(err, ErrNotRestored) {
		t.Errorf("%v", err)
	}
	// The log has the record for good, also over a restart of what reads it.
	leaf, err := keylog.ParseLeaf(record)
	if err != nil || leaf.Text() != record || leaf.Restore.Lost != seen {
		t.Errorf("%+v, %v", leaf, err)
	}
	for _, bad := range []string{strings.TrimSuffix(record, "\n"), strings.Replace(record, " 3 ", " 03 ", 1), strings.Replace(record, " 3 ", " 0 ", 1), "restored\n", record + "x"} {
		if _, err := keylog.ParseLeaf(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
