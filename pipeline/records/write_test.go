package records_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline/records"
)

func TestRegisterAndDeliver(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		first, err := e.s.Register(ctx(t), messages(0, 3))
		want(t, first, err, records.Registered, records.Registered, records.Registered)
		for i, r := range first {
			if r.RowID != first[0].RowID+int64(i) || !r.At.Equal(t0) || r.State != records.Queued {
				t.Errorf("result %d: %+v", i, r)
			}
		}
		e.clock.Advance(time.Minute)
		again, err := e.s.Register(ctx(t), messages(1, 3))
		want(t, again, err, records.Duplicate, records.Duplicate, records.Registered)
		if again[0].RowID != first[1].RowID || !again[0].At.Equal(t0) {
			t.Errorf("a duplicate: %+v", again[0])
		}
		done, err := e.s.Deliver(ctx(t), deliveries(messages(2, 3)))
		want(t, done, err, records.WasDelivered, records.WasDelivered, records.WasDelivered)
		if done[0].RowID != first[2].RowID || !done[2].At.Equal(t0.Add(time.Minute)) || done[2].RowID == 0 {
			t.Errorf("deliveries: %+v", done)
		}
		e.clock.Advance(time.Minute)
		done, err = e.s.Deliver(ctx(t), deliveries(messages(4, 1)))
		want(t, done, err, records.Already)
		if !done[0].At.Equal(t0.Add(time.Minute)) {
			t.Errorf("the first time of delivery: %+v", done[0])
		}
		late, err := e.s.Register(ctx(t), messages(4, 1))
		want(t, late, err, records.Duplicate)
		if late[0].State != records.Delivered {
			t.Errorf("a late registration: %+v", late[0])
		}
	})
}
