package broker

import (
	"maps"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
)

// maxTopicHashes bounds the runs of wildcards with '#' in one binding key. A match
// follows each of them through the whole routing key.
const maxTopicHashes = 16

// A binding key of a topic exchange is words joined by '.'. The word '*' stands for any
// one word, '#' for any number of words, also none; a word may be empty.
//
// The keys are a trie of words. It is immutable, and changes copy the path from the
// root. Before a key enters the trie each run of wildcards is put in one order, the '*'
// first and then at most one '#', which matches the same: "#.*.#" becomes "*.#". So a
// '#' is followed by a plain word or the end, and once a match has reached a '#' it
// stays there for every further word.
type topicNode struct {
	words  *frozen[*topicNode]
	star   *topicNode
	hash   *topicNode
	queues []string // of the keys that end here; a queue stands once per binding
}

// topic routes by pattern.
type topic struct {
	root *topicNode
	// version differs between all routers that were ever made, so that cached results
	// of an older one are never taken for its own.
	version uint64
}

// checkTopicKey refuses keys that would be slow to match, with code BadArgument.
func checkTopicKey(key string) error {
	n := 0
	for _, w := range topicWords(key) {
		if w == "#" {
			n++
		}
	}
	if n > maxTopicHashes {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the binding key has too many '#'"}
	}
	return nil
}

// topicWords splits a binding key and puts its wildcards in order.
func topicWords(key string) []string {
	words := strings.Split(key, ".")
	out := words[:0]
	hash := false
	for _, w := range words {
		switch w {
		case "#":
			hash = true
		case "*":
			out = append(out, w)
		default:
			if hash {
				out = append(out, "#")
				hash = false
			}
			out = append(out, w)
		}
	}
	if hash {
		out = append(out, "#")
	}
	return out
}

func newTopic(bindings []Binding) topic {
	var root topicBuilder
	for _, b := range bindings {
		root.add(b)
	}
	return topic{root.freeze(), topicVersion.Add(1)}
}

func (t topic) bind(queue, key string) router {
	return topic{t.root.with(topicWords(key), queue), topicVersion.Add(1)}
}

func (t topic) unbind(queue, key string) router {
	return topic{t.root.without(topicWords(key), queue), topicVersion.Add(1)}
}

// child returns the node after one word of a binding key; nil if there is none.
func (n *topicNode) child(word string) *topicNode {
	switch word {
	case "*":
		return n.star
	case "#":
		return n.hash
	}
	return n.plain(word)
}

// plain is child without wildcards: the '*' and '#' of a routing key are words like any
// other.
func (n *topicNode) plain(word string) *topicNode {
	c, _ := n.words.get(word)
	return c
}

// withChild returns a copy of n whose child for word is c; nil removes it.
func (n *topicNode) withChild(word string, c *topicNode) *topicNode {
	m := *n
	switch {
	case word == "*":
		m.star = c
	case word == "#":
		m.hash = c
	case c == nil:
		m.words = n.words.without(word)
	default:
		m.words = n.words.with(word, c)
	}
	return &m
}

// with and without may be called on a nil node, which has no bindings.
func (n *topicNode) with(words []string, queue string) *topicNode {
	if n == nil {
		n = &topicNode{}
	}
	if len(words) == 0 {
		m := *n
		m.queues = with(n.queues, queue)
		return &m
	}
	return n.withChild(words[0], n.child(words[0]).with(words[1:], queue))
}

// without returns nil for a node with nothing left, so that the trie has no dead ends.
func (n *topicNode) without(words []string, queue string) *topicNode {
	if n == nil {
		return nil
	}
	var m *topicNode
	if len(words) == 0 {
		c := *n
		c.queues = without(n.queues, queue)
		m = &c
	} else {
		m = n.withChild(words[0], n.child(words[0]).without(words[1:], queue))
	}
	if len(m.queues) == 0 && m.words.len() == 0 && m.star == nil && m.hash == nil {
		return nil
	}
	return m
}

// topicBuilder is a topicNode in the making: mutable, so that loading many bindings
// copies nothing.
type topicBuilder struct {
	children map[string]*topicBuilder
	queues   []string
}

func (b *topicBuilder) add(bound Binding) {
	for _, w := range topicWords(bound.Key) {
		c := b.children[w]
		if c == nil {
			c = &topicBuilder{}
			if b.children == nil {
				b.children = make(map[string]*topicBuilder)
			}
			b.children[w] = c
		}
		b = c
	}
	b.queues = append(b.queues, bound.Queue)
}

func (b *topicBuilder) freeze() *topicNode {
	n := &topicNode{queues: b.queues}
	words := make(map[string]*topicNode, len(b.children))
	for w, c := range b.children {
		switch w {
		case "*":
			n.star = c.freeze()
		case "#":
			n.hash = c.freeze()
		default:
			words[w] = c.freeze()
		}
	}
	if len(words) > 0 {
		n.words = freeze(words)
	}
	return n
}

// route walks the trie with the set of all nodes that the words so far lead to. A node
// has one parent, so it enters the set of one step by one way only; except a '#', which
// is therefore kept apart, once, for the rest of the key.
func (t topic) route(key string) []string {
	queues, _ := t.match(key)
	return queues
}

// maxTopicVisits bounds the work for one routing key: bindings with many wildcards can
// make very many ways to match.
const maxTopicVisits = 1 << 20

// match is route with a bound: ok is false if there are more ways to match than it
// looks at.
func (t topic) match(key string) (queues []string, ok bool) {
	if t.root == nil {
		return nil, true
	}
	var m topicMatch
	m.reach(t.root)
	for more := true; more; {
		if m.visits += len(m.here) + len(m.hashes); m.visits > maxTopicVisits {
			return nil, false
		}
		var word string
		word, key, more = strings.Cut(key, ".")
		m.step(word)
	}
	return m.result(), true
}

type topicMatch struct {
	visits     int
	here, next []*topicNode
	hashes     []*topicNode // every '#' reached so far
	seen       map[*topicNode]struct{}
}

// reach adds a node to the next set, with the '#' below it, which may match nothing.
func (m *topicMatch) reach(n *topicNode) {
	if n == nil {
		return
	}
	m.here = append(m.here, n)
	h := n.hash
	if h == nil {
		return
	}
	if _, ok := m.seen[h]; ok {
		return
	}
	if m.seen == nil {
		m.seen = make(map[*topicNode]struct{})
	}
	m.seen[h] = struct{}{}
	m.hashes = append(m.hashes, h)
}

func (m *topicMatch) step(word string) {
	from := m.here
	m.here = m.next[:0]
	// Hashes that this step reaches begin with the next word.
	hashes := m.hashes
	for _, n := range from {
		m.reach(n.plain(word))
		m.reach(n.star)
	}
	for _, h := range hashes {
		m.reach(h.plain(word))
	}
	m.next = from
}

// result is the queues of all keys that match, each once.
func (m *topicMatch) result() []string {
	queues := make(map[string]struct{})
	for _, n := range append(m.here, m.hashes...) {
		for _, q := range n.queues {
			queues[q] = struct{}{}
		}
	}
	if len(queues) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(queues))
}
