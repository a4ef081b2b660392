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

// router is the routing rule of one exchange with its bindings. Callers bind what is not
// bound and unbind what is.
type router interface {
	// route returns the queues for a routing key, each once, or an error if the key is
	// not valid. The slice is shared and its elements never change.
	route(key string) ([]string, error)
	bind(queue, key string)
	unbind(queue, key string)
}

func newRouter(kind ExchangeKind) router {
	switch kind {
	case Fanout:
		return &fanout{bindings: make(map[string]int)}
	case Topic:
		return &topic{}
	}
	return direct{}
}

// direct routes by equality. It has the queues of each key, in binding order.
type direct map[string][]string

// A key that equals a bound one is as valid as that.
func (d direct) route(key string) ([]string, error) {
	if queues := d[key]; queues != nil {
		return queues, nil
	}
	return nil, checkRoutingKey(key)
}

func (d direct) bind(queue, key string) { d[key] = append(d[key], queue) }

func (d direct) unbind(queue, key string) {
	if d[key] = without(d[key], queue); d[key] == nil {
		delete(d, key)
	}
}

// fanout ignores keys. A queue may be bound under several keys and still gets one copy,
// so the bindings of each queue are counted.
type fanout struct {
	queues   []string
	bindings map[string]int
}

func (f *fanout) route(key string) ([]string, error) { return f.queues, checkRoutingKey(key) }

func (f *fanout) bind(queue, _ string) {
	if f.bindings[queue]++; f.bindings[queue] == 1 {
		f.queues = append(f.queues, queue)
	}
}

func (f *fanout) unbind(queue, _ string) {
	if f.bindings[queue]--; f.bindings[queue] == 0 {
		delete(f.bindings, queue)
		f.queues = without(f.queues, queue)
	}
}

// without returns a copy of list without the first s, nil if nothing is left. Lists may
// grow in place, but what a publish has read of one must stay as it was.
func without(list []string, s string) []string {
	if len(list) == 1 {
		return nil
	}
	i := slices.Index(list, s)
	return slices.Concat(list[:i], list[i+1:])
}

func checkRoutingKey(key string) error { return sealmq.CheckName("routing key", key) }

func errNoExchange(name string) error {
	return &sealmq.Error{Code: sealmq.NoExchange, Message: "Exchange '" + name + "' not found"}
}

func errUnroutable(exchange, key string) error {
	return &sealmq.Error{Code: sealmq.Unroutable,
		Message: "No queues bound to exchange '" + exchange + "' with routing key '" + key + "'"}
}
