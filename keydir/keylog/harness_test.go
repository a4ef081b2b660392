package keylog_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
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

// store keeps definitions in memory. It can hold its answers back, and refuse.
type store struct {
	mu      sync.Mutex
	kept    map[string][]byte
	holding bool
	held    []func()
	refuse  error
}

func (s *store) define(batch []keylog.Definition, done func(error)) {
	s.mu.Lock()
	err := s.refuse
	answer := func() {
		if err == nil {
			s.mu.Lock()
			for _, d := range batch {
				if s.kept[d.Key] = d.Value; len(d.Value) == 0 {
					delete(s.kept, d.Key)
				}
			}
			s.mu.Unlock()
		}
		done(err)
	}
	if s.holding {
		s.held = append(s.held, answer)
		answer = func() {}
	}
	s.mu.Unlock()
	answer()
}

func (s *store) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = true
}

// release answers what was held back, the last call first if backwards is set.
func (s *store) release(backwards bool) {
	s.mu.Lock()
	held := s.held
	s.held, s.holding = nil, false
	s.mu.Unlock()
	if backwards {
		slices.Reverse(held)
	}
	for _, answer := range held {
		answer()
	}
}

// definitions are what is kept, in the order of their keys.
func (s *store) definitions() (list []keylog.Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.kept)) {
		list = append(list, keylog.Definition{Key: key, Value: s.kept[key]})
	}
	return list
}

// keys is a name that testing.TB does not have.
type keys = keylog.Log

// registry is a Log over a store in memory, and an authority whose certificates it knows.
type registry struct {
	testing.TB
	*keys
	ca     *testca.CA
	signer *keylog.Signer
	store  *store
	cfg    keylog.Config
}

var (
	admin = sealmq.Identity{ID: "admin", CommonName: "admin", Role: sealmq.RoleAdmin}
	bob   = sealmq.Identity{ID: "bob", CommonName: "bob", Role: sealmq.RoleClient}
)

func open(t testing.TB, change ...func(*keylog.Config)) *registry {
	t.Helper()
	r := &registry{TB: t, ca: testca.New(t), store: &store{kept: make(map[string][]byte)}}
	var err error
	r.signer, _, err = keylog.NewSigner()
	r.must(err)
	r.cfg = keylog.Config{Define: r.store.define,
		Allow:   func(sealmq.Identity, keylog.Action, string) error { return nil },
		Changed: func(sealmq.Identity, keylog.Action, string, error) {}, Signer: r.signer, Verifier: r.verifier(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Limits: keylog.Limits{Keys: 1000, Records: 10_000, Changes: 100, Chains: 100}}
	for _, f := range change {
		f(&r.cfg)
	}
	r.restart()
	return r
}

// restart reads everything from the store.
func (r *registry) restart() {
	r.Helper()
	var err error
	r.keys, err = keylog.Open(r.cfg, r.store.definitions())
	r.must(err)
	r.Complete()
}

func (r *registry) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *registry) code(want sealmq.Code, err error) {
	r.Helper()
	if got := sealmq.CodeOf(err); got != want {
		r.Errorf("error %v, want code %s", err, want)
	}
}

func (r *registry) verifier() seal.Verifier {
	return r.ca.Verifier()
}

// key is a bare key. Nothing could be sealed for one of zeros.
func key(b byte) []byte { return append(bytes.Repeat([]byte{b}, keylog.KeyBytes-1), 9) }

func second[T any](_ T, err error) error { return err }

// answer is the first answer of an asynchronous call.
type answer[T any] struct {
	value T
	err   error
}

func wait[T any](call func(done func(T, error))) (T, error) {
	c := make(chan answer[T], 1)
	call(func(v T, err error) { c <- answer[T]{v, err} })
	a := <-c
	return a.value, a.err
}

func (r *registry) putKey(by sealmq.Identity, client string, key []byte) (changed bool, err error) {
	return wait(func(done func(bool, error)) { r.PutKey(by, client, key, done) })
}

// who is the identity of a connection with this certificate.
func (r *registry) who(ca *testca.CA, name string, role sealmq.Role) sealmq.Identity {
	r.Helper()
	leaf := ca.Leaf(name, role)
	id, err := ca.Identify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf.Leaf, ca.Root()}}})
	r.must(err)
	return id
}

func signerOf(t testing.TB, ca *testca.CA, name string, role sealmq.Role) *seal.Signer {
	t.Helper()
	leaf := ca.Leaf(name, role)
	s, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicKey(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// entry makes an entry of alice's that follows another one, or the first.
func (r *registry) entry(key *seal.PublicKey, after []byte, change ...func(*seal.KeyEntry)) []byte {
	r.Helper()
	e := seal.KeyEntry{Key: key, Serial: 1, Created: time.Now()}
	if after != nil {
		before, err := seal.ParseKeyEntry(after, ciphermq.Suites{})
		r.must(err)
		e.Serial, e.Previous = before.Serial+1, before.Hash()
	}
	for _, f := range change {
		f(&e)
	}
	entry, err := seal.NewKeyEntry(signerOf(r, r.ca, "alice", ""), e)
	r.must(err)
	return entry
}

func (r *registry) put(id sealmq.Identity, suite seal.Suite, entry []byte) (int64, error) {
	r.Helper()
	return wait(func(done func(int64, error)) { r.PutEntry(id, string(suite), entry, done) })
}

// proven checks what find_key answers and returns the tree.
func (r *registry) proven(f keylog.Found, leaf keylog.Leaf) tlog.Tree {
	r.Helper()
	tree, err := keylog.OpenCheckpoint(f.Checkpoint, r.signer.Public())
	r.must(err)
	r.must(tlog.CheckRecord(f.Proof, tree.N, tree.Hash, f.Index, leaf.Record()))
	return tree
}

func (r *registry) leafOf(entry []byte, issuer string) keylog.Leaf {
	r.Helper()
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	r.must(err)
	return keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
}
