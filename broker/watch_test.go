package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

func (n *node) watcher(exchange, key string) *broker.Consumer {
	n.Helper()
	c := n.Open(bob, func() {}, func(sealmq.SubscriptionID, string, error) {})
	n.Cleanup(func() { c.Close(true) })
	n.must(n.do(func(done func(error)) { c.Watch(exchange, key, done) }))
	return c
}

// temporaries counts the temporary queues.
func (n *node) temporaries() (count int) {
	for _, q := range n.queues(admin) {
		if strings.HasPrefix(q.Name, "sealmq.temporary.") {
			count++
		}
	}
	return count
}

func (n *node) untilNoTemporaries() {
	n.Helper()
	for until := time.Now().Add(time.Minute); n.temporaries() > 0; {
		if time.Now().After(until) {
			n.Fatal("a temporary queue outlives its connection")
		}
	}
}

// TestWatch checks that a watcher gets copies and takes nothing, and that its queue goes with
// its connection.
func TestWatch(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	c := n.watcher("x", "k")
	n.must(n.do(func(done func(error)) { c.Watch("x", "other", done) }))
	if got := n.temporaries(); got != 1 {
		t.Errorf("%d temporary queues, want 1", got)
	}
	n.stored("x", "k", "1")
	list, err := c.Take(nil, 10, everything)
	n.must(err)
	if len(list) != 1 || list[0].ID != "1" {
		t.Fatalf("took %v, want message 1", list)
	}
	n.must(n.do(func(done func(error)) {
		c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Ack}}, done)
	}))
	n.holds("q", "1")
	if err := n.publish(alice, engine.Publish{Message: sealmq.Message{Exchange: "x", Key: "other", ID: "2"}})[0].Err; sealmq.CodeOf(err) != sealmq.Unroutable {
		t.Errorf("a message that only a watcher would get: error %v, want code %s", err, sealmq.Unroutable)
	}
	if err := n.do(func(done func(error)) { c.Watch("y", "k", done) }); sealmq.CodeOf(err) != sealmq.NoExchange {
		t.Errorf("watching what does not exist: error %v, want code %s", err, sealmq.NoExchange)
	}
	c.Close(true)
	n.untilNoTemporaries()
	if err := n.do(func(done func(error)) { c.Watch("x", "k", done) }); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("watching after Close: error %v, want code %s", err, sealmq.Unavailable)
	}
	if err := n.declareQueue(admin, "sealmq.temporary.mine", nil); sealmq.CodeOf(err) != sealmq.Denied {
		t.Errorf("declaring a temporary queue: error %v, want code %s", err, sealmq.Denied)
	}
}

// TestWatchersHaveNoDeadLetters: what a watcher refuses, or gives back however often, makes no
// second queue.
func TestWatchersHaveNoDeadLetters(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	c := n.watcher("x", "k")
	n.stored("x", "k", "1")
	for i := range sealmq.DefaultDeliveryLimit + 3 {
		list, err := c.Take(nil, 10, everything)
		n.must(err)
		if len(list) != 1 {
			t.Fatalf("took %v at delivery %d, want message 1", list, i+1)
		}
		s := engine.Settlement{Tag: list[0].Tag, Verdict: engine.Return}
		if i >= sealmq.DefaultDeliveryLimit+2 {
			s = engine.Settlement{Tag: list[0].Tag, Verdict: engine.Dead, Reason: "bad"}
		}
		n.must(n.do(func(done func(error)) { c.Settle([]engine.Settlement{s}, done) }))
	}
	if list, err := c.Take(nil, 10, everything); err != nil || len(list) > 0 {
		t.Errorf("took %v after it was refused, %v", list, err)
	}
	if got := n.temporaries(); got != 1 {
		t.Errorf("%d temporary queues, want 1", got)
	}
	own := n.consumer(alice, "q")
	list, err := own.Take(nil, 1, everything)
	n.must(err)
	n.must(n.do(func(done func(error)) {
		own.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Dead}}, done)
	}))
	n.holds("q.dead", "1")
}

// TestTemporaryQueuesOfACrashedBroker checks that a start removes them.
func TestTemporaryQueuesOfACrashedBroker(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.watcher("x", "k")
	n.restart()
	if got := n.temporaries(); got != 0 {
		t.Errorf("%d temporary queues after a start", got)
	}
	if got := n.Counts(); got.Queues != 1 || got.Bindings != 1 {
		t.Errorf("%+v after a start, want one queue and one binding", got)
	}
}

// TestWatchersRefuseNothing: one that acknowledges nothing costs publishers nothing.
func TestWatchersRefuseNothing(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", &sealmq.QueueOptions{MaxLineBytes: sealmq.MaxLineBytes}))
	n.must(n.bind(alice, "q", "x", "k"))
	c := n.watcher("x", "k")
	body := make([]byte, 3<<20)
	for i := range 12 {
		batch := make([]engine.Publish, 2)
		for j := range batch {
			batch[j].Message = sealmq.Message{Exchange: "x", Key: "k", ID: fmt.Sprint(i, "-", j), Body: body}
		}
		for _, r := range n.publish(alice, batch...) {
			if r.Outcome != engine.Stored {
				t.Fatalf("message %d is not stored: %v", i, r.Err)
			}
		}
		_, err := c.Take(nil, 10, everything)
		n.must(err)
	}
}
