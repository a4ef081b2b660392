package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

// Send one message and return when the broker has stored it.
func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Config{Addr: "broker.example:5672", TLS: clientTLS()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	key := receiverKey()
	id := seal.NewID()
	body, err := key.Seal(id, []byte("the result is negative"))
	if err != nil {
		log.Fatal(err)
	}
	err = c.Publish(ctx, client.Message{Exchange: "results", Key: "lab", ID: id, Body: body})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored")
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

func clientTLS() *tls.Config           { return nil }
func receiverKey() *seal.PublicKey     { return nil }
func sealedMessages() []client.Message { return nil }
func store(id string, body []byte)     {}
