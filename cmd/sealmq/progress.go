package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	// progressAfter is how long the work must take before the bar is shown.
	progressAfter = 500 * time.Millisecond
	progressEvery = 200 * time.Millisecond
	progressWidth = 30
	clearLine     = "\r\x1b[K"
)

// withProgress runs a long task while it adjusts the garbage collector, and shows a progress
// bar if standard error is a terminal. look returns a fraction, below zero if it is unknown,
// and a text.
func withProgress(cmd *cobra.Command, look func(took time.Duration) (fraction float64, text string), task func() error) error {
	defer tuneGC()()
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
					fraction, text := look(took)
					io.WriteString(w, clearLine+progressLine(fraction, text, took))
				}
			}
		}
	})
	defer shown.Wait()
	defer close(stop)
	return task()
}

func progressLine(fraction float64, text string, took time.Duration) string {
	if fraction < 0 {
		return text
	}
	fraction = min(fraction, 1)
	full := int(fraction * progressWidth)
	line := fmt.Sprintf("[%s%s] %3.0f %%  %s", strings.Repeat("#", full), strings.Repeat(".", progressWidth-full), 100*fraction, text)
	if fraction > 0.01 && fraction < 1 {
		left := time.Duration(float64(took) * (1 - fraction) / fraction)
		line += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return line
}
