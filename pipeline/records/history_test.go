package records_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

func number(n int64) *int64 { return &n }

// TestMinutes: what two main servers have seen adds up, what one stores again replaces what
// it had stored, and a minute without a main server is a gap.
func TestMinutes(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		now := records.MinuteOf(e.clock.Now())
		at := func(n int) time.Time { return now.Add(time.Duration(n) * time.Minute) }
		put := func(s *records.Store, server string, list ...records.Minute) {
			t.Helper()
			if err := s.PutMinutes(ctx(t), server, list); err != nil {
				t.Fatal(err)
			}
		}
		put(e.s, "a", records.Minute{At: at(-5), Accepted: 7}, records.Minute{At: at(-3), Accepted: 3, Waiting: number(4)})
		put(e.s, "a", records.Minute{At: at(-3), Accepted: 5, Delivered: 2, Waiting: number(3), Dead: number(0)})
		other := e.s
		if e.name != "" { // an SQLite file belongs to one process
			other = e.open(nil)
		}
		put(other, "b", records.Minute{At: at(-3), Accepted: 1, Failed: 1, Waiting: number(9)}, records.Minute{At: at(0)})
		for _, tc := range []struct {
			without string
			from    int
			want    []records.Minute
		}{
			{"", -60, []records.Minute{{At: at(-5), Accepted: 7}, {At: at(-3), Accepted: 6, Delivered: 2, Failed: 1, Waiting: number(9), Dead: number(0)}, {At: at(0)}}},
			{"a", -60, []records.Minute{{At: at(-3), Accepted: 1, Failed: 1, Waiting: number(9)}, {At: at(0)}}},
			{"", -2, []records.Minute{{At: at(0)}}},
		} {
			got, err := e.s.Minutes(ctx(t), at(tc.from), at(0), tc.without)
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("without %q from %d: %v\n%s", tc.without, tc.from, err, diff)
			}
		}
	})
}

// TestMinutesArePruned: a day of minutes is kept, however long the program runs. A clock that
// is wrong for a while deletes nothing.
func TestMinutesArePruned(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		start := records.MinuteOf(e.clock.Now())
		var list []records.Minute
		for n := range 23 * 60 {
			list = append(list, records.Minute{At: start.Add(time.Duration(n) * time.Minute), Accepted: 1})
		}
		count := func() int {
			t.Helper()
			all, err := e.s.Minutes(ctx(t), start.Add(-100*24*time.Hour), start.Add(1000*24*time.Hour), "")
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		put := func(list ...records.Minute) {
			t.Helper()
			if err := e.s.PutMinutes(ctx(t), "a", list); err != nil {
				t.Fatal(err)
			}
		}
		put(list...)
		e.clock.Set(365 * 24 * time.Hour)
		put(records.Minute{At: records.MinuteOf(e.clock.Now())})
		e.clock.Set(-365*24*time.Hour + 23*time.Hour)
		if n := count(); n != 23*60+1 {
			t.Errorf("%d minutes after a wrong clock, want %d", n, 23*60+1)
		}
		for range 4 * 60 {
			e.clock.Advance(time.Minute)
			put(records.Minute{At: records.MinuteOf(e.clock.Now())})
		}
		if n := count(); n < 24*60 || n > 26*60 {
			t.Errorf("%d minutes are kept, want those of about a day", n)
		}
	})
}

// TestCountersOfStates: each message counts once for each state that it comes to, whatever is
// repeated.
func TestCountersOfStates(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		list := messages(1, 4)
		for range 2 {
			if _, err := e.s.Register(ctx(t), list[:3]); err != nil {
				t.Fatal(err)
			}
			if _, err := e.s.Deliver(ctx(t), deliveries(list[2:])); err != nil {
				t.Fatal(err)
			}
			if _, err := e.s.Status(ctx(t), []pipeline.Update{{MessageID: list[0].ID, ClientID: list[0].Client, State: pipeline.Failed, Attempts: 3}}); err != nil {
				t.Fatal(err)
			}
		}
		if c := e.s.Counters(); c.Accepted != 4 || c.Delivered != 2 || c.Failed != 1 {
			t.Errorf("accepted %d, delivered %d, failed %d; want 4, 2, 1", c.Accepted, c.Delivered, c.Failed)
		}
	})
}
