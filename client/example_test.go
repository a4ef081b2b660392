package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

// Seal a message for a receiver whose key is in the broker's directory, send it, and
// return when the broker has stored it.
func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	directory, err := keydir.New(c, keydir.Config{Verifier: trust()})
	if err != nil {
		log.Fatal(err)
	}
	s, err := send.New(ctx, c, send.Config{To: []string{"lab"}, Directory: directory, Signer: ownCertificate})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	id, err := s.Send(ctx, "results", "lab", []byte("the result is negative"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored", id)
}

// Send each line of a file exactly once, however often this program dies: messages are
// in the spool until they are confirmed, with how far the file was read.
func ExampleSender_Publish() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	spool, err := send.OpenSpool("spool", send.SpoolConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer spool.Close()
	s, err := send.New(ctx, c, send.Config{
		To: []string{"lab"}, Keys: map[string]*seal.PublicKey{"lab": receiverKey()}, Signer: ownCertificate, Spool: spool,
	})
	if err != nil {
		log.Fatal(err) // a *client.SpoolTooOldError says what cannot be sent again safely
	}
	defer s.Close()

	next := linesFrom(spool.Position())
	for {
		text, position, ok := next()
		if !ok {
			break
		}
		m, err := s.Seal(ctx, "results", "lab", text)
		if err != nil {
			log.Fatal(err)
		}
		if err := s.Publish(ctx, m, position, nil); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		log.Fatal(err)
	}
}

// Take each message exactly once: what a crash left of the output behind the last commit
// is cut off, and its messages come again.
func ExampleReceiver() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ledger, err := receive.OpenLedger("results.ledger", receive.LedgerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer ledger.Close()
	r, err := receive.New(ctx, c, "lab-results", receive.Config{Names: []string{"lab"}, Keys: ownKeys(), Verifier: trust(), Ledger: ledger})
	if err != nil {
		log.Fatal(err)
	}
	out := openAndCut("results.txt", ledger.Output().Length)
	for {
		list, err := r.Next(ctx, 0)
		if err != nil {
			log.Fatal(err)
		}
		length := out.appendAndSync(list)
		if err := r.Commit(receive.Output{Length: length}, list...); err != nil {
			log.Fatal(err)
		}
	}
}

// Send many messages: the callbacks come in order while later messages are on their way.
func ExampleClient_PublishAsync() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS(), Window: 1024})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	for _, m := range sealedMessages() {
		err := c.PublishAsync(ctx, m, func(err error) {
			if err != nil {
				log.Printf("message %s is not stored: %v", m.ID, err)
			}
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		log.Fatal(err)
	}
}

// Take messages in batches and acknowledge each batch when it is dealt with.
func ExampleSubscription_NextBatch() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	sub, err := c.Consume(ctx, "lab-results", 100)
	if err != nil {
		log.Fatal(err)
	}
	batch := make([]client.Delivery, 100)
	for {
		n, err := sub.NextBatch(ctx, batch)
		if err != nil {
			log.Fatal(err)
		}
		var ids []string
		for _, d := range batch[:n] {
			// A message can come twice, after a crash of either side: store it by its id.
			store(d.ID, d.Body)
			ids = append(ids, d.ID)
		}
		if err := sub.Ack(ids...); err != nil {
			log.Fatal(err)
		}
	}
}

// Make what the application needs; doing it again has no further effect.
func ExampleClient_Declare() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.Declare(ctx, client.Topology{
		Exchanges: []client.Exchange{{Name: "results", Kind: "topic"}},
		Queues:    []client.Queue{{Name: "lab-results"}},
		Bindings:  []client.Binding{{Queue: "lab-results", Exchange: "results", Key: "lab.#"}},
	})
	if err != nil {
		log.Fatal(err)
	}
}

func clientTLS() *tls.Config                                   { return nil }
func ownCertificate() (*seal.Signer, error)                    { return nil, nil }
func ownKeys() *seal.Keyring                                   { return nil }
func trust() seal.Verifier                                     { return nil }
func linesFrom([]byte) func() (text, position []byte, ok bool) { return nil }

type output struct{}

func openAndCut(name string, length int64) *output          { return nil }
func (*output) appendAndSync(list []receive.Received) int64 { return 0 }

func receiverKey() *seal.PublicKey     { return nil }
func sealedMessages() []client.Message { return nil }
func store(id string, body []byte)     {}
