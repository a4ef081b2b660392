package broker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// crowded is an engine with many queues that counts how many of them it described.
type crowded struct {
	engine.Engine
	queues    []engine.QueueInfo
	described atomic.Int64
}

func (c *crowded) Queues() ([]engine.QueueInfo, error) {
	c.described.Add(int64(len(c.queues)))
	return c.queues, nil
}

// TestDescribingIsBounded: a client that asks for all queues all the time takes no more of
// the engine's time than 30,000 descriptions of a queue a second, or one of all queues. One
// costs about as much as one publish, so publishers keep more than nine tenths of an engine
// that stores 300,000.
func TestDescribingIsBounded(t *testing.T) {
	for queues, least := range map[int]int{1_000: 10_000, 10_000: 10_000, 100_000: 100_000} {
		n := open(t)
		c := &crowded{Engine: n.engine}
		for i := range queues {
			c.queues = append(c.queues, engine.QueueInfo{Name: fmt.Sprintf("q%06d", i)})
		}
		b, err := broker.New(broker.Config{Engine: c, Clock: n.clock})
		n.must(err)
		c.described.Store(0)
		const seconds, polls = 10, 50
		for range seconds * polls {
			_, err := b.Queues(alice)
			n.must(err)
			n.clock.Advance(time.Second / polls)
		}
		if got := int(c.described.Load()) / seconds; got > max(30_000, queues) || got < least {
			t.Errorf("%d of %d queues were described a second", got, queues)
		}
	}
}

func TestQueuesAreSeenByThoseWhoMay(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "a", nil))
	n.must(n.declareQueue(admin, "sealmq.secret", nil))
	for _, want := range []struct {
		names []string
		queue string
	}{{[]string{"a", "b"}, "b"}, {[]string{"a", "b", "c"}, "c"}} {
		n.must(n.declareQueue(alice, want.queue, nil)) // a few are always described as they are
		var names []string
		for _, q := range n.queues(alice) {
			names = append(names, q.Name)
		}
		if diff := cmp.Diff(want.names, names); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if got := len(n.queues(admin)); got != 4 {
		t.Errorf("an administrator sees %d queues", got)
	}
}
