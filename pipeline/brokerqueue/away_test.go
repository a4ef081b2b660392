package brokerqueue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/brokerqueue"
)

// enqueue is the outcome of one item.
func enqueue(t *testing.T, q *brokerqueue.Queue, id string) pipeline.EnqueueResult {
	t.Helper()
	results, err := q.Enqueue(t.Context(), []pipeline.Item{item(id)})
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	return results[0]
}

// untilStored repeats an item until the queue has it.
func untilStored(t *testing.T, q *brokerqueue.Queue, id string) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; {
		r := enqueue(t, q, id)
		switch {
		case r.Outcome == pipeline.Stored:
			return
		case r.Outcome != pipeline.Refused || sealmq.CodeOf(r.Err) != sealmq.Unavailable || time.Now().After(limit):
			t.Fatalf("%s: outcome %d, %v", id, r.Outcome, r.Err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestBrokerAwayAtTheStart: the queue opens, says what is missing, and works once the broker is
// there.
func TestBrokerAwayAtTheStart(t *testing.T) {
	n := start(t)
	var there atomic.Bool
	dial := overNetwork(n)
	q := open(t, func(ctx context.Context) (sealmq.Connection, error) {
		if !there.Load() {
			return nil, &sealmq.Error{Code: sealmq.Unavailable, Message: "the broker cannot be reached", Err: errors.New("connection refused")}
		}
		return dial(ctx)
	})
	began := time.Now()
	for range 3 {
		if r := enqueue(t, q, "m-1"); r.Outcome != pipeline.Refused || sealmq.CodeOf(r.Err) != sealmq.Unavailable {
			t.Errorf("outcome %d, %v", r.Outcome, r.Err)
		}
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("three refusals took %v", took)
	}
	if _, err := q.Counts(t.Context()); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("counts: %v", err)
	}
	if _, err := q.Consumer("w"); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("consumer: %v", err)
	}
	there.Store(true)
	untilStored(t, q, "m-1")
}

// TestWrongConfigurationIsAnError: waiting would not help.
func TestWrongConfigurationIsAnError(t *testing.T) {
	want := errors.New("certificate signed by unknown authority")
	_, err := brokerqueue.Open(t.Context(), func(context.Context) (sealmq.Connection, error) { return nil, want }, nil)
	if !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}

// losing is a connection whose answers to publishes are lost.
type losing struct {
	sealmq.Connection
	lose atomic.Bool
}

func (l *losing) PublishBatch(ctx context.Context, batch []sealmq.Message) []sealmq.PublishResult {
	results := l.Connection.PublishBatch(ctx, batch)
	if l.lose.Load() {
		for i := range results {
			results[i] = sealmq.PublishResult{Err: client.ErrInterrupted}
		}
	}
	return results
}

// TestLostAnswers: what became of an item is not known, and a repeat is recognised.
func TestLostAnswers(t *testing.T) {
	n := start(t)
	var conn losing
	q := open(t, func(ctx context.Context) (sealmq.Connection, error) {
		var err error
		conn.Connection, err = overNetwork(n)(ctx)
		return &conn, err
	})
	conn.lose.Store(true)
	if r := enqueue(t, q, "m-1"); r.Outcome != pipeline.Unknown || r.Err == nil {
		t.Errorf("outcome %d, %v", r.Outcome, r.Err)
	}
	conn.lose.Store(false)
	if r := enqueue(t, q, "m-1"); r.Outcome != pipeline.Duplicate {
		t.Errorf("a repeat: outcome %d, %v", r.Outcome, r.Err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	results, err := q.Enqueue(ctx, []pipeline.Item{item("m-2")})
	if err != nil || results[0].Outcome != pipeline.Unknown && results[0].Outcome != pipeline.Stored { // its answer may have been quick
		t.Errorf("a call that was given up: %+v, %v", results, err)
	}
}

// TestQueueIsDeleted: producers and consumers go on with the queue that takes its place, which
// has the same options.
func TestQueueIsDeleted(t *testing.T) {
	n := start(t)
	admin := n.Dial(client.Config{})
	for name, connect := range map[string]func(context.Context) (sealmq.Connection, error){
		"in process": inProcess(n, sealmq.RoleAdmin), "over network": overNetwork(n),
	} {
		t.Run(name, func(t *testing.T) {
			q := open(t, connect)
			c, err := q.Consumer("w")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := admin.DeleteQueue(t.Context(), pipeline.QueueName); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if taken, err := c.Take(ctx, 10); err == nil || ctx.Err() != nil {
				t.Fatalf("%d taken, %v", len(taken), err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			untilStored(t, q, name[:2]+"-1")
			info, err := admin.Queue(t.Context(), pipeline.QueueName)
			if err != nil || info.Options.DeliveryLimit < 1000 {
				t.Errorf("%+v, %v", info, err)
			}
			if c, err = q.Consumer("w"); err != nil {
				t.Fatal(err)
			}
			taken, err := c.Take(ctx, 10)
			if err != nil || len(taken) != 1 {
				t.Fatalf("%d taken, %v", len(taken), err)
			}
			if err := c.Finish(ctx, []pipeline.Finished{{Ticket: taken[0].Ticket, Verdict: pipeline.Done}}); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			// A consumer that comes first makes the whole queue again, too.
			if _, err := admin.DeleteQueue(t.Context(), pipeline.QueueName); err != nil {
				t.Fatal(err)
			}
			if c, err = q.Consumer("w"); err != nil {
				t.Fatal(err)
			}
			untilStored(t, q, name[:2]+"-2")
			if taken, err = c.Take(ctx, 10); err != nil || len(taken) != 1 {
				t.Fatalf("%d taken, %v", len(taken), err)
			}
			if info, err = admin.Queue(t.Context(), pipeline.QueueName); err != nil || info.Options.DeliveryLimit < 1000 {
				t.Errorf("%+v, %v", info, err)
			}
			if err := c.Finish(ctx, []pipeline.Finished{{Ticket: taken[0].Ticket, Verdict: pipeline.Done}}); err != nil {
				t.Error(err)
			}
		})
	}
}
