package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"time"
)

// GOGC lets the heap grow by a percentage of the live heap. A broker with empty queues has
// a small live heap and makes much garbage. A broker with a million waiting messages has a
// large live heap, nearly all of it without pointers, which must not double. So the
// percentage is chosen to keep the garbage near a fixed size. That size is larger for a
// small heap, where a collection is expensive compared to what it frees.
const (
	gcSmallHeap  = 48 << 20
	gcSlack      = 24 << 20
	gcSlackLarge = 8 << 20 // for a live heap above gcSmallHeap
	gcMinPercent = 8
	gcMaxPercent = 1000
	// gcPipelinePercent is the least for the roles of the pipeline. Their heap is full of
	// pointers: while they work off a backlog, a smaller one takes a third of their processor time.
	gcPipelinePercent = 100
)

// gcPercent is the GOGC setting for a live heap of that many bytes.
func gcPercent(live, least int) int {
	slack := gcSlack
	if live > gcSmallHeap {
		slack = gcSlackLarge
	}
	return min(max(slack*100/max(live, 1<<20), least), gcMaxPercent)
}

// tuneGC adjusts GOGC once a second, to no less than least, until the returned function is
// called. If the environment sets GOGC, it does nothing.
func tuneGC(least int) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		last := 0
		for round := 0; ; round++ {
			if round == 2 {
				debug.FreeOSMemory() // the memory that recovery needed
			}
			metrics.Read(sample)
			percent := gcPercent(int(sample[0].Value.Uint64()), least)
			if percent > last*5/4 || percent < last*4/5 {
				debug.SetGCPercent(percent)
				last = percent
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(done) }
}

// startProfile writes a CPU profile to a file until the returned function is called.
func startProfile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
