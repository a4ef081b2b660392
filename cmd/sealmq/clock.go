package main

import (
	"fmt"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// clockTrouble says whether this machine's clock is that of the main server elsewhere, or of the
// database that several main servers share.
func (n *node) clockTrouble() string {
	whose, ahead := "the main server", time.Duration(0)
	if other := n.mainClock.Load(); other != nil {
		ahead = other.Ahead()
	} else if n.pipeline.store != nil {
		whose, ahead = "the database", n.pipeline.store.ClockAhead()
	}
	if !clock.Differ(ahead) {
		return ""
	}
	return fmt.Sprintf("the clock of this machine differs from that of %s by %v; set the one that is wrong", whose, ahead.Abs().Round(time.Second))
}
