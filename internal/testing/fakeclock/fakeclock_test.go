package fakeclock_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestFakeStandsStill(t *testing.T) {
	c := fakeclock.New(t0)
	if got := c.Now(); !got.Equal(t0) {
		t.Errorf("now %v, want %v", got, t0)
	}
	c.Advance(time.Minute)
	if got, want := c.Now(), t0.Add(time.Minute); !got.Equal(want) {
		t.Errorf("now %v, want %v", got, want)
	}
}

func TestFakeTimersFireInOrderAtTheirTime(t *testing.T) {
	c := fakeclock.New(t0)
	var got []string
	set := func(name string, d time.Duration) clock.Timer {
		return c.AfterFunc(d, func() { got = append(got, name+" "+c.Now().Sub(t0).String()) })
	}
	set("b", 2*time.Second)
	set("a", time.Second)
	set("a2", time.Second)
	set("late", time.Hour)
	stopped := set("stopped", time.Second)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not tell whether the timer was set")
	}
	moved := set("moved", time.Second)
	if !moved.Reset(3 * time.Second) {
		t.Error("Reset does not tell that the timer was set")
	}
	c.AfterFunc(1500*time.Millisecond, func() { set("set on the way", time.Second) })

	c.Advance(10 * time.Second)
	want := []string{"a 1s", "a2 1s", "b 2s", "set on the way 2.5s", "moved 3s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fired (-want +got):\n%s", diff)
	}
	if n := c.Timers(); n != 1 {
		t.Errorf("%d timers left, want the late one", n)
	}
	if moved.Reset(time.Second) {
		t.Error("Reset of a fired timer says that it was set")
	}
	c.Advance(time.Second)
	if len(got) != len(want)+1 {
		t.Errorf("a timer that was set again fired %d times", len(got)-len(want))
	}
}

func TestFakeTimerWithoutWaitRunsAtOnce(t *testing.T) {
	c := fakeclock.New(t0)
	ran := make(chan struct{})
	c.AfterFunc(0, func() { close(ran) })
	<-ran
}
