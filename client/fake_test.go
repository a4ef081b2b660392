package client_test

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func message(id string) sealmq.Message {
	return sealmq.Message{Exchange: "x", Key: "k", ID: id, Body: []byte(`{"message_id":"` + id + `"}`)}
}

// lines returns what the client sends for messages with these ids.
func lines(ids ...string) []string {
	var out []string
	for _, id := range ids {
		out = append(out, `publish x k {"message_id":"`+id+`"}`)
	}
	return out
}

// results collects what callbacks get.
type results struct {
	c chan string
}

func newResults() *results { return &results{make(chan string, 10_000)} }

func (r *results) of(id string) func(error) {
	return func(err error) {
		if err != nil {
			id += ": " + err.Error()
		}
		r.c <- id
	}
}

func (r *results) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := <-r.c; !strings.HasPrefix(got, w) {
			t.Errorf("callback %q, want %q", got, w)
		}
	}
	select {
	case more := <-r.c:
		t.Errorf("another callback: %q", more)
	default:
	}
}

func (r *results) publish(t *testing.T, c *client.Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := c.PublishAsync(t.Context(), message(id), r.of(id)); err != nil {
			t.Fatalf("publish %s: %v", id, err)
		}
	}
}

// of names deliveries by their ids, which is all that counts of them over the line protocol.
func of(ids ...string) (list []sealmq.Delivery) {
	for _, id := range ids {
		list = append(list, sealmq.Delivery{Message: sealmq.Message{ID: id}})
	}
	return list
}

// next waits for one delivery.
func next(ctx context.Context, s sealmq.Subscription) (sealmq.Delivery, error) {
	var one [1]sealmq.Delivery
	_, err := s.Next(ctx, one[:])
	return one[0], err
}
