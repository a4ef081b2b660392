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

// topicCache remembers what routing keys led to. Each result has one slot that it may
// be in, and a newer one takes the slot of an older one; so the cache is bounded and
// neither reading nor writing it needs a lock.
type topicCache struct {
	slots [topicCacheSlots]atomic.Pointer[topicResult]
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
	slot := &c.slots[maphash.String(frozenSeed, key)%topicCacheSlots]
	if r := slot.Load(); r != nil && r.version == t.version && r.key == key {
		return r.queues, true
	}
	queues, ok = t.match(key)
	if ok && len(queues) <= maxCachedQueues {
		// The key may be part of a read buffer.
		slot.Store(&topicResult{t.version, strings.Clone(key), queues})
	}
	return queues, ok
}
