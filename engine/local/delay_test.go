package local_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// TestDelayOutlivesARestart: a message that was returned with a delay comes when it is
// due, also if the store was opened meanwhile.
func TestDelayOutlivesARestart(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	r.put("id", "body", "q")
	s := r.consumer("q")
	d := r.take(s, 1)[0]
	done := make(chan error, 1)
	s.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Return, Delay: 100 * time.Millisecond}}, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	s = r.consumer("q")
	r.clock.Advance(90 * time.Millisecond)
	if list := r.take(s, 1); len(list) != 0 {
		t.Error("it came too early")
	}
	r.clock.Advance(20 * time.Millisecond)
	if list := r.take(s, 1); len(list) != 1 || list[0].Attempt != 2 {
		t.Errorf("took %v when it was due", list)
	}
}
