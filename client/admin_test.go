package client_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

func TestAdministration(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	steps := []struct {
		request, reply string
		call           func(ctx context.Context, c *client.Client) (any, error)
		want           any
	}{
		{"declare_queue q", "Queue declared",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeclareQueue(ctx, "q", nil) }, nil},
		{`declare_queue q {"max_messages":10,"ttl":"30s"}`, "Queue declared",
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.DeclareQueue(ctx, "q", &sealmq.QueueOptions{MaxMessages: 10, TTL: 30 * time.Second})
			}, nil},
		{"declare_exchange x", "Exchange declared",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeclareExchange(ctx, "x", "") }, nil},
		{"declare_exchange x topic", "Exchange declared",
			func(ctx context.Context, c *client.Client) (any, error) {
				return nil, c.DeclareExchange(ctx, "x", "topic")
			}, nil},
		{"bind q x k", "Queue bound",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Bind(ctx, "q", "x", "k") }, nil},
		{"unbind q x k", "Queue unbound",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Unbind(ctx, "q", "x", "k") }, nil},
		{"pause_queue q", "Queue paused",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.PauseQueue(ctx, "q") }, nil},
		{"resume_queue q", "Queue resumed",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.ResumeQueue(ctx, "q") }, nil},
		{"delete_queue q", "Queue deleted 7",
			func(ctx context.Context, c *client.Client) (any, error) { return c.DeleteQueue(ctx, "q") }, 7},
		{"delete_exchange x", "Exchange deleted",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeleteExchange(ctx, "x") }, nil},
		{"purge q", "Queue purged 3",
			func(ctx context.Context, c *client.Client) (any, error) { return c.PurgeQueue(ctx, "q") }, 3},
		{"move q.dead q", "Moved 2",
			func(ctx context.Context, c *client.Client) (any, error) { return c.Move(ctx, "q.dead", "q", 0) }, 2},
		{"move q.dead q 1", "Moved 1",
			func(ctx context.Context, c *client.Client) (any, error) { return c.Move(ctx, "q.dead", "q", 1) }, 1},
		{"peek q 5", `Messages: [{"id":"a","publisher":"p","exchange":"x","key":"k","time":"2026-01-02T03:04:05.678Z","attempts":2,"death_reason":"delivery_limit","size":2,"body":{}}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Peek(ctx, "q", 0, 5) },
			[]sealmq.PeekedMessage{{ID: "a", Publisher: "p", Exchange: "x", Key: "k", Time: since, Attempts: 2, DeathReason: "delivery_limit", Size: 2, Body: json.RawMessage("{}")}}},
		{"queues", `Queues: [{"name":"q","options":{"prefetch":5},"ready":1}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Queues(ctx) },
			[]sealmq.QueueInfo{{Name: "q", Options: sealmq.QueueOptions{Prefetch: 5}, Ready: 1}}},
		{"queue q", `Queue: {"name":"q","options":{},"acked":9}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Queue(ctx, "q") },
			sealmq.QueueInfo{Name: "q", Acked: 9}},
		{"exchanges", `Exchanges: [{"name":"x","kind":"topic","bindings":4}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Exchanges(ctx) },
			[]sealmq.ExchangeInfo{{Name: "x", Kind: "topic", Bindings: 4}}},
		{"connections", `Connections: [{"id":5,"client":"lab","role":"client","since":"2026-01-02T03:04:05.678Z"}]`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Connections(ctx) },
			[]sealmq.ConnectionInfo{{ID: 5, Client: "lab", Role: "client", Since: since}}},
		{"close_connection 5", "Connection closed",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.CloseConnection(ctx, 5) }, nil},
		{"stats", `Stats: {"a":1}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.BrokerStats(ctx) }, json.RawMessage(`{"a":1}`)},
		{"whoami", `Whoami: {"id":"lab","issuer":"ca","common_name":"lab","role":"admin"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Whoami(ctx) },
			sealmq.Who{ID: "lab", Issuer: "ca", CommonName: "lab", Role: sealmq.RoleAdmin}},
		{"ping", "Pong",
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Ping(ctx) }, nil},
	}
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		go func() {
			for _, s := range steps {
				p.Expect(s.request)
				p.Send(s.reply + "\n")
				p.Expect(s.request)
				p.Send("Error denied: not allowed to do this\n")
				p.Expect(s.request)
				p.Send("Something else\n")
			}
		}()
		for _, s := range steps {
			got, err := s.call(t.Context(), c)
			if err != nil {
				t.Errorf("%s: %v", s.request, err)
			} else if d := cmp.Diff(s.want, got); d != "" {
				t.Errorf("%s: %s", s.request, d)
			}
			if _, err := s.call(t.Context(), c); sealmq.CodeOf(err) != sealmq.Denied {
				t.Errorf("%s, denied: %v", s.request, err)
			}
			if _, err := s.call(t.Context(), c); err == nil {
				t.Errorf("%s: took an odd reply", s.request)
			}
		}
		if err := c.Bind(t.Context(), "q x", "x", "k"); sealmq.CodeOf(err) != sealmq.BadName {
			t.Errorf("argument with a space: %v", err)
		}
		p.Silent()
	})
}

func TestDeclareTopology(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		topology := client.Topology{
			Exchanges: []client.Exchange{{Name: "x", Kind: "topic"}},
			Queues:    []client.Queue{{Name: "q", Options: &sealmq.QueueOptions{Prefetch: 1}}},
			Bindings:  []client.Binding{{Queue: "q", Exchange: "x", Key: "a.#"}},
		}
		declared := make(chan error)
		go func() { declared <- c.Declare(t.Context(), topology) }()
		p.Expect("declare_exchange x topic")
		p.Send("Exchange declared\n")
		p.Expect(`declare_queue q {"prefetch":1}`)
		p.Conn.Close() // it is repeated by itself
		p = f.Accept()
		p.Expect(`declare_queue q {"prefetch":1}`)
		p.Send("Queue declared\n")
		p.Expect("bind q x a.#")
		p.Send("Queue bound\n")
		if err := <-declared; err != nil {
			t.Error(err)
		}
		go func() { declared <- c.Declare(t.Context(), topology) }()
		p.Expect("declare_exchange x topic")
		p.Send("Exchange declared\n")
		p.Expect(`declare_queue q {"prefetch":1}`)
		p.Send("Error mismatch: queue 'q' exists with other options\n")
		if err := <-declared; sealmq.CodeOf(err) != sealmq.Mismatch {
			t.Error(err)
		}
	})
}
