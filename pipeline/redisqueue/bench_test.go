package redisqueue_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/pipeline"
)

// sealedItems have the size of a short text, sealed: about 2.1 KB in JSON.
func sealedItems(n int, prefix string) []pipeline.Item {
	items := make([]pipeline.Item, n)
	for i := range items {
		items[i] = pipeline.Item{MessageID: fmt.Sprintf("%s-%06d", prefix, i), ClientID: "acme-01", Domain: pipeline.DefaultDomain, QueuedAt: time.Now().UTC(), Enc: pipeline.EncHPKE,
			Sealed: json.RawMessage(`{"text":"` + strings.Repeat("x", 1900) + `"}`), Digest: []byte("digest of 16 B..")}
	}
	return items
}

// BenchmarkQueue takes batches of 100 items through the queue: enqueued, taken, done, with every write
// synced. One operation is one item.
func BenchmarkQueue(b *testing.B) {
	s := redis.Require(b, shared)
	empty(b, s)
	q := open(b, config(s))
	c, err := q.Consumer("worker-1")
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; n < b.N; {
		items := sealedItems(100, fmt.Sprint(n))
		n += len(items)
		if results, err := q.Enqueue(b.Context(), items); err != nil || results[0].Outcome != pipeline.Stored {
			b.Fatalf("%+v, %v", results, err)
		}
		for left := len(items); left > 0; {
			taken, err := c.Take(b.Context(), left)
			if err != nil {
				b.Fatal(err)
			}
			left -= len(taken)
			list := make([]pipeline.Finished, len(taken))
			for i, t := range taken {
				list[i] = pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Done}
			}
			if err := c.Finish(b.Context(), list); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestMemory holds what the documentation says of the memory of a backlog: for an item, and for
// what recognises its repeats, which stays for a while after it.
func TestMemory(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	q := open(t, config(s))
	used := func() int64 {
		info, err := raw.InfoMap(t.Context(), "memory").Result()
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const n = 5000
	before := used()
	items := sealedItems(n, strings.Repeat("m", 29)) // an id of 36 characters
	if results, err := q.Enqueue(t.Context(), items); err != nil || results[n-1].Outcome != pipeline.Stored {
		t.Fatal(err)
	}
	body, err := items[0].AppendJSON(nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := raw.MemoryUsage(t.Context(), pipeline.QueueName, 0).Result()
	if err != nil {
		t.Fatal(err)
	}
	all := (used() - before) / n
	t.Logf("an item of %d bytes takes %d bytes in the list, and %d with what recognises its repeats", len(body), list/n, all)
	if all > int64(len(body)+1000) {
		t.Errorf("an item of %d bytes takes %d", len(body), all)
	}
}
