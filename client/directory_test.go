package client_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// town is an authority and a log's key; its brokers can be several, if they lie.
type town struct {
	t      testing.TB
	ca     *testca.CA
	signer *keylog.Signer
}

func newTown(t testing.TB) *town {
	t.Helper()
	signer, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	return &town{t: t, ca: testca.New(t), signer: signer}
}

func (w *town) verifier() seal.Verifier {
	return &seal.X509Verifier{Roots: w.ca.Pool(), Identify: w.ca.Identify}
}

// broker starts a real one with a key directory.
func (w *town) broker() *testnode.Node {
	w.t.Helper()
	return w.brokerOn(nil)
}

func (w *town) brokerOn(network *testnode.Pipes) *testnode.Node {
	w.t.Helper()
	return testnode.Start(w.t, testnode.Config{CA: w.ca, Network: network,
		Directory: &broker.DirectoryConfig{Signer: w.signer, Verifier: w.verifier()}})
}

func (w *town) signs(name string) *seal.Signer {
	w.t.Helper()
	leaf := w.ca.Leaf(name, "")
	s, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// directory connects as somebody.
func (w *town) directory(addr, name string, change ...func(*keydir.Config)) *keydir.Directory {
	w.t.Helper()
	c, err := client.Dial(w.t.Context(), client.Config{Addr: addr, TLS: w.ca.ClientTLS(name)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	cfg := keydir.Config{Verifier: w.verifier(), Scope: "town"}
	for _, f := range change {
		f(&cfg)
	}
	d, err := keydir.New(c, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func with(pins *keydir.Pins) func(*keydir.Config) {
	return func(c *keydir.Config) { c.Pins = pins }
}

func generate(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func (w *town) publish(addr, name string, key *seal.PublicKey) *seal.KeyEntry {
	w.t.Helper()
	e, err := w.directory(addr, name).Publish(w.t.Context(), w.signs(name), key)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// finds demands one key, the one, or an error like the other.
func finds(t testing.TB, d *keydir.Directory, name string, suite seal.Suite, want *seal.PublicKey, wantErr error) {
	t.Helper()
	key, err := d.Find(t.Context(), name, suite)
	switch {
	case wantErr != nil && (!errors.Is(err, wantErr) || key != nil):
		t.Errorf("key %v, error %v, want an error like %v", key, err, wantErr)
	case wantErr == nil && err != nil:
		t.Errorf("error %v", err)
	case wantErr == nil && key.String() != want.String():
		t.Errorf("key %v, want %v", key, want)
	}
}

func isFork(t *testing.T, err error) *keydir.ForkError {
	t.Helper()
	var fork *keydir.ForkError
	if !errors.As(err, &fork) {
		t.Fatalf("error %v, want a fork", err)
	}
	if len(fork.Ours) == 0 || len(fork.Theirs) == 0 || fork.Hint() == "" {
		t.Errorf("%+v is no evidence", fork)
	}
	return fork
}

func TestDirectoryEndToEnd(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	file := filepath.Join(t.TempDir(), "sub", "pins.json")
	pins, err := keydir.OpenPins(file)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var notices []string
	told := func(c *keydir.Config) {
		c.Pins = pins
		c.Notice = func(s string) { mu.Lock(); notices = append(notices, s); mu.Unlock() }
	}
	bob := w.directory(n.Addr, "bob", told)
	finds(t, bob, "alice", "", nil, sealmq.ErrNoKey)

	first, hybrid, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEHybrid), generate(t, seal.HPKEX25519)
	if e := w.publish(n.Addr, "alice", first); e.Serial != 1 || e.Owner != "alice" {
		t.Errorf("%+v", e)
	}
	finds(t, bob, "alice", "", first, nil)
	finds(t, bob, "alice", seal.HPKEHybrid, nil, sealmq.ErrNoKey)
	if e := w.publish(n.Addr, "alice", first); e.Serial != 1 {
		t.Errorf("the same key again made entry %d", e.Serial)
	}
	w.publish(n.Addr, "alice", hybrid)
	finds(t, bob, "alice", "", hybrid, nil)
	finds(t, bob, "alice", seal.HPKEX25519, first, nil)
	if e := w.publish(n.Addr, "alice", second); e.Serial != 2 {
		t.Errorf("the next key made entry %d", e.Serial)
	}
	finds(t, bob, "alice", seal.HPKEX25519, second, nil)
	if len(notices) != 3 || !strings.Contains(notices[2], "replaced by its owner (entry 2)") || !strings.Contains(notices[2], second.Digits()) {
		t.Errorf("notices %q", notices)
	}

	n.Stop() // and a restart changes nothing
	n.Start()
	again, err := keydir.OpenPins(file)
	if err != nil {
		t.Fatal(err)
	}
	bob = w.directory(n.Addr, "bob", with(again))
	finds(t, bob, "alice", "", hybrid, nil)
	finds(t, bob, "alice", seal.HPKEX25519, second, nil)
	if keys, err := again.Keys("town"); err != nil || len(keys["alice"]) != 2 || keys["alice"][string(seal.HPKEX25519)].Serial != 2 {
		t.Errorf("%+v, %v", keys, err)
	}
	a, err := bob.Audit(t.Context(), "alice")
	if err != nil || a.Size != 3 || len(a.Records) != 3 || a.Records[2].Serial != 2 || !a.Records[2].Proven {
		t.Errorf("%+v, %v", a, err)
	}
}

// Everything that a broker can say about keys in place of the truth, each by itself.
func TestLyingDirectoryIsCaught(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	first, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "alice", first)
	w.publish(n.Addr, "carol", generate(t, seal.HPKEX25519))
	old := rawFind(t, n, "find_key alice")
	w.publish(n.Addr, "alice", second)
	hybrid := generate(t, seal.HPKEHybrid)
	w.publish(n.Addr, "dave", generate(t, seal.HPKEX25519))
	weak := rawFind(t, n, "find_key dave")
	w.publish(n.Addr, "dave", hybrid)
	fresh := func() keylog.Found { return rawFind(t, n, "find_key alice") }
	other, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	foreign := testca.New(t)

	l, err := liar.Listen(liar.Config{TLS: w.ca.ServerTLS(), Identify: w.ca.Identify,
		Upstream: func(ctx context.Context, name string) (net.Conn, error) {
			return (&tls.Dialer{Config: named(w.ca.ClientTLS(name))}).DialContext(ctx, "tcp", n.Addr)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	// answer replaces the answer to one kind of question.
	answer := func(prefix string, f func(line string) string) {
		l.Lie(liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
			if strings.HasPrefix(line, prefix) {
				line = f(line)
			}
			return []string{line}
		}})
	}
	found := func(change func(f *keylog.Found)) func(string) string {
		return func(string) string {
			f := fresh()
			change(&f)
			p, _ := json.Marshal(f)
			return "Key: " + string(p)
		}
	}
	own := func(owner string, ca *testca.CA) []byte {
		leaf := ca.Leaf(owner, "")
		s, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		e, err := seal.NewKeyEntry(s, seal.KeyEntry{Key: generate(t, seal.HPKEX25519), Serial: 3, Previous: [32]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, tc := range []struct {
		name   string
		prefix string
		lie    func(string) string
		pinned bool // alice's newest key was seen before
		want   error
	}{
		{"an honest one", "none", nil, false, nil},
		{"an honest one, pinned", "none", nil, true, nil},
		{"an old answer", "Key: ", found(func(f *keylog.Found) { *f = old }), true, keydir.ErrRollback},
		{"an old entry with a new proof", "Key: ", found(func(f *keylog.Found) { f.Entry = old.Entry }), true, keydir.ErrLog},
		{"an old entry, found in the log, to a stranger", "Key: ", func(string) string { return oldInNewTree(t, n, old) }, false, keydir.ErrRollback},
		{"an old entry, found in the log, to who knows better", "Key: ", func(string) string { return oldInNewTree(t, n, old) }, true, keydir.ErrRollback},
		{"another's entry", "Key: ", found(func(f *keylog.Found) { *f = rawFind(t, n, "find_key carol") }), false, keydir.ErrLog},
		{"another's entry under this name", "Key: ", found(func(f *keylog.Found) { *f = rawFind(t, n, "find_key carol"); f.Client = "alice" }), false, keydir.ErrLog},
		{"an entry without a signature", "Key: ", found(func(f *keylog.Found) { f.Entry = unsign(f.Entry) }), false, seal.ErrSignature},
		{"an entry of another authority", "Key: ", found(func(f *keylog.Found) { f.Entry = own("alice", foreign) }), false, keydir.ErrLog},
		{"an entry signed by somebody else", "Key: ", found(func(f *keylog.Found) { f.Entry = own("mallory", w.ca) }), false, keydir.ErrLog},
		{"a bare key in place of the entry", "Key: ", found(func(f *keylog.Found) { f.Proven, f.Entry, f.Key = false, nil, second.Bytes() }), false, keydir.ErrLog},
		{"no proof", "Key: ", found(func(f *keylog.Found) { f.Proof = nil }), false, keydir.ErrLog},
		{"a wrong place", "Key: ", found(func(f *keylog.Found) { f.Index++ }), false, keydir.ErrLog},
		{"another checkpoint's key", "Key: ", found(func(f *keylog.Found) { f.LogKey = other.Public() }), true, keydir.ErrLog},
		{"another checkpoint's key, to a stranger", "Key: ", found(func(f *keylog.Found) { f.LogKey = other.Public() }), false, keydir.ErrLog},
		{"no checkpoint", "Key: ", found(func(f *keylog.Found) { f.Checkpoint = nil }), false, keydir.ErrLog},
		{"no key", "Key: ", func(string) string { return "Error no_key: no key of 'alice' is known" }, true, keydir.ErrRollback},
		{"no key, to a stranger", "Key: ", func(string) string { return "Error no_key: no key of 'alice' is known" }, false, sealmq.ErrNoKey},
		{"nonsense", "Key: ", func(string) string { return "Key: {" }, false, keydir.ErrLog},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pins := keydir.NewPins()
			if tc.pinned {
				finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", second, nil)
			}
			answer(tc.prefix, tc.lie)
			defer l.Lie(liar.Lies{})
			finds(t, w.directory(l.Addr(), "bob", with(pins)), "alice", "", second, tc.want)
		})
	}

	t.Run("a weaker suite", func(t *testing.T) {
		pins := keydir.NewPins()
		finds(t, w.directory(n.Addr, "bob", with(pins)), "dave", "", hybrid, nil)
		answer("Key: ", func(string) string { return reprove(t, n, weak, "find_key dave hpke-x25519-aes256gcm") })
		defer l.Lie(liar.Lies{})
		finds(t, w.directory(l.Addr(), "bob", with(pins)), "dave", "", nil, keydir.ErrRollback)
		finds(t, w.directory(l.Addr(), "bob"), "dave", "", nil, keydir.ErrRollback)
		// Both are pinned, and the log is not read any more.
		if _, err := w.directory(n.Addr, "bob", with(pins)).Find(t.Context(), "dave", seal.HPKEX25519); err != nil {
			t.Fatal(err)
		}
		finds(t, w.directory(l.Addr(), "bob", with(pins)), "dave", "", nil, keydir.ErrRollback)
	})
	t.Run("a record hidden in the log", func(t *testing.T) {
		answer("Key log: ", func(line string) string {
			var p keylog.Page
			_ = json.Unmarshal([]byte(strings.TrimPrefix(line, "Key log: ")), &p)
			if len(p.Leaves) > 2 {
				p.Leaves[2] = p.Leaves[1]
			}
			out, _ := json.Marshal(p)
			return "Key log: " + string(out)
		})
		defer l.Lie(liar.Lies{})
		if _, err := w.directory(l.Addr(), "bob").Audit(t.Context(), "alice"); !errors.Is(err, keydir.ErrLog) {
			t.Errorf("error %v", err)
		}
	})
}

func named(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ServerName = "127.0.0.1"
	return c
}

// rawFind asks without checking.
func rawFind(t testing.TB, n *testnode.Node, line string) (f keylog.Found) {
	t.Helper()
	reply, err := n.Dial(client.Config{}).Command(t.Context(), line)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(reply, "Key: ")), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// oldInNewTree is what a liar with the log at hand says: an entry that was replaced, with
// its own good proof in the newest tree.
func oldInNewTree(t *testing.T, n *testnode.Node, old keylog.Found) string {
	t.Helper()
	return reprove(t, n, old, "find_key alice")
}

func reprove(t *testing.T, n *testnode.Node, old keylog.Found, line string) string {
	t.Helper()
	f := rawFind(t, n, line)
	old.Checkpoint = f.Checkpoint
	old.Proof = proofOf(t, n, old.Index)
	p, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	return "Key: " + string(p)
}

// proofOf proves a record of the log as it is now.
func proofOf(t *testing.T, n *testnode.Node, index int64) tlog.RecordProof {
	t.Helper()
	reply, err := n.Dial(client.Config{}).Command(t.Context(), "key_log")
	if err != nil {
		t.Fatal(err)
	}
	var p keylog.Page
	if err := json.Unmarshal([]byte(strings.TrimPrefix(reply, "Key log: ")), &p); err != nil {
		t.Fatal(err)
	}
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, hashes[i])
		}
		return list, nil
	})
	for i, text := range p.Leaves {
		more, err := tlog.StoredHashes(int64(i), []byte(text), reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	proof, err := tlog.ProveRecord(p.Size, index, reader)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func unsign(entry []byte) []byte {
	n := int(entry[0])<<8 | int(entry[1])
	out := append([]byte(nil), entry...)
	clear(out[2+n+2 : 2+n+2+int(entry[2+n+1])])
	return out
}

func TestForkedAndShortenedLogs(t *testing.T) {
	w := newTown(t)
	a, b := w.broker(), w.broker() // one operator, two truths
	real, forged := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish(a.Addr, "alice", real)
	w.publish(b.Addr, "alice", forged)

	// The same reader is shown both.
	pins := keydir.NewPins()
	finds(t, w.directory(a.Addr, "bob", with(pins)), "alice", "", real, nil)
	_, err := w.directory(b.Addr, "bob", with(pins)).Find(t.Context(), "alice", "")
	isFork(t, err)
	w.publish(b.Addr, "carol", generate(t, seal.HPKEX25519))
	_, err = w.directory(b.Addr, "bob", with(pins)).Find(t.Context(), "carol", "")
	isFork(t, err)

	// Two readers are shown one each, and meet.
	bob, eve := w.directory(a.Addr, "bob"), w.directory(b.Addr, "eve")
	finds(t, bob, "alice", "", real, nil)
	finds(t, eve, "alice", "", forged, nil)
	for range 2 {
		isFork(t, bob.CheckPeer(t.Context(), eve.Checkpoint()))
		isFork(t, eve.CheckPeer(t.Context(), bob.Checkpoint()))
	}
	honest := w.directory(a.Addr, "frank")
	if err := honest.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest control: %v", err)
	}
	grace := generate(t, seal.HPKEX25519)
	w.publish(a.Addr, "grace", grace)
	finds(t, bob, "alice", "", real, nil)
	if err := honest.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest control with a log that has grown: %v", err)
	}
	if err := bob.CheckPeer(t.Context(), honest.Checkpoint()); err != nil {
		t.Errorf("an honest control with an older checkpoint: %v", err)
	}

	// A log that has become shorter.
	finds(t, w.directory(a.Addr, "bob", with(pins)), "grace", "", grace, nil)
	empty := w.broker()
	finds(t, w.directory(empty.Addr, "bob", with(pins)), "alice", "", nil, keydir.ErrRollback)
	w.publish(empty.Addr, "alice", real)
	finds(t, w.directory(empty.Addr, "bob", with(pins)), "alice", "", nil, keydir.ErrRollback)
	finds(t, w.directory(a.Addr, "henry"), "grace", "", grace, nil)
}

func TestPeersCheckpointsThatAreNone(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	w.publish(n.Addr, "alice", generate(t, seal.HPKEX25519))
	stranger := newTown(t)
	other := stranger.broker()
	stranger.publish(other.Addr, "alice", generate(t, seal.HPKEX25519))
	away := stranger.directory(other.Addr, "bob")
	if _, err := away.Audit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	d := w.directory(n.Addr, "bob")
	for _, bad := range [][]byte{nil, []byte("nonsense"), away.Checkpoint()} {
		for range 2 {
			if err := d.CheckPeer(t.Context(), bad); !errors.Is(err, keydir.ErrCheckpoint) {
				t.Errorf("%.40q: error %v", bad, err)
			}
		}
	}
	if _, err := d.Audit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	flipped := d.Checkpoint()
	flipped[len(flipped)-10] ^= 1
	if err := d.CheckPeer(t.Context(), flipped); !errors.Is(err, keydir.ErrCheckpoint) {
		t.Errorf("a changed one: %v", err)
	}
}

func TestUnprovenKeysAndStrictPins(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	register := func(name string, key *seal.PublicKey) {
		t.Helper()
		p, err := n.Dial(client.Config{}).Command(t.Context(), fmt.Sprintf("register_key %s %s", name, b64(key)))
		if err != nil || p != "Public key registered" {
			t.Fatalf("%q, %v", p, err)
		}
	}
	bare, next := generate(t, seal.CipherMQG5), generate(t, seal.CipherMQG5)
	register("lab", bare)
	_, err := w.directory(n.Addr, "bob").Find(t.Context(), "lab", "")
	refused(t, err, keydir.ErrUnproven, bare)
	pins := keydir.NewPins()
	allow := func(c *keydir.Config) { c.Pins, c.AllowUnproven = pins, true }
	loose := w.directory(n.Addr, "bob", allow)
	finds(t, loose, "lab", "", bare, nil)
	finds(t, loose, "lab", seal.HPKEHybrid, nil, sealmq.ErrNoKey)
	register("lab", next)
	_, err = loose.Find(t.Context(), "lab", "")
	refused(t, err, keydir.ErrPinned, bare, next)
	_, err = w.directory(n.Addr, "bob", with(pins)).Find(t.Context(), "lab", "")
	refused(t, err, keydir.ErrUnproven, bare, next)
	if _, err := pins.Forget(t.Context(), "town", "lab"); err != nil {
		t.Fatal(err)
	}
	finds(t, loose, "lab", "", next, nil)
	// An entry takes the place of the bare key, and never the other way.
	proven := generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "lab", proven)
	finds(t, loose, "lab", "", proven, nil)
	finds(t, loose, "lab", seal.CipherMQG5, next, nil)

	strict := w.directory(n.Addr, "carol", func(c *keydir.Config) { c.StrictPins = true })
	finds(t, strict, "lab", "", proven, nil)
	replaced := generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "lab", replaced)
	_, err = strict.Find(t.Context(), "lab", "")
	refused(t, err, keydir.ErrPinned, proven, replaced)
}

// refused demands an error that names keys in the form to be read out, and what to do.
func refused(t testing.TB, err, kind error, keys ...*seal.PublicKey) {
	t.Helper()
	var hinted interface{ Hint() string }
	if !errors.Is(err, kind) || !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("error %v, want one like %v with a hint", err, kind)
		return
	}
	for _, key := range keys {
		if !strings.Contains(err.Error(), key.Digits()) {
			t.Errorf("%v does not name the key %s", err, key.Digits())
		}
	}
}

func b64(k *seal.PublicKey) string {
	p, _ := json.Marshal(k.Bytes())
	return strings.Trim(string(p), `"`)
}

// A power cut takes back nothing that was signed.
func TestDirectorySurvivesPowerCuts(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	pins := keydir.NewPins()
	var last *seal.PublicKey
	for i := range 4 {
		last = generate(t, seal.HPKEX25519)
		w.publish(n.Addr, "alice", last)
		finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", last, nil)
		n.Crash(uint64(i))
		finds(t, w.directory(n.Addr, "bob", with(pins)), "alice", "", last, nil)
	}
	if a, err := w.directory(n.Addr, "bob", with(pins)).Audit(t.Context(), "alice"); err != nil || a.Size != 4 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestOwnersWhoPublishAtOnce(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	keys := []*seal.PublicKey{generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)}
	w.publish(n.Addr, "alice", keys[0])
	// Somebody who has the certificate's key publishes another one: the owner sees it.
	if e := w.publish(n.Addr, "alice", keys[1]); e.Serial != 2 {
		t.Errorf("%+v", e)
	}
	a, err := w.directory(n.Addr, "alice").Audit(t.Context(), "alice")
	if err != nil || len(a.Records) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := w.directory(n.Addr, "bob").Publish(t.Context(), w.signs("alice"), keys[0]); !errors.Is(err, sealmq.ErrDenied) {
		t.Errorf("alice's entry over bob's connection: %v", err)
	}
}

func TestExpiredOwner(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	w.publish(n.Addr, "alice", generate(t, seal.HPKEX25519))
	later := &seal.X509Verifier{Roots: w.ca.Pool(), Identify: w.ca.Identify, Now: func() time.Time { return time.Now().AddDate(0, 3, 0) }}
	d := w.directory(n.Addr, "bob", func(c *keydir.Config) { c.Verifier = later })
	_, err := d.Find(t.Context(), "alice", "")
	if !errors.Is(err, seal.ErrExpired) || !strings.Contains(seal.Hint(err), "publish the key again") {
		t.Errorf("%v, hint %q", err, seal.Hint(err))
	}
}

// BenchmarkDirectoryFind is a look-up over TLS on this machine with all proofs, of a key
// that is pinned already, in a log of a thousand records.
func BenchmarkDirectoryFind(b *testing.B) {
	w := newTown(b)
	n := w.broker()
	admin := n.Dial(client.Config{})
	for i := range 1000 {
		if _, err := admin.Command(b.Context(), fmt.Sprintf("register_key lab%d %s", i, b64(generate(b, seal.CipherMQG5)))); err != nil {
			b.Fatal(err)
		}
	}
	for _, suite := range []seal.Suite{seal.HPKEHybrid, seal.HPKEX25519} {
		key := generate(b, suite)
		w.publish(n.Addr, "alice", key)
		d := w.directory(n.Addr, "bob")
		finds(b, d, "alice", suite, key, nil)
		reply, err := admin.Command(b.Context(), "find_key alice "+string(suite))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(suite), func(b *testing.B) {
			for b.Loop() {
				if _, err := d.Find(b.Context(), "alice", suite); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(reply)+1), "reply-bytes")
		})
	}
}
