package broker

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq"
)

// Binding sends what an exchange gets to a queue. Key is a routing key, or a pattern if
// the exchange's kind is Topic.
type Binding struct {
	Queue, Exchange, Key string
}

// topology is what clients have defined, and the queues that the engine has made for dead
// letters. Only a change that holds Broker.mu writes to it, and may read without the locks
// below, except that the engine adds its queues at any time: queues and owners are always read
// with the lock. The locks are held for one look or one change, and never while the engine is
// called.
type topology struct {
	mu        sync.RWMutex
	exchanges map[string]*exchange
	bindings  int
	queues    map[string]queueEntry // those that count for Limits.Queues
	owners    map[sealmq.Owner]*Owned

	sealed    atomic.Int64 // queues that do not take everything
	temporary atomic.Int64 // temporary queues

	// byQueue has every binding once, and belongs to Broker.mu. The bindings of an exchange
	// are searched for only when it is deleted.
	byQueue map[string]map[Binding]bool
}

// queueEntry is what routing and limits must know of a queue.
type queueEntry struct {
	suites []string // that the queue takes messages of; nil if it takes everything
	owner  sealmq.Owner
}

// Owned counts what one identity has declared, and the bindings of its queues.
type Owned struct{ Queues, Exchanges, Bindings int }

type exchange struct {
	kind     ExchangeKind
	owner    sealmq.Owner
	bindings int // under topology.mu

	// mu is the exchange's own, so that patterns that are slow to match hold up nobody else.
	mu     sync.RWMutex
	router router
}

// route returns the queues for a routing key, see router.
func (x *exchange) route(key string) ([]string, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.router.route(key)
}

func newTopology() *topology {
	return &topology{
		exchanges: make(map[string]*exchange),
		byQueue:   make(map[string]map[Binding]bool),
		queues:    make(map[string]queueEntry),
		owners:    make(map[sealmq.Owner]*Owned),
	}
}

// exchange returns nil if there is none.
func (t *topology) exchange(name string) *exchange {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.exchanges[name]
}

func (t *topology) addExchange(name string, kind ExchangeKind, owner sealmq.Owner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exchanges[name] = &exchange{kind: kind, owner: owner, router: newRouter(kind)}
	t.own(owner, Owned{Exchanges: 1})
}

// own changes the counts of an owner. The caller holds mu.
func (t *topology) own(owner sealmq.Owner, more Owned) {
	o := t.owners[owner]
	if o == nil {
		o = &Owned{}
		t.owners[owner] = o
	}
	o.Queues += more.Queues
	o.Exchanges += more.Exchanges
	o.Bindings += more.Bindings
	if *o == (Owned{}) {
		delete(t.owners, owner)
	}
}

// ownedBy counts what belongs to an identity.
func (t *topology) ownedBy(owner sealmq.Owner) Owned {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if o := t.owners[owner]; o != nil {
		return *o
	}
	return Owned{}
}

// removeExchange removes an exchange and returns what was bound to it.
func (t *topology) removeExchange(name string) (gone []Binding) {
	t.mu.Lock()
	x := t.exchanges[name]
	delete(t.exchanges, name)
	t.bindings -= x.bindings
	t.own(x.owner, Owned{Exchanges: -1})
	t.mu.Unlock()
	if x.bindings > 0 {
		gone = t.all(func(b Binding) bool { return b.Exchange == name })
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range gone {
		t.unlink(b)
		t.own(t.queues[b.Queue].owner, Owned{Bindings: -1})
	}
	return gone
}

func (t *topology) bind(b Binding) {
	q := t.byQueue[b.Queue]
	if q == nil {
		q = make(map[Binding]bool)
		t.byQueue[b.Queue] = q
	}
	q[b] = true
	x := t.exchanges[b.Exchange]
	t.count(x, b.Queue, 1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.router.bind(b.Queue, b.Key)
}

func (t *topology) unbind(b Binding) {
	t.unlink(b)
	x := t.exchanges[b.Exchange]
	t.count(x, b.Queue, -1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.router.unbind(b.Queue, b.Key)
}

func (t *topology) count(x *exchange, queue string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.bindings += n
	t.bindings += n
	t.own(t.queues[queue].owner, Owned{Bindings: n})
}

func (t *topology) unlink(b Binding) {
	q := t.byQueue[b.Queue]
	delete(q, b)
	if len(q) == 0 {
		delete(t.byQueue, b.Queue)
	}
}

func (t *topology) has(b Binding) bool { return t.byQueue[b.Queue][b] }

// countQueues counts those that there are.
func (t *topology) countQueues() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.queues)
}

func (t *topology) hasQueue(name string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.queues[name]
	return ok
}

// addQueue adds a queue with these options, unless it is there.
func (t *topology) addQueue(name string, o *sealmq.QueueOptions) (added bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.queues[name]; ok {
		return false
	}
	t.queues[name] = queueEntry{o.Suites(), o.Owner}
	t.own(o.Owner, Owned{Queues: 1})
	if o.Sealed != "" {
		t.sealed.Add(1)
	}
	if isTemporary(name) {
		t.temporary.Add(1)
	}
	return true
}

// temporaries lists the temporary queues.
func (t *topology) temporaries() (list []string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name := range t.queues {
		if isTemporary(name) {
			list = append(list, name)
		}
	}
	return list
}

// setSuites changes which suites a queue takes messages of, and returns the former ones.
func (t *topology) setSuites(name string, suites []string) (before []string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.queues[name]
	if !ok {
		return nil, false
	}
	before, q.suites = q.suites, suites
	t.queues[name] = q
	if before != nil {
		t.sealed.Add(-1)
	}
	if suites != nil {
		t.sealed.Add(1)
	}
	return before, true
}

func (t *topology) removeQueue(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q, ok := t.queues[name]
	if !ok {
		return
	}
	if q.suites != nil {
		t.sealed.Add(-1)
	}
	if isTemporary(name) {
		t.temporary.Add(-1)
	}
	t.own(q.owner, Owned{Queues: -1})
	delete(t.queues, name)
}

// all returns the bindings that are wanted, in no particular order.
func (t *topology) all(want func(Binding) bool) (list []Binding) {
	for _, bound := range t.byQueue {
		for b := range bound {
			if want(b) {
				list = append(list, b)
			}
		}
	}
	return list
}

// bound returns the bindings of a queue.
func (t *topology) bound(queue string) []Binding {
	return slices.Collect(maps.Keys(t.byQueue[queue]))
}

// Exchanges lists what the caller may see, sorted by name.
func (b *Broker) Exchanges(c Caller) []sealmq.ExchangeInfo {
	b.topo.mu.RLock()
	list := make([]sealmq.ExchangeInfo, 0, len(b.topo.exchanges))
	for name, x := range b.topo.exchanges {
		list = append(list, sealmq.ExchangeInfo{Name: name, Owner: x.owner.ID, Kind: string(x.kind), Bindings: x.bindings})
	}
	b.topo.mu.RUnlock()
	list = slices.DeleteFunc(list, func(x sealmq.ExchangeInfo) bool { return !b.grants.allows(c, actInspect, x.Name, owned{}) })
	slices.SortFunc(list, func(a, b sealmq.ExchangeInfo) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Bindings lists the bindings of a queue that the caller may see, or with an empty name those
// of all queues, sorted. Code NoQueue if there is no such queue.
func (b *Broker) Bindings(c Caller, queue string) ([]sealmq.BindingInfo, error) {
	if queue != "" {
		if _, err := b.Queue(c, queue); err != nil {
			return nil, err
		}
	}
	b.lock()
	var found []Binding
	if queue == "" {
		found = b.topo.all(func(Binding) bool { return true })
	} else {
		found = b.topo.bound(queue)
	}
	b.unlock()
	list := make([]sealmq.BindingInfo, 0, len(found))
	for _, f := range found {
		if b.grants.allows(c, actInspect, f.Queue, owned{}) && b.grants.allows(c, actInspect, f.Exchange, owned{}) {
			list = append(list, sealmq.BindingInfo(f))
		}
	}
	slices.SortFunc(list, func(a, b sealmq.BindingInfo) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Key, b.Key))
	})
	return list, nil
}
