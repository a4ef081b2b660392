package bench

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the longest time that the histogram records; longer ones count as this.
const maxLatency = 10 * time.Minute

// latency is a histogram of nanoseconds to three digits. A nil latency records nothing.
type latency struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newLatency() *latency {
	return &latency{h: hdrhistogram.New(1, int64(maxLatency), 3)}
}

func (l *latency) record(ns int64) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The value is in range, so there is no error.
	l.h.RecordValue(min(max(ns, 1), int64(maxLatency)))
}

// Quantiles are the quantiles of a latency, in milliseconds.
type Quantiles struct{ P50, P99, P999 float64 }

// merged computes the quantiles of several histograms together.
func merged(parts []*latency) Quantiles {
	sum := newLatency()
	for _, l := range parts {
		if l != nil {
			l.mu.Lock()
			sum.h.Merge(l.h)
			l.mu.Unlock()
		}
	}
	if sum.h.TotalCount() == 0 {
		return Quantiles{}
	}
	ms := func(q float64) float64 { return float64(sum.h.ValueAtQuantile(q)) / 1e6 }
	return Quantiles{ms(50), ms(99), ms(99.9)}
}
