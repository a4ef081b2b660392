package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
)

// clockHealth says whether this machine's clock is that of the main server elsewhere, or of the
// database that several main servers share.
func (n *node) clockHealth(context.Context) httpkit.Finding {
	whose, ahead := "the main server", time.Duration(0)
	if other := n.mainClock.Load(); other != nil {
		ahead = other.Ahead()
	} else if n.pipeline.store != nil {
		whose, ahead = "the database", n.pipeline.store.ClockAhead()
	}
	if !clock.Differ(ahead) {
		return httpkit.Finding{}
	}
	return httpkit.Finding{Level: httpkit.Degraded, Reason: fmt.Sprintf("the clock of this machine differs from that of %s by %v; set the one that is wrong", whose, ahead.Abs().Round(time.Second))}
}

func (n *node) clockCheck() httpkit.Check { return httpkit.Check{Name: "clock", Run: n.clockHealth} }

// clockStatus is clockHealth for the listener of operators.
func (n *node) clockStatus() (metrics.Status, string) {
	if f := n.clockHealth(context.Background()); f.Level == httpkit.Degraded {
		return metrics.Degraded, f.Reason
	}
	return metrics.OK, ""
}
