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

// A binding key of a topic exchange is words joined by '.'. The word '*' matches any
// one word, '#' for any number of words, also none; a word may be empty.
//
// The keys are a trie of words. Before a key enters the trie each run of wildcards is put
// in one order, the '*' first and then at most one '#', which matches the same: "#.*.#"
// becomes "*.#". So a '#' is followed by a plain word or the end, and once a match has
// reached a '#' it stays there for every further word.
type topicNode struct {
	next   map[string]*topicNode // "*" and "#" are the wildcards
	queues []string              // of the keys that end here, one for each binding
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
		return badArgument("the binding key has too many '#'")
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
		if n.next == nil {
			n.next = make(map[string]*topicNode)
		}
		if n.next[word] == nil {
			n.next[word] = &topicNode{}
		}
		n = n.next[word]
	}
	n.queues = append(n.queues, queue)
}

func (t *topic) unbind(queue, key string) { t.root.remove(topicWords(key), queue) }

// remove unbinds a queue below n, and removes the nodes that have nothing left.
func (n *topicNode) remove(words []string, queue string) {
	if len(words) == 0 {
		n.queues = without(n.queues, queue)
		return
	}
	c := n.next[words[0]]
	c.remove(words[1:], queue)
	if len(c.queues) == 0 && len(c.next) == 0 {
		delete(n.next, words[0])
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
	var hashes map[*topicNode]bool // every '#' that was reached
	reach := func(n *topicNode) {
		if h := n.next["#"]; h != nil {
			if hashes == nil { // many exchanges have none
				hashes = make(map[*topicNode]bool)
			}
			hashes[h] = true
		}
	}
	reach(&t.root)
	visits := 0
	for more := true; more; {
		if visits += len(here) + len(hashes); visits > maxTopicVisits {
			return nil, false
		}
		var word string
		word, key, more = strings.Cut(key, ".")
		next = next[:0]
		step := func(n *topicNode, word string) {
			if to := n.next[word]; to != nil {
				next = append(next, to)
			}
		}
		plain := word != "*" && word != "#" // in a binding key these are never words
		for _, n := range here {
			if step(n, "*"); plain {
				step(n, word)
			}
		}
		for h := range hashes {
			if plain {
				step(h, word)
			}
		}
		// A '#' that is reached here begins with the next word, because it may match none.
		for _, n := range next {
			reach(n)
		}
		here, next = next, here
	}
	return distinct(slices.AppendSeq(here, maps.Keys(hashes))), true
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
