package broker

import (
	"slices"

	"github.com/sealmq/sealmq"
)

// ExchangeKind is the routing rule of an exchange.
type ExchangeKind string

// The kinds.
const (
	Direct ExchangeKind = "direct" // the routing key equals the binding key
	Fanout ExchangeKind = "fanout" // every bound queue
	Topic  ExchangeKind = "topic"  // the binding key is a pattern, see topic.go
)

func (k ExchangeKind) valid() bool { return k == Direct || k == Fanout || k == Topic }

// link is one binding as its exchange sees it.
type link struct{ queue, key string }

// router is the routing rule of one exchange with its bindings. It is immutable: bind
// and unbind return the next one. Callers bind what is not bound and unbind what is.
type router interface {
	// route returns the queues for a routing key, each once. The slice is shared.
	route(key string) []string
	bind(l link) router
	unbind(l link) router
}

// newRouter builds the router of many bindings at once, in time proportional to them.
func newRouter(kind ExchangeKind, links []link) router {
	switch kind {
	case Fanout:
		return newFanout(links)
	case Topic:
		return newTopic(links)
	}
	return newDirect(links)
}

// direct routes by equality. Its map has the queues of each key, in binding order.
type direct struct{ keys *frozen[[]string] }

func newDirect(links []link) direct {
	keys := make(map[string][]string, len(links))
	for _, l := range links {
		keys[l.key] = append(keys[l.key], l.queue)
	}
	return direct{freeze(keys)}
}

func (d direct) route(key string) []string {
	queues, _ := d.keys.get(key)
	return queues
}

func (d direct) bind(l link) router {
	return direct{d.keys.with(l.key, with(d.route(l.key), l.queue))}
}

func (d direct) unbind(l link) router {
	rest := without(d.route(l.key), l.queue)
	if len(rest) == 0 {
		return direct{d.keys.without(l.key)}
	}
	return direct{d.keys.with(l.key, rest)}
}

// fanout ignores keys. A queue may be bound under several keys and still gets one copy,
// so the bindings of each queue are counted.
type fanout struct {
	queues   []string
	bindings *frozen[int]
}

func newFanout(links []link) fanout {
	var queues []string
	count := make(map[string]int, len(links))
	for _, l := range links {
		if count[l.queue]++; count[l.queue] == 1 {
			queues = append(queues, l.queue)
		}
	}
	return fanout{queues, freeze(count)}
}

func (f fanout) route(string) []string { return f.queues }

func (f fanout) bind(l link) router {
	n, _ := f.bindings.get(l.queue)
	if n == 0 {
		f.queues = with(f.queues, l.queue)
	}
	f.bindings = f.bindings.with(l.queue, n+1)
	return f
}

func (f fanout) unbind(l link) router {
	n, _ := f.bindings.get(l.queue)
	if n > 1 {
		f.bindings = f.bindings.with(l.queue, n-1)
		return f
	}
	f.queues = without(f.queues, l.queue)
	f.bindings = f.bindings.without(l.queue)
	return f
}

// with returns a copy of list that ends in s. Published lists are shared with readers
// and never change.
func with(list []string, s string) []string {
	return append(slices.Clip(list), s)
}

// without returns a copy of list without the first s.
func without(list []string, s string) []string {
	i := slices.Index(list, s)
	if i < 0 {
		return list
	}
	return append(slices.Clone(list[:i]), list[i+1:]...)
}

// exchange is the definition that the router was made from, with its bindings as they
// were declared. It belongs to Broker.mu.
type exchange struct {
	kind  ExchangeKind
	links map[link]struct{}
}

// table is everything that a publish needs. It is immutable.
type table struct{ exchanges *frozen[router] }

func errNoExchange(name string) error {
	return &sealmq.Error{Code: sealmq.NoExchange, Message: "Exchange '" + name + "' not found"}
}

func errUnroutable(exchange, key string) error {
	return &sealmq.Error{Code: sealmq.Unroutable,
		Message: "No queues bound to exchange '" + exchange + "' with routing key '" + key + "'"}
}
