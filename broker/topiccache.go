package broker

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

const (
	// topicCacheSlots bounds the cached results of all topic exchanges together.
	topicCacheSlots = 4096
	// maxCachedQueues keeps long results, which are cheap in comparison with storing the
	// message, from making the cache large.
	maxCachedQueues = 64
)

var topicVersion atomic.Uint64

// topicCache remembers what routing keys led to. Each result has a pair of slots that it
// may be in, the newer of the pair first; a third key that belongs there drops the older.
// So the cache is bounded, neither reading nor writing it needs a lock, and two busy
// keys with the same place do not take turns.
type topicCache struct {
	slots [topicCacheSlots / 2][2]atomic.Pointer[topicResult]
}

type topicResult struct {
	version uint64
	key     string
	queues  []string
}

// route is topic.match with a memory.
func (c *topicCache) route(t topic, key string) (queues []string, ok bool) {
	// The exchange is left out of the hash: where many have the same keys, they take
	// turns, and where they do not, nothing is lost.
	pair := &c.slots[maphash.String(frozenSeed, key)%uint64(len(c.slots))]
	for i := range pair {
		if r := pair[i].Load(); r != nil && r.version == t.version && r.key == key {
			return r.queues, true
		}
	}
	queues, ok = t.match(key)
	if ok && len(queues) <= maxCachedQueues {
		// The key may be part of a read buffer. What another goroutine stores at the same
		// time may be lost, which costs it another match.
		pair[1].Store(pair[0].Load())
		pair[0].Store(&topicResult{t.version, strings.Clone(key), queues})
	}
	return queues, ok
}
