package text_test

import (
	"sync"
	"testing"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
)

// slowDisk is an engine whose answers to publishes, settlements and definitions wait
// until sync is called.
type slowDisk struct {
	engine.Engine

	mu      sync.Mutex
	waiting []func()
	err     error // what publishes and settlements are answered with, if not nil
	late    error // what settlements are answered with at the next sync, if not nil
	batches []int // sizes of the publishes
	settles []int // sizes of the settlements
}

func newSlowNode(tb testing.TB) (*node, *slowDisk) {
	tb.Helper()
	disk := &slowDisk{Engine: enginetest.NewModel(enginetest.Config{})}
	b, err := broker.New(broker.Config{Engine: disk})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { disk.sync(); b.Close(); disk.Engine.Close() })
	return &node{broker: b, engine: disk, peers: &table{}}, disk
}

func (d *slowDisk) wait(f func()) {
	d.mu.Lock()
	d.waiting = append(d.waiting, f)
	d.mu.Unlock()
}

// sync answers what has waited. The model's own answers come from another goroutine,
// so it waits for those first.
func (d *slowDisk) sync() {
	for {
		d.mu.Lock()
		list := d.waiting
		d.waiting = nil
		d.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for _, f := range list {
			f()
		}
	}
}

func (d *slowDisk) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	d.mu.Lock()
	d.batches = append(d.batches, len(batch))
	fail := d.err
	d.mu.Unlock()
	if fail != nil {
		results := make([]engine.PublishResult, len(batch))
		for i := range results {
			results[i] = engine.PublishResult{Outcome: engine.Refused, Err: fail}
		}
		done(results)
		return len(batch)
	}
	answered := make(chan []engine.PublishResult, 1)
	taken := d.Engine.Publish(batch, func(results []engine.PublishResult) {
		answered <- append([]engine.PublishResult(nil), results...)
	})
	d.wait(func() { done(<-answered) })
	return taken
}

func (d *slowDisk) NewSession(cfg engine.SessionConfig) engine.Session {
	return &slowSession{Session: d.Engine.NewSession(cfg), disk: d}
}

type slowSession struct {
	engine.Session
	disk *slowDisk
}

func (s *slowSession) Settle(batch []engine.Settlement, done func(error)) {
	s.disk.mu.Lock()
	s.disk.settles = append(s.disk.settles, len(batch))
	fail, late := s.disk.err, s.disk.late
	s.disk.mu.Unlock()
	if fail != nil {
		done(fail)
		return
	}
	if late != nil {
		s.disk.wait(func() { done(late) })
		return
	}
	answered := make(chan error, 1)
	s.Session.Settle(batch, func(err error) { answered <- err })
	s.disk.wait(func() { done(<-answered) })
}

func (d *slowDisk) calls() (batches, settles []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.batches, d.settles
}

func (d *slowDisk) failLate(err error) {
	d.mu.Lock()
	d.late = err
	d.mu.Unlock()
}

func (d *slowDisk) fail(err error) {
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
}
