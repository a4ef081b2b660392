package local_test

import (
	"testing"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// opener opens one store in a file system in memory that can lose power.
type opener struct {
	fs     *faultfs.FS
	engine *local.Engine
}

func newOpener(testing.TB) enginetest.Opener { return &opener{fs: faultfs.New()} }

func (o *opener) Open(tb testing.TB, cfg enginetest.Config) engine.Engine {
	return o.open(tb, cfg, 5<<20) // room for the largest message
}

func (o *opener) open(tb testing.TB, cfg enginetest.Config, segment int) engine.Engine {
	e, err := local.Open(local.Config{
		Dir: "store", FS: o.fs, Clock: cfg.Clock, SegmentBytes: segment,
		DedupWindow: cfg.DedupWindow, DedupIDs: cfg.DedupMaxIDs, Log: cfg.Log,
	})
	if err != nil {
		tb.Fatal(err)
	}
	o.engine = e
	return e
}

func (o *opener) Crash(testing.TB) {
	o.fs = o.fs.Crash(faultfs.DropUnsynced, 1)
	_ = o.engine.Close() // everything it does fails now, and everybody who waits is told so
}

func (o *opener) Hold(testing.TB) (release func()) {
	held := make(chan struct{})
	o.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Sync {
			return &faultfs.Fault{Hang: held}
		}
		return nil
	})
	return func() {
		o.fs.Hook(nil)
		close(held)
	}
}

func TestConformance(t *testing.T) { enginetest.Run(t, newOpener) }

func TestAgainstModel(t *testing.T) {
	enginetest.Compare(t, enginetest.NewModelOpener, newSmallOpener)
}

// smallOpener has segments so small that random operations fill many of them.
type smallOpener struct{ opener }

func newSmallOpener(testing.TB) enginetest.Opener {
	return &smallOpener{opener{fs: faultfs.New()}}
}

func (o *smallOpener) Open(tb testing.TB, cfg enginetest.Config) engine.Engine {
	return o.open(tb, cfg, 64<<10)
}
