package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"time"
)

// The collector may let the heap grow by a share of what lives. A broker with an empty
// queue has little that lives and makes much garbage; one with a million waiting
// messages has much that lives, nearly all of it without pointers, and must not double
// it. So the share is chosen such that the garbage stays near a fixed size: a large one
// where memory is small anyway and each collection walks through queues and
// connections, a small one beside a backlog.
const (
	gcSmallHeap = 48 << 20
	gcSlack     = 24 << 20
	gcSlackMore = 8 << 20 // above gcSmallHeap
	gcAtLeast   = 8
	gcAtMost    = 1000
)

// gcShare is the setting for a heap of which so many bytes live.
func gcShare(live int) int {
	slack := gcSlack
	if live > gcSmallHeap {
		slack = gcSlackMore
	}
	return min(max(slack*100/max(live, 1<<20), gcAtLeast), gcAtMost)
}

// tuneGC adjusts the collector once a second until the returned function is called.
// It leaves a setting by GOGC alone.
func tuneGC() (stop func()) {
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
				debug.FreeOSMemory() // what recovery read with is not needed again
			}
			metrics.Read(sample)
			share := gcShare(int(sample[0].Value.Uint64()))
			if share > last*5/4 || share < last*4/5 {
				debug.SetGCPercent(share)
				last = share
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
