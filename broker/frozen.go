package broker

import (
	"hash/maphash"
	"iter"
	"maps"
)

// frozen is an immutable map with string keys; nil is the empty one. with and without
// return a changed copy that shares most of the original, at a cost in the order of the
// square root of the size. That keeps a table of a million bindings copy-on-write
// without each bind copying a million entries.
type frozen[V any] struct {
	shards []map[string]V // a power of two of them; a nil map is an empty shard
	size   int
}

// frozenSeed is one for all, so that shards of equal count can be compared and copied.
var frozenSeed = maphash.MakeSeed()

// oneShard is the number of entries up to which one shard is enough.
const oneShard = 32

// shardCount balances the two costs of a change: copying the list of shards and copying
// one shard.
func shardCount(size int) int {
	if size <= oneShard {
		return 1
	}
	n := 1
	for n*n < size {
		n *= 2
	}
	return n
}

// freeze returns a frozen copy of m.
func freeze[V any](m map[string]V) *frozen[V] {
	f := &frozen[V]{shards: make([]map[string]V, shardCount(len(m))), size: len(m)}
	if len(f.shards) == 1 {
		f.shards[0] = maps.Clone(m)
		return f
	}
	for k, v := range m {
		f.put(k, v)
	}
	return f
}

// put changes f itself; only for a copy that nobody else has seen.
func (f *frozen[V]) put(key string, v V) {
	s := &f.shards[f.shard(key)]
	if *s == nil {
		*s = make(map[string]V)
	}
	(*s)[key] = v
}

func (f *frozen[V]) shard(key string) int {
	if len(f.shards) == 1 {
		return 0
	}
	return int(maphash.String(frozenSeed, key) & uint64(len(f.shards)-1))
}

func (f *frozen[V]) len() int {
	if f == nil {
		return 0
	}
	return f.size
}

func (f *frozen[V]) get(key string) (v V, ok bool) {
	if f == nil {
		return v, false
	}
	v, ok = f.shards[f.shard(key)][key]
	return v, ok
}

func (f *frozen[V]) with(key string, v V) *frozen[V] {
	if f == nil {
		return &frozen[V]{shards: []map[string]V{{key: v}}, size: 1}
	}
	size := f.size
	if _, ok := f.get(key); !ok {
		size++
	}
	var c *frozen[V]
	if n := shardCount(size); n > len(f.shards) {
		c = f.spread(n)
	} else {
		c = f.copyFor(key)
	}
	c.size = size
	c.put(key, v)
	return c
}

// without never merges shards: the table of an exchange that was large once is likely
// to become large again.
func (f *frozen[V]) without(key string) *frozen[V] {
	if _, ok := f.get(key); !ok {
		return f
	}
	if f.size == 1 {
		return nil
	}
	c := f.copyFor(key)
	c.size = f.size - 1
	delete(c.shards[c.shard(key)], key)
	return c
}

// copyFor copies the list of shards and the shard of key.
func (f *frozen[V]) copyFor(key string) *frozen[V] {
	c := &frozen[V]{shards: make([]map[string]V, len(f.shards)), size: f.size}
	copy(c.shards, f.shards)
	i := f.shard(key)
	c.shards[i] = maps.Clone(f.shards[i])
	return c
}

// spread copies everything into n shards.
func (f *frozen[V]) spread(n int) *frozen[V] {
	c := &frozen[V]{shards: make([]map[string]V, n), size: f.size}
	for k, v := range f.all() {
		c.put(k, v)
	}
	return c
}

// all gives the entries in no particular order.
func (f *frozen[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if f == nil {
			return
		}
		for _, s := range f.shards {
			for k, v := range s {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
