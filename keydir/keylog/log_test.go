package keylog_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"golang.org/x/mod/sumdb/tlog"
)

const small = seal.HPKEX25519

func TestKeyEntries(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	if _, err := r.Find(bob, "alice", ""); sealmq.CodeOf(err) != sealmq.NoKey {
		t.Errorf("a key that nobody has put: %v", err)
	}
	first := r.entry(publicKey(t, small), nil)
	second := r.entry(publicKey(t, small), first)
	hybrid := r.entry(publicKey(t, seal.HPKEHybrid), nil)
	for i, step := range []struct {
		suite seal.Suite
		entry []byte
		index int64
	}{{small, first, 0}, {small, first, 0}, {small, second, 1}, {small, second, 1}, {seal.HPKEHybrid, hybrid, 2}} {
		if index, err := r.put(id, step.suite, step.entry); err != nil || index != step.index {
			t.Fatalf("step %d: index %d, %v", i, index, err)
		}
	}
	if changed, err := r.putKey(id, "alice", key(7)); err != nil || !changed {
		t.Errorf("a bare key beside entries: %v", err)
	}
	var last tlog.Tree
	for range 2 {
		for _, want := range []struct {
			suite seal.Suite
			entry []byte
		}{{"", hybrid}, {seal.HPKEHybrid, hybrid}, {small, second}} {
			f, err := r.Find(bob, "alice", string(want.suite))
			if err != nil || !f.Proven || !bytes.Equal(f.Entry, want.entry) {
				t.Fatalf("%s: %+v, %v", want.suite, f, err)
			}
			last = r.proven(f, r.leafOf(want.entry, id.Issuer))
		}
		f, err := r.Find(bob, "alice", string(ciphermq.G5))
		if err != nil || f.Proven || !bytes.Equal(f.Key, key(7)) || f.Entry != nil {
			t.Fatalf("%+v, %v", f, err)
		}
		r.proven(f, keylog.Leaf{Owner: "alice", Hash: sha256.Sum256(key(7))})
		if _, err := r.Find(bob, "alice", string(ciphermq.RSA)); sealmq.CodeOf(err) != sealmq.NoKey {
			t.Errorf("a suite without a key: %v", err)
		}
		if last.N != 4 || r.Counts().Records != 4 || r.Counts().Keys != 3 {
			t.Errorf("tree of %d, %+v", last.N, r.Counts())
		}
		before := last
		r.restart()
		if f, err = r.Find(bob, "alice", ""); err != nil {
			t.Fatal(err)
		}
		if last = r.proven(f, r.leafOf(hybrid, id.Issuer)); last != before {
			t.Errorf("the tree was %+v before the restart and is %+v", before, last)
		}
	}
}

func TestKeyEntriesAreRefused(t *testing.T) {
	r := open(t)
	foreign := testca.New(t)
	id, boss := r.who(r.ca, "alice", ""), r.who(r.ca, "admin", sealmq.RoleAdmin)
	first := r.entry(publicKey(t, small), nil)
	if _, err := r.put(id, small, first); err != nil {
		t.Fatal(err)
	}
	stranger, err := seal.NewKeyEntry(signerOf(t, foreign, "alice", ""), seal.KeyEntry{Key: publicKey(t, small)})
	r.must(err)
	flipped := bytes.Clone(first)
	flipped[len(flipped)/2] ^= 1
	unsigned := bytes.Clone(first)
	n := int(unsigned[0])<<8 | int(unsigned[1])
	clear(unsigned[2+n+2 : 2+n+2+int(unsigned[2+n+1])])
	for _, tc := range []struct {
		name  string
		id    sealmq.Identity
		suite seal.Suite
		entry []byte
		code  sealmq.Code
	}{
		{"nothing", id, small, nil, sealmq.BadArgument},
		{"too long", id, small, make([]byte, seal.MaxKeyEntryBytes+1), sealmq.BadArgument},
		{"cut", id, small, first[:len(first)-1], sealmq.BadArgument},
		{"changed", id, small, flipped, sealmq.BadArgument},
		{"not signed", id, small, unsigned, sealmq.BadArgument},
		{"another suite", id, seal.HPKEHybrid, first, sealmq.BadArgument},
		{"somebody else's", r.who(r.ca, "bob", ""), small, first, sealmq.Denied},
		{"an administrator for somebody else", boss, small, first, sealmq.Denied},
		{"another authority's", id, small, stranger, sealmq.BadArgument},
		{"the same name at another authority", sealmq.Identity{ID: "alice", Issuer: "sha256:11", Role: sealmq.RoleClient}, small, first, sealmq.Denied},
		{"signed below another authority than the connection's", sealmq.Identity{ID: "alice", Issuer: "sha256:11", Role: sealmq.RoleClient}, seal.HPKEHybrid,
			r.entry(publicKey(t, seal.HPKEHybrid), nil), sealmq.Denied},
		{"from the future", id, small, r.entry(publicKey(t, small), first, func(e *seal.KeyEntry) { e.Created = time.Now().Add(time.Hour) }), sealmq.BadArgument},
		{"first again", id, small, r.entry(publicKey(t, small), nil), sealmq.Mismatch},
		{"a serial left out", id, small, r.entry(publicKey(t, small), first, func(e *seal.KeyEntry) { e.Serial++ }), sealmq.Mismatch},
		{"second before the first", id, seal.HPKEHybrid, r.entry(publicKey(t, seal.HPKEHybrid), first), sealmq.Mismatch},
		{"no identity", sealmq.Identity{}, small, first, sealmq.Denied},
	} {
		if _, err := r.put(tc.id, tc.suite, tc.entry); sealmq.CodeOf(err) != tc.code {
			t.Errorf("%s: %v, want code %s", tc.name, err, tc.code)
		}
	}
	if r.Counts().Records != 1 {
		t.Errorf("%d leaves", r.Counts().Records)
	}
}

func TestKeyEntryMustNameItsPredecessor(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	first := r.entry(publicKey(t, small), nil)
	r.must(second(r.put(id, small, first)))
	wrong := r.entry(publicKey(t, small), first, func(e *seal.KeyEntry) { e.Previous[5] ^= 1 })
	if _, err := r.put(id, small, wrong); sealmq.CodeOf(err) != sealmq.Mismatch {
		t.Errorf("an entry with another predecessor: %v", err)
	}
}

func TestKeyDirectoryIsBounded(t *testing.T) {
	r := open(t, func(c *keylog.Config) { c.Limits.Keys, c.Limits.Records = 2, 4 })
	id := r.who(r.ca, "alice", "")
	r.must(second(r.putKey(admin, "lab", key(1))))
	first := r.entry(publicKey(t, small), nil)
	r.must(second(r.put(id, small, first)))
	r.code(sealmq.LimitReached, second(r.put(id, seal.HPKEHybrid, r.entry(publicKey(t, seal.HPKEHybrid), nil))))
	r.code(sealmq.LimitReached, second(r.putKey(admin, "another", key(1))))
	r.must(second(r.putKey(admin, "lab", key(2))))
	next := r.entry(publicKey(t, small), first)
	r.must(second(r.put(id, small, next)))
	r.code(sealmq.LimitReached, second(r.put(id, small, r.entry(publicKey(t, small), next))))
	r.code(sealmq.LimitReached, second(r.putKey(admin, "lab", key(3))))
	if changed, err := r.putKey(admin, "lab", key(2)); changed || err != nil {
		t.Errorf("the same key again at the limit: %v, %v", changed, err)
	}
}

func TestChangesOfOneKeyAreBounded(t *testing.T) {
	r := open(t, func(c *keylog.Config) { c.Limits.Changes = 3 })
	id := r.who(r.ca, "alice", "")
	var last []byte
	for i := range 3 {
		r.must(second(r.putKey(admin, "lab", key(byte(i)))))
		last = r.entry(publicKey(t, small), last)
		r.must(second(r.put(id, small, last)))
	}
	last = r.entry(publicKey(t, small), last)
	r.code(sealmq.LimitReached, second(r.putKey(admin, "lab", key(200))))
	r.must(second(r.putKey(admin, "lab2", key(1))))
	r.code(sealmq.LimitReached, second(r.put(id, small, last)))
	// An administrator lets an owner out whose changes somebody else has used up.
	r.cfg.Limits.Changes = 4
	r.restart()
	r.must(second(r.put(id, small, last)))
}

func without(c *keylog.Config) { c.Signer, c.Verifier = nil, nil }

// Without a signer there are bare keys, and no proofs.
func TestBareKeysAlone(t *testing.T) {
	r := open(t, without)
	id := r.who(r.ca, "alice", "")
	r.must(second(r.putKey(bob, "bob", key(1))))
	r.restart()
	if k, ok := r.Key(bob, "bob"); !ok || !bytes.Equal(k, key(1)) {
		t.Errorf("%x, %v", k, ok)
	}
	r.code(sealmq.Unsupported, second(r.put(id, small, r.entry(publicKey(t, small), nil))))
	r.code(sealmq.Unsupported, second(r.putChain(id, nil)))
	r.code(sealmq.Unsupported, second(r.reset(admin, "bob", "")))
	r.code(sealmq.Unsupported, second(r.Find(bob, "bob", "")))
	r.code(sealmq.Unsupported, second(r.FindReset(bob, "bob", keylog.Unproven)))
	r.code(sealmq.Unsupported, second(r.Page(bob, 0, 1)))
	r.code(sealmq.Unsupported, second(r.Consistency(bob, 1, 1)))
}

// Keys that were registered before there was a log get their place in it.
func TestOldKeysJoinTheLog(t *testing.T) {
	r := open(t, without)
	r.must(second(r.putKey(admin, "alice", key(1))))
	r.must(second(r.putKey(admin, "bob", key(2))))
	r.cfg.Signer, r.cfg.Verifier = r.signer, r.verifier()
	for range 2 {
		r.restart()
		f, err := r.Find(bob, "bob", "")
		r.must(err)
		if tree := r.proven(f, keylog.Leaf{Owner: "bob", Hash: sha256.Sum256(key(2))}); tree.N != 2 {
			t.Errorf("tree of %d", tree.N)
		}
	}
}

func TestKeyLog(t *testing.T) {
	r := open(t)
	if p, err := r.Page(bob, 0, 10); err != nil || p.Size != 0 || len(p.Leaves) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	const size = 21
	trees := map[int64]tlog.Tree{}
	for i := range size {
		r.must(second(r.putKey(admin, fmt.Sprint("client ", i), key(byte(i)))))
		p, err := r.Page(bob, 0, 0)
		r.must(err)
		trees[p.Size], err = keylog.OpenCheckpoint(p.Checkpoint, p.LogKey)
		r.must(err)
	}
	p, err := r.Page(bob, 5, 3)
	r.must(err)
	want := keylog.Leaf{Owner: "client 5", Hash: sha256.Sum256(key(5))}.Text()
	if p.From != 5 || len(p.Leaves) != 3 || p.Leaves[0] != want || p.Size != size {
		t.Errorf("%+v", p)
	}
	for from := int64(1); from <= size; from++ {
		for to := from; to <= size; to++ {
			c, err := r.Consistency(bob, from, to)
			r.must(err)
			r.must(tlog.CheckTree(c.Proof, to, trees[to].Hash, from, trees[from].Hash))
		}
	}
	for _, bad := range [][2]int64{{0, 1}, {-1, 1}, {2, 1}, {1, size + 1}, {size + 1, size + 1}} {
		r.code(sealmq.BadArgument, second(r.Consistency(bob, bad[0], bad[1])))
	}
	for _, bad := range []int64{-1, size + 1} {
		r.code(sealmq.BadArgument, second(r.Page(bob, bad, 1)))
	}
}

// A checkpoint covers only what a crash cannot take away: while the store is held up,
// nothing new is shown or signed, and what it then forgets was never shown.
func TestCheckpointsCoverWhatIsStored(t *testing.T) {
	r := open(t)
	r.must(second(r.putKey(admin, "lab", key(1))))
	shows := func(want byte, size int64) {
		t.Helper()
		if k, _ := r.Key(bob, "lab"); !bytes.Equal(k, key(want)) {
			t.Errorf("key %x", k)
		}
		f, err := r.Find(bob, "lab", "")
		r.must(err)
		if tree := r.proven(f, keylog.Leaf{Owner: "lab", Hash: sha256.Sum256(key(want))}); tree.N != size {
			t.Errorf("a tree of %d is signed", tree.N)
		}
	}
	r.store.hold()
	answered := make(chan error, 3)
	for range 2 { // the second caller waits for the first one's
		r.PutKey(admin, "lab", key(2), func(_ bool, err error) { answered <- err })
	}
	entry := r.entry(publicKey(t, small), nil)
	id := r.who(r.ca, "alice", "")
	r.PutEntry(id, string(small), entry, func(_ int64, err error) { answered <- err })
	r.code(sealmq.InUse, second(r.put(id, small, entry)))
	r.code(sealmq.NoKey, second(r.Find(bob, "alice", "")))
	shows(1, 1)
	if len(answered) > 0 || r.Counts() != (keylog.Counts{Keys: 2, Records: 3}) {
		t.Errorf("%d answers, %+v", len(answered), r.Counts())
	}
	r.store.release(true) // in whatever order the store answers
	for range 3 {
		r.must(<-answered)
	}
	shows(2, 3)
}

// What the store refuses is in no log, and leaves no gap in it.
func TestRefusedKeysAreNotInTheLog(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := open(t)
		r.must(second(r.putKey(admin, "lab", key(1))))
		id := r.who(r.ca, "alice", "")
		entry := r.entry(publicKey(t, small), nil)
		before := r.Counts()
		r.store.refuse = sealmq.ErrNoStorage
		if late {
			r.store.hold()
		}
		answers := make(chan error, 3)
		r.PutKey(admin, "lab", key(2), func(_ bool, err error) { answers <- err })
		r.PutEntry(id, string(small), entry, func(_ int64, err error) { answers <- err })
		r.PutChain(id, chainOf(t, r.ca, "alice"), func(_ [32]byte, err error) { answers <- err })
		r.store.release(false)
		r.store.refuse = nil
		for range 3 {
			r.code(sealmq.NoStorage, <-answers)
		}
		if after := r.Counts(); after != before {
			t.Errorf("%+v became %+v", before, after)
		}
		if index, err := r.put(id, small, entry); err != nil || index != 1 {
			t.Errorf("afterwards: index %d, %v", index, err)
		}
		f, err := r.Find(bob, "alice", "")
		r.must(err)
		if tree := r.proven(f, r.leafOf(entry, id.Issuer)); tree.N != 2 {
			t.Errorf("tree of %d", tree.N)
		}
	}
}

// Many register and publish at once, and every proof that is handed out meanwhile holds.
func TestKeysOfManyAtOnce(t *testing.T) {
	r := open(t)
	const owners, changes = 8, 12
	entries := make([][][]byte, owners)
	ids := make([]sealmq.Identity, owners)
	for i := range owners {
		name := fmt.Sprint("owner", i)
		ids[i] = r.who(r.ca, name, "")
		var before *seal.KeyEntry
		for range changes {
			e := seal.KeyEntry{Key: publicKey(t, small)}
			if before != nil {
				e.Serial, e.Previous = before.Serial+1, before.Hash()
			}
			entry, err := seal.NewKeyEntry(signerOf(t, r.ca, name, ""), e)
			r.must(err)
			before, err = seal.ParseKeyEntry(entry, ciphermq.Suites{})
			r.must(err)
			entries[i] = append(entries[i], entry)
		}
	}
	var work sync.WaitGroup
	for i := range owners {
		work.Go(func() {
			for j, entry := range entries[i] {
				if _, err := r.put(ids[i], small, entry); err != nil {
					t.Error(err)
				}
				if _, err := r.putKey(admin, fmt.Sprint("lab", i), key(byte(j))); err != nil {
					t.Error(err)
				}
				f, err := r.Find(bob, ids[i].ID, string(small))
				if err != nil || !bytes.Equal(f.Entry, entry) {
					t.Errorf("%v", err)
					continue
				}
				r.proven(f, r.leafOf(entry, ids[i].Issuer))
			}
		})
	}
	work.Wait()
	tree := func() tlog.Tree {
		p, err := r.Page(bob, 0, 0)
		r.must(err)
		tree, err := keylog.OpenCheckpoint(p.Checkpoint, p.LogKey)
		r.must(err)
		return tree
	}
	before := tree()
	r.restart()
	if after := tree(); after != before || after.N != 2*owners*changes {
		t.Errorf("the tree was %+v and is %+v", before, after)
	}
}

// A bare key is replaced by clients of the authority whose client registered it, and by
// administrators; after a reset, and if an older version stored it, by anybody of the name.
func TestBareKeysBelongToAnAuthority(t *testing.T) {
	r := open(t)
	ours, theirs := r.who(r.ca, "alice", ""), r.who(testca.New(t), "alice", "")
	r.must(second(r.putKey(ours, "alice", key(1))))
	for range 2 {
		r.code(sealmq.Denied, second(r.putKey(theirs, "alice", key(2))))
		r.must(second(r.putKey(theirs, "alice", key(1)))) // changes nothing
		r.code(sealmq.Denied, second(r.putKey(theirs, "alice", key(2))))
		r.restart()
	}
	r.must(second(r.putKey(ours, "alice", key(3))))
	r.must(second(r.putKey(admin, "alice", key(4))))
	r.must(second(r.reset(admin, "alice", "")))
	r.must(second(r.putKey(theirs, "alice", key(5))))
	r.code(sealmq.Denied, second(r.putKey(ours, "alice", key(6))))

	r.must(second(r.putKey(sealmq.Identity{ID: "bob"}, "bob", key(7)))) // as without an authority
	r.must(second(r.putKey(theirs, "bob", key(8))))
}

// Keys that nothing can be sealed for are refused, and names that the commands for look-ups
// would take for another name with a suite.
func TestBareKeysAreRefused(t *testing.T) {
	r := open(t)
	r.code(sealmq.BadArgument, second(r.putKey(bob, "bob", make([]byte, keylog.KeyBytes))))
	low := make([]byte, keylog.KeyBytes)
	low[0] = 1
	r.code(sealmq.BadArgument, second(r.putKey(bob, "bob", low)))
	for _, name := range []string{"bob " + string(small), "bob x " + string(ciphermq.G5), "bob " + keylog.Unproven, "bo\u200bb", "b\u3164"} {
		r.code(sealmq.BadName, second(r.putKey(admin, name, key(1))))
	}
	for _, name := range []string{"Lab 1", string(small), "bob-" + string(small)} {
		r.must(second(r.putKey(admin, name, key(1))))
	}
}
