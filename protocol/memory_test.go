package protocol_test

import (
	"testing"

	"github.com/sealmq/sealmq/protocol"
)

func join(t *testing.T, b *protocol.Budget, identity string) *protocol.Memory {
	t.Helper()
	m, ok := b.Join(identity, 3)
	if !ok {
		t.Fatalf("%s cannot join", identity)
	}
	return m
}

// TestSomeMemoryStaysFree: the first connection gets a third, others of its identity and
// those of another one get a part of the rest.
func TestSomeMemoryStaysFree(t *testing.T) {
	b := protocol.NewBudget(1200)
	take := func(m *protocol.Memory) (n int) {
		for m.Reserve(1) {
			n++
		}
		return n
	}
	greedy := join(t, b, "greedy")
	if got := take(greedy); got != 400 {
		t.Errorf("the first connection got %d bytes", got)
	}
	if got := take(join(t, b, "greedy")); got < 100 || got > 200 {
		t.Errorf("the second connection of the identity got %d bytes", got)
	}
	if got, free := take(join(t, b, "other")), 1200-int(b.Used()); got < 150 || free < 150 {
		t.Errorf("another identity got %d bytes and left %d", got, free)
	}
	if b.Refusals() != 3 || b.Limit() != 1200 {
		t.Errorf("%d refusals of %d bytes", b.Refusals(), b.Limit())
	}
	greedy.Add(1000) // without asking
	if greedy.Room() >= 0 || greedy.Reserve(1) {
		t.Errorf("there is room for %d bytes after all were taken", greedy.Room())
	}
}

func TestClosingGivesTheMemoryBack(t *testing.T) {
	b := protocol.NewBudget(1000)
	m := join(t, b, "a")
	join(t, b, "a").Add(10)
	join(t, b, "a")
	if _, ok := b.Join("a", 3); ok {
		t.Error("a fourth connection joined")
	}
	m.Add(100)
	m.Close()
	m.Close()
	m.Add(100)
	if m.Reserve(1) || b.Used() != 10 {
		t.Errorf("%d bytes are held", b.Used())
	}
	join(t, b, "a")
}

func TestMemoryWithoutABudget(t *testing.T) {
	var m *protocol.Memory
	m.Add(1 << 40)
	if !m.Reserve(1<<40) || m.Room() <= 0 {
		t.Error("it has a limit")
	}
	m.Close()
}
