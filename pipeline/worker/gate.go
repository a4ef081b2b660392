package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/changes"
	"github.com/sealmq/sealmq/internal/clock"
)

// Bounds of the pause between two tries of something that is away.
const (
	minPause = time.Second
	maxPause = 5 * time.Second
)

// A gate stands before something that may be away. While it is there, everybody passes.
// When it is away, one caller at a time passes, after a pause that grows; the others wait
// until it is back.
type gate struct {
	what string
	log  *slog.Logger

	mu     sync.Mutex
	err    error         // nil while it is there
	said   bool          // the log says that it is away
	pause  time.Duration // before the next try
	trying bool          // somebody is behind the gate, or pauses before it
	left   changes.Signal
}

// enter waits until the caller may pass. alone says that it is the one that tries: then it
// must call leave. ok is false when ctx has ended.
func (g *gate) enter(ctx context.Context) (alone, ok bool) {
	g.mu.Lock()
	for g.err != nil && g.trying && ctx.Err() == nil {
		_ = g.left.Wait(ctx, &g.mu) // the loop asks ctx
	}
	ok = ctx.Err() == nil
	alone = ok && g.err != nil
	g.trying = g.trying || alone
	pause := g.pause
	g.mu.Unlock()
	if alone && clock.Sleep(ctx, clock.System, pause) != nil {
		g.leave(true, context.Cause(ctx))
		return false, false
	}
	return alone, ok
}

// leave says how it went, for a caller that entered alone or not. A success opens the gate
// for everybody.
func (g *gate) leave(alone bool, err error) {
	g.mu.Lock()
	was := g.err
	g.err = err
	switch {
	case err == nil:
		g.pause = 0
	case was == nil:
		g.pause = minPause
	case alone:
		g.pause = min(max(minPause, 2*g.pause), maxPause)
	}
	if alone {
		g.trying = false
	}
	g.left.Notify()
	said := g.said
	g.said = err != nil
	g.mu.Unlock()
	switch {
	case !said && err != nil:
		g.log.Warn("waiting for "+g.what, "error", err)
	case said && err == nil:
		g.log.Info(g.what + " is back")
	}
}

// state is nil while it is there, and why it is not.
func (g *gate) state() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
