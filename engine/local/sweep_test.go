package local_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// sweepingRig has a queue whose messages expire after ten milliseconds, beside a number of queues
// in which nothing is due, each with a message that waits.
func sweepingRig(tb testing.TB, idle int) *rig {
	tb.Helper()
	r := newRig(tb, nil)
	for i := range idle {
		r.DeclareQueue(fmt.Sprint("idle-", i), sealmq.QueueOptions{}, 0, func(engine.QueueInfo, bool, error) {})
		if i%100 == 0 {
			r.put(fmt.Sprint("idle-", i), "body", fmt.Sprint("idle-", i))
		}
	}
	declare(tb, r.Engine, "quick", &sealmq.QueueOptions{TTL: 10 * time.Millisecond})
	r.clock.Advance(2 * time.Second)
	return r
}

// quickSecond is the time that a second takes in which a message expires every 20 milliseconds.
func (r *rig) quickSecond() (took time.Duration) {
	for i := range 50 {
		r.put(fmt.Sprintf("%d-%d", r.clock.Now().UnixNano(), i), "body", "quick")
		began := time.Now()
		r.clock.Advance(20 * time.Millisecond)
		took += time.Since(began)
	}
	return took
}

// TestSweepsFollowWhatIsDue: what the sweeper does for one queue does not grow with the number of
// the others.
func TestSweepsFollowWhatIsDue(t *testing.T) {
	small, r := sweepingRig(t, 0), sweepingRig(t, 20_000)
	var alone, beside time.Duration
	for try := 0; try == 0 || beside > 5*alone+20*time.Millisecond; try++ { // other tests share the processors
		if try == 30 {
			t.Fatalf("sweeping takes %v in a second beside 20,000 queues that have nothing due, and %v without them", beside, alone)
		}
		alone, beside = small.quickSecond(), r.quickSecond()
	}
	t.Logf("a second takes %v alone, %v beside 20,000 queues", alone, beside)
	if info, err := r.Queue("quick"); err != nil || info.Expired < 50 {
		t.Errorf("%d messages expired: %v", info.Expired, err)
	}
}

// BenchmarkSweepBesideIdleQueues measures what a second costs with 100,000 queues of which one has a
// TTL of ten milliseconds.
func BenchmarkSweepBesideIdleQueues(b *testing.B) {
	r := sweepingRig(b, 100_000)
	b.ResetTimer()
	for range b.N {
		r.clock.Advance(time.Second)
	}
}
