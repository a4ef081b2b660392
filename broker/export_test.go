package broker

import (
	"maps"
)

// Router is the routing rule of one exchange, for tests of routing alone.
type Router struct{ r router }

func NewRouter(kind ExchangeKind, links ...[2]string) Router {
	list := make([]Binding, len(links))
	for i, l := range links {
		list[i] = Binding{Queue: l[0], Key: l[1]}
	}
	return Router{newRouter(kind, list)}
}

// Bounded reports whether a topic router looks at all ways to match key.
func (r Router) Bounded(key string) bool {
	_, ok := r.r.(topic).match(key)
	return ok
}

func (r Router) Route(key string) []string       { return r.r.route(key) }
func (r Router) Bind(queue, key string) Router   { return Router{r.r.bind(queue, key)} }
func (r Router) Unbind(queue, key string) Router { return Router{r.r.unbind(queue, key)} }
func CheckTopicKey(key string) error             { return checkTopicKey(key) }
func TopicIsEmpty(r Router) bool                 { return r.r.(topic).root == nil }
func Authorize(id Caller, act, object string) error {
	return authorize(id, action(act), object)
}

// Actions are all that authorize knows.
func Actions() []string {
	var list []string
	for a := range denials {
		list = append(list, string(a))
	}
	return list
}

// Frozen is a copy-on-write map of numbers.
type Frozen struct{ f *frozen[int] }

func Freeze(m map[string]int) Frozen           { return Frozen{freeze(m)} }
func (f Frozen) Get(key string) (int, bool)    { return f.f.get(key) }
func (f Frozen) With(key string, v int) Frozen { return Frozen{f.f.with(key, v)} }
func (f Frozen) Without(key string) Frozen     { return Frozen{f.f.without(key)} }
func (f Frozen) Len() int                      { return f.f.len() }
func (f Frozen) All() map[string]int           { return maps.Collect(f.f.all()) }
