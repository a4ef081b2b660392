package keylog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
)

func (r *registry) putChain(id sealmq.Identity, chain []byte) ([32]byte, error) {
	return wait(func(done func([32]byte, error)) { r.PutChain(id, chain, done) })
}

func chainOf(t testing.TB, ca *testca.CA, name string) []byte {
	chain, _ := signerOf(t, ca, name, sealmq.RoleClient).Chain()
	return chain
}

func TestChainsAreFoundByTheirHash(t *testing.T) {
	r := open(t)
	alice := r.who(r.ca, "alice", sealmq.RoleClient)
	chain := chainOf(t, r.ca, "alice")
	for range 2 { // the second time is a success without effect
		sum, err := r.putChain(alice, chain)
		if err != nil || sum != sha256.Sum256(chain) {
			t.Errorf("%x %v", sum, err)
		}
	}
	r.restart()
	got, err := r.Chain(bob, sha256.Sum256(chain))
	if err != nil || !bytes.Equal(got, chain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := r.Chain(bob, [32]byte{1}); !errors.Is(err, sealmq.ErrNoKey) {
		t.Errorf("of a hash that nobody stored: %v", err)
	}
}

func TestChainsAreBoundedAndCounted(t *testing.T) {
	r := open(t, func(c *keylog.Config) { c.Limits.Keys, c.Limits.Chains = 1, 2 })
	put := func(name string) error { return second(r.putChain(r.who(r.ca, name, ""), chainOf(t, r.ca, name))) }
	r.must(put("alice"))
	r.must(put("bob"))
	r.code(sealmq.LimitReached, put("carol"))
	r.must(put("alice"))
	r.restart()
	if c := r.Counts(); c.Chains != 2 || c.Keys != 0 {
		t.Errorf("%+v", c)
	}
	r.code(sealmq.LimitReached, put("carol"))
}

func TestChainsAreRefused(t *testing.T) {
	r := open(t)
	alice := r.who(r.ca, "alice", sealmq.RoleClient)
	chain := chainOf(t, r.ca, "alice")
	for what, tt := range map[string]struct {
		chain []byte
		code  sealmq.Code
	}{
		"empty":                {nil, sealmq.BadArgument},
		"cut":                  {chain[:len(chain)-1], sealmq.BadArgument},
		"somebody else's":      {chainOf(t, r.ca, "bob"), sealmq.Denied},
		"of another authority": {chainOf(t, testca.New(t), "alice"), sealmq.BadArgument},
	} {
		if _, err := r.putChain(alice, tt.chain); sealmq.CodeOf(err) != tt.code {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestChainsOfOneClientAreBounded(t *testing.T) {
	r := open(t)
	alice := r.who(r.ca, "alice", sealmq.RoleClient)
	chain := func(i int) []byte {
		leaf := r.ca.Issue(r.ca.Template("alice", sealmq.RoleClient)).Certificate[0]
		return append([]byte{byte(len(leaf) >> 8), byte(len(leaf))}, leaf...)
	}
	for i := range keylog.MaxChains {
		if _, err := r.putChain(alice, chain(i)); err != nil {
			t.Fatal(fmt.Errorf("chain %d: %w", i, err))
		}
	}
	if _, err := r.putChain(alice, chain(-1)); sealmq.CodeOf(err) != sealmq.LimitReached {
		t.Errorf("one more: %v", err)
	}
	bob := r.who(r.ca, "bob", sealmq.RoleClient)
	if _, err := r.putChain(bob, chainOf(t, r.ca, "bob")); err != nil {
		t.Errorf("another client: %v", err)
	}
	other := testca.New(t)
	r.cfg.Verifier = other.Verifier()
	r.restart()
	if _, err := r.putChain(r.who(other, "alice", ""), chainOf(t, other, "alice")); err != nil {
		t.Errorf("another authority's alice: %v", err)
	}
}
