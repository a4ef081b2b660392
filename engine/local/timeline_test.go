package local_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// TestWrongClocks: a clock that is wrong at one start, or is set while the engine is open or closed,
// neither ends a message before its time nor keeps it or its delay longer.
func TestWrongClocks(t *testing.T) {
	const hour = time.Hour
	for name, tc := range map[string]struct {
		wrong    time.Duration // at the first start
		set      time.Duration // a second later
		last     time.Duration // at the moment at which the engine is closed
		between  time.Duration // by how much the clock is set while the engine is closed
		atSecond time.Duration // and after the second start
	}{
		"right":                                  {},
		"behind for a second":                    {wrong: -2 * hour, set: 2 * hour},
		"ahead for a second":                     {wrong: 2 * hour, set: -2 * hour},
		"ahead until it was closed":              {wrong: 2 * hour, between: -2 * hour},
		"ahead until it was closed, for a year":  {wrong: 9000 * hour, between: -9000 * hour},
		"set back while it was open":             {set: -2 * hour},
		"set ahead while it was open":            {set: 2 * hour},
		"set ahead as it was closed":             {last: 2 * hour},
		"set back as it was closed":              {last: -2 * hour},
		"behind at the second start":             {between: -2 * hour, atSecond: 2 * hour},
		"behind for a second, ahead for another": {wrong: -2 * hour, set: 4 * hour},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r.clock.Set(tc.wrong)
			r.open()
			declare(t, r.Engine, "brief", &sealmq.QueueOptions{TTL: hour})
			declare(t, r.Engine, "q", nil)
			r.put("early", "body", "brief")
			r.clock.Advance(2 * time.Second)
			r.clock.Set(tc.set)
			r.clock.Advance(2 * time.Second) // it is noticed
			r.put("late", "body", "brief")
			r.put("delayed", "body", "q")
			s := r.consumer("q")
			d := r.take(s, 1)
			done := make(chan error, 1)
			s.Settle([]engine.Settlement{{Tag: d[0].Tag, Verdict: engine.Return, Delay: hour / 2}}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			r.clock.Set(tc.last)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			r.clock.Set(tc.between)
			r.open()
			r.clock.Advance(time.Second)
			r.clock.Set(tc.atSecond)
			expect := func(what, queue string, ready, delayed int) {
				t.Helper()
				if info, _ := r.Queue(queue); info.Ready != ready || info.Delayed != delayed {
					t.Errorf("%s: %d wait in %s, %d of them delayed; want %d and %d", what, info.Ready, queue, info.Delayed, ready, delayed)
				}
			}
			expect("at the second start", "brief", 2, 0)
			expect("at the second start", "q", 1, 1)
			r.clock.Advance(hour/2 + time.Minute)
			expect("after half an hour", "brief", 2, 0)
			expect("after half an hour", "q", 1, 0)
			r.clock.Advance(hour/2 + 16*time.Minute)
			expect("after an hour", "brief", 0, 0)
		})
	}
}
