package broker

import (
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// DeclareExchange creates an exchange. Kind "" matches whatever exists and otherwise
// means Direct; another kind than the existing one is an error with code Mismatch.
func (b *Broker) DeclareExchange(c Caller, name string, kind ExchangeKind, done func(error)) {
	name = strings.Clone(name)
	if err := sealmq.CheckName("exchange", name); err != nil {
		done(err)
		return
	}
	if kind != "" && !kind.valid() {
		done(&sealmq.Error{Code: sealmq.BadArgument, Message: "the kind of an exchange is direct, fanout or topic"})
		return
	}
	if err := b.allow(c, actDeclare, name); err != nil {
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
	if err := b.roomForExchange(); err != nil {
		done(err)
		return
	}
	if kind == "" {
		kind = Direct
	}
	b.topo.addExchange(name, kind)
	b.change([]engine.Definition{defineExchange(name, kind)}, func() { b.topo.removeExchange(name) }, done)
}

func (b *Broker) roomForExchange() error {
	if len(b.topo.exchanges) >= b.limits.Exchanges {
		return errLimit("exchanges", b.limits.Exchanges)
	}
	return nil
}

// DeleteExchange removes an exchange with its bindings. Code NoExchange if there is none.
func (b *Broker) DeleteExchange(c Caller, name string, done func(error)) {
	name = strings.Clone(name)
	if err := sealmq.CheckName("exchange", name); err != nil {
		done(err)
		return
	}
	if err := b.allow(c, actDelete, name); err != nil {
		done(err)
		return
	}
	done = b.auditing(c, actDelete, name, done)
	b.lock()
	defer b.unlock()
	x := b.topo.exchanges[name]
	if x == nil {
		done(errNoExchange(name))
		return
	}
	gone := b.topo.removeExchange(name)
	b.change(append(undefine(gone), engine.Definition{Key: exchangePrefix + name}), func() {
		b.topo.addExchange(name, x.kind)
		for _, bound := range gone {
			b.topo.bind(bound)
		}
	}, done)
}

// Bind binds a queue to an exchange and is idempotent. It creates a missing queue with
// default options and a missing exchange with kind Direct.
func (b *Broker) Bind(c Caller, queue, exchange, key string, done func(error)) {
	bound := Binding{Queue: strings.Clone(queue), Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	if err := b.checkBinding(c, bound); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if b.topo.has(bound) {
		b.unchanged(done)
		return
	}
	if err := b.roomForBinding(bound); err != nil {
		done(err)
		return
	}
	if _, err := b.engine.Queue(bound.Queue); err != nil {
		done = join(2, done)
		if !b.declare(bound.Queue, nil, done) {
			done(nil)
			return
		}
	}
	var batch []engine.Definition
	created := b.topo.exchanges[bound.Exchange] == nil
	if created {
		b.topo.addExchange(bound.Exchange, Direct)
		batch = append(batch, defineExchange(bound.Exchange, Direct))
	}
	b.topo.bind(bound)
	b.change(append(batch, defineBinding(bound)), func() {
		if b.topo.unbind(bound); created {
			b.topo.removeExchange(bound.Exchange)
		}
	}, done)
}

// roomForBinding is asked before anything is created for a binding.
func (b *Broker) roomForBinding(bound Binding) error {
	if b.topo.bindings >= b.limits.Bindings {
		return errLimit("bindings", b.limits.Bindings)
	}
	x := b.topo.exchanges[bound.Exchange]
	if x == nil {
		return b.roomForExchange()
	}
	if x.kind == Topic {
		return checkTopicKey(bound.Key)
	}
	return nil
}

// Unbind removes a binding and is idempotent. Code NoExchange or NoQueue if one of the
// two does not exist.
func (b *Broker) Unbind(c Caller, queue, exchange, key string, done func(error)) {
	bound := Binding{Queue: strings.Clone(queue), Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	if err := b.checkBinding(c, bound); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if b.topo.exchanges[bound.Exchange] == nil {
		done(errNoExchange(bound.Exchange))
		return
	}
	if _, err := b.engine.Queue(bound.Queue); err != nil {
		done(nameQueue(bound.Queue, err))
		return
	}
	if !b.topo.has(bound) {
		b.unchanged(done)
		return
	}
	b.topo.unbind(bound)
	b.change(undefine([]Binding{bound}), func() { b.topo.bind(bound) }, done)
}

func (b *Broker) checkBinding(c Caller, bound Binding) error {
	if err := checkQueueName(bound.Queue); err != nil {
		return err
	}
	if err := sealmq.CheckName("exchange", bound.Exchange); err != nil {
		return err
	}
	if err := sealmq.CheckName("routing key", bound.Key); err != nil {
		return err
	}
	if err := b.allow(c, actBind, bound.Queue); err != nil {
		return err
	}
	return b.allow(c, actBind, bound.Exchange)
}

func errLimit(what string, limit int) error {
	return &sealmq.Error{Code: sealmq.LimitReached, Message: "the limit of " + strconv.Itoa(limit) + " " + what + " is reached"}
}
