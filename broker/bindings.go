package broker

import (
	"cmp"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// DeclareExchange creates an exchange. Kind "" matches whatever exists and otherwise
// means Direct; another kind than the existing one is an error with code Mismatch.
func (b *Broker) DeclareExchange(c Caller, name string, kind ExchangeKind, done func(error)) {
	name = strings.Clone(name)
	err := b.allowExchange(c, actDeclare, name)
	if err == nil && kind != "" && !kind.valid() {
		err = badArgument("the kind of an exchange is direct, fanout or topic")
	}
	if err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if x := b.topo.exchanges[name]; x != nil {
		if kind != "" && kind != x.kind {
			done(&sealmq.Error{Code: sealmq.Mismatch, Message: "exchange '" + name + "' exists with kind " + string(x.kind)})
			return
		}
		b.unchanged(done)
		return
	}
	if err := b.roomForExchange(c, name); err != nil {
		done(err)
		return
	}
	if kind == "" {
		kind = Direct
	}
	b.topo.addExchange(name, kind, c.Owner())
	b.change([]engine.Definition{defineExchange(name, kind, c.Owner())}, func() { b.topo.removeExchange(name) }, done)
}

// roomForExchange reports whether an exchange that is missing can be made.
func (b *Broker) roomForExchange(c Caller, name string) error {
	if err := sealmq.CheckNewName("exchange", name); err != nil {
		return err
	}
	if err := b.room("exchange", len(b.topo.exchanges), b.limits.Exchanges); err != nil {
		return err
	}
	owner := c.Owner()
	return b.roomOf(owner, "exchange", b.topo.ownedBy(owner).Exchanges, b.limits.ExchangesPerIdentity)
}

// DeleteExchange removes an exchange with its bindings. Code NoExchange if there is none.
func (b *Broker) DeleteExchange(c Caller, name string, done func(error)) {
	name = strings.Clone(name)
	if err := sealmq.CheckName("exchange", name); err != nil {
		done(err)
		return
	}
	if err := b.allowOf(c, actDelete, name, b.exchangeOwned(name)); err != nil {
		done(err)
		return
	}
	answer := b.auditing(c, actDelete, name, func(_ int, err error) { done(err) })
	audited := func(err error) { answer(0, err) }
	b.lock()
	defer b.unlock()
	x := b.topo.exchanges[name]
	if x == nil {
		audited(errNoExchange(name))
		return
	}
	gone := b.topo.removeExchange(name)
	b.change(append(undefine(gone), engine.Definition{Key: exchangePrefix + name}), func() {
		b.topo.addExchange(name, x.kind, x.owner)
		for _, bound := range gone {
			b.topo.bind(bound)
		}
	}, audited)
}

// Bind binds a queue to an exchange and is idempotent. It creates a missing queue with
// default options and a missing exchange with kind Direct. What an existing queue gets is for its
// owner to change: to others a new binding is denied, and one that is there is confirmed.
func (b *Broker) Bind(c Caller, queue, exchange, key string, done func(error)) {
	b.changeBinding(c, queue, exchange, key, done, b.bind)
}

// Unbind removes a binding and is idempotent, for the owner of the queue or of the exchange. Code
// NoExchange or NoQueue if one of the two does not exist.
func (b *Broker) Unbind(c Caller, queue, exchange, key string, done func(error)) {
	b.changeBinding(c, queue, exchange, key, done, b.unbind)
}

// changeBinding calls change in a turn, if the caller may. Its error is what done gets
// when change has not called it.
func (b *Broker) changeBinding(c Caller, queue, exchange, key string, done func(error), change func(Caller, Binding, func(error)) error) {
	bound := Binding{Queue: strings.Clone(queue), Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	if err := b.checkBinding(c, bound); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if err := change(c, bound, done); err != nil {
		done(err)
	}
}

func (b *Broker) bind(c Caller, bound Binding, done func(error)) error {
	if b.topo.has(bound) {
		b.unchanged(done)
		return nil
	}
	queue := b.queueOwned(bound.Queue)
	if !isTemporary(bound.Queue) { // which only its connection binds
		if err := b.allowOf(c, actBind, bound.Queue, b.whoseQueue(bound.Queue)); err != nil {
			return err
		}
	}
	if err := b.roomForBinding(c, bound, queue); err != nil {
		return err
	}
	if _, err := b.engine.Queue(bound.Queue); err != nil {
		done = join(2, done)
		if !b.declare(c, bound.Queue, nil, done) {
			done(nil)
			return nil
		}
	}
	var batch []engine.Definition
	created := b.topo.exchanges[bound.Exchange] == nil
	if created {
		b.topo.addExchange(bound.Exchange, Direct, c.Owner())
		batch = append(batch, defineExchange(bound.Exchange, Direct, c.Owner()))
	}
	b.topo.bind(bound)
	b.change(append(batch, defineBinding(bound)), func() {
		if b.topo.unbind(bound); created {
			b.topo.removeExchange(bound.Exchange)
		}
	}, done)
	return nil
}

// roomForBinding is asked before anything is created for a binding.
func (b *Broker) roomForBinding(c Caller, bound Binding, queue owned) error {
	if err := b.room("binding", b.topo.bindings, b.limits.Bindings); err != nil {
		return err
	}
	owner := queue.owner
	if !queue.exists {
		owner = c.Owner()
	}
	if err := b.roomOf(owner, "binding", b.topo.ownedBy(owner).Bindings, b.limits.BindingsPerIdentity); err != nil && c.Role != sealmq.RoleAdmin {
		return err
	}
	if err := sealmq.CheckNewName("routing key", bound.Key); err != nil {
		return err
	}
	x := b.topo.exchanges[bound.Exchange]
	if x == nil {
		return b.roomForExchange(c, bound.Exchange)
	}
	if x.kind == Topic {
		return checkTopicKey(bound.Key)
	}
	return nil
}

func (b *Broker) unbind(c Caller, bound Binding, done func(error)) error {
	if b.topo.exchanges[bound.Exchange] == nil {
		return errNoExchange(bound.Exchange)
	}
	if _, err := b.engine.Queue(bound.Queue); err != nil {
		return nameQueue(bound.Queue, err)
	}
	if x := b.exchangeOwned(bound.Exchange); !x.isOf(c) {
		if err := b.allowOf(c, actBind, bound.Queue, b.queueOwned(bound.Queue)); err != nil {
			return err
		}
	}
	if !b.topo.has(bound) {
		b.unchanged(done)
		return nil
	}
	b.topo.unbind(bound)
	b.change(undefine([]Binding{bound}), func() { b.topo.bind(bound) }, done)
	return nil
}

func (b *Broker) checkBinding(c Caller, bound Binding) error {
	err := cmp.Or(checkQueueName(bound.Queue), sealmq.CheckName("exchange", bound.Exchange), sealmq.CheckName("routing key", bound.Key))
	if err == nil {
		err = b.allow(c, actBind, bound.Queue)
	}
	if err == nil {
		err = b.allow(c, actBind, bound.Exchange)
	}
	return err
}

// allowExchange checks the name of an exchange and asks allow.
func (b *Broker) allowExchange(c Caller, act action, exchange string) error {
	if err := sealmq.CheckName("exchange", exchange); err != nil {
		return err
	}
	return b.allow(c, act, exchange)
}

func (b *Broker) exchangeOwned(name string) owned {
	if x := b.topo.exchange(name); x != nil {
		return owned{exists: true, owner: x.owner}
	}
	return owned{}
}

func badArgument(why string) error { return &sealmq.Error{Code: sealmq.BadArgument, Message: why} }
