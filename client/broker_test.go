package client_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

var oneQueue = client.Topology{
	Exchanges: []client.Exchange{{Name: "x"}},
	Queues:    []client.Queue{{Name: "q"}},
	Bindings:  []client.Binding{{Queue: "q", Exchange: "x", Key: "k"}},
}

// The broker answers with texts. Each code that a program may want to act on must be
// found behind its text.
func TestCodesOfTheRealBroker(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	ctx := t.Context()
	c := n.Dial(client.Config{})
	plain := n.Dial(client.Config{TLS: n.CA.ClientTLS("lab")})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Declare(ctx, oneQueue))
	must(c.Declare(ctx, client.Topology{
		Queues:   []client.Queue{{Name: "small", Options: &sealmq.QueueOptions{MaxMessages: 1, MaxLineBytes: 1024}}},
		Bindings: []client.Binding{{Queue: "small", Exchange: "x", Key: "small"}},
	}))
	publish := func(exchange, key, id, extra string) error {
		body := []byte(`{"message_id":"` + id + `","extra":"` + extra + `"}`)
		return c.Publish(ctx, sealmq.Message{Exchange: exchange, Key: key, ID: id, Body: body})
	}
	must(publish("x", "k", "first", "1"))
	must(publish("x", "k", "first", "1")) // a repetition is confirmed
	must(publish("x", "small", "second", "1"))
	var one error
	_, one = c.Queue(ctx, "nope")
	steps := []struct {
		name string
		err  error
		want sealmq.Code
	}{
		{"no exchange", publish("nope", "k", "a", ""), sealmq.NoExchange},
		{"unroutable", publish("x", "nope", "a", ""), sealmq.Unroutable},
		{"same id, other content", publish("x", "k", "first", "2"), sealmq.Duplicate},
		{"queue full", publish("x", "small", "third", ""), sealmq.QueueFull},
		{"line too long for the queue", publish("x", "small", "fourth", strings.Repeat("x", 2000)), sealmq.TooLarge},
		{"line too long for every queue", publish("x", "k", "fifth", strings.Repeat("x", 70_000)), sealmq.TooLarge},
		{"no queue", one, sealmq.NoQueue},
		{"other options", c.DeclareQueue(ctx, "q", &sealmq.QueueOptions{MaxMessages: 5}), sealmq.Mismatch},
		{"other kind", c.DeclareExchange(ctx, "x", "topic"), sealmq.Mismatch},
		{"options out of range", c.DeclareQueue(ctx, "new", &sealmq.QueueOptions{Prefetch: sealmq.MaxPrefetch + 1}), sealmq.BadArgument},
		{"not an administrator", errOf(plain.PurgeQueue(ctx, "q")), sealmq.Denied},
		{"no connection", c.CloseConnection(ctx, 1<<40), sealmq.BadArgument},
	}
	for _, s := range steps {
		if got := sealmq.CodeOf(s.err); got != s.want {
			t.Errorf("%s: code %q of %v, want %q", s.name, got, s.err, s.want)
		}
	}
	who, err := plain.Whoami(ctx)
	if err != nil || who.ID != "lab" || who.Role != sealmq.RoleClient {
		t.Errorf("%+v, %v", who, err)
	}
	peeked, err := c.Peek(ctx, "q", 0, 5)
	if err != nil || len(peeked) != 1 || peeked[0].ID != "first" || string(peeked[0].Body) != `{"message_id":"first","extra":"1"}` {
		t.Errorf("%+v, %v", peeked, err)
	}
	if info, err := c.Queue(ctx, "q"); err != nil || info.Ready != 1 || info.Published != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if list, err := c.Connections(ctx); err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

func errOf(_ int, err error) error { return err }

func TestConsumeFromTheRealBroker(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	ctx := t.Context()
	c := n.Dial(client.Config{})
	if err := c.Declare(ctx, oneQueue); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := c.Publish(ctx, message(id)); err != nil {
			t.Fatal(err)
		}
	}
	k := n.Dial(client.Config{Meta: true})
	s, err := k.Consume(ctx, "q", 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		d, err := next(ctx, s)
		if err != nil || d.ID != id {
			t.Fatalf("%q, %v; want %s", d.ID, err, id)
		}
		if d.Queue != "q" || d.Publisher != "admin" || d.Exchange != "x" || d.Key != "k" || d.Attempt != 1 || d.Published.IsZero() {
			t.Errorf("%+v", d)
		}
	}
	if err := s.AckWait(ctx, of("a")...); err != nil {
		t.Error(err)
	}
	if err := s.Nack(0, of("b")...); err != nil {
		t.Error(err)
	}
	d, err := next(ctx, s)
	if err != nil || d.ID != "b" {
		t.Fatalf("%q, %v", d.ID, err)
	}
	if d.Attempt != 2 || !d.Redelivered() {
		t.Errorf("%+v", d)
	}
	if err := s.Dead("cannot be opened", of("c")...); err != nil {
		t.Error(err)
	}
	if err := k.Flush(ctx); err != nil {
		t.Error(err)
	}
	deadLetterer := n.Dial(client.Config{Meta: true})
	dead, err := deadLetterer.Consume(ctx, "q"+sealmq.DeadSuffix, 1)
	if err != nil {
		t.Fatal(err)
	}
	if d, err = next(ctx, dead); err != nil || d.ID != "c" {
		t.Errorf("%q, %v", d.ID, err)
	}
	if d.DeathReason != "cannot be opened" || d.DeathQueue != "q" || d.Exchange != "x" {
		t.Errorf("%+v", d)
	}
}

// Publishers and a consumer work while the broker loses its power several times. All that
// was confirmed arrives; what a publisher was told once is told once.
func TestPowerCutsUnderLoad(t *testing.T) {
	const publishers, each = 3, 400
	n := testnode.Start(t, testnode.Config{})
	ctx := t.Context()
	admin := n.Dial(client.Config{})
	if err := admin.Declare(ctx, oneQueue); err != nil {
		t.Fatal(err)
	}
	admin.Close()

	fast := client.Config{BackoffMin: 1e6, BackoffMax: 20e6, Window: 32} // nanoseconds
	var mu sync.Mutex
	confirmed := make(map[string]int)
	var work sync.WaitGroup
	for p := range publishers {
		c := n.Dial(fast)
		work.Go(func() {
			var ids []string
			for i := range each {
				ids = append(ids, fmt.Sprintf("p%d-%d", p, i))
			}
			publishAll(t, ctx, c, ids, func(id string) {
				mu.Lock()
				confirmed[id]++
				mu.Unlock()
			})
		})
	}
	consumer := n.Dial(fast)
	sub, err := consumer.Consume(ctx, "q", 50)
	if err != nil {
		t.Fatal(err)
	}
	received := make(map[string]int)
	crashes := 0
	batch := make([]sealmq.Delivery, 20)
	for len(received) < publishers*each {
		k, err := sub.Next(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch[:k] {
			received[d.ID]++
			if err := sub.Ack(d); err != nil {
				t.Fatal(err)
			}
		}
		if len(received) > (crashes+1)*publishers*each/5 && crashes < 4 {
			crashes++
			n.Crash(uint64(crashes))
		}
	}
	work.Wait()
	if crashes == 0 || consumer.Stats().Connections != uint64(crashes)+1 {
		t.Errorf("%d crashes, %+v", crashes, consumer.Stats())
	}
	for id, times := range confirmed {
		if times != 1 || received[id] == 0 {
			t.Errorf("%s: confirmed %d times, received %d times", id, times, received[id])
		}
	}
	if len(confirmed) != publishers*each {
		t.Errorf("%d messages confirmed", len(confirmed))
	}
	if err := consumer.Flush(ctx); err != nil {
		t.Error(err)
	}
	if info, err := consumer.Queue(ctx, "q"); err != nil || info.Ready+info.Unacked != 0 {
		t.Errorf("left in the queue: %+v, %v", info, err)
	}
}

// publishAll publishes a window at a time, and again what the broker could not take
// because it was going down.
func publishAll(t *testing.T, ctx context.Context, c *client.Client, ids []string, stored func(id string)) {
	for len(ids) > 0 {
		var mu sync.Mutex
		var again []string
		for _, id := range ids {
			err := c.PublishAsync(ctx, message(id), func(err error) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					stored(id)
				case client.Retryable(err):
					again = append(again, id)
				default:
					t.Errorf("%s: %v", id, err)
				}
			})
			if err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := c.Flush(ctx); err != nil {
			t.Error(err)
			return
		}
		ids = again
	}
}

func TestManyClients(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	ctx := t.Context()
	admin := n.Dial(client.Config{})
	if err := admin.Declare(ctx, oneQueue); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	for i := range 20 {
		c := n.Dial(client.Config{TLS: n.CA.ClientTLS(fmt.Sprint("client-", i))})
		work.Go(func() {
			for j := range 20 {
				if err := c.Publish(ctx, message(fmt.Sprintf("c%d-%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	s, err := admin.Consume(ctx, "q", 0)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	batch := make([]sealmq.Delivery, 100)
	for len(ids) < 400 {
		k, err := s.Next(ctx, batch)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range batch[:k] {
			ids = append(ids, d.ID)
			if err := s.Ack(d); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 400 {
		t.Error("a message came twice")
	}
}

func TestRealBrokerTellsItsMemory(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	who, err := n.Dial(client.Config{}).Whoami(t.Context())
	if err != nil || who.DedupWindow != 3600 || who.DedupMaxIDs != 2_000_000 || who.DedupReach == nil || *who.DedupReach != 3600 {
		t.Errorf("%+v, %v", who, err)
	}
}
