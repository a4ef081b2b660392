package broker

import (
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// A change takes effect in the topology first, then the engine is asked to store it. An
// engine that refuses does so before its method returns, while mu is still held: the
// change is taken back and nobody has built upon it.

// lock begins a change of the topology.
func (b *Broker) lock() {
	b.mu.Lock()
	if gone := b.dangling; gone != nil {
		b.dangling = nil
		b.forget(gone, func(error) {})
	}
}

// unlock ends it.
func (b *Broker) unlock() {
	b.metrics.setDefinitions(b.Counts())
	b.mu.Unlock()
}

// isRefusal reports whether an engine says that it did nothing.
func isRefusal(err error) bool { return err != nil && sealmq.CodeOf(err) != sealmq.Unavailable }

// change has the engine store what is in effect already. If it refuses, undo takes the
// effect back.
func (b *Broker) change(batch []engine.Definition, undo func(), done func(error)) {
	b.engine.Define(batch, func(err error) {
		if isRefusal(err) {
			undo()
		}
		done(err)
	})
}

// unchanged answers a command that changes nothing, because what it asks for is there.
// That need not be stored yet.
func (b *Broker) unchanged(done func(error)) { b.engine.Define(nil, done) }

// forget removes definitions of bindings whose queue is gone. If the engine refuses, the
// next change tries again; so does the next start.
func (b *Broker) forget(batch []engine.Definition, done func(error)) {
	b.engine.Define(batch, func(err error) {
		if isRefusal(err) {
			b.dangling = append(b.dangling, batch...)
			err = nil
		}
		done(err)
	})
}

// join returns a function that takes the answers of n calls and gives done the first
// error among them, once.
func join(n int, done func(error)) func(error) {
	var mu sync.Mutex
	var first error
	return func(err error) {
		mu.Lock()
		if first == nil {
			first = err
		}
		err = first
		n--
		last := n == 0
		mu.Unlock()
		if last {
			done(err)
		}
	}
}

// auditing makes done report its outcome to the audit as well.
func (b *Broker) auditing(c Caller, act action, object string, done func(int, error)) func(int, error) {
	return func(n int, err error) {
		b.Audit(c, string(act), object, err)
		done(n, err)
	}
}
