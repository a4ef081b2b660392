package brokerview_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline/brokerview"
)

// sampled lets a test act when a sample has seen everything, and is not there yet.
type sampled struct {
	sealmq.Manager
	act func() // called once
}

func (s *sampled) Connections(ctx context.Context) ([]sealmq.ConnectionInfo, error) {
	list, err := s.Manager.Connections(ctx)
	if act := s.act; act != nil {
		s.act = nil
		act()
	}
	return list, err
}

// TestActDuringASample: a sample that began before an act does not show what was there before it.
func TestActDuringASample(t *testing.T) {
	w := &world{T: t, Node: testnode.Start(t, testnode.Config{}), now: time.Now()}
	w.client = w.Dial(client.Config{Meta: true})
	m := &sampled{Manager: w.Broker().Manage(broker.Caller{Identity: sealmq.Identity{ID: "server", CommonName: "server", Role: sealmq.RoleServer}}, w.Server())}
	w.View = brokerview.New(brokerview.Config{Connect: func(context.Context) (sealmq.Manager, error) { return m, nil }, Now: w.clock})
	bob := w.Dial(client.Config{TLS: w.CA.ClientTLS("bob")})
	_, err := bob.Consume(t.Context(), "other", 1)
	w.must(err)
	w.bind("goes", "paused", "purged")
	w.publish("x", "purged", "1", "2")
	var id uint64
	look := func() (names []string, shown map[string]brokerview.Queue) {
		shown = make(map[string]brokerview.Queue)
		queues, err := w.Queues(t.Context(), brokerview.Filter{Page: brokerview.Page{Limit: 10}})
		w.must(err)
		for _, q := range queues.Items {
			shown[q.Name] = q
		}
		conns, err := w.View.Connections(t.Context(), "", brokerview.Page{Limit: 10})
		w.must(err)
		for _, c := range conns.Items {
			if names = append(names, c.Client); c.Client == "bob" {
				id = c.ID
			}
		}
		return names, shown
	}
	if names, _ := look(); !slices.Contains(names, "bob") {
		t.Fatalf("connections of %v", names)
	}
	m.act = func() {
		_, err := w.Delete(t.Context(), "goes")
		w.must(err)
		w.must(w.Pause(t.Context(), "paused", true))
		_, err = w.Purge(t.Context(), "purged")
		w.must(err)
		w.must(w.Declare(t.Context(), "comes", nil))
		w.pass(-time.Hour) // the last sample is fresh, so that Disconnect takes none
		_, err = w.Disconnect(t.Context(), id)
		w.must(err)
		w.pass(time.Hour)
	}
	w.pass(time.Hour)
	names, shown := look()
	if _, is := shown["goes"]; is || !shown["paused"].Paused || shown["purged"].Ready != 0 || shown["comes"].Name == "" {
		t.Errorf("deleted: shown %t; paused: %t; purged: holds %d; declared: shown %t", is, shown["paused"].Paused, shown["purged"].Ready, shown["comes"].Name != "")
	}
	if slices.Contains(names, "bob") {
		t.Errorf("connections of %v", names)
	}
}
