package broker_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// stubborn is an engine that refuses some calls for lack of storage.
type stubborn struct {
	engine.Engine
	defines, declares, deletes bool
}

func (s *stubborn) Define(batch []engine.Definition, done func(error)) {
	if s.defines {
		done(sealmq.ErrNoStorage)
		return
	}
	s.Engine.Define(batch, done)
}

func (s *stubborn) DeclareQueue(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error)) {
	if s.declares {
		done(engine.QueueInfo{}, false, sealmq.ErrNoStorage)
		return
	}
	s.Engine.DeclareQueue(name, o, compare, done)
}

func (s *stubborn) DeleteQueue(name string, only engine.If, done func(int, error)) {
	if s.deletes {
		done(0, sealmq.ErrNoStorage)
		return
	}
	s.Engine.DeleteQueue(name, only, done)
}

// stubborn puts a broker over a stubborn engine in the place of the node's.
func (n *node) stubborn() *stubborn {
	n.Helper()
	s := &stubborn{Engine: n.engine}
	b, err := broker.New(broker.Config{Engine: s, Clock: n.clock})
	n.must(err)
	n.Broker = b
	return s
}

// TestQueueThatCannotBeDeletedStaysBound: a queue that is still there but gets nothing any
// more would lose what is published to it meanwhile.
func TestQueueThatCannotBeDeletedStaysBound(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "q", "y", "l"))
	n.must(n.bind(alice, "r", "x", "k"))
	n.stored("x", "k", "0")
	s := n.stubborn()
	before, counts := n.Bound(admin), n.Counts()
	same := func() {
		t.Helper()
		if diff := cmp.Diff(before, n.Bound(admin)); diff != "" {
			t.Errorf("bindings (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(counts, n.Counts()); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
	}
	_, err := wait(n, func(done func(int, error)) { n.DeleteQueue(admin, "q", engine.IfEmpty, done) })
	n.code(sealmq.InUse, err)
	same()
	s.deletes = true
	for range 2 {
		_, err := n.deleteQueue(admin, "q")
		n.code(sealmq.NoStorage, err)
		same()
	}
	n.stored("x", "k", "1")
	n.stored("y", "l", "2")
	n.restart()
	n.holds("q", "0", "1", "2")
	same()
	if _, err := n.deleteQueue(admin, "q"); err != nil {
		t.Error(err)
	}
	n.restart()
	if diff := cmp.Diff([]broker.Binding{{Queue: "r", Exchange: "x", Key: "k"}}, n.Bound(admin)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
}

// TestDeletedQueueLeavesNoBinding: without room for it, what says that the bindings are
// gone is stored with the next change. A queue that is declared later under the same name
// must not find itself bound after a start.
func TestDeletedQueueLeavesNoBinding(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	s := n.stubborn()
	s.defines = true
	_, err := n.deleteQueue(admin, "q")
	n.must(err)
	n.refused(sealmq.ErrUnroutable, n.one("x", "k", "1"))
	n.code(sealmq.NoStorage, n.declareExchange(alice, "y", ""))
	s.defines = false
	n.must(n.declareQueue(alice, "q", nil))
	for range 2 {
		n.refused(sealmq.ErrUnroutable, n.one("x", "k", "2"))
		if list := n.Bound(admin); len(list) > 0 {
			t.Errorf("bindings %v", list)
		}
		n.restart()
	}
}

func TestWhatTheEngineRefusesIsNotInEffect(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	s := n.stubborn()
	before, bindings := n.Counts(), n.Bound(admin)
	key := bareKey(9)
	for what, call := range map[string]func(done func(error)){
		"declare exchange": func(done func(error)) { n.DeclareExchange(alice, "new", broker.Topic, done) },
		"bind":             func(done func(error)) { n.Bind(alice, "q", "x", "new", done) },
		"bind new parts":   func(done func(error)) { n.Bind(alice, "q", "new", "k", done) },
		"unbind":           func(done func(error)) { n.Unbind(alice, "q", "x", "k", done) },
		"delete exchange":  func(done func(error)) { n.DeleteExchange(admin, "x", done) },
		"put key": func(done func(error)) {
			n.Keys().PutKey(alice.Identity, "alice", key, func(_ bool, err error) { done(err) })
		},
	} {
		s.defines = true
		answered := make(chan error, 2)
		call(func(err error) { answered <- err })
		s.defines = false
		if err := <-answered; !errors.Is(err, sealmq.ErrNoStorage) || len(answered) > 0 {
			t.Errorf("%s: error %v and %d more answers", what, err, len(answered))
		}
		if diff := cmp.Diff(before, n.Counts()); diff != "" {
			t.Errorf("counts after %s (-want +got):\n%s", what, diff)
		}
		if diff := cmp.Diff(bindings, n.Bound(admin)); diff != "" {
			t.Errorf("bindings after %s (-want +got):\n%s", what, diff)
		}
	}
	n.stored("x", "k", "1")
	n.refused(sealmq.ErrUnroutable, n.one("x", "new", "2"))
	n.refused(sealmq.ErrNoExchange, n.one("new", "k", "3"))
}

func TestBindIsRefusedWithItsQueue(t *testing.T) {
	n := open(t)
	n.stubborn().declares = true
	n.code(sealmq.NoStorage, n.bind(alice, "q", "x", "k"))
	n.code(sealmq.NoStorage, n.declareQueue(alice, "q", nil))
	c := n.Open(alice, func() {}, nil)
	defer c.Close(true)
	n.code(sealmq.NoStorage, n.do(func(done func(error)) { c.Consume("q", engine.ConsumeOptions{}, done) }))
	if got := n.Counts(); got != (broker.Counts{}) {
		t.Errorf("something is left: %+v", got)
	}
}
