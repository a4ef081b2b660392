package broker

import (
	"errors"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func errNoQueue(name string) error {
	return &sealmq.Error{Code: sealmq.NoQueue, Message: "Queue '" + name + "' not found"}
}

// nameQueue gives an engine's error about a missing queue the queue's name.
func nameQueue(name string, err error) error {
	if errors.Is(err, sealmq.ErrNoQueue) {
		return errNoQueue(name)
	}
	return err
}

// DeclareQueue creates a queue. Nil options match whatever exists and otherwise mean the
// defaults; options that differ from the existing ones are an error with code Mismatch.
func (b *Broker) DeclareQueue(c Caller, name string, o *sealmq.QueueOptions, done func(error)) {
	name = strings.Clone(name)
	err := b.allowQueue(c, actDeclare, name)
	if err == nil && o != nil {
		if err = o.Validate(); err == nil {
			err = checkSuites(*o)
		}
	}
	if err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	b.declare(c, name, o, done)
}

// declare is DeclareQueue for a caller that may and that holds mu. It reports false if the
// queue was refused, after done was called. The owner of a queue that is there does not change.
func (b *Broker) declare(c Caller, name string, o *sealmq.QueueOptions, done func(error)) (ok bool) {
	if isTemporary(name) && o != &temporaryOptions {
		done(denied(actDeclare, name))
		return false
	}
	var options sealmq.QueueOptions
	var given engine.Fields
	if o != nil {
		options, given = *o, engine.AllFields
	}
	created := false
	if _, err := b.engine.Queue(name); err != nil {
		if options, err = b.newQueue(c, name, o); err != nil {
			done(err)
			return false
		}
		created = b.topo.addQueue(name, &options)
	}
	ok = true
	b.engine.DeclareQueue(name, options, given, func(_ engine.QueueInfo, _ bool, err error) {
		if isRefusal(err) {
			ok = false
		}
		done(err)
	})
	if created && !ok {
		b.removeQueue(name)
	}
	return ok
}

// removeQueue takes a queue that is gone out of the topology. It is called in a turn, in which
// the engine may have made a queue of this name for dead letters.
func (b *Broker) removeQueue(name string) {
	b.topo.removeQueue(name)
	if info, err := b.engine.Queue(name); err == nil {
		b.topo.addQueue(name, &info.Options)
	}
}

// DeleteQueue removes a queue with its messages and its bindings; done gets the number
// of messages. Code NoQueue if there is none, InUse if a condition in only does not hold.
func (b *Broker) DeleteQueue(c Caller, name string, only engine.If, done func(removed int, err error)) {
	name = strings.Clone(name)
	if err := b.allowOwner(c, actDelete, name); err != nil {
		done(0, err)
		return
	}
	done = b.auditing(c, actDelete, name, done)
	b.lock()
	defer b.unlock()
	b.deleteQueue(name, only, done)
}

// deleteQueue is DeleteQueue for a caller that may and that holds mu.
func (b *Broker) deleteQueue(name string, only engine.If, done func(removed int, err error)) {
	// The engine decides first. A publish that finds the queue gone knows by that that the
	// bindings go too, and a start after a crash in between removes them.
	var removed int
	ok := true
	step := join(2, func(err error) { done(removed, err) })
	b.engine.DeleteQueue(name, only, func(n int, err error) {
		if isRefusal(err) {
			ok = false
		}
		removed = n
		step(nameQueue(name, err))
	})
	if !ok {
		step(nil)
		return
	}
	bound := b.topo.bound(name)
	for _, one := range bound {
		b.topo.unbind(one)
	}
	b.removeQueue(name)
	b.forget(undefine(bound), step)
}

// PurgeQueue removes the waiting messages of a queue; done gets their number.
func (b *Broker) PurgeQueue(c Caller, name string, done func(removed int, err error)) {
	name = strings.Clone(name)
	if err := b.allowOwner(c, actPurge, name); err != nil {
		done(0, err)
		return
	}
	done = b.auditing(c, actPurge, name, done)
	b.engine.PurgeQueue(name, func(n int, err error) { done(n, nameQueue(name, err)) })
}

// Queue describes one queue, with code NoQueue if there is none.
func (b *Broker) Queue(c Caller, name string) (engine.QueueInfo, error) {
	if err := b.allowQueue(c, actInspect, name); err != nil {
		return engine.QueueInfo{}, err
	}
	info, err := b.engine.Queue(name)
	info.Owner = info.Options.Owner.ID
	return info, nameQueue(name, err)
}

// Peek returns up to n waiting messages of a queue without delivering them, from the front
// or from the place that this Tag.Seq has; n is at most sealmq.MaxPeek. Code Unsupported if
// the engine cannot.
func (b *Broker) Peek(c Caller, queue string, from uint64, n int) ([]sealmq.Delivery, error) {
	if n < 1 || n > sealmq.MaxPeek {
		return nil, badArgument("the number of messages is not between 1 and " + strconv.Itoa(sealmq.MaxPeek))
	}
	if err := b.allowOwner(c, actPeek, queue); err != nil {
		return nil, err
	}
	p, ok := b.engine.(engine.Peeker)
	if !ok || !b.engine.Abilities().Peek {
		return nil, sealmq.ErrUnsupported
	}
	list, err := p.Peek(queue, from, n)
	err = nameQueue(queue, err)
	if c.Role != sealmq.RoleServer || !b.grants.ofPipeline(queue) { // the main server looks several times a second
		b.Audit(c, string(actPeek), queue, err)
	}
	return list, err
}

// Move moves up to n waiting messages (0: all) from the front of one queue to the end of
// another. Code Unsupported if the engine cannot.
func (b *Broker) Move(c Caller, from, to string, n int, done func(moved int, err error)) {
	m, err := b.mover(c, from, to)
	switch {
	case err != nil:
		done(0, err)
	case n < 0:
		done(0, badArgument("the number of messages is negative"))
	default:
		m.Move(from, to, n, b.moving(c, from, to, done))
	}
}

// MoveMessages moves the waiting messages with these ids, at most sealmq.MaxMoveIDs, to the
// end of another queue. Code Unsupported if the engine cannot.
func (b *Broker) MoveMessages(c Caller, from, to string, ids []string, done func(moved int, err error)) {
	m, err := b.mover(c, from, to)
	switch {
	case err != nil:
		done(0, err)
	case len(ids) > sealmq.MaxMoveIDs:
		done(0, badArgument("more than "+strconv.Itoa(sealmq.MaxMoveIDs)+" message ids"))
	default:
		m.MoveMessages(from, to, ids, b.moving(c, from, to, done))
	}
}

// moving is what is done after a move. Its error names the queue that is missing.
func (b *Broker) moving(c Caller, from, to string, done func(moved int, err error)) func(int, error) {
	from, to = strings.Clone(from), strings.Clone(to)
	done = b.auditing(c, actMove, from+" "+to, done)
	return func(n int, err error) {
		missing := from
		if errors.Is(err, sealmq.ErrNoQueue) {
			if _, errFrom := b.engine.Queue(from); errFrom == nil {
				missing = to
			}
		}
		done(n, nameQueue(missing, err))
	}
}

// mover is the engine, if it can move messages and the caller may.
func (b *Broker) mover(c Caller, from, to string) (engine.Mover, error) {
	for _, queue := range []string{from, to} {
		if err := b.allowOwner(c, actMove, queue); err != nil {
			return nil, err
		}
	}
	m, ok := b.engine.(engine.Mover)
	switch {
	case from == to:
		return nil, badArgument("both queues are the same")
	case !ok || !b.engine.Abilities().Move:
		return nil, sealmq.ErrUnsupported
	}
	return m, nil
}

// DedupHorizon says for how long a repeated message is recognised; ok is false if the
// engine does not say.
func (b *Broker) DedupHorizon() (h engine.DedupHorizon, ok bool) {
	r, ok := b.engine.(engine.DedupReporter)
	if !ok {
		return engine.DedupHorizon{}, false
	}
	return r.DedupHorizon(), true
}

// Find looks a message up by its id while a copy waits or is unacknowledged. Only its
// publisher and administrators may; others get code Denied. Code Unsupported if the
// engine cannot.
func (b *Broker) Find(c Caller, messageID string) (sealmq.Message, bool, error) {
	if err := sealmq.CheckName("message id", messageID); err != nil {
		return sealmq.Message{}, false, err
	}
	f, ok := b.engine.(engine.Finder)
	if !ok {
		return sealmq.Message{}, false, sealmq.ErrUnsupported
	}
	m, ok := f.Find(messageID, c.ID)
	if ok {
		if err := b.allow(c, actFind, m.Publisher); err != nil {
			return sealmq.Message{}, false, err
		}
	}
	return m, ok, nil
}

// allowOwner is allowQueue for what is the owner's and the administrators' to do.
func (b *Broker) allowOwner(c Caller, act action, queue string) error {
	if err := checkQueueName(queue); err != nil {
		return err
	}
	return b.allowOf(c, act, queue, b.whoseQueue(queue))
}

// whoseQueue is queueOwned, but a dead-letter queue is private if its queue is, and of one that is
// missing it says what holds once it is made.
func (b *Broker) whoseQueue(queue string) owned {
	of := b.queueOwned(queue)
	live, ok := strings.CutSuffix(queue, sealmq.DeadSuffix)
	if !ok {
		return of
	}
	its := b.queueOwned(live)
	if !of.exists {
		return its
	}
	of.private = of.private || its.private && its.owner == of.owner
	return of
}

func (b *Broker) queueOwned(queue string) owned {
	if info, err := b.engine.Queue(queue); err == nil {
		return ofQueue(&info.Options)
	}
	return owned{}
}

// allowQueue checks the name of a queue and asks allow.
func (b *Broker) allowQueue(c Caller, act action, queue string) error {
	if err := checkQueueName(queue); err != nil {
		return err
	}
	return b.allow(c, act, queue)
}
