package seal_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// The two ends of an example: alice's certificate, the authority that both trust, and
// bob's keys.
func exampleEnds() (alice func() (*seal.Signer, error), trust *trust.Verifier, bob *seal.Keyring) {
	ca := testca.New(exampleTB{})
	leaf := ca.Leaf("alice", "")
	key := must(seal.Generate(seal.DefaultSuite, 0))
	return func() (*seal.Signer, error) { return seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey) },
		ca.Verifier(), must(seal.NewKeyring(key))
}

type exampleTB struct{ testing.TB }

func (exampleTB) Helper() {}

func Example() {
	alice, trust, bobsKeys := exampleEnds()

	// Alice has bob's public key and seals for him.
	sealer, err := seal.NewSealer(seal.SealerConfig{
		Signer:    alice,
		Receivers: []seal.Receiver{{Name: "bob", Key: bobsKeys.Newest().Public()}},
	})
	if err != nil {
		log.Fatal(err)
	}
	id := seal.NewID()
	body, err := sealer.Seal(seal.Content{ID: id, Exchange: "results", RoutingKey: "lab", Body: []byte("the result is negative")})
	if err != nil {
		log.Fatal(err)
	}

	// Bob opens what the broker delivered under that id.
	opener, err := seal.NewOpener(seal.OpenerConfig{Name: "bob", Keys: bobsKeys, Verifier: trust})
	if err != nil {
		log.Fatal(err)
	}
	m, err := opener.Open(body, seal.Expect{ID: id, Exchange: "results"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("from %s: %s\n", m.Sender.ID, m.Text)
	// Output:
	// from alice: the result is negative
}
