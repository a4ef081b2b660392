package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
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
	w, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || !term.IsTerminal(int(w.Fd())) {
		return task()
	}
	began, stop := time.Now(), make(chan struct{})
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
				if took := now.Sub(began); took >= progressAfter {
					n := messages()
					fmt.Fprintf(w, "%s%s %s, %.0f/s", clearLine, plural(n, "message"), what, float64(n)/took.Seconds())
				}
			}
		}
	})
	defer shown.Wait()
	defer close(stop)
	return task()
}
