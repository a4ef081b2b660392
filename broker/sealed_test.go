package broker_test

import (
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// sealedBody is an envelope of a suite.
func sealedBody(t testing.TB, ca *testca.CA, suite seal.Suite, id string) []byte {
	t.Helper()
	sealer, err := seal.NewSealer(seal.SealerConfig{
		Signer:    func() (*seal.Signer, error) { return signerOf(t, ca, "alice", ""), nil },
		Receivers: []seal.Receiver{{Name: "bob", Key: publicKey(t, suite)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := sealer.Seal(seal.Content{ID: id, Exchange: "x", RoutingKey: "k", Body: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestSealedQueues(t *testing.T) {
	n := open(t)
	ca := testca.New(t)
	only := func(suites ...string) *sealmq.QueueOptions {
		return &sealmq.QueueOptions{Sealed: sealmq.SealedSuites(suites...)}
	}
	n.must(n.declareQueue(alice, "safe", only(string(seal.HPKEHybrid), string(ciphermq.G5))))
	n.code(sealmq.BadArgument, n.declareQueue(alice, "odd", only("rot13")))
	n.code(sealmq.Mismatch, n.declareQueue(alice, "safe", &sealmq.QueueOptions{Prefetch: 1}))
	n.must(n.bind(alice, "safe", "x", "k"))
	n.must(n.bind(alice, "open", "x", "open"))
	n.must(n.bind(alice, "open", "x", "both"))
	n.must(n.bind(alice, "safe", "x", "both"))
	publish := func(key, id string, body []byte) engine.PublishResult {
		t.Helper()
		return n.publish(alice, engine.Publish{Message: sealmq.Message{Exchange: "x", Key: key, ID: id, Body: body}})[0]
	}
	round := 0
	for range 2 { // also after a restart
		round++
		id := func(s string) string { return s + strings.Repeat("'", round) }
		good := sealedBody(t, ca, seal.HPKEHybrid, id("1"))
		for _, tc := range []struct {
			key, id string
			body    []byte
			want    sealmq.Code
			says    string
		}{
			{"k", id("1"), good, "", ""},
			{"k", id("2"), sealedBody(t, ca, ciphermq.G5, id("2")), "", ""},
			{"both", id("3"), sealedBody(t, ca, seal.HPKEHybrid, id("3")), "", ""},
			{"open", id("4"), []byte(`{"message_id":"4"}`), "", ""},
			{"k", id("5"), []byte(`{"message_id":"5"}`), sealmq.NotSealed, "queue 'safe' takes sealed messages only, of ciphermq-g5, hpke-mlkem768x25519-aes256gcm: this one is not sealed"},
			{"k", id("6"), sealedBody(t, ca, seal.HPKEX25519, id("6")), sealmq.NotSealed, ": this one is of hpke-x25519-aes256gcm"},
			{"both", id("7"), []byte(`{"message_id":"7"}`), sealmq.NotSealed, "queue 'safe'"},
			{"k", id("8"), good[:len(good)/2], sealmq.NotSealed, "malformed"},
			{"k", id("9"), nil, sealmq.NotSealed, ": this one is not sealed"},
		} {
			r := publish(tc.key, tc.id, tc.body)
			if sealmq.CodeOf(r.Err) != tc.want || tc.want != "" && (r.Outcome != engine.Refused || !strings.Contains(r.Err.Error(), tc.says)) {
				t.Errorf("%s to %s: outcome %d, %v", tc.id, tc.key, r.Outcome, r.Err)
			}
		}
		n.restart()
	}
	info, err := n.Queue(alice, "safe")
	if err != nil || info.Options.Sealed != "ciphermq-g5,hpke-mlkem768x25519-aes256gcm" || info.Ready != 6 {
		t.Errorf("%+v, %v", info, err)
	}
	// What an administrator moves is not looked at, and may be plain text.
	if moved, err := wait(n, func(done func(int, error)) { n.Move(admin, "open", "safe", 0, done) }); err != nil || moved == 0 {
		t.Errorf("moved %d, %v", moved, err)
	}
	// A queue of the same name takes what its own options say.
	_, err = n.deleteQueue(admin, "safe")
	n.must(err)
	n.must(n.declareQueue(alice, "safe", nil))
	n.must(n.bind(alice, "safe", "x", "k"))
	n.stored("x", "k", "plain")
}

// Dead letters are not looked at either: a message must not be lost because the queue for
// dead letters would not take it from a publisher.
func TestSealedQueuesTakeDeadLettersAsTheyAre(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.declareQueue(alice, "q.dead", &sealmq.QueueOptions{Sealed: sealmq.SealedSuites(string(seal.HPKEHybrid))}))
	n.must(n.bind(alice, "q.dead", "x", "dead"))
	n.stored("x", "k", "plain")
	c := n.consumer(alice, "q")
	list, err := c.Take(nil, 1, everything)
	n.must(err)
	n.must(n.do(func(done func(error)) {
		c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Dead}}, done)
	}))
	n.holds("q.dead", "plain")
	if r := n.publish(alice, engine.Publish{Message: sealmq.Message{Exchange: "x", Key: "dead", ID: "2", Body: []byte("plain")}})[0]; sealmq.CodeOf(r.Err) != sealmq.NotSealed {
		t.Errorf("a publisher's: %v", r.Err)
	}
}

// BenchmarkSealedCheck is what a publish of an envelope of the default suite costs more on
// its way to a queue that takes sealed messages only.
func BenchmarkSealedCheck(b *testing.B) {
	body := sealedBody(b, testca.New(b), seal.HPKEHybrid, "1")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := seal.Inspect(body, ciphermq.Suites{}); err != nil {
			b.Fatal(err)
		}
	}
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
