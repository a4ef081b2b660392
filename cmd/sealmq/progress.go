package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// progressAfter is how long the work must take before the bar is shown.
	progressAfter = 500 * time.Millisecond
	progressEvery = 200 * time.Millisecond
	progressWidth = 30
)

// progress is a progress bar on a terminal. If the output is no terminal, it shows nothing.
type progress struct {
	w    io.Writer
	stop chan struct{} // nil if nothing is shown
	done sync.WaitGroup
}

// startProgress begins to show what look returns: a fraction, below zero if it is unknown,
// and a text.
func startProgress(w io.Writer, look func() (fraction float64, text string)) *progress {
	p := &progress{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.stop = make(chan struct{})
	began := time.Now()
	p.done.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case now := <-tick.C:
				if now.Sub(began) >= progressAfter {
					fraction, text := look()
					io.WriteString(w, "\r\x1b[K"+progressLine(fraction, text, now.Sub(began)))
				}
			}
		}
	})
	return p
}

// end removes the bar.
func (p *progress) end() {
	if p.stop == nil {
		return
	}
	close(p.stop)
	p.done.Wait()
	io.WriteString(p.w, "\r\x1b[K")
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
