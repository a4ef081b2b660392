package local_test

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

const storeDir = "data/store"

// machine is a file system in memory that can lose its power, with one store in it whose
// segments are small.
type machine struct {
	fs         *faultfs.FS
	engine     *local.Engine
	quarantine bool
}

func newMachine() enginetest.Machine { return &machine{fs: faultfs.New()} }

func (m *machine) Open(cfg enginetest.Config) (engine.Engine, error) {
	e, err := local.Open(local.Config{
		Dir: storeDir, FS: m.fs, SegmentBytes: 16 << 10, CacheBytes: 2 << 10, Clock: cfg.Clock,
		DedupWindow: cfg.DedupWindow, Quarantine: m.quarantine,
	})
	if err != nil {
		return nil, err
	}
	m.engine = e
	return e, nil
}

func (m *machine) PowerOffAt(n int) { m.fs.PowerOffAt(n) }

func (m *machine) Off() <-chan struct{} { return m.fs.Off() }

func (m *machine) Reboot(seed uint64) {
	left := m.fs.Crash(faultfs.CrashModes[seed%3], seed)
	if m.engine != nil {
		_ = m.engine.Close() // everything it does fails now, and everybody who waits is told so
	}
	m.fs, m.engine = left, nil
}

// Intact implements enginetest.Inspector.
func (m *machine) Intact(engine.Engine) error {
	if r := m.engine.Report(); len(r.Damage)+len(r.Dropped)+len(r.Repaired) > 0 {
		return fmt.Errorf("after an orderly stop: %+v is reported", r)
	}
	return nil
}

// newWorld returns a world, and the machine that its engine runs on.
func newWorld(tb testing.TB, seed uint64) (*enginetest.World, *machine) {
	m := &machine{fs: faultfs.New()}
	return enginetest.NewWorld(tb, m, seed), m
}
