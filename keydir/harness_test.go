package keydir

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const small = seal.HPKEX25519

// town is an authority, another one that is accepted as well, and a log's key. Its offices
// can be several, if they lie.
type town struct {
	t         testing.TB
	ca, other *testca.CA
	signer    *keylog.Signer
}

func newTown(t testing.TB) *town {
	t.Helper()
	signer, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	return &town{t: t, ca: testca.New(t), other: testca.New(t), signer: signer}
}

func (w *town) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) verifier() seal.Verifier {
	roots := w.ca.Pool()
	roots.AddCert(w.other.Root())
	v := w.ca.Verifier()
	v.Roots = roots
	return v
}

func (w *town) signs(ca *testca.CA, name string) *seal.Signer {
	w.t.Helper()
	leaf := ca.Leaf(name, "")
	s, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	w.must(err)
	return s
}

func (w *town) identity(ca *testca.CA, name string) sealmq.Identity {
	w.t.Helper()
	leaf := ca.Leaf(name, "")
	id, err := ca.Identify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf.Leaf, ca.Root()}}})
	w.must(err)
	return id
}

func generate(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// directory asks somebody.
func (w *town) directory(c Asker, change ...func(*Config)) *Directory {
	w.t.Helper()
	cfg := Config{Verifier: w.verifier()}
	for _, f := range change {
		f(&cfg)
	}
	d, err := New(c, cfg)
	w.must(err)
	return d
}

func with(pins *Pins) func(*Config) { return func(c *Config) { c.Pins = pins } }

func strict(c *Config) { c.StrictPins = true }

// office is an honest key directory, without the broker around it.
type office struct {
	*town
	log *keylog.Log
}

func (w *town) office() *office {
	w.t.Helper()
	log, err := keylog.Open(keylog.Config{
		Define:  func(_ []keylog.Definition, done func(error)) { done(nil) },
		Allow:   func(sealmq.Identity, keylog.Action, string) error { return nil },
		Changed: func(sealmq.Identity, keylog.Action, string, error) {},
		Signer:  w.signer, Verifier: w.verifier(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Limits: keylog.Limits{Keys: 10_000, Records: 10_000, Changes: 1000, Chains: 10},
	}, nil)
	w.must(err)
	return &office{w, log}
}

// counter is a connection to an office. A lie replaces answers.
type counter struct {
	*office
	id  sealmq.Identity
	lie func(line, reply string, err error) (string, error)

	mu    sync.Mutex
	asked []string
}

func (o *office) as(name string) *counter { return &counter{office: o, id: o.identity(o.ca, name)} }

func (o *office) admin() *counter {
	return &counter{office: o, id: sealmq.Identity{ID: "admin", Role: sealmq.RoleAdmin}}
}

// lying is a connection whose answers with a prefix are replaced.
func (o *office) lying(name, prefix string, lie func(reply string) string) *counter {
	c := o.as(name)
	c.lie = func(_, reply string, err error) (string, error) {
		if err == nil && strings.HasPrefix(reply, prefix) {
			reply = lie(reply)
		}
		return reply, err
	}
	return c
}

func (c *counter) Command(ctx context.Context, line string) (reply string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, line)
	reply, err = c.answer(line)
	if c.lie != nil {
		return c.lie(line, reply, err)
	}
	return reply, err
}

// print is an answer in JSON.
func print[T any](prefix string, v T, err error) (string, error) {
	p, _ := json.Marshal(v)
	return prefix + string(p), err
}

// answer is what a broker answers. Names in these tests have no spaces.
func (c *counter) answer(line string) (reply string, err error) {
	words := append(strings.Fields(line), "", "")
	number := func(i int) int64 {
		n, err := strconv.ParseInt(words[i], 10, 64)
		c.must(err)
		return n
	}
	switch words[0] {
	case "find_key":
		f, err := c.log.Find(c.id, words[1], words[2])
		return print("Key: ", f, err)
	case "find_reset":
		f, err := c.log.FindReset(c.id, words[1], words[2])
		return print("Reset: ", f, err)
	case "key_log":
		p, err := c.log.Page(c.id, number(1), int(number(2)))
		return print("Key log: ", p, err)
	case "key_proof":
		p, err := c.log.Consistency(c.id, number(1), number(2))
		return print("Key proof: ", p, err)
	case "put_key":
		raw, err := base64.StdEncoding.DecodeString(words[2])
		c.must(err)
		c.log.PutEntry(c.id, words[1], raw, func(index int64, failed error) { reply, err = fmt.Sprint("Key stored ", index), failed })
		return reply, err
	case "attest_restore":
		lost, err := keylog.ParseTree(words[1], words[2])
		c.must(err)
		c.log.AttestRestore(c.id, lost, func(index int64, failed error) { reply, err = fmt.Sprint("Restore attested ", index), failed })
		return reply, err
	case "reset_key":
		c.log.Reset(c.id, words[1], words[2], func(indexes []int64, failed error) {
			reply, err = "Key reset "+strings.Trim(fmt.Sprint(indexes), "[]"), failed
		})
		return reply, err
	}
	return "", &sealmq.Error{Code: sealmq.Unsupported, Message: "unknown command"}
}

// publish publishes a key as its owner.
func (o *office) publish(name string, key *seal.PublicKey) *seal.KeyEntry {
	o.t.Helper()
	e, err := o.publishWith(o.ca, name, key)
	o.must(err)
	return e
}

func (o *office) publishWith(ca *testca.CA, name string, key *seal.PublicKey, change ...func(*Config)) (*seal.KeyEntry, error) {
	o.t.Helper()
	c := &counter{office: o, id: o.identity(ca, name)}
	return o.directory(c, change...).Publish(o.t.Context(), o.signs(ca, name), key)
}

func (o *office) register(name string, key *seal.PublicKey) {
	o.t.Helper()
	o.log.PutKey(sealmq.Identity{ID: "admin", Role: sealmq.RoleAdmin}, name, key.Bytes(), func(_ bool, err error) { o.must(err) })
}

func (o *office) reset(name string, suite seal.Suite) (indexes []int64) {
	o.t.Helper()
	records, err := o.directory(o.admin()).Reset(o.t.Context(), name, suite)
	o.must(err)
	for _, r := range records {
		indexes = append(indexes, r.Index)
	}
	return indexes
}

// finds demands one key, the one, or an error like the other.
func finds(t testing.TB, d *Directory, name string, suite seal.Suite, want *seal.PublicKey, wantErr error) {
	t.Helper()
	key, err := d.Find(t.Context(), name, suite)
	switch {
	case wantErr == errAny && err != nil:
	case wantErr != nil && (!errors.Is(err, wantErr) || key != nil):
		t.Errorf("key %v, error %v, want an error like %v", key, err, wantErr)
	case wantErr == nil && err != nil:
		t.Errorf("error %v", err)
	case wantErr == nil && key.String() != want.String():
		t.Errorf("key %v, want %v", key, want)
	}
}

// refused demands an error that names keys in the form to be read out, and what to do.
func refused(t testing.TB, err, kind error, keys ...*seal.PublicKey) {
	t.Helper()
	if !errors.Is(err, kind) || hintOf(err) == "" {
		t.Errorf("error %v, want one like %v with a hint", err, kind)
		return
	}
	for _, key := range keys {
		if !strings.Contains(err.Error(), key.Digits()) {
			t.Errorf("%v does not name the key %s", err, key.Digits())
		}
	}
}

func hintOf(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func isFork(t testing.TB, err error) {
	t.Helper()
	var fork *ForkError
	if !errors.As(err, &fork) || len(fork.Ours) == 0 || len(fork.Theirs) == 0 || fork.Hint() == "" {
		t.Errorf("error %v, want a fork with its evidence", err)
	}
}

// forger is a key directory that shows whatever the test wants, in a log that is as good as
// an honest one: it takes what an honest broker refuses.
type forger struct {
	*town
	tree   keylog.Tree
	leaves []string
	found  keylog.Found
	put    func(entry []byte) // called for put_key
}

func (w *town) forger() *forger { return &forger{town: w} }

// add puts an entry into the log and shows it from then on.
func (f *forger) add(entry []byte, issuer string) {
	f.t.Helper()
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	f.must(err)
	f.append(keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()})
	f.found = keylog.Found{Client: e.Owner, Suite: string(e.Suite()), Proven: true, Issuer: issuer, Entry: entry, Place: keylog.Place{Index: f.tree.Size() - 1}}
}

func (f *forger) append(leaf keylog.Leaf) {
	f.t.Helper()
	f.must(f.tree.Append(leaf.Text()))
	f.leaves = append(f.leaves, leaf.Text())
}

// reset puts a reset of an entry into the log.
func (f *forger) reset(entry []byte, change ...func(*keylog.Leaf)) keylog.Leaf {
	f.t.Helper()
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	f.must(err)
	leaf := keylog.Leaf{Reset: true, Proven: true, Owner: e.Owner, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
	for _, c := range change {
		c(&leaf)
	}
	f.append(leaf)
	return leaf
}

// entry makes an entry of alice's with a certificate of an authority.
func (f *forger) entry(ca *testca.CA, serial uint64, previous [32]byte) ([]byte, *seal.PublicKey) {
	f.t.Helper()
	key := generate(f.t, small)
	entry, err := seal.NewKeyEntry(f.signs(ca, "alice"), seal.KeyEntry{Key: key, Serial: serial, Previous: previous, Created: time.Now()})
	f.must(err)
	return entry, key
}

func hashOf(t testing.TB, entry []byte) [32]byte {
	t.Helper()
	e, err := seal.ParseKeyEntry(entry, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return e.Hash()
}

func (f *forger) Command(_ context.Context, line string) (string, error) {
	head, err := f.tree.Head()
	f.must(err)
	checkpoint, err := f.signer.Checkpoint(head)
	f.must(err)
	prove := func(index int64) tlog.RecordProof {
		proof, err := tlog.ProveRecord(head.N, index, &f.tree)
		f.must(err)
		return proof
	}
	var from, to int64
	switch word, rest, _ := strings.Cut(line, " "); word {
	case "find_key":
		found := f.found
		found.Proof, found.Checkpoint, found.LogKey = prove(found.Index), checkpoint, f.signer.Public()
		return print("Key: ", found, nil)
	case "find_reset":
		for i, text := range slices.Backward(f.leaves) {
			if strings.HasPrefix(text, "reset ") {
				return print("Reset: ", keylog.FoundReset{Leaf: text, Place: keylog.Place{Index: int64(i), Proof: prove(int64(i)), Checkpoint: checkpoint, LogKey: f.signer.Public()}}, nil)
			}
		}
		return "", &sealmq.Error{Code: sealmq.NoKey, Message: "no key was reset"}
	case "key_log":
		_, _ = fmt.Sscan(rest, &from, &to)
		return print("Key log: ", keylog.Page{From: from, Leaves: f.leaves[from:min(head.N, from+to)], Size: head.N, Checkpoint: checkpoint, LogKey: f.signer.Public()}, nil)
	case "key_proof":
		_, _ = fmt.Sscan(rest, &from, &to)
		proof, err := tlog.ProveTree(to, from, &f.tree)
		return print("Key proof: ", keylog.Consistency{From: from, To: to, Proof: proof}, err)
	case "put_key":
		_, encoded, _ := strings.Cut(rest, " ")
		entry, err := base64.StdEncoding.DecodeString(encoded)
		f.must(err)
		f.put(entry)
		return "Key stored 1", nil
	}
	return "", &sealmq.Error{Code: sealmq.Unsupported, Message: "unknown command"}
}
