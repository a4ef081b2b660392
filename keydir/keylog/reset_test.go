package keylog_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func (r *registry) reset(id sealmq.Identity, client, suite string) ([]int64, error) {
	r.Helper()
	return wait(func(done func([]int64, error)) { r.Reset(id, client, suite, done) })
}

// entryAfter makes an entry of alice's with a certificate of an authority.
func (r *registry) entryAfter(ca *testca.CA, serial uint64, previous [32]byte) []byte {
	r.Helper()
	entry, err := seal.NewKeyEntry(signerOf(r, ca, "alice", ""),
		seal.KeyEntry{Key: publicKey(r, small), Serial: serial, Previous: previous, Created: time.Now()})
	r.must(err)
	return entry
}

// resetOf is the leaf that resets an entry.
func (r *registry) resetOf(entry []byte) keylog.Leaf {
	r.Helper()
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	r.must(err)
	return keylog.Leaf{Reset: true, Proven: true, Owner: e.Owner, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
}

// twoAuthorities is a registry that accepts the certificates of another authority as well.
func twoAuthorities(t testing.TB) (*registry, *testca.CA) {
	r, other := open(t), testca.New(t)
	roots := r.ca.Pool()
	roots.AddCert(other.Root())
	v := r.ca.Verifier()
	v.Roots = roots
	r.cfg.Verifier = v
	r.restart()
	return r, other
}

// After a reset nothing is shown, and the next entry may be another authority's. It must name
// the reset, so nothing that was signed before can come back.
func TestResetOfAnEntry(t *testing.T) {
	r, other := twoAuthorities(t)
	id, foreign := r.who(r.ca, "alice", ""), r.who(other, "alice", "")
	first := r.entry(publicKey(t, small), nil)
	stolen := r.entry(publicKey(t, small), first)
	prepared := r.entry(publicKey(t, small), stolen) // signed before the reset
	hybrid := r.entry(publicKey(t, seal.HPKEHybrid), nil)
	for _, e := range [][]byte{first, stolen} {
		r.must(second(r.put(id, small, e)))
	}
	r.must(second(r.put(id, seal.HPKEHybrid, hybrid)))
	r.code(sealmq.Denied, second(r.put(foreign, small, r.entryAfter(other, 3, r.leafOf(stolen, "").Hash))))

	indexes, err := r.reset(admin, "alice", string(small))
	if err != nil || len(indexes) != 1 || indexes[0] != 3 {
		t.Fatalf("%v, %v", indexes, err)
	}
	leaf := r.resetOf(stolen)
	next := r.entryAfter(other, 3, leaf.Record())
	for range 2 { // before and after a restart
		r.code(sealmq.NoKey, second(r.Find(bob, "alice", string(small))))
		if f, err := r.Find(bob, "alice", ""); err != nil || !bytes.Equal(f.Entry, hybrid) {
			t.Errorf("%+v, %v", f, err)
		}
		f, err := r.FindReset(bob, "alice", string(small))
		if err != nil || f.Leaf != leaf.Text() || f.Index != 3 {
			t.Fatalf("%+v, %v", f, err)
		}
		tree, err := keylog.OpenCheckpoint(f.Checkpoint, f.LogKey)
		r.must(err)
		r.must(tlog.CheckRecord(f.Proof, tree.N, tree.Hash, f.Index, leaf.Record()))
		for name, old := range map[string][]byte{"the first one": first, "the one that was reset": stolen, "one that was signed before": prepared,
			"a first one": r.entryAfter(other, 1, [32]byte{}), "one that names no reset": r.entryAfter(other, 3, [32]byte{1}),
			"a later one": r.entryAfter(other, 4, leaf.Record())} {
			for _, who := range []sealmq.Identity{id, foreign} {
				if _, err := r.put(who, small, old); err == nil {
					t.Errorf("%s is taken", name)
				}
			}
		}
		if c := r.Counts(); c.Keys != 1 || c.Records != 4 {
			t.Errorf("%+v", c)
		}
		r.restart()
	}
	r.must(second(r.put(foreign, small, next)))
	f, err := r.Find(bob, "alice", string(small))
	if err != nil || !bytes.Equal(f.Entry, next) {
		t.Fatalf("%+v, %v", f, err)
	}
	r.proven(f, r.leafOf(next, foreign.Issuer))
	r.restart()
	r.must(second(r.put(foreign, small, r.entryAfter(other, 4, r.leafOf(next, "").Hash))))
	r.code(sealmq.Denied, second(r.put(id, small, r.entry(publicKey(t, small), next))))
	if f, err := r.FindReset(bob, "alice", string(small)); err != nil || f.Index != 3 {
		t.Errorf("the latest reset is still found: %+v, %v", f, err)
	}
}

// Without a suite everything under the name is reset, the bare key too.
func TestResetOfAName(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	r.must(second(r.put(id, small, r.entry(publicKey(t, small), nil))))
	r.must(second(r.put(id, seal.HPKEHybrid, r.entry(publicKey(t, seal.HPKEHybrid), nil))))
	r.must(second(r.putKey(id, "alice", key(1))))
	r.must(second(r.putKey(admin, "lab", key(2))))
	indexes, err := r.reset(admin, "alice", "")
	if err != nil || fmt.Sprint(indexes) != "[4 5 6]" {
		t.Fatalf("%v, %v", indexes, err)
	}
	bare := keylog.Leaf{Reset: true, Owner: "alice", Hash: sha256.Sum256(key(1))}
	for range 2 {
		for _, suite := range []seal.Suite{"", small, seal.HPKEHybrid, ciphermq.G5} {
			r.code(sealmq.NoKey, second(r.Find(bob, "alice", string(suite))))
		}
		if _, ok := r.Key(bob, "alice"); ok {
			t.Error("the bare key is still there")
		}
		if k, ok := r.Key(bob, "lab"); !ok || !bytes.Equal(k, key(2)) {
			t.Error("another name's key is gone")
		}
		if f, err := r.FindReset(bob, "alice", keylog.Unproven); err != nil || f.Leaf != bare.Text() {
			t.Errorf("%+v, %v", f, err)
		}
		if c := r.Counts(); c.Keys != 1 || c.Records != 7 {
			t.Errorf("%+v", c)
		}
		r.restart()
	}
	r.code(sealmq.NoKey, second(r.reset(admin, "alice", "")))
	// A later registration is a new record in the log, also of the same key.
	for range 2 {
		r.must(second(r.putKey(id, "alice", key(1))))
		f, err := r.Find(bob, "alice", "")
		r.must(err)
		if tree := r.proven(f, keylog.Leaf{Owner: "alice", Hash: sha256.Sum256(key(1))}); tree.N != 8 || f.Index != 7 {
			t.Errorf("place %d of %d", f.Index, tree.N)
		}
		r.restart()
	}
	if indexes, err := r.reset(admin, "alice", keylog.Unproven); err != nil || fmt.Sprint(indexes) != "[8]" {
		t.Errorf("%v, %v", indexes, err)
	}
}

func TestResetIsRefused(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	r.must(second(r.put(id, small, r.entry(publicKey(t, small), nil))))
	for _, tc := range []struct {
		client, suite string
		code          sealmq.Code
	}{
		{"nobody", "", sealmq.NoKey},
		{"alice", string(seal.HPKEHybrid), sealmq.NoKey},
		{"alice", keylog.Unproven, sealmq.NoKey},
		{"alice", "nonsense", sealmq.BadArgument},
		{"", "", sealmq.BadName},
	} {
		r.code(tc.code, second(r.reset(admin, tc.client, tc.suite)))
	}
	r.code(sealmq.NoKey, second(r.FindReset(bob, "alice", string(small))))
	r.code(sealmq.BadArgument, second(r.FindReset(bob, "alice", "nonsense")))
	if r.Counts().Records != 1 {
		t.Errorf("%d leaves", r.Counts().Records)
	}
}

// A thief who used all changes up has gained nothing.
func TestChangesAreCountedAnewAfterAReset(t *testing.T) {
	r := open(t, func(c *keylog.Config) { c.Limits.Changes = 2 })
	id := r.who(r.ca, "alice", "")
	first := r.entry(publicKey(t, small), nil)
	last := r.entry(publicKey(t, small), first)
	r.must(second(r.put(id, small, first)))
	r.must(second(r.put(id, small, last)))
	r.must(second(r.putKey(admin, "lab", key(1))))
	r.must(second(r.putKey(admin, "lab", key(2))))
	r.code(sealmq.LimitReached, second(r.put(id, small, r.entry(publicKey(t, small), last))))
	r.must(second(r.reset(admin, "alice", "")))
	r.must(second(r.reset(admin, "lab", "")))
	serial, previous := uint64(3), [32]byte(r.resetOf(last).Record())
	for range 2 {
		next := r.entryAfter(r.ca, serial, previous)
		r.must(second(r.put(id, small, next)))
		r.must(second(r.putKey(admin, "lab", key(byte(serial)))))
		serial, previous = serial+1, r.leafOf(next, "").Hash
		r.restart()
	}
	r.code(sealmq.LimitReached, second(r.put(id, small, r.entryAfter(r.ca, serial, previous))))
	r.code(sealmq.LimitReached, second(r.putKey(admin, "lab", key(200))))
}

// A reset takes effect when it is stored, and not before; what the store refuses never was.
func TestResetThatIsNotStored(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	entry := r.entry(publicKey(t, small), nil)
	r.must(second(r.put(id, small, entry)))
	r.must(second(r.putKey(id, "alice", key(1))))
	before := r.Counts()
	answered := make(chan error, 1)
	r.store.refuse = sealmq.ErrNoStorage
	r.store.hold()
	r.Reset(admin, "alice", "", func(_ []int64, err error) { answered <- err })
	r.code(sealmq.NoKey, second(r.FindReset(bob, "alice", string(small))))
	unchanged := func() {
		t.Helper()
		if f, err := r.Find(bob, "alice", ""); err != nil || !bytes.Equal(f.Entry, entry) {
			t.Errorf("%+v, %v", f, err)
		}
		if k, ok := r.Key(bob, "alice"); !ok || !bytes.Equal(k, key(1)) {
			t.Error("the bare key is gone")
		}
	}
	unchanged()
	for _, suite := range []string{"", string(small), keylog.Unproven} {
		r.code(sealmq.InUse, second(r.reset(admin, "alice", suite)))
	}
	r.code(sealmq.InUse, second(r.put(id, small, r.entry(publicKey(t, small), entry))))
	r.store.release(false)
	r.code(sealmq.NoStorage, <-answered)
	unchanged()
	r.store.refuse = nil
	if after := r.Counts(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	indexes, err := r.reset(admin, "alice", "")
	if err != nil || fmt.Sprint(indexes) != "[2 3]" {
		t.Errorf("afterwards: %v, %v", indexes, err)
	}
}

// A full log takes no reset either: clients would not read it.
func TestResetIsBounded(t *testing.T) {
	r := open(t, func(c *keylog.Config) { c.Limits.Records = 2 })
	r.must(second(r.putKey(admin, "lab", key(1))))
	r.must(second(r.putKey(admin, "lab", key(2))))
	r.code(sealmq.LimitReached, second(r.reset(admin, "lab", "")))
	if k, ok := r.Key(bob, "lab"); !ok || !bytes.Equal(k, key(2)) {
		t.Error("the key is gone")
	}
}

// The store's words for an entry and for its end must not disagree: whatever was reset stays
// so. A bare key, which proves nothing, gets another place in the log.
func TestStoredEntryThatTheLogHasReset(t *testing.T) {
	r := open(t)
	id := r.who(r.ca, "alice", "")
	r.must(second(r.put(id, small, r.entry(publicKey(t, small), nil))))
	r.must(second(r.putKey(admin, "lab", key(1))))
	var keys []keylog.Definition
	for _, d := range r.store.definitions() {
		if strings.HasPrefix(d.Key, "keyentry/") || strings.HasPrefix(d.Key, "key/") {
			keys = append(keys, d)
		}
	}
	r.must(second(r.reset(admin, "alice", "")))
	r.must(second(r.reset(admin, "lab", "")))
	r.store.define(keys, func(error) {})
	r.restart()
	r.code(sealmq.NoKey, second(r.Find(bob, "alice", "")))
	if f, err := r.Find(bob, "lab", ""); err != nil || f.Index != 4 {
		t.Errorf("%+v, %v", f, err)
	}
	if c := r.Counts(); c.Keys != 1 || c.Records != 5 {
		t.Errorf("%+v", c)
	}
}

// A record of a restore is no key and no reset of one, and outlives a restart.
func TestAttestRestore(t *testing.T) {
	r := open(t)
	attest := func(n int64, hash tlog.Hash) (int64, error) {
		return wait(func(done func(int64, error)) { r.AttestRestore(admin, tlog.Tree{N: n, Hash: hash}, done) })
	}
	r.must(second(r.putKey(admin, "bob", key(1))))
	p, err := r.Page(admin, 0, 10)
	r.must(err)
	now, err := keylog.OpenCheckpoint(p.Checkpoint, p.LogKey)
	r.must(err)
	for _, n := range []int64{0, -1, keylog.MaxLog + 1, now.N} {
		_, err := attest(n, now.Hash)
		r.code(sealmq.BadArgument, err)
	}
	before := r.Counts()
	if index, err := attest(7, tlog.Hash{1}); err != nil || index != 1 {
		t.Fatalf("record %d, %v", index, err)
	}
	for range 2 {
		if got := r.Counts(); got.Keys != before.Keys || got.Records != before.Records+1 {
			t.Errorf("%+v after %+v", got, before)
		}
		p, err := r.Page(admin, 1, 10)
		r.must(err)
		leaf, err := keylog.ParseLeaf(p.Leaves[0])
		if err != nil || leaf.Restore != (keylog.Restore{Lost: tlog.Tree{N: 7, Hash: tlog.Hash{1}}, Since: now}) {
			t.Errorf("%+v, %v", leaf, err)
		}
		r.restart()
	}
}
