package crash

import (
	"fmt"
	"time"
)

// maxProblems is how many problems are described; all are counted.
const maxProblems = 20

// Report is what a run found. Attempted and Confirmed count messages; the other counters
// count a message once for each of its queues.
type Report struct {
	Kind                 string // kill, role kill, power or partition
	Seed                 int64
	Attempted, Confirmed int
	Delivered            int // without redeliveries
	Dead                 int // arrived in a dead-letter queue
	Redelivered          int
	Lost, Duplicates     int
	Reordered            int
	Altered, Invented    int
	Cuts                 int           // kills or power cuts
	EarlyCuts            int           // of these, during a start
	Torn                 int           // starts that found a part of an unsynced batch
	Recovery             time.Duration // the longest, after a partition
	Elapsed              time.Duration
	// Problems describe the first problems.
	Problems []string
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Problems) == 0 }

// String is the summary in one line.
func (r *Report) String() string {
	return fmt.Sprintf("%s: attempted %d, confirmed %d, delivered %d, dead %d, redelivered %d, lost %d, duplicates %d, reordered %d, altered %d, invented %d, %ss %d (%d during a start), torn batches %d, slowest recovery %.1f s, seconds %.1f, seed %d",
		r.Kind, r.Attempted, r.Confirmed, r.Delivered, r.Dead, r.Redelivered, r.Lost, r.Duplicates, r.Reordered,
		r.Altered, r.Invented, r.Kind, r.Cuts, r.EarlyCuts, r.Torn, r.Recovery.Seconds(), r.Elapsed.Seconds(), r.Seed)
}

// problem adds a problem that has no counter.
func (r *Report) problem(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// add adds the counters of a ledger.
func (r *Report) add(l *Ledger) {
	c := l.Counts()
	r.Attempted += c.Attempted
	r.Confirmed += c.Confirmed
	r.Delivered += c.Delivered
	r.Dead += c.Dead
	r.Redelivered += c.Redelivered
	r.Lost += c.Lost
	r.Duplicates += c.Duplicates
	r.Reordered += c.Reordered
	r.Altered += c.Altered
	r.Invented += c.Invented
	for _, p := range c.Problems {
		r.problem("%s", p)
	}
}
