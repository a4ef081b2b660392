package broker

import (
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// MayChangeQueue reports whether the caller may use ChangeQueue, before the options are read.
func (b *Broker) MayChangeQueue(c Caller, name string) error {
	return b.allowOwner(c, actChange, name)
}

// ChangeQueue gives a queue these options in place of those that it has. They hold for what
// happens from now on, and the owner stays. Only the owner opens a private queue to others. Code
// NoQueue if there is none, Unsupported if the engine cannot.
func (b *Broker) ChangeQueue(c Caller, name string, o sealmq.QueueOptions, done func(error)) {
	name = strings.Clone(name)
	err := b.MayChangeQueue(c, name)
	if err == nil {
		asked := done
		answer := b.auditing(c, actChange, name, func(_ int, err error) { asked(err) })
		done = func(err error) { answer(0, err) }
		if err = o.Validate(); err == nil {
			err = checkSuites(o)
		}
	}
	if err != nil {
		done(err)
		return
	}
	changer, ok := b.engine.(engine.Changer)
	switch {
	case !ok:
		done(sealmq.ErrUnsupported)
		return
	case isTemporary(name):
		done(denied(actChange, name))
		return
	}
	b.lock()
	defer b.unlock()
	if of := b.queueOwned(name); of.private && !o.Private && !of.isOf(c) {
		done(denied(actChange, name))
		return
	}
	before, ok := b.topo.setSuites(name, o.Suites())
	changer.ChangeQueue(name, o, func(err error) {
		if isRefusal(err) && ok {
			b.topo.setSuites(name, before)
		}
		done(nameQueue(name, err))
	})
}
