package clock

import (
	"sync/atomic"
	"time"
)

// Tolerance is by how much the clocks of two machines may differ before that is worth a word.
// What is sealed and signed bears five times as much.
const Tolerance = time.Minute

// Other is a clock elsewhere, as answers with a time in them show it. The zero value is one that
// has not been seen. It is safe for concurrent use.
type Other struct{ ahead atomic.Int64 }

// Answered notes that an answer said what time it is, in whole seconds. It was asked for and came
// at two moments of this machine, and what may have passed in between is no difference.
func (o *Other) Answered(at, asked, came time.Time) {
	var ahead time.Duration
	switch asked, came, end := asked.Round(0), came.Round(0), at.Add(time.Second); {
	case at.After(came):
		ahead = at.Sub(came)
	case end.Before(asked):
		ahead = end.Sub(asked)
	}
	o.ahead.Store(int64(ahead))
}

// Ahead is by how much the other clock is ahead at least; it is negative if that one is behind.
func (o *Other) Ahead() time.Duration { return time.Duration(o.ahead.Load()) }

// Differ reports whether a difference is more than Tolerance.
func Differ(ahead time.Duration) bool { return ahead.Abs() > Tolerance }
