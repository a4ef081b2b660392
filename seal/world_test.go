package seal_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

// world is an authority, a sender named alice and receivers, of one suite.
type world struct {
	tb    testing.TB
	suite seal.Suite
	ca    *testca.CA
	alice *seal.Signer
	keys  map[string]*seal.PrivateKey
	now   time.Time
}

const (
	testExchange = "results"
	testRoute    = "lab"
)

func newWorld(tb testing.TB, suite seal.Suite, receivers ...string) *world {
	tb.Helper()
	w := &world{tb: tb, suite: suite, ca: testca.New(tb), keys: make(map[string]*seal.PrivateKey), now: time.Now()}
	w.alice = w.signer("alice", "P-256")
	for _, name := range receivers {
		w.keys[name] = newKey(tb, suite)
	}
	return w
}

func newKey(tb testing.TB, suite seal.Suite) *seal.PrivateKey {
	tb.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func privateKey(tb testing.TB, kind string) crypto.Signer {
	tb.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "RSA":
		key = rsaKey()
	default:
		tb.Fatalf("no key of kind %s", kind)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// signer issues a certificate, changed as wanted before it is signed, and signs with it.
func (w *world) signer(name, kind string, change ...func(*x509.Certificate)) *seal.Signer {
	w.tb.Helper()
	chain, key := w.certificate(name, kind, change...)
	s, err := seal.NewSigner(name, chain, key)
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

func (w *world) certificate(name, kind string, change ...func(*x509.Certificate)) ([][]byte, crypto.Signer) {
	w.tb.Helper()
	key := privateKey(w.tb, kind)
	template := w.ca.Template(name, "")
	for _, f := range change {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.Root(), key.Public(), w.ca.Key())
	if err != nil {
		w.tb.Fatal(err)
	}
	return [][]byte{der}, key
}

func (w *world) clock() time.Time { return w.now }

func (w *world) receivers(names ...string) (list []seal.Receiver) {
	for _, name := range names {
		list = append(list, seal.Receiver{Name: name, Key: w.keys[name].Public()})
	}
	return list
}

// sealer seals as alice for the named receivers.
func (w *world) sealer(to []string, change ...func(*seal.SealerConfig)) *seal.Sealer {
	w.tb.Helper()
	cfg := seal.SealerConfig{Receivers: w.receivers(to...), Signer: func() (*seal.Signer, error) { return w.alice, nil }, Now: w.clock}
	for _, f := range change {
		f(&cfg)
	}
	s, err := seal.NewSealer(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

func (w *world) verifier() *trust.Verifier {
	v := w.ca.Verifier()
	v.Now = w.clock
	return v
}

// opener opens as the named receiver.
func (w *world) opener(name string, change ...func(*seal.OpenerConfig)) *seal.Opener {
	w.tb.Helper()
	cfg := seal.OpenerConfig{Name: name, Keys: w.ring(name), Verifier: w.verifier(), Now: w.clock, Legacy: []seal.Legacy{ciphermq.Suites{}}}
	for _, f := range change {
		f(&cfg)
	}
	o, err := seal.NewOpener(cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	return o
}

func (w *world) ring(name string) *seal.Keyring {
	w.tb.Helper()
	r, err := seal.NewKeyring(w.keys[name])
	if err != nil {
		w.tb.Fatal(err)
	}
	return r
}

// content is a message to testExchange with a fresh id.
func content(text string) seal.Content {
	return seal.Content{ID: seal.NewID(), Exchange: testExchange, RoutingKey: testRoute, Body: []byte(text)}
}

func (w *world) seal(s *seal.Sealer, c seal.Content) []byte {
	w.tb.Helper()
	body, err := s.Seal(c)
	if err != nil {
		w.tb.Fatal(err)
	}
	return body
}

func (w *world) open(o *seal.Opener, body []byte, id string) *seal.Message {
	w.tb.Helper()
	m, err := o.Open(body, seal.Expect{ID: id})
	if err != nil {
		w.tb.Fatal(err)
	}
	return m
}

var provingSuites = []seal.Suite{seal.HPKEHybrid, seal.HPKEX25519}

func decodePEM(tb testing.TB, data []byte) *pem.Block {
	tb.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		tb.Fatalf("no PEM in %q", data)
	}
	return block
}

func sequence(first byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = first + byte(i)
	}
	return p
}

// legacyKey returns CipherMQ's published throw-away key of 1048 bits and the envelope that
// was sealed for it.
func legacyKey(tb testing.TB) (*seal.PrivateKey, []byte) {
	tb.Helper()
	keyPEM, err := os.ReadFile("ciphermq/testdata/g2-1048.pem")
	if err != nil {
		tb.Fatal(err)
	}
	key, err := seal.ParsePrivateKey(keyPEM, ciphermq.Suites{})
	if err != nil {
		tb.Fatal(err)
	}
	body, err := os.ReadFile("ciphermq/testdata/g2-envelope.json")
	if err != nil {
		tb.Fatal(err)
	}
	return key, body
}

func ringOf(tb testing.TB, keys ...*seal.PrivateKey) *seal.Keyring {
	tb.Helper()
	r, err := seal.NewKeyring(keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// legacyOpener opens with a key of a legacy suite.
func legacyOpener(tb testing.TB, name string, key *seal.PrivateKey) *seal.Opener {
	tb.Helper()
	o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: ringOf(tb, key), Suites: []seal.Suite{key.Suite()}, Legacy: []seal.Legacy{ciphermq.Suites{}}})
	if err != nil {
		tb.Fatal(err)
	}
	return o
}
