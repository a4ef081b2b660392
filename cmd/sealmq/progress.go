package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const (
	// progressAfter is how long the work must take before anything is shown.
	progressAfter = 500 * time.Millisecond
	progressEvery = 200 * time.Millisecond
	clearLine     = "\r\x1b[K"
)

// withProgress runs a long task while it adjusts the garbage collector. If standard error is
// a terminal, it shows how many messages are done with, in the sense of what.
func withProgress(cmd *cobra.Command, what string, messages func() uint64, task func() error) error {
	defer tuneGC(gcMinPercent)()
	w := cmd.ErrOrStderr()
	if !onTerminal(w) || isQuiet(cmd) {
		return task()
	}
	began, stop := time.Now(), make(chan struct{})
	p := pace{{at: began}}
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				io.WriteString(w, clearLine)
				return
			case now := <-tick.C:
				n := messages()
				if rate := p.add(now, n); now.Sub(began) >= progressAfter {
					fmt.Fprintf(w, "%s%s %s, %.0f/s", clearLine, plural(n, "message"), what, rate)
				}
			}
		}
	})
	defer shown.Wait()
	defer close(stop)
	return task()
}

// pace has the counts of the last seconds, so that the rate follows the work and does not jump
// with every batch.
type pace []struct {
	at time.Time
	n  uint64
}

// paceTime is how far back it goes.
const paceTime = 5 * time.Second

// add returns the rate a second.
func (p *pace) add(at time.Time, n uint64) float64 {
	*p = append(*p, struct {
		at time.Time
		n  uint64
	}{at, n})
	for len(*p) > 2 && at.Sub((*p)[1].at) >= paceTime {
		*p = (*p)[1:]
	}
	first := (*p)[0]
	return float64(n-min(n, first.n)) / max(at.Sub(first.at), time.Millisecond).Seconds()
}
