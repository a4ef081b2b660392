package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"
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

	mu      sync.Mutex
	err     error         // nil while it is there
	said    bool          // the log says that it is away
	pause   time.Duration // before the next try
	trying  bool          // somebody is behind the gate, or pauses before it
	changed chan struct{} // closed when the others should look again; nil if nobody waits
}

// enter waits until the caller may pass. alone says that it is the one that tries: then it
// must call leave. ok is false when ctx has ended.
func (g *gate) enter(ctx context.Context) (alone, ok bool) {
	for ctx.Err() == nil {
		g.mu.Lock()
		if g.err == nil {
			g.mu.Unlock()
			return false, true
		}
		if !g.trying {
			g.trying = true
			pause := g.pause
			g.mu.Unlock()
			if !sleep(ctx, pause) {
				g.leave(true, context.Cause(ctx))
				return false, false
			}
			return true, true
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false, false
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
	g.wake()
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

// wake makes those that wait look again. mu is held.
func (g *gate) wake() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// state is nil while it is there, and why it is not.
func (g *gate) state() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// sleep waits; it is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
