package broker

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Binding sends what an exchange gets to a queue. Key is a routing key, or a pattern if
// the exchange's kind is Topic.
type Binding struct {
	Queue    string `json:"queue"`
	Exchange string `json:"exchange"`
	Key      string `json:"key"`
}

// ExchangeInfo describes an exchange.
type ExchangeInfo struct {
	Name     string       `json:"name"`
	Kind     ExchangeKind `json:"kind"`
	Bindings int          `json:"bindings"`
}

// topology is the definitions as they were made, with what is needed to change them.
// The table is derived from it. It belongs to Broker.mu.
type topology struct {
	exchanges map[string]*exchange
	// byQueue has every binding once. That of an exchange are searched for only when it
	// is deleted.
	byQueue  map[string]map[link]struct{}
	bindings int
}

// exchange is a definition; its router is in the table.
type exchange struct {
	kind     ExchangeKind
	bindings int
}

// link is one binding of a queue.
type link struct{ exchange, key string }

func newTopology() *topology {
	return &topology{exchanges: make(map[string]*exchange), byQueue: make(map[string]map[link]struct{})}
}

func (t *topology) add(b Binding) {
	q := t.byQueue[b.Queue]
	if q == nil {
		q = make(map[link]struct{})
		t.byQueue[b.Queue] = q
	}
	q[link{b.Exchange, b.Key}] = struct{}{}
	t.exchanges[b.Exchange].bindings++
	t.bindings++
}

func (t *topology) remove(b Binding) {
	q := t.byQueue[b.Queue]
	delete(q, link{b.Exchange, b.Key})
	if len(q) == 0 {
		delete(t.byQueue, b.Queue)
	}
	t.exchanges[b.Exchange].bindings--
	t.bindings--
}

func (t *topology) has(b Binding) bool {
	_, ok := t.byQueue[b.Queue][link{b.Exchange, b.Key}]
	return ok
}

// all gives every binding, in no particular order.
func (t *topology) all() iter.Seq[Binding] {
	return func(yield func(Binding) bool) {
		for queue, links := range t.byQueue {
			for l := range links {
				if !yield(Binding{Queue: queue, Exchange: l.exchange, Key: l.key}) {
					return
				}
			}
		}
	}
}

// table builds the routing table from nothing.
func (t *topology) table() *table {
	byExchange := make(map[string][]Binding, len(t.exchanges))
	for name, x := range t.exchanges {
		byExchange[name] = make([]Binding, 0, x.bindings)
	}
	for b := range t.all() {
		byExchange[b.Exchange] = append(byExchange[b.Exchange], b)
	}
	routers := make(map[string]router, len(t.exchanges))
	for name, x := range t.exchanges {
		routers[name] = newRouter(x.kind, byExchange[name])
	}
	return &table{freeze(routers)}
}

// lock begins a change of the definitions.
func (b *Broker) lock() {
	b.mu.Lock()
	b.repair()
}

// unlock ends it.
func (b *Broker) unlock() {
	b.repair()
	b.metrics.setDefinitions(b.counts())
	b.mu.Unlock()
}

// reloadPause is the least time between two reloads: reading everything is dear, and a
// client whose definitions are refused must not make it happen all the time.
const reloadPause = time.Second

// repair goes back to what is stored after the engine refused a definition late, and
// binds queues again that should have been deleted.
func (b *Broker) repair() {
	b.reload()
	b.bindAgain()
}

func (b *Broker) reload() {
	if !b.stale.Load() {
		return
	}
	if now := b.clock.Now(); b.reloaded.IsZero() || now.Sub(b.reloaded) >= reloadPause {
		b.reloaded = now
	} else {
		return
	}
	b.stale.Store(false)
	s, err := b.readTopology(b.engine.Definitions())
	if err != nil {
		b.log.Error("cannot read the definitions back", "err", err)
		return
	}
	b.apply(s)
}

// define has the engine store definitions. If it refuses, done sees to it that nothing
// is left of them. The caller holds mu.
func (b *Broker) define(batch []engine.Definition, done func(error)) {
	b.defining.Add(1)
	b.engine.Define(batch, func(err error) {
		b.defining.Add(-1)
		done(err)
	})
}

// change is define for what is in effect already. If the engine refuses at once undo
// takes it back, with mu held and nothing else changed since. If it refuses later,
// others may have built upon it: then everything is read again.
func (b *Broker) change(batch []engine.Definition, undo func(), done func(error)) {
	const (
		calling = iota
		returned
		refused
	)
	var phase atomic.Int32
	b.defining.Add(1)
	b.engine.Define(batch, func(err error) {
		if err != nil && sealmq.CodeOf(err) != sealmq.Unavailable && !phase.CompareAndSwap(calling, refused) {
			b.stale.Store(true)
		}
		b.defining.Add(-1)
		done(err)
	})
	if !phase.CompareAndSwap(calling, returned) {
		undo()
	}
}

// defined answers a command that changes nothing because the definitions are there.
// They may be there without being stored yet, by a call of somebody else; then they are
// stored once more, which costs nothing but the wait for the same sync.
func (b *Broker) defined(batch []engine.Definition, done func(error)) {
	// stale is set before defining falls, so this order misses no refusal.
	if b.defining.Load() == 0 && !b.stale.Load() {
		done(nil)
		return
	}
	b.define(batch, done)
}

// DeclareExchange creates an exchange. Kind "" matches whatever exists and otherwise
// means Direct; another kind than the existing one is an error with code Mismatch.
func (b *Broker) DeclareExchange(id Caller, name string, kind ExchangeKind, done func(error)) {
	name = strings.Clone(name)
	if err := sealmq.CheckName("exchange", name); err != nil {
		done(err)
		return
	}
	if kind != "" && !kind.valid() {
		done(&sealmq.Error{Code: sealmq.BadArgument, Message: "the kind of an exchange is direct, fanout or topic"})
		return
	}
	if err := b.allow(id, actDeclare, name); err != nil {
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
		b.defined([]engine.Definition{defineExchange(name, x.kind)}, done)
		return
	}
	if err := b.roomForExchange(); err != nil {
		done(err)
		return
	}
	if kind == "" {
		kind = Direct
	}
	b.change([]engine.Definition{b.addExchange(name, kind)}, func() { b.removeExchange(name) }, done)
}

func (b *Broker) roomForExchange() error {
	if len(b.topo.exchanges) >= b.limits.Exchanges {
		return errLimit("exchanges", b.limits.Exchanges)
	}
	return nil
}

// addExchange puts a new exchange into effect and returns what is to be stored.
func (b *Broker) addExchange(name string, kind ExchangeKind) engine.Definition {
	b.topo.exchanges[name] = &exchange{kind: kind}
	b.setRouter(name, newRouter(kind, nil))
	return defineExchange(name, kind)
}

func (b *Broker) removeExchange(name string) {
	delete(b.topo.exchanges, name)
	b.setRouter(name, nil)
}

// setRouter publishes a new routing table; nil removes the exchange.
func (b *Broker) setRouter(exchange string, r router) {
	old := b.table.Load().exchanges
	if r == nil {
		b.table.Store(&table{old.without(exchange)})
		return
	}
	b.table.Store(&table{old.with(exchange, r)})
}

// DeleteExchange removes an exchange with its bindings. Code NoExchange if there is none.
func (b *Broker) DeleteExchange(id Caller, name string, done func(error)) {
	name = strings.Clone(name)
	if err := sealmq.CheckName("exchange", name); err != nil {
		done(err)
		return
	}
	if err := b.allow(id, actDelete, name); err != nil {
		done(err)
		return
	}
	done = b.auditing(id, actDelete, name, done)
	b.lock()
	defer b.unlock()
	x := b.topo.exchanges[name]
	if x == nil {
		done(errNoExchange(name))
		return
	}
	batch, gone := make([]engine.Definition, 0, x.bindings+1), make([]Binding, 0, x.bindings)
	for bound := range b.topo.all() {
		if bound.Exchange == name {
			batch = append(batch, engine.Definition{Key: bindingKey(bound)})
			gone = append(gone, bound)
			b.topo.remove(bound)
		}
	}
	b.removeExchange(name)
	b.change(append(batch, engine.Definition{Key: exchangePrefix + name}), func() {
		b.topo.exchanges[name] = x
		for _, bound := range gone {
			b.topo.add(bound)
		}
		b.setRouter(name, newRouter(x.kind, gone))
	}, done)
}

// Bind binds a queue to an exchange and is idempotent. It creates a missing queue with
// default options and a missing exchange with kind Direct.
func (b *Broker) Bind(id Caller, queue, exchange, key string, done func(error)) {
	bound := Binding{Queue: strings.Clone(queue), Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	if err := b.checkBinding(id, bound); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if b.topo.has(bound) {
		b.defined([]engine.Definition{defineExchange(bound.Exchange, b.topo.exchanges[bound.Exchange].kind), defineBinding(bound)}, done)
		return
	}
	if err := b.roomForBinding(bound); err != nil {
		done(err)
		return
	}
	steps := &join{done: done}
	if _, err := b.engine.Queue(bound.Queue); err != nil {
		if b.declare(bound.Queue, nil, steps.step()); steps.failed() {
			steps.start()
			return
		}
	}
	var batch []engine.Definition
	created := b.topo.exchanges[bound.Exchange] == nil
	if created {
		batch = append(batch, b.addExchange(bound.Exchange, Direct))
	}
	b.rebind(bound)
	b.change(append(batch, defineBinding(bound)), func() {
		if b.unbind(bound); created {
			b.removeExchange(bound.Exchange)
		}
	}, steps.step())
	steps.start()
}

// rebind puts a binding into effect.
func (b *Broker) rebind(bound Binding) {
	b.topo.add(bound)
	r, _ := b.table.Load().exchanges.get(bound.Exchange)
	b.setRouter(bound.Exchange, r.bind(bound.Queue, bound.Key))
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
func (b *Broker) Unbind(id Caller, queue, exchange, key string, done func(error)) {
	bound := Binding{Queue: strings.Clone(queue), Exchange: strings.Clone(exchange), Key: strings.Clone(key)}
	if err := b.checkBinding(id, bound); err != nil {
		done(err)
		return
	}
	b.lock()
	defer b.unlock()
	if b.topo.exchanges[exchange] == nil {
		done(errNoExchange(exchange))
		return
	}
	if _, err := b.engine.Queue(queue); err != nil {
		done(nameQueue(queue, err))
		return
	}
	gone := []engine.Definition{{Key: bindingKey(bound)}}
	if !b.topo.has(bound) {
		b.defined(gone, done)
		return
	}
	b.unbind(bound)
	b.change(gone, func() { b.rebind(bound) }, done)
}

func (b *Broker) unbind(bound Binding) {
	b.topo.remove(bound)
	r, _ := b.table.Load().exchanges.get(bound.Exchange)
	b.setRouter(bound.Exchange, r.unbind(bound.Queue, bound.Key))
}

func (b *Broker) checkBinding(id Caller, bound Binding) error {
	if err := checkQueueName(bound.Queue); err != nil {
		return err
	}
	if err := sealmq.CheckName("exchange", bound.Exchange); err != nil {
		return err
	}
	if err := sealmq.CheckName("routing key", bound.Key); err != nil {
		return err
	}
	if err := b.allow(id, actBind, bound.Queue); err != nil {
		return err
	}
	return b.allow(id, actBind, bound.Exchange)
}

// Exchanges lists what the caller may see, sorted by name.
func (b *Broker) Exchanges(id Caller) []ExchangeInfo {
	b.lock()
	defer b.unlock()
	list := make([]ExchangeInfo, 0, len(b.topo.exchanges))
	for name, x := range b.topo.exchanges {
		if authorize(id, actInspect, name) == nil {
			list = append(list, ExchangeInfo{Name: name, Kind: x.kind, Bindings: x.bindings})
		}
	}
	slices.SortFunc(list, func(a, b ExchangeInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Bindings lists what the caller may see, sorted by exchange, queue and key.
func (b *Broker) Bindings(id Caller) []Binding {
	list := b.visibleBindings(id)
	slices.SortFunc(list, func(a, b Binding) int {
		return cmp.Or(cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Key, b.Key))
	})
	return list
}

func (b *Broker) visibleBindings(id Caller) []Binding {
	b.lock()
	defer b.unlock()
	list := make([]Binding, 0, b.topo.bindings)
	for bound := range b.topo.all() {
		if authorize(id, actInspect, bound.Queue) == nil && authorize(id, actInspect, bound.Exchange) == nil {
			list = append(list, bound)
		}
	}
	return list
}

func errLimit(what string, limit int) error {
	return &sealmq.Error{Code: sealmq.LimitReached, Message: "the limit of " + strconv.Itoa(limit) + " " + what + " is reached"}
}

// auditing makes done report its outcome to the audit as well.
func (b *Broker) auditing(id Caller, act action, object string, done func(error)) func(error) {
	return func(err error) {
		b.audit(id.ID, string(act), object, err)
		done(err)
	}
}

// join answers a command that takes several calls of the engine, once, after all of
// them and with the first error.
type join struct {
	done func(error)

	mu      sync.Mutex
	open    int
	started bool
	err     error
}

// step adds a call and returns its done function.
func (j *join) step() func(error) {
	j.mu.Lock()
	j.open++
	j.mu.Unlock()
	return func(err error) {
		j.mu.Lock()
		if j.err == nil {
			j.err = err
		}
		j.open--
		j.finish()
	}
}

// failed reports whether a call was answered with an error already.
func (j *join) failed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err != nil
}

// start says that no step follows.
func (j *join) start() {
	j.mu.Lock()
	j.started = true
	j.finish()
}

// finish is called with mu locked and unlocks it.
func (j *join) finish() {
	last := j.started && j.open == 0
	err := j.err
	j.mu.Unlock()
	if last {
		j.done(err)
	}
}
