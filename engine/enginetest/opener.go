package enginetest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
)

// Config is what an engine is opened with. Zero values mean the engine's defaults.
type Config struct {
	Clock       clock.Clock
	DedupWindow time.Duration
	DedupMaxIDs int
	Log         *slog.Logger
}

// Opener opens one engine again and again over the same storage, which is empty at
// first. One engine is open at a time.
type Opener interface {
	// Open opens the engine over what earlier ones stored, or fails tb.
	Open(tb testing.TB, cfg Config) engine.Engine
}

// Crasher is an Opener that can cut the power.
type Crasher interface {
	// Crash ends the open engine at once: of what it has not synced, anything may be
	// lost. When it returns, done functions that waited have run, with code Unavailable,
	// and the engine need not be closed.
	Crash(tb testing.TB)
}

// Holder is an Opener that can keep syncs from completing.
type Holder interface {
	// Hold makes every sync wait until release is called.
	Hold(tb testing.TB) (release func())
}

// NewModelOpener returns the opener of a Model.
func NewModelOpener(testing.TB) Opener { return NewDisk() }
