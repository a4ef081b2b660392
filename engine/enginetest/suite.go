package enginetest

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/engine"
)

// check is one behaviour.
type check struct {
	name string
	// config changes what the engine is opened with; it may be nil.
	config func(*Config)
	// needs says which abilities the check is about; nil means none.
	needs func(engine.Abilities) bool
	run   func(h *harness)
}

// restartCheck is a behaviour that a restart must not change. It runs twice: the engine
// is closed and opened, and the power is cut.
type restartCheck struct {
	name   string
	config func(*Config)
	needs  func(engine.Abilities) bool
	run    func(h *harness, restart func())
}

// patience bounds the wait for something that must happen. It is far beyond what any
// engine needs, so that a busy machine fails no test.
const patience = time.Minute

// Run tests an engine. Every test opens a storage of its own.
func Run(t *testing.T, newOpener func(tb testing.TB) Opener) {
	for _, group := range suite() {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.checks {
				t.Run(c.name, func(t *testing.T) { c.try(t, newOpener(t), patience) })
			}
		})
	}
}

// try runs one check on a new engine.
func (c check) try(tb testing.TB, opener Opener, patience time.Duration) {
	h := newHarness(tb, opener, patience)
	if c.config != nil {
		c.config(&h.cfg)
	}
	h.open()
	defer func() {
		if p := recover(); p != nil {
			panic(p) // an engine that panicked may not be able to close
		}
		h.finish()
	}()
	if a := h.engine.Abilities(); c.needs != nil && !c.needs(a) {
		tb.Skipf("the engine has not the ability: %+v", a)
	}
	c.run(h)
}

type group struct {
	name   string
	checks []check
}

func suite() []group {
	return []group{
		{"queues", queueChecks},
		{"publish", publishChecks},
		{"delivery", deliveryChecks},
		{"subscriptions", append(subscriptionChecks, expand(subscriptionRestartChecks)...)},
		{"settle", settleChecks},
		{"release", append(releaseChecks, expand(releaseRestartChecks)...)},
		{"extend", extendChecks},
		{"dead letters", deadChecks},
		{"time", timeChecks},
		{"limits", limitChecks},
		{"dedup", append(dedupChecks, expand(dedupRestartChecks)...)},
		{"digest", append(digestLimitChecks, expand(digestChecks)...)},
		{"definitions", append(definitionChecks, expand(definitionRestartChecks)...)},
		{"durability", expand(durabilityChecks)},
		{"sync", syncChecks},
		{"abilities", abilityChecks},
		{"change", append(changeChecks, expand(changeRestartChecks)...)},
		{"pause", append(pauseChecks, expand(pauseRestartChecks)...)},
		{"close", closeChecks},
		{"concurrency", concurrencyChecks},
	}
}

func expand(list []restartCheck) []check {
	var checks []check
	for _, c := range list {
		for name, restart := range map[string]func(*harness){" after close": (*harness).reopen, " after crash": (*harness).crash} {
			checks = append(checks, check{c.name + name, c.config, c.needs, func(h *harness) {
				c.run(h, func() { h.Helper(); restart(h) })
			}})
		}
	}
	return checks
}

func strict(a engine.Abilities) bool { return a.StrictRedelivery }
