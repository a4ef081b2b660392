package local_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// walked is how many bytes the garbage collector has to look at in each round.
func walked() int {
	runtime.GC()
	runtime.GC() // the first also finishes what was under way
	s := []metrics.Sample{{Name: "/gc/scan/heap:bytes"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// TestQueuesRest: a queue that was busy costs no more than one that was never used when
// nothing is in it any more.
func TestQueuesRest(t *testing.T) {
	const n = 10_000
	r := newRig(t, nil)
	before := walked()
	left := make(chan error, n)
	for i := range n {
		r.DeclareQueue(fmt.Sprintf("queue-%05d", i), sealmq.QueueOptions{}, 0, func(_ engine.QueueInfo, _ bool, err error) { left <- err })
	}
	for range n {
		if err := <-left; err != nil {
			t.Fatal(err)
		}
	}
	fresh := (walked() - before) / n
	for i := range n {
		r.put(fmt.Sprintf("id-%d", i), "body", fmt.Sprintf("queue-%05d", i))
		s := r.consumer(fmt.Sprintf("queue-%05d", i))
		if err := r.settle(s, engine.Ack, r.take(s, 1)...); err != nil {
			t.Fatal(err)
		}
		s.Close(true)
	}
	r.clock.Advance(2 * time.Second)
	used := (walked() - before) / n
	if used > fresh+100 {
		t.Errorf("bytes walked: %d for a queue that was never used, %d for one that was", fresh, used)
	}
	runtime.KeepAlive(r)
}
