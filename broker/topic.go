package broker

import (
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
)

// maxTopicHashes bounds the runs of wildcards with '#' in one binding key. A match
// follows each of them through the whole routing key.
const maxTopicHashes = 16

// A binding key of a topic exchange is words joined by '.'. The word '*' matches any
// one word, '#' for any number of words, also none; a word may be empty.
//
// The keys are a trie of words. Before a key enters the trie each run of wildcards is put
// in one order, the '*' first and then at most one '#', which matches the same: "#.*.#"
// becomes "*.#". So a '#' is followed by a plain word or the end, and once a match has
// reached a '#' it stays there for every further word.
type topicNode struct {
	words  map[string]*topicNode
	star   *topicNode
	hash   *topicNode
	queues []string // of the keys that end here, one for each binding
}

// topic routes by pattern.
type topic struct{ root topicNode }

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

func (t *topic) bind(queue, key string) {
	n := &t.root
	for _, word := range topicWords(key) {
		n = n.grow(word)
	}
	n.queues = append(n.queues, queue)
}

func (t *topic) unbind(queue, key string) { t.root.remove(topicWords(key), queue) }

// grow returns the node after one word of a binding key, which it makes if it is missing.
func (n *topicNode) grow(word string) *topicNode {
	c := n.child(word)
	if c == nil {
		c = &topicNode{}
		n.setChild(word, c)
	}
	return c
}

func (n *topicNode) child(word string) *topicNode {
	switch word {
	case "*":
		return n.star
	case "#":
		return n.hash
	}
	return n.words[word]
}

// setChild puts c after a word of a binding key; nil removes what is there.
func (n *topicNode) setChild(word string, c *topicNode) {
	switch {
	case word == "*":
		n.star = c
	case word == "#":
		n.hash = c
	case c == nil:
		delete(n.words, word)
	default:
		if n.words == nil {
			n.words = make(map[string]*topicNode)
		}
		n.words[word] = c
	}
}

// remove unbinds a queue below n, and removes the nodes that have nothing left.
func (n *topicNode) remove(words []string, queue string) {
	if len(words) == 0 {
		n.queues = without(n.queues, queue)
		return
	}
	c := n.child(words[0])
	c.remove(words[1:], queue)
	if len(c.queues) == 0 && len(c.words) == 0 && c.star == nil && c.hash == nil {
		n.setChild(words[0], nil)
	}
}

func (t *topic) route(key string) ([]string, error) {
	if err := checkRoutingKey(key); err != nil {
		return nil, err
	}
	queues, ok := t.match(key)
	if !ok {
		return nil, &sealmq.Error{Code: sealmq.LimitReached, Message: "too many topic bindings could match this routing key"}
	}
	return queues, nil
}

// maxTopicVisits bounds the work for one routing key: bindings with many wildcards can
// make very many ways to match.
const maxTopicVisits = 1 << 20

// match walks the trie with the set of all nodes that the words so far lead to. A node
// has one parent, so it enters the set of one step by one way only; except a '#', which
// is therefore kept apart, once, for the rest of the key. ok is false if there are more
// ways to match than it looks at.
func (t *topic) match(key string) (queues []string, ok bool) {
	var room [2][8]*topicNode // mostly enough
	here, next := append(room[0][:0], &t.root), room[1][:0]
	hashes := hashSet{}.add(t.root.hash)
	visits := 0
	for more := true; more; {
		if visits += len(here) + len(hashes.list); visits > maxTopicVisits {
			return nil, false
		}
		var word string
		word, key, more = strings.Cut(key, ".")
		// The '*' and '#' of a routing key are words like any other.
		next = next[:0]
		for _, n := range here {
			next = appendNode(next, n.words[word])
			next = appendNode(next, n.star)
		}
		for _, h := range hashes.list {
			next = appendNode(next, h.words[word])
		}
		// A '#' that is reached here begins with the next word, because it may match none.
		for _, n := range next {
			hashes = hashes.add(n.hash)
		}
		here, next = next, here
	}
	return distinct(append(here, hashes.list...)), true
}

func appendNode(list []*topicNode, n *topicNode) []*topicNode {
	if n == nil {
		return list
	}
	return append(list, n)
}

// hashSet is every '#' that a match has reached.
type hashSet struct {
	list []*topicNode
	seen map[*topicNode]struct{}
}

func (s hashSet) add(n *topicNode) hashSet {
	if n == nil {
		return s
	}
	if _, ok := s.seen[n]; ok {
		return s
	}
	if s.seen == nil {
		s.seen = make(map[*topicNode]struct{})
	}
	s.seen[n] = struct{}{}
	s.list = append(s.list, n)
	return s
}

// distinct returns the queues of nodes, each once.
func distinct(nodes []*topicNode) []string {
	nodes = slices.DeleteFunc(nodes, func(n *topicNode) bool { return len(n.queues) == 0 })
	if len(nodes) == 1 && len(nodes[0].queues) == 1 {
		return nodes[0].queues
	}
	var queues []string
	for _, n := range nodes {
		queues = append(queues, n.queues...)
	}
	slices.Sort(queues)
	return slices.Compact(queues)
}
