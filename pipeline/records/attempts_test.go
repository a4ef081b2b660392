package records_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// wantHistory compares what is kept of a message, as "NUMBER EVENT ERROR WORKER SECONDS".
func (e *env) wantHistory(id string, expected ...string) {
	e.t.Helper()
	var list []string
	r, err := e.s.Get(ctx(e.t), "acme-01", id)
	if err != nil {
		e.t.Fatal(err)
	}
	attempts, err := e.s.Attempts(ctx(e.t), r.RowID)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, a := range attempts {
		list = append(list, fmt.Sprint(a.Number, " ", a.Event, " ", a.Error, " ", a.Worker, " ", a.At.Sub(t0).Seconds()))
	}
	if diff := cmp.Diff(expected, list); diff != "" {
		e.t.Errorf("%s (-want +got):\n%s", id, diff)
	}
}

func failed(id string, attempt int, why string, at time.Time) pipeline.Update {
	return pipeline.Update{MessageID: id, ClientID: "acme-01", State: pipeline.Queued, Attempts: attempt, Error: why, Worker: "worker-1", At: at}
}

func TestAttempts(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 3))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRegistered)
		second := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
		e.clock.Advance(10 * time.Second)
		r, err = e.s.Status(ctx(t), []pipeline.Update{failed("message-0", 1, "503", second(1)), failed("message-0", 2, "timeout", second(5)), failed("message-1", 1, "503", second(2))})
		want(t, r, err, pipeline.StatusUpdated, pipeline.StatusUpdated, pipeline.StatusUpdated)
		got, err := e.s.Get(ctx(t), "", "message-0")
		if err != nil || got.Error != "timeout" || got.Attempts != 2 || !got.LastAttemptAt.Equal(second(5)) {
			t.Errorf("%+v, %v", got, err)
		}
		// The same report again, and an older one, change nothing else.
		r, err = e.s.Status(ctx(t), []pipeline.Update{failed("message-0", 2, "timeout", second(5)), failed("message-0", 1, "503", second(1))})
		want(t, r, err, pipeline.StatusKept, pipeline.StatusKept)
		r, err = e.s.Deliver(ctx(t), []records.Delivery{{Message: message(0), Worker: "worker-2", Attempts: 3}, {Message: message(2), Worker: "worker-2", Attempts: 1}})
		want(t, r, err, pipeline.StatusDelivered, pipeline.StatusDelivered)
		// A worker that was away reports an attempt after another one has delivered.
		r, err = e.s.Status(ctx(t), []pipeline.Update{failed("message-0", 2, "late", second(3))})
		want(t, r, err, pipeline.StatusKept)
		got, err = e.s.Get(ctx(t), "", "message-0")
		if err != nil || got.State != pipeline.Delivered || got.Error != "" || got.Attempts != 3 || got.Worker != "worker-2" {
			t.Errorf("%+v, %v", got, err)
		}
		e.wantHistory("message-0", "1 failed 503 worker-1 1", "2 failed late worker-1 3", "2 failed timeout worker-1 5")
		e.wantHistory("message-2")
		// Given up, queued again by an administrator, and delivered.
		r, err = e.s.Status(ctx(t), []pipeline.Update{{MessageID: "message-1", ClientID: "acme-01", State: pipeline.Failed, Attempts: 2, Error: "gone", Worker: "worker-1"}})
		want(t, r, err, pipeline.StatusUpdated)
		e.clock.Advance(time.Second)
		r, err = e.s.Requeue(ctx(t), []pipeline.Update{{MessageID: "message-1", ClientID: "acme-01", State: pipeline.Queued}})
		want(t, r, err, pipeline.StatusUpdated)
		e.wantHistory("message-1", "1 failed 503 worker-1 2", "2 given_up gone worker-1 10", "0 requeued   11")
		e.checkCounts()
	})
}

// TestAttemptsAreBounded: of many attempts the first and the last ones are kept, and retention
// removes them with their message.
func TestAttemptsAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
		for n := 1; n <= 120; n += 8 {
			var list []pipeline.Update
			for i := range 8 {
				list = append(list, failed("message-0", n+i, "503", t0.Add(time.Duration(n+i)*time.Second)))
			}
			if _, err := e.s.Status(ctx(t), append(list, failed("message-1", n, "503", t0.Add(time.Duration(n)*time.Second)))); err != nil {
				t.Fatal(err)
			}
		}
		var expected []string
		for n := 1; n <= 120; n++ {
			if n <= 10 || n > 80 {
				expected = append(expected, fmt.Sprintf("%d failed 503 worker-1 %d", n, n))
			}
		}
		e.wantHistory("message-0", expected...)
		row, err := e.s.Get(ctx(t), "", "message-0")
		if err != nil {
			t.Fatal(err)
		}
		r, err = e.s.Deliver(ctx(t), deliveries(messages(0, 1)))
		want(t, r, err, pipeline.StatusDelivered)
		e.clock.Advance(31 * 24 * time.Hour)
		if _, n, err := e.s.Cleanup(ctx(t), 30); n != 1 || err != nil {
			t.Errorf("%d deleted, %v", n, err)
		}
		if list, err := e.s.Attempts(ctx(t), row.RowID); len(list) != 0 || err != nil {
			t.Errorf("%d attempts without a message, %v", len(list), err)
		}
	})
}
