package keydir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// Everything that a broker can say about keys in place of the truth, each by itself.
func TestLyingDirectoryIsCaught(t *testing.T) {
	w := newTown(t)
	o := w.office()
	first, second, hybrid := generate(t, small), generate(t, small), generate(t, seal.HPKEHybrid)
	o.publish("alice", first)
	o.publish("carol", generate(t, small))
	old := o.found("find_key alice")
	o.publish("alice", second)
	o.publish("dave", generate(t, small))
	weak := o.found("find_key dave")
	o.publish("dave", hybrid)
	other, _, err := keylog.NewSigner()
	w.must(err)
	found := func(change func(f *keylog.Found)) func(string) string {
		return func(string) string {
			f := o.found("find_key alice")
			change(&f)
			return asJSON("Key: ", f)
		}
	}
	own := func(owner string, ca *testca.CA) []byte {
		leaf := ca.Leaf(owner, "")
		s, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
		w.must(err)
		e, err := seal.NewKeyEntry(s, seal.KeyEntry{Key: generate(t, small), Serial: 3, Previous: [32]byte{1}})
		w.must(err)
		return e
	}
	oldInNewTree := func(string) string { return asJSON("Key: ", o.reprove(old)) }
	for _, tc := range []struct {
		name   string
		lie    func(string) string
		pinned bool // alice's newest key was seen before
		want   error
	}{
		{"an honest one", func(s string) string { return s }, false, nil},
		{"an honest one, pinned", func(s string) string { return s }, true, nil},
		{"an old answer", found(func(f *keylog.Found) { *f = old }), true, ErrRollback},
		{"an old entry with a new proof", found(func(f *keylog.Found) { f.Entry = old.Entry }), true, ErrLog},
		{"an old entry, found in the log, to a stranger", oldInNewTree, false, ErrRollback},
		{"an old entry, found in the log, to a client that has the newer one", oldInNewTree, true, ErrRollback},
		{"another's entry", found(func(f *keylog.Found) { *f = o.found("find_key carol") }), false, ErrLog},
		{"another's entry under this name", found(func(f *keylog.Found) { *f = o.found("find_key carol"); f.Client = "alice" }), false, ErrLog},
		{"an entry without a signature", found(func(f *keylog.Found) { f.Entry = unsign(f.Entry) }), false, seal.ErrSignature},
		{"an entry of another authority", found(func(f *keylog.Found) { f.Entry = own("alice", testca.New(t)) }), false, ErrLog},
		{"an entry signed by somebody else", found(func(f *keylog.Found) { f.Entry = own("mallory", w.ca) }), false, ErrLog},
		{"a bare key in place of the entry", found(func(f *keylog.Found) { f.Proven, f.Entry, f.Key = false, nil, second.Bytes() }), false, ErrLog},
		{"no proof", found(func(f *keylog.Found) { f.Proof = nil }), false, ErrLog},
		{"a wrong place", found(func(f *keylog.Found) { f.Index++ }), false, ErrLog},
		{"another checkpoint's key", found(func(f *keylog.Found) { f.LogKey = other.Public() }), true, ErrLog},
		{"another checkpoint's key, to a stranger", found(func(f *keylog.Found) { f.LogKey = other.Public() }), false, ErrLog},
		{"no checkpoint", found(func(f *keylog.Found) { f.Checkpoint = nil }), false, ErrLog},
		{"nonsense", func(string) string { return "Key: {" }, false, ErrLog},
		{"something else", func(string) string { return "Queue: {}" }, false, errAny},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pins := NewPins()
			if tc.pinned {
				finds(t, w.directory(o.as("bob"), with(pins)), "alice", "", second, nil)
			}
			finds(t, w.directory(o.lying("bob", "Key: ", tc.lie), with(pins)), "alice", "", second, tc.want)
		})
	}

	t.Run("a weaker suite", func(t *testing.T) {
		pins := NewPins()
		finds(t, w.directory(o.as("bob"), with(pins)), "dave", "", hybrid, nil)
		liar := o.lying("bob", "Key: ", func(string) string { return asJSON("Key: ", o.reprove(weak)) })
		finds(t, w.directory(liar, with(pins)), "dave", "", nil, ErrRollback)
		finds(t, w.directory(liar), "dave", "", nil, ErrRollback)
		// Both are pinned, and the log is not read any more.
		_, err := w.directory(o.as("bob"), with(pins)).Find(t.Context(), "dave", small)
		w.must(err)
		finds(t, w.directory(liar, with(pins)), "dave", "", nil, ErrRollback)
	})
	t.Run("a record hidden in the log", func(t *testing.T) {
		liar := o.lying("bob", "Key log: ", func(reply string) string {
			var p keylog.Page
			_ = json.Unmarshal([]byte(strings.TrimPrefix(reply, "Key log: ")), &p)
			if len(p.Leaves) > 2 {
				p.Leaves[2] = p.Leaves[1]
			}
			return asJSON("Key log: ", p)
		})
		if _, err := w.directory(liar).Audit(t.Context(), "alice"); !errors.Is(err, ErrLog) {
			t.Errorf("error %v", err)
		}
	})
}

// errAny is matched by every error, see finds.
var errAny = errors.New("any error")

func asJSON(prefix string, v any) string {
	s, _ := print(prefix, v, nil)
	return s
}

// found asks without checking.
func (o *office) found(line string) (f keylog.Found) {
	o.t.Helper()
	reply, err := o.as("somebody").Command(o.t.Context(), line)
	o.must(err)
	o.must(json.Unmarshal([]byte(strings.TrimPrefix(reply, "Key: ")), &f))
	return f
}

// reprove is what a liar with the log at hand says: an old answer with a good proof in the
// newest tree.
func (o *office) reprove(old keylog.Found) keylog.Found {
	o.t.Helper()
	p, err := o.log.Page(sealmq.Identity{}, 0, keylog.MaxPage)
	o.must(err)
	var tree keylog.Tree
	for _, text := range p.Leaves {
		o.must(tree.Append(text))
	}
	old.Checkpoint = p.Checkpoint
	old.Proof, err = tlog.ProveRecord(p.Size, old.Index, &tree)
	o.must(err)
	return old
}

func unsign(entry []byte) []byte {
	n := int(entry[0])<<8 | int(entry[1])
	out := append([]byte(nil), entry...)
	clear(out[2+n+2 : 2+n+2+int(entry[2+n+1])])
	return out
}

func TestForkedAndShortenedLogs(t *testing.T) {
	w := newTown(t)
	a, b := w.office(), w.office() // one operator, two truths
	real, forged := generate(t, small), generate(t, small)
	a.publish("alice", real)
	b.publish("alice", forged)

	// The same reader is shown both.
	pins := NewPins()
	finds(t, w.directory(a.as("bob"), with(pins)), "alice", "", real, nil)
	_, err := w.directory(b.as("bob"), with(pins)).Find(t.Context(), "alice", "")
	isFork(t, err)
	b.publish("carol", generate(t, small))
	_, err = w.directory(b.as("bob"), with(pins)).Find(t.Context(), "carol", "")
	isFork(t, err)

	// Two readers are shown one each, and meet.
	bob, eve := w.directory(a.as("bob")), w.directory(b.as("eve"))
	finds(t, bob, "alice", "", real, nil)
	finds(t, eve, "alice", "", forged, nil)
	for range 2 {
		isFork(t, bob.CheckPeer(t.Context(), eve.Checkpoint()))
		isFork(t, eve.CheckPeer(t.Context(), bob.Checkpoint()))
	}
	honest := w.directory(a.as("frank"))
	if err := honest.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest control: %v", err)
	}
	grace := generate(t, small)
	a.publish("grace", grace)
	finds(t, bob, "alice", "", real, nil)
	if err := honest.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest control with a log that has grown: %v", err)
	}
	if err := bob.CheckPeer(t.Context(), honest.Checkpoint()); err != nil {
		t.Errorf("an honest control with an older checkpoint: %v", err)
	}

	// A log that has become shorter.
	finds(t, w.directory(a.as("bob"), with(pins)), "grace", "", grace, nil)
	empty := w.office()
	finds(t, w.directory(empty.as("bob"), with(pins)), "alice", "", nil, ErrRollback)
	empty.publish("alice", real)
	finds(t, w.directory(empty.as("bob"), with(pins)), "alice", "", nil, ErrRollback)
	finds(t, w.directory(a.as("henry")), "grace", "", grace, nil)
}

func TestPeersCheckpointsThatAreNone(t *testing.T) {
	w, stranger := newTown(t), newTown(t)
	o, other := w.office(), stranger.office()
	o.publish("alice", generate(t, small))
	other.publish("alice", generate(t, small))
	away := stranger.directory(other.as("bob"))
	_, err := away.Audit(t.Context(), "")
	w.must(err)
	d := w.directory(o.as("bob"))
	for _, bad := range [][]byte{nil, []byte("nonsense"), away.Checkpoint()} {
		for range 2 {
			if err := d.CheckPeer(t.Context(), bad); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("%.40q: error %v", bad, err)
			}
		}
	}
	_, err = d.Audit(t.Context(), "")
	w.must(err)
	flipped := d.Checkpoint()
	flipped[len(flipped)-10] ^= 1
	if err := d.CheckPeer(t.Context(), flipped); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("a changed one: %v", err)
	}
}

// Only the word that there is no such tree accuses. Any other refusal of a proof decides
// nothing, and is not remembered.
func TestRefusedProofsAccuseNobody(t *testing.T) {
	w := newTown(t)
	o := w.office()
	o.publish("alice", generate(t, small))
	bob := w.directory(o.as("bob"))
	_, err := bob.Audit(t.Context(), "")
	w.must(err)
	o.publish("carol", generate(t, small))
	c := o.as("eve")
	d := w.directory(c)
	_, err = d.Audit(t.Context(), "")
	w.must(err)
	for _, refusal := range []error{sealmq.ErrUnsupported, sealmq.ErrInterrupted, errAny,
		&sealmq.Error{Code: sealmq.BadArgument, Message: keylog.ErrSize(77).Error()}, nil} {
		c.lie = func(line, reply string, err error) (string, error) {
			if strings.HasPrefix(line, "key_proof ") {
				return "Key proof: {", refusal
			}
			return reply, err
		}
		var fork *ForkError
		if err := d.CheckPeer(t.Context(), bob.Checkpoint()); err == nil || errors.As(err, &fork) || errors.Is(err, ErrCheckpoint) {
			t.Errorf("%v: error %v", refusal, err)
		}
	}
	c.lie = nil
	if err := d.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest proof afterwards: %v", err)
	}
}

// A question whose connection was lost is asked again.
func TestLostConnectionsAreTriedAgain(t *testing.T) {
	w := newTown(t)
	o := w.office()
	key := generate(t, small)
	o.publish("alice", key)
	for _, lost := range []int{retries - 1, retries} {
		c := o.as("bob")
		c.lie = func(_, reply string, err error) (string, error) {
			if lost > 0 {
				lost--
				return "", sealmq.ErrInterrupted
			}
			return reply, err
		}
		var want error
		if lost == retries {
			want = sealmq.ErrInterrupted
		}
		finds(t, w.directory(c), "alice", "", key, want)
	}
}

// Two clients share pins. While an honest answer is on its way to the one, the key is
// replaced and the other sees it: the broker is asked again, and not accused.
func TestSharedPinsAccuseNobody(t *testing.T) {
	for _, previous := range []bool{true, false} { // there was a key before
		t.Run(fmt.Sprint(previous), func(t *testing.T) {
			w := newTown(t)
			o := w.office()
			pins := NewPins()
			other := w.directory(o.as("bob"), with(pins))
			if previous {
				k := generate(t, small)
				o.publish("lab", k)
				finds(t, other, "lab", "", k, nil)
			}
			next := generate(t, small)
			c := o.as("bob")
			var once sync.Once
			c.lie = func(line, reply string, err error) (string, error) {
				if strings.HasPrefix(line, "find_key") {
					once.Do(func() {
						o.publish("lab", next)
						finds(t, other, "lab", "", next, nil)
					})
				}
				return reply, err
			}
			finds(t, w.directory(c, with(pins)), "lab", "", next, nil)
		})
	}
}

func TestUnprovenKeysAndStrictPins(t *testing.T) {
	w := newTown(t)
	o := w.office()
	bare, next := generate(t, ciphermq.G5), generate(t, ciphermq.G5)
	o.register("lab", bare)
	_, err := w.directory(o.as("bob")).Find(t.Context(), "lab", "")
	refused(t, err, ErrUnproven, bare)
	pins := NewPins()
	loose := w.directory(o.as("bob"), with(pins), func(c *Config) { c.AllowUnproven = true })
	finds(t, loose, "lab", "", bare, nil)
	finds(t, loose, "lab", seal.HPKEHybrid, nil, sealmq.ErrNoKey)
	o.register("lab", next)
	_, err = loose.Find(t.Context(), "lab", "")
	refused(t, err, ErrPinned, bare, next)
	_, err = w.directory(o.as("bob"), with(pins)).Find(t.Context(), "lab", "")
	refused(t, err, ErrUnproven, bare, next)
	if gone, err := pins.Forget(t.Context(), "lab"); err != nil || gone[bareSlot].Fingerprint != bare.Fingerprint() {
		t.Fatalf("%+v, %v", gone, err)
	}
	finds(t, loose, "lab", "", next, nil)
	// An entry takes the place of the bare key, and never the other way.
	proven := generate(t, small)
	o.publish("lab", proven)
	finds(t, loose, "lab", "", proven, nil)
	finds(t, loose, "lab", ciphermq.G5, next, nil)

	careful := w.directory(o.as("carol"), strict)
	finds(t, careful, "lab", "", proven, nil)
	replaced := generate(t, small)
	o.publish("lab", replaced)
	_, err = careful.Find(t.Context(), "lab", "")
	refused(t, err, ErrPinned, proven, replaced)
}

func TestExpiredOwner(t *testing.T) {
	w := newTown(t)
	o := w.office()
	o.publish("alice", generate(t, small))
	later := w.ca.Verifier()
	later.Now = func() time.Time { return time.Now().AddDate(0, 3, 0) }
	_, err := w.directory(o.as("bob"), func(c *Config) { c.Verifier = later }).Find(t.Context(), "alice", "")
	if !errors.Is(err, seal.ErrExpired) || !strings.Contains(hintOf(err), "publish the key again") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
}

func TestNewNeedsAVerifier(t *testing.T) {
	if d, err := New(newTown(t).forger(), Config{}); err == nil {
		t.Errorf("%+v", d)
	}
}

// BenchmarkFind is a look-up with all proofs of a key that is pinned already, in a log of a
// thousand records, without the network.
func BenchmarkFind(b *testing.B) {
	w := newTown(b)
	o := w.office()
	for i := range 1000 {
		o.register(fmt.Sprint("lab", i), generate(b, ciphermq.G5))
	}
	for _, suite := range []seal.Suite{seal.HPKEHybrid, small} {
		key := generate(b, suite)
		o.publish("alice", key)
		d := w.directory(o.as("bob"))
		finds(b, d, "alice", suite, key, nil)
		b.Run(string(suite), func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Find(context.Background(), "alice", suite); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
