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

// router is the routing rule of one exchange with its bindings. It is immutable: bind
// and unbind return the next one. Callers bind what is not bound and unbind what is.
type router interface {
	// route returns the queues for a routing key, each once. The slice is shared.
	route(key string) []string
	bind(queue, key string) router
	unbind(queue, key string) router
}

// newRouter builds the router of many bindings at once, in time proportional to them.
func newRouter(kind ExchangeKind, bindings []Binding) router {
	switch kind {
	case Fanout:
		return newFanout(bindings)
	case Topic:
		return newTopic(bindings)
	}
	return newDirect(bindings)
}

// direct routes by equality. Its map has the queues of each key, in binding order.
type direct struct{ keys *frozen[[]string] }

func newDirect(bindings []Binding) direct {
	keys := make(map[string][]string, len(bindings))
	for _, b := range bindings {
		keys[b.Key] = append(keys[b.Key], b.Queue)
	}
	return direct{freeze(keys)}
}

func (d direct) route(key string) []string {
	queues, _ := d.keys.get(key)
	return queues
}

func (d direct) bind(queue, key string) router {
	return direct{d.keys.with(key, with(d.route(key), queue))}
}

func (d direct) unbind(queue, key string) router {
	rest := without(d.route(key), queue)
	if len(rest) == 0 {
		return direct{d.keys.without(key)}
	}
	return direct{d.keys.with(key, rest)}
}

// fanout ignores keys. A queue may be bound under several keys and still gets one copy,
// so the bindings of each queue are counted.
type fanout struct {
	queues   []string
	bindings *frozen[int]
}

func newFanout(bindings []Binding) fanout {
	var queues []string
	count := make(map[string]int, len(bindings))
	for _, b := range bindings {
		if count[b.Queue]++; count[b.Queue] == 1 {
			queues = append(queues, b.Queue)
		}
	}
	return fanout{queues, freeze(count)}
}

func (f fanout) route(string) []string { return f.queues }

func (f fanout) bind(queue, _ string) router {
	n, _ := f.bindings.get(queue)
	if n == 0 {
		f.queues = with(f.queues, queue)
	}
	f.bindings = f.bindings.with(queue, n+1)
	return f
}

func (f fanout) unbind(queue, _ string) router {
	n, _ := f.bindings.get(queue)
	if n > 1 {
		f.bindings = f.bindings.with(queue, n-1)
		return f
	}
	f.queues = without(f.queues, queue)
	f.bindings = f.bindings.without(queue)
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

// table is everything that a publish needs. It is immutable.
type table struct{ exchanges *frozen[router] }

func errNoExchange(name string) error {
	return &sealmq.Error{Code: sealmq.NoExchange, Message: "Exchange '" + name + "' not found"}
}

func errUnroutable(exchange, key string) error {
	return &sealmq.Error{Code: sealmq.Unroutable,
		Message: "No queues bound to exchange '" + exchange + "' with routing key '" + key + "'"}
}
