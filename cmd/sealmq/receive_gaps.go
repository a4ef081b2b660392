package main

import (
	"context"
	"slices"
	"sort"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/receive"
)

// gapWatch finds messages that have not arrived although their sender has sealed later ones
// that have. A message that is only late looks the same, so a gap is reported when it has
// stayed for a while.
type gapWatch struct {
	ledger *receive.Ledger
	start  []receive.Gap // before this run
	told   []receive.Gap // those, and what was reported
	seen   []receive.Gap // at the last look
}

func newGapWatch(ledger *receive.Ledger) *gapWatch {
	start := ledger.Gaps()
	return &gapWatch{ledger: ledger, start: start, told: start, seen: start}
}

// How long a gap stays before it is reported. The time doubles with each report, because
// competing receivers always miss what the others get.
const (
	gapTime    = 10 * time.Second
	maxGapTime = 10 * time.Minute
)

// run reports gaps until ctx ends.
func (w *gapWatch) run(ctx context.Context, note func(format string, args ...any)) {
	for pause := gapTime; clock.Sleep(ctx, clock.System, pause) == nil; {
		list := w.look()
		for len(list) > 0 {
			sender := list[0].Sender
			others := slices.IndexFunc(list, func(g receive.Gap) bool { return g.Sender != sender })
			if others < 0 {
				others = len(list)
			}
			note("%s of %s missing so far, although later ones arrived: late, refused, taken by another receiver, or held back", plural(countGaps(list[:others]), "message"), sender)
			list = list[others:]
			pause = min(2*pause, maxGapTime)
		}
	}
}

// look returns what was missing at the last look, is missing still and was not reported.
func (w *gapWatch) look() []receive.Gap {
	now := w.ledger.Gaps()
	unknown := notIn(now, w.told)
	fresh := notIn(unknown, w.seen)
	w.seen, w.told = now, notIn(now, fresh)
	return notIn(unknown, fresh)
}

// missing is how many messages are missing that were not before this run.
func (w *gapWatch) missing() uint64 { return countGaps(notIn(w.ledger.Gaps(), w.start)) }

func countGaps(list []receive.Gap) (n uint64) {
	for _, g := range list {
		n += g.To - g.From + 1
	}
	return n
}

// notIn returns the gaps that lie in none of others. Both are in the order of Ledger.Gaps. A
// gap never grows; what arrives shortens it or makes two of it.
func notIn(gaps, others []receive.Gap) []receive.Gap {
	epochOf := func(g receive.Gap) receive.Gap {
		g.From, g.To = 0, 0
		return g
	}
	inEpoch := make(map[receive.Gap][]receive.Gap)
	for _, g := range others {
		inEpoch[epochOf(g)] = append(inEpoch[epochOf(g)], g)
	}
	return slices.DeleteFunc(slices.Clone(gaps), func(g receive.Gap) bool {
		list := inEpoch[epochOf(g)]
		i := sort.Search(len(list), func(i int) bool { return list[i].To >= g.To })
		return i < len(list) && list[i].From <= g.From
	})
}
