package broker_test

import (
	"context"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
)

// ending is an engine at which the call ends, or its connection, just before the answer. So its
// caller can see either first.
type ending struct {
	engine.Engine
	end func()
}

func (e *ending) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	answered := make(chan struct{})
	n := e.Engine.Publish(batch, func(results []engine.PublishResult) { e.end(); done(results); close(answered) })
	<-answered
	return n
}

// TestAnswerThatArrivesBeforeTheEnd: a message that is stored is not reported as unknown, because
// the call or the connection has ended by the time the caller gets to look.
func TestAnswerThatArrivesBeforeTheEnd(t *testing.T) {
	e := &ending{Engine: enginetest.NewModel(enginetest.Config{}), end: func() {}}
	n := &node{TB: t, audit: &trail{}}
	n.cfg.Engine = e
	n.start()
	t.Cleanup(func() { n.Broker.Close(); n.engine.Close() })
	n.must(n.bind(alice, "q", "x", "k"))
	for i := range 50 { // enough for a select that finds both to take the wrong one
		c := n.Connect(alice)
		ctx, cancel := context.WithCancel(t.Context())
		e.end = cancel
		if i%2 == 0 {
			e.end = func() { c.Close() }
		}
		if err := c.Publish(ctx, sealmq.Message{Exchange: "x", Key: "k", Body: []byte("text")}); err != nil {
			t.Errorf("try %d: %v", i, err)
		}
		cancel()
		c.Close()
	}
}
