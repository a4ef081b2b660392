package brokerqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/brokerqueue"
	"github.com/sealmq/sealmq/pipeline/queuetest"
)

func start(t testing.TB) *testnode.Node {
	return testnode.Start(t, testnode.Config{PipelineQueue: pipeline.QueueName})
}

// inProcess opens connections within the process.
func inProcess(n *testnode.Node, role sealmq.Role) func(context.Context) (sealmq.Connection, error) {
	return func(context.Context) (sealmq.Connection, error) {
		return n.Broker().Connect(broker.Caller{Identity: sealmq.Identity{ID: string(role) + "-1", Role: role}}), nil
	}
}

// overNetwork opens connections with TLS.
func overNetwork(n *testnode.Node) func(context.Context) (sealmq.Connection, error) {
	return func(ctx context.Context) (sealmq.Connection, error) {
		return client.Dial(ctx, n.Config(client.Config{Meta: true, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond}))
	}
}

func open(t testing.TB, connect func(context.Context) (sealmq.Connection, error)) *brokerqueue.Queue {
	t.Helper()
	q, err := brokerqueue.Open(t.Context(), connect, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

func TestInProcess(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) (func() pipeline.Queue, func(string) error) {
		n := start(t)
		connect := inProcess(n, sealmq.RoleAdmin)
		put := func(body string) error {
			var named struct {
				ID string `json:"message_id"`
			}
			_ = json.Unmarshal([]byte(body), &named) // what is no item has no id
			conn, err := connect(t.Context())
			if err != nil {
				return err
			}
			defer conn.Close()
			return conn.Publish(t.Context(), sealmq.Message{ID: named.ID, Exchange: pipeline.QueueName, Key: pipeline.QueueName, Body: []byte(body)})
		}
		return func() pipeline.Queue { return open(t, connect) }, put
	})
}

// TestOverNetwork has no foreign bytes: what passes the line protocol is JSON with an id.
func TestOverNetwork(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) (func() pipeline.Queue, func(string) error) {
		n := start(t)
		return func() pipeline.Queue { return open(t, overNetwork(n)) }, nil
	})
}

func item(id string) pipeline.Item {
	return pipeline.Item{MessageID: id, ClientID: "acme-01", Domain: pipeline.DefaultDomain, QueuedAt: time.Now().UTC(),
		Enc: pipeline.EncHPKE, Sealed: json.RawMessage(`{"text":"` + strings.Repeat("x", 3000) + `"}`), Digest: []byte("digest of " + id)}
}

// TestPowerLoss cuts the broker's power again and again while items come and go. What was
// stored is taken at least once.
func TestPowerLoss(t *testing.T) {
	const batches, size, crashes = 60, 20, 4
	n := start(t)
	q := open(t, overNetwork(n))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	produced := make(chan error, 1)
	go func() {
		for b := range batches {
			var items []pipeline.Item
			for i := range size {
				items = append(items, item(fmt.Sprintf("m-%d-%d", b, i)))
			}
			for len(items) > 0 {
				results, err := q.Enqueue(ctx, items)
				if err != nil {
					produced <- err
					return
				}
				var again []pipeline.Item
				for i, r := range results {
					switch {
					case r.Outcome == pipeline.Stored, r.Outcome == pipeline.Duplicate:
					case ctx.Err() == nil && r.Outcome == pipeline.Unknown:
						again = append(again, items[i])
					default:
						produced <- fmt.Errorf("%s: outcome %d: %w", items[i].MessageID, r.Outcome, r.Err)
						return
					}
				}
				items = again
			}
		}
		produced <- nil
	}()

	came := make(chan string, 10*batches*size)
	c, err := q.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for ctx.Err() == nil {
			taken, err := c.Take(ctx, 50)
			if err != nil {
				return
			}
			var list []pipeline.Finished
			for _, one := range taken {
				came <- one.Item.MessageID
				list = append(list, pipeline.Finished{Ticket: one.Ticket, Verdict: pipeline.Done})
			}
			_ = c.Finish(ctx, list) // after an error some come again
		}
	}()

	seen := make(map[string]bool)
	for crashed := 0; len(seen) < batches*size; {
		select {
		case id := <-came:
			seen[id] = true
		case <-ctx.Done():
			t.Fatalf("%d of %d items came", len(seen), batches*size)
		}
		if crashed < crashes && len(seen) >= (crashed+1)*batches*size/(crashes+2) {
			crashed++
			n.Crash(uint64(crashed))
		}
	}
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	for {
		counts, err := q.Counts(ctx)
		if err == nil && counts.Ready+counts.Processing+counts.Retry == 0 {
			if counts.Dead > 0 {
				t.Errorf("%d items are dead", counts.Dead)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("left over: %+v, %v", counts, err)
		}
	}
}

// TestDeadItemsInPages lists more dead items than the broker shows at a time, large ones and
// ones that it does not show at all among them.
func TestDeadItemsInPages(t *testing.T) {
	n := start(t)
	for name, connect := range map[string]func(context.Context) (sealmq.Connection, error){
		"in process": inProcess(n, sealmq.RoleAdmin), "over network": overNetwork(n),
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t, connect)
			var items []pipeline.Item
			for i := range 250 {
				it := item(fmt.Sprintf("%.2s-%03d", name, i))
				switch {
				case i%25 == 3:
					it.Sealed = json.RawMessage(`"` + strings.Repeat("y", 60_000) + `"`)
				case i == 77:
					it.Sealed = json.RawMessage(`"` + strings.Repeat("z", 200_000) + `"`)
				}
				items = append(items, it)
			}
			if results, err := q.Enqueue(t.Context(), items); err != nil || results[0].Outcome != pipeline.Stored {
				t.Fatalf("%+v, %v", results, err)
			}
			c, err := q.Consumer("worker-1")
			if err != nil {
				t.Fatal(err)
			}
			for left := len(items); left > 0; {
				taken, err := c.Take(t.Context(), left)
				if err != nil {
					t.Fatal(err)
				}
				var list []pipeline.Finished
				for _, one := range taken {
					list = append(list, pipeline.Finished{Ticket: one.Ticket, Verdict: pipeline.Dead, Reason: pipeline.ReasonRefused})
				}
				if err := c.Finish(t.Context(), list); err != nil {
					t.Fatal(err)
				}
				left -= len(taken)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			for listed := 0; listed < len(items) && t.Context().Err() == nil; { // Finish may return before they are
				list, err := q.Dead(t.Context(), len(items))
				if listed = len(list); err != nil {
					t.Fatal(err)
				}
			}
			for _, limit := range []int{0, 7, 250, 1000} {
				list, err := q.Dead(t.Context(), limit)
				if err != nil || len(list) != min(limit, len(items)) {
					t.Fatalf("%d of %d dead items, %v", len(list), limit, err)
				}
				for i, d := range list {
					hidden := i == 77 && name == "over network"
					if d.Err != nil || d.Item.MessageID != items[i].MessageID || d.Reason != pipeline.ReasonRefused || !hidden && len(d.Item.Sealed) != len(items[i].Sealed) {
						t.Errorf("item %d is %s with %d bytes: %v", i, d.Item.MessageID, len(d.Item.Sealed), d.Err)
					}
				}
			}
			var ids []string
			for _, it := range items {
				ids = append(ids, it.MessageID)
			}
			for range sealmq.MaxMoveIDs {
				ids = append(ids, "nobody")
			}
			if n, err := q.Requeue(t.Context(), ids); n != len(items) || err != nil {
				t.Errorf("%d requeued, %v", n, err)
			}
			conn, err := connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.PurgeQueue(t.Context(), pipeline.QueueName); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRoles: a proxy fills the queue, a worker empties it, and the main server looks after
// what is dead. Nobody else gets near it.
func TestRoles(t *testing.T) {
	n := start(t)
	denied := func(err error) {
		t.Helper()
		if !errors.Is(err, sealmq.ErrDenied) {
			t.Errorf("error %v", err)
		}
	}
	proxy, worker, server := open(t, inProcess(n, sealmq.RoleProxy)), open(t, inProcess(n, sealmq.RoleWorker)), open(t, inProcess(n, sealmq.RoleServer))
	_, err := brokerqueue.Open(t.Context(), inProcess(n, sealmq.RoleClient), nil)
	denied(err)

	if results, err := proxy.Enqueue(t.Context(), []pipeline.Item{item("m-1")}); err != nil || results[0].Outcome != pipeline.Stored {
		t.Fatalf("%+v, %v", results, err)
	}
	for _, q := range []*brokerqueue.Queue{worker, server} {
		results, err := q.Enqueue(t.Context(), []pipeline.Item{item("m-2")})
		if err != nil || results[0].Outcome != pipeline.Refused {
			t.Fatalf("%+v, %v", results, err)
		}
		denied(results[0].Err)
	}
	for _, q := range []*brokerqueue.Queue{proxy, server} {
		_, err := q.Consumer("worker-1")
		denied(err)
	}
	c, err := worker.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := c.Take(t.Context(), 10)
	if err != nil || len(taken) != 1 {
		t.Fatalf("%d taken, %v", len(taken), err)
	}
	if err := c.Finish(t.Context(), []pipeline.Finished{{Ticket: taken[0].Ticket, Verdict: pipeline.Dead, Reason: pipeline.ReasonRefused}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, q := range []*brokerqueue.Queue{proxy, worker} {
		_, err := q.Dead(t.Context(), 10)
		denied(err)
		_, err = q.Requeue(t.Context(), nil)
		denied(err)
	}
	for listed := 0; listed == 0; {
		dead, err := server.Dead(t.Context(), 10)
		if listed = len(dead); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := server.Requeue(t.Context(), []string{"m-1"}); err != nil || n != 1 {
		t.Errorf("%d requeued, %v", n, err)
	}
	if counts, err := proxy.Counts(t.Context()); err != nil || counts.Ready != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
}
