package client_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// Connect as alice, publish a message, and take it from its queue.
func Example() {
	dir, addr, stop := testnode.ForExample("alice") // a broker, and alice's certificate
	defer stop()
	ctx := context.Background()
	alice, err := client.LoadIdentity(dir, "alice")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(ctx, client.Config{Addr: addr, TLS: alice.TLS})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(ctx, "lab-results", "results", "lab"); err != nil {
		log.Fatal(err)
	}
	// When Publish returns, the message is on stable storage.
	m := sealmq.Message{Exchange: "results", Key: "lab", ID: "7", Body: []byte(`{"message_id":"7","result":"negative"}`)}
	if err := c.Publish(ctx, m); err != nil {
		log.Fatal(err)
	}
	sub, err := c.Consume(ctx, "lab-results", 100)
	if err != nil {
		log.Fatal(err)
	}
	var one [1]sealmq.Delivery
	if _, err := sub.Next(ctx, one[:]); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(one[0].Body))
	if err := sub.AckWait(ctx, one[0]); err != nil {
		log.Fatal(err)
	}
	// Output: {"message_id":"7","result":"negative"}
}

// connected is a client of a broker that has the queue lab-results.
func connected() (c *client.Client, stop func()) {
	dir, addr, stopNode := testnode.ForExample("alice")
	alice, err := client.LoadIdentity(dir, "alice")
	if err != nil {
		log.Fatal(err)
	}
	if c, err = client.Dial(context.Background(), client.Config{Addr: addr, TLS: alice.TLS}); err != nil {
		log.Fatal(err)
	}
	if err := c.Bind(context.Background(), "lab-results", "results", "lab"); err != nil {
		log.Fatal(err)
	}
	return c, func() { c.Close(); stopNode() }
}

// Send many messages: the callbacks come in order while later messages are on their way.
func ExampleClient_PublishAsync() {
	c, stop := connected()
	defer stop()
	ctx := context.Background()
	for i := range 3 {
		m := sealmq.Message{Exchange: "results", Key: "lab", ID: fmt.Sprint(i), Body: fmt.Appendf(nil, `{"message_id":"%d"}`, i)}
		err := c.PublishAsync(ctx, m, func(err error) {
			fmt.Println(m.ID, err)
		})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := c.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
}

// Take messages in batches and acknowledge each batch when its work is done.
func ExampleClient_Consume() {
	c, stop := connected()
	defer stop()
	ctx := context.Background()
	for _, id := range []string{"a", "b", "c"} {
		if err := c.Publish(ctx, sealmq.Message{Exchange: "results", Key: "lab", ID: id, Body: []byte(`{"message_id":"` + id + `"}`)}); err != nil {
			log.Fatal(err)
		}
	}
	sub, err := c.Consume(ctx, "lab-results", 100)
	if err != nil {
		log.Fatal(err)
	}
	batch := make([]sealmq.Delivery, 100)
	for left := 3; left > 0; {
		n, err := sub.Next(ctx, batch)
		if err != nil {
			log.Fatal(err)
		}
		left -= n
		for _, d := range batch[:n] {
			// After a crash of either side a message comes again: store it by its id.
			fmt.Println(d.ID, string(d.Body))
		}
		if err := sub.Ack(batch[:n]...); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// a {"message_id":"a"}
	// b {"message_id":"b"}
	// c {"message_id":"c"}
}

// Make what the application needs. To declare it again has no further effect.
func ExampleClient_Declare() {
	c, stop := connected()
	defer stop()
	for range 2 {
		err := c.Declare(context.Background(), client.Topology{
			Exchanges: []client.Exchange{{Name: "alarms", Kind: "topic"}},
			Queues:    []client.Queue{{Name: "alarms-of-the-lab"}},
			Bindings:  []client.Binding{{Queue: "alarms-of-the-lab", Exchange: "alarms", Key: "lab.#"}},
		})
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// <nil>
}
