package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// TestCopyIsPartlyRefused: what has room is copied, and the error says what has none.
func TestCopyIsPartlyRefused(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.declareQueue(alice, "small", &sealmq.QueueOptions{MaxMessages: 3}))
	for i := range 5 {
		n.stored("x", "k", fmt.Sprint(i))
	}
	var next uint64
	copied, err := wait(t, func(done func(int, error)) {
		n.Copy(alice, "q", "small", 0, 4, func(copied int, place uint64, err error) {
			next = place
			done(copied, err)
		})
	})
	if copied != 3 || sealmq.CodeOf(err) != sealmq.QueueFull || !strings.HasPrefix(fmt.Sprint(err), "3 of 4 messages were copied; message '3': ") {
		t.Errorf("%d copied: %v", copied, err)
	}
	if n.audit.has(entry{"alice", "move", "q small", sealmq.QueueFull}) || !n.audit.has(entry{"alice", "copy", "q small", sealmq.QueueFull}) {
		t.Error("the copy is not on record as one")
	}
	n.holds("small", "0", "1", "2")
	if list, err := n.Peek(alice, "q", next, 10); err != nil || len(list) != 1 || list[0].ID != "4" {
		t.Errorf("behind the page: %v, %v", list, err)
	}
}

// TestDeadLetterQueuesCount: one that the engine has made counts for its owner once somebody
// declares or binds it, and as it will after the next start.
func TestDeadLetterQueuesCount(t *testing.T) {
	n := open(t)
	for _, q := range []string{"declared", "bound"} {
		n.must(n.bind(alice, q, "x", q))
		n.stored("x", q, q)
		c := n.consumer(alice, q)
		list, err := c.Take(nil, 1, everything)
		n.must(err)
		n.must(n.do(func(done func(error)) { c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Dead}}, done) }))
		n.holds(q+".dead", q)
	}
	n.must(n.declareQueue(alice, "declared.dead", nil))
	n.must(n.bind(alice, "bound.dead", "x", "again"))
	for range 2 {
		if got := n.Counts(); got.Queues != 4 || got.Bindings != 3 {
			t.Errorf("%+v, want 4 queues and 3 bindings", got)
		}
		n.restart()
	}
	_, err := n.deleteQueue(alice, "bound.dead")
	n.must(err)
	if got := n.Counts(); got.Queues != 3 || got.Bindings != 2 {
		t.Errorf("%+v, want 3 queues and 2 bindings", got)
	}
}
