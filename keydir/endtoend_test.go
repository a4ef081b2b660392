package keydir_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// node is a real broker with a key directory.
type node struct {
	*testnode.Node
	t testing.TB
}

func start(t testing.TB) *node {
	t.Helper()
	signer, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.New(t)
	return &node{testnode.Start(t, testnode.Config{CA: ca,
		Directory: &broker.DirectoryConfig{Signer: signer, Verifier: ca.Verifier()}}), t}
}

// directory connects as somebody, or as an administrator.
func (n *node) directory(name string, pins *keydir.Pins, notice func(string)) *keydir.Directory {
	n.t.Helper()
	cfg := client.Config{TLS: n.CA.ClientTLS(name)}
	if name == "admin" {
		cfg.TLS = n.CA.AdminTLS()
	}
	d, err := keydir.New(n.Dial(cfg), keydir.Config{Verifier: n.CA.Verifier(), Pins: pins, Notice: notice})
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func (n *node) publish(name string, key *seal.PublicKey) *seal.KeyEntry {
	n.t.Helper()
	leaf := n.CA.Leaf(name, "")
	signer, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		n.t.Fatal(err)
	}
	e, err := n.directory(name, nil, nil).Publish(n.t.Context(), signer, key)
	if err != nil {
		n.t.Fatal(err)
	}
	return e
}

func generate(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func finds(t testing.TB, d *keydir.Directory, suite seal.Suite, want *seal.PublicKey, wantErr error) {
	t.Helper()
	key, err := d.Find(t.Context(), "alice", suite)
	if !errors.Is(err, wantErr) || wantErr == nil && key.String() != want.String() {
		t.Errorf("key %v, error %v, want %v, %v", key, err, want, wantErr)
	}
}

func TestDirectoryEndToEnd(t *testing.T) {
	n := start(t)
	file := filepath.Join(t.TempDir(), "sub", "pins.json")
	pins, err := keydir.OpenPins(file, "town")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var notices []string
	bob := n.directory("bob", pins, func(s string) { mu.Lock(); notices = append(notices, s); mu.Unlock() })
	finds(t, bob, "", nil, sealmq.ErrNoKey)

	first, hybrid, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEHybrid), generate(t, seal.HPKEX25519)
	if e := n.publish("alice", first); e.Serial != 1 || e.Owner != "alice" {
		t.Errorf("%+v", e)
	}
	finds(t, bob, "", first, nil)
	finds(t, bob, seal.HPKEHybrid, nil, sealmq.ErrNoKey)
	if e := n.publish("alice", first); e.Serial != 1 {
		t.Errorf("the same key again made entry %d", e.Serial)
	}
	n.publish("alice", hybrid)
	finds(t, bob, "", hybrid, nil)
	finds(t, bob, seal.HPKEX25519, first, nil)
	if e := n.publish("alice", second); e.Serial != 2 {
		t.Errorf("the next key made entry %d", e.Serial)
	}
	finds(t, bob, seal.HPKEX25519, second, nil)
	if len(notices) != 3 || !strings.Contains(notices[2], "replaced by its owner (entry 2)") || !strings.Contains(notices[2], second.Digits()) {
		t.Errorf("notices %q", notices)
	}

	n.Stop() // and a restart changes nothing
	n.Start()
	again, err := keydir.OpenPins(file, "town")
	if err != nil {
		t.Fatal(err)
	}
	bob = n.directory("bob", again, nil)
	finds(t, bob, "", hybrid, nil)
	finds(t, bob, seal.HPKEX25519, second, nil)
	if keys, err := again.Keys(); err != nil || len(keys["alice"]) != 2 || keys["alice"][string(seal.HPKEX25519)].Serial != 2 {
		t.Errorf("%+v, %v", keys, err)
	}
	a, err := bob.Audit(t.Context(), "alice")
	if err != nil || a.Size != 3 || len(a.Records) != 3 || a.Records[2].Serial != 2 || !a.Records[2].Proven {
		t.Errorf("%+v, %v", a, err)
	}
}

// A power cut takes back nothing that was signed.
func TestDirectorySurvivesPowerCuts(t *testing.T) {
	n := start(t)
	pins := keydir.NewPins()
	for i := range 4 {
		last := generate(t, seal.HPKEX25519)
		n.publish("alice", last)
		finds(t, n.directory("bob", pins, nil), "", last, nil)
		n.Crash(uint64(i))
		finds(t, n.directory("bob", pins, nil), "", last, nil)
	}
	if a, err := n.directory("bob", pins, nil).Audit(t.Context(), "alice"); err != nil || a.Size != 4 {
		t.Errorf("%+v, %v", a, err)
	}
}

// A reset happens wholly or not at all, whenever the power is cut, and what anybody was
// shown is not taken back.
func TestResetSurvivesPowerCutsAtAnyOperation(t *testing.T) {
	n := start(t)
	key, hybrid := generate(t, seal.HPKEX25519), generate(t, seal.HPKEHybrid)
	n.publish("alice", key)
	n.publish("alice", hybrid)
	n.Stop()
	clean := n.FS
	for at, over := 1, false; !over; at++ {
		n.FS = clean.Snapshot()
		n.Start()
		pins := keydir.NewPins()
		finds(t, n.directory("bob", pins, nil), "", hybrid, nil)
		admin := n.directory("admin", nil, nil)
		n.FS.PowerOffAt(at)
		_, failed := admin.Reset(t.Context(), "alice", "")
		if failed == nil {
			over = true
			finds(t, n.directory("bob", pins, nil), "", nil, keydir.ErrReset)
		}
		n.Crash(uint64(at))
		bob := n.directory("bob", pins, nil)
		got, err := bob.Find(t.Context(), "alice", "")
		switch {
		case errors.Is(err, keydir.ErrReset):
			finds(t, bob, seal.HPKEX25519, nil, sealmq.ErrNoKey)
		case failed == nil || err != nil || got.Fingerprint() != hybrid.Fingerprint():
			t.Fatalf("cut at %d: reset %v, then %v, %v", at, failed, got, err)
		default:
			finds(t, bob, seal.HPKEX25519, key, nil)
			if _, err := n.directory("admin", nil, nil).Reset(t.Context(), "alice", ""); err != nil {
				t.Fatal(err)
			}
		}
		if e := n.publish("alice", key); e.Serial != 2 {
			t.Errorf("cut at %d: entry %d", at, e.Serial)
		}
		if a, err := n.directory("carol", nil, nil).Audit(t.Context(), "alice"); err != nil || a.Size != 5 {
			t.Errorf("cut at %d: %+v, %v", at, a, err)
		}
		n.Stop()
		if at > 50 {
			t.Fatal("a reset takes too many operations")
		}
	}
}
