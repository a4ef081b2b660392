package broker

import (
	"errors"
	"fmt"
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

// PauseQueue makes a queue deliver nothing until it is resumed, across restarts, or resumes it.
// Publishes go on. Code NoQueue if there is none, Unsupported if the engine cannot.
func (b *Broker) PauseQueue(c Caller, name string, paused bool, done func(error)) {
	name = strings.Clone(name)
	if err := b.allowOwner(c, actPause, name); err != nil {
		done(err)
		return
	}
	p, ok := b.engine.(engine.Pauser)
	if !ok || !b.engine.Abilities().Pause {
		done(sealmq.ErrUnsupported)
		return
	}
	p.PauseQueue(name, paused, func(err error) {
		err = nameQueue(name, err)
		object := name
		if !paused {
			object += " resumed"
		}
		b.Audit(c, string(actPause), object, err)
		done(err)
	})
}

// Copy stores up to n waiting messages of a queue, from the place that this Tag.Seq has, in
// another queue too. done gets their number, and the place to go on; 0 if there are no more.
// Codes are those of Peek and of publishing. If some are refused, the others are copied all the
// same, and the error says how many and which was the first.
func (b *Broker) Copy(c Caller, from, to string, place uint64, n int, done func(copied int, next uint64, err error)) {
	refuse := func(err error) { done(0, 0, err) }
	if err := b.allowOwner(c, actMove, to); err != nil {
		refuse(err)
		return
	}
	if from == to {
		refuse(badArgument("both queues are the same"))
		return
	}
	if _, err := b.engine.Queue(to); err != nil {
		refuse(nameQueue(to, err))
		return
	}
	list, err := b.Peek(c, from, place, n)
	if err != nil || len(list) == 0 {
		refuse(nameQueue(from, err))
		return
	}
	batch := make([]engine.Publish, len(list))
	for i := range list {
		// A copy is not another publish, so its id is neither looked up nor remembered.
		batch[i] = engine.Publish{Message: list[i].Message, Queues: []string{to}, Repeat: engine.Never}
	}
	next := list[len(list)-1].Tag.Seq + 1
	b.engine.Publish(batch, func(results []engine.PublishResult) {
		copied, first := 0, error(nil)
		for i := range results {
			if err := results[i].Err; err == nil {
				copied++
			} else if first == nil {
				first = prefix(fmt.Sprintf("message '%s': ", list[i].ID), err)
			}
		}
		if first == nil && copied < len(list) {
			first = errNoQueue(to) // it was deleted meanwhile
		}
		first = prefix(fmt.Sprintf("%d of %d messages were copied; ", copied, len(list)), first)
		b.Audit(c, "copy", from+" "+to, first)
		done(copied, next, first)
	})
}

// prefix puts a text in front of what the peer reads of an error.
func prefix(text string, err error) error {
	if e, ok := errors.AsType[*sealmq.Error](err); ok {
		return &sealmq.Error{Code: e.Code, Message: text + e.Message, Err: e.Err}
	}
	return err
}
