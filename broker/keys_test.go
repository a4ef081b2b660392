package broker_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

func bareKey(b byte) []byte { return bytes.Repeat([]byte{b}, keylog.KeyBytes) }

func TestKeys(t *testing.T) {
	n := open(t)
	if _, ok := n.Keys().Key(bob.Identity, "alice"); ok {
		t.Error("a key that was never registered is found")
	}
	put := func(k []byte, wantChanged bool) {
		t.Helper()
		changed, err := n.putKey(alice, "alice", k)
		if err != nil || changed != wantChanged {
			t.Errorf("changed %v, error %v, want %v", changed, err, wantChanged)
		}
	}
	put(bareKey(1), true)
	put(bareKey(1), false)
	put(bareKey(2), true)
	for range 2 {
		if got, ok := n.Keys().Key(bob.Identity, "alice"); !ok || !bytes.Equal(got, bareKey(2)) {
			t.Errorf("key %x, found %v", got, ok)
		}
		put(bareKey(2), false)
		n.restart()
	}
	audited := 0
	for _, e := range n.audit.entries {
		if e.command == "write_key" {
			audited++
		}
	}
	if audited != 2 {
		t.Errorf("%d changes in the audit, want 2", audited)
	}
}

func TestKeyOfTheCallerIsCopied(t *testing.T) {
	n := open(t)
	k := bareKey(1)
	n.Keys().PutKey(alice.Identity, "alice", k, func(bool, error) {})
	clear(k)
	if got, _ := n.Keys().Key(bob.Identity, "alice"); !bytes.Equal(got, bareKey(1)) {
		t.Errorf("key %x", got)
	}
}

func TestKeysAreRefused(t *testing.T) {
	n := open(t)
	nameless := broker.Caller{Identity: sealmq.Identity{ID: "sha256:00", Role: sealmq.RoleClient}}
	spaced := broker.Caller{Identity: sealmq.Identity{ID: "a b", CommonName: "Lab 1 Receiver", Role: sealmq.RoleClient}}
	for _, tc := range []struct {
		name   string
		id     broker.Caller
		client string
		key    []byte
		code   sealmq.Code
	}{
		{"somebody else's", bob, "alice", bareKey(1), sealmq.Denied},
		{"near miss", alice, "Alice", bareKey(1), sealmq.Denied},
		{"id is not the common name", broker.Caller{Identity: sealmq.Identity{ID: "a", CommonName: "b", Role: sealmq.RoleClient}}, "a", bareKey(1), sealmq.Denied},
		{"no common name", nameless, "sha256:00", bareKey(1), sealmq.Denied},
		{"no client", nameless, "", bareKey(1), sealmq.BadName},
		{"short", alice, "alice", bareKey(1)[1:], sealmq.BadArgument},
		{"long", alice, "alice", append(bareKey(1), 0), sealmq.BadArgument},
		{"empty", alice, "alice", nil, sealmq.BadArgument},
		{"line break", admin, "a\nb", bareKey(1), sealmq.BadName},
		{"broken UTF-8", admin, "a\xff", bareKey(1), sealmq.BadName},
		{"long name", admin, strings.Repeat("x", 256), bareKey(1), sealmq.BadName},
	} {
		if _, err := n.putKey(tc.id, tc.client, tc.key); sealmq.CodeOf(err) != tc.code {
			t.Errorf("%s: error %v, want code %s", tc.name, err, tc.code)
		}
	}
	if changed, err := n.putKey(spaced, spaced.CommonName, bareKey(1)); err != nil || !changed {
		t.Errorf("a common name with spaces: changed %v, error %v", changed, err)
	}
	if changed, err := n.putKey(admin, "alice", bareKey(1)); err != nil || !changed {
		t.Errorf("an administrator: changed %v, error %v", changed, err)
	}
	n.restart()
	if _, ok := n.Keys().Key(alice.Identity, "Lab 1 Receiver"); !ok {
		t.Error("the key of a common name with spaces is lost")
	}
}

// What the directory keeps is in the engine, and every command is checked and audited.
func TestKeyDirectory(t *testing.T) {
	ca := testca.New(t)
	signer, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	n := open(t, func(cfg *broker.Config) {
		cfg.Clock = clock.System
		cfg.Directory = &broker.DirectoryConfig{Signer: signer, Verifier: ca.Verifier()}
	})
	leaf := ca.Leaf("alice", "")
	who, err := ca.Identify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf.Leaf, ca.Root()}}})
	n.must(err)
	alice := broker.Caller{Identity: who}
	put := func(id broker.Caller, suite seal.Suite, entry []byte) error {
		_, err := wait(n, func(done func(int64, error)) { n.Keys().PutEntry(id.Identity, string(suite), entry, done) })
		return err
	}
	reset := func(id broker.Caller, client string) error {
		_, err := wait(n, func(done func([]int64, error)) { n.Keys().Reset(id.Identity, client, "", done) })
		return err
	}
	entry1, err := seal.NewKeyEntry(signerOf(t, ca, "alice", ""), seal.KeyEntry{Key: publicKey(t, seal.HPKEHybrid)})
	n.must(err)
	n.code(sealmq.Denied, put(bob, seal.HPKEHybrid, entry1))
	n.code(sealmq.Denied, put(admin, seal.HPKEHybrid, entry1))
	for range 2 { // the second time changes nothing
		n.must(put(alice, seal.HPKEHybrid, entry1))
	}
	chain, sum := signerOf(t, ca, "alice", "").Chain()
	_, err = wait(n, func(done func([32]byte, error)) { n.Keys().PutChain(alice.Identity, chain, done) })
	n.must(err)
	n.restart()
	f, err := n.Keys().Find(bob.Identity, "alice", "")
	if err != nil || !bytes.Equal(f.Entry, entry1) {
		t.Errorf("%+v, %v", f, err)
	}
	if got, err := n.Keys().Chain(bob.Identity, sum); err != nil || !bytes.Equal(got, chain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	n.code(sealmq.Denied, reset(alice, "alice"))
	n.code(sealmq.NoKey, reset(admin, "nobody"))
	n.must(reset(admin, "alice"))
	if c := n.Counts(); c.Keys != 0 || c.Records != 2 || c.Chains != 1 {
		t.Errorf("%+v", c)
	}
	nobody := broker.Caller{}
	for what, err := range map[string]error{
		"find":       errOf(n.Keys().Find(nobody.Identity, "alice", "")),
		"find reset": errOf(n.Keys().FindReset(nobody.Identity, "alice", string(seal.HPKEHybrid))),
		"log":        errOf(n.Keys().Page(nobody.Identity, 0, 1)),
		"proof":      errOf(n.Keys().Consistency(nobody.Identity, 1, 2)),
		"chain":      errOf(n.Keys().Chain(nobody.Identity, sum)),
	} {
		if !errors.Is(err, sealmq.ErrDenied) {
			t.Errorf("%s for nobody: %v", what, err)
		}
	}
	for e, want := range map[entry]int{
		{"alice", "put_key", "alice", ""}:              1,
		{"bob", "put_key", "alice", sealmq.Denied}:     1,
		{"alice", "reset_key", "alice", sealmq.Denied}: 1,
		{"admin", "reset_key", "nobody", sealmq.NoKey}: 1,
		{"admin", "reset_key", "alice", ""}:            1,
	} {
		if got := n.audit.count(e); got != want {
			t.Errorf("%d times in the audit, want %d: %+v", got, want, e)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func (l *trail) count(want entry) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e == want {
			n++
		}
	}
	return n
}
