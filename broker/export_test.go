package broker

import (
	"cmp"
	"slices"

	"github.com/sealmq/sealmq"
)

// Router is the routing rule of one exchange, for tests of routing alone.
type Router struct{ r router }

func NewRouter(kind ExchangeKind, links ...[2]string) Router {
	r := Router{newRouter(kind)}
	for _, l := range links {
		r.Bind(l[0], l[1])
	}
	return r
}

// Route routes any key, also one that no publish could have.
func (r Router) Route(key string) []string {
	if t, ok := r.r.(*topic); ok {
		queues, _ := t.match(key)
		return queues
	}
	queues, _ := r.r.route(key)
	return queues
}

// Bounded reports whether a topic router looks at all ways to match key.
func (r Router) Bounded(key string) bool {
	_, ok := r.r.(*topic).match(key)
	return ok
}

func (r Router) Bind(queue, key string)   { r.r.bind(queue, key) }
func (r Router) Unbind(queue, key string) { r.r.unbind(queue, key) }
func CheckTopicKey(key string) error      { return checkTopicKey(key) }

// Empty reports whether a topic router has nothing left of what was unbound.
func (r Router) Empty() bool {
	n := r.r.(*topic).root
	return len(n.next) == 0 && len(n.queues) == 0
}

// Authorize asks the grants of a broker with a pipeline's queue, or with none, about a queue; o may
// be nil.
func Authorize(pipeline string, c Caller, act, object string, o *sealmq.QueueOptions) error {
	of := owned{}
	if o != nil {
		of = ofQueue(o)
	}
	return grants{pipeline, func(issuer string) bool { return issuer == "own" }}.authorize(c, action(act), object, of)
}

// Actions are all that authorize knows.
func Actions() []string {
	var list []string
	for a := range denials {
		list = append(list, string(a))
	}
	return list
}

// CanPublish returns the error that every message to an exchange would be refused with.
func (b *Broker) CanPublish(c Caller, exchange string) error {
	_, err := b.exchangeFor(c, exchange)
	return err
}

// Bound lists what the caller may see, sorted by exchange, queue and key.
func (b *Broker) Bound(c Caller) []Binding {
	b.mu.Lock()
	list := b.topo.all(func(bound Binding) bool {
		return b.grants.allows(c, actInspect, bound.Queue, owned{}) && b.grants.allows(c, actInspect, bound.Exchange, owned{})
	})
	b.mu.Unlock()
	slices.SortFunc(list, func(a, b Binding) int {
		return cmp.Or(cmp.Compare(a.Exchange, b.Exchange), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Key, b.Key))
	})
	return list
}
