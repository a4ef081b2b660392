package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

func (n *node) consumer(id broker.Caller, queue string) *broker.Consumer {
	n.Helper()
	c := n.Open(id, func() {}, nil)
	n.Cleanup(func() { c.Close(true) })
	n.must(n.do(func(done func(error)) { c.Consume(queue, engine.ConsumeOptions{}, done) }))
	return c
}

func TestConsumeAndSettle(t *testing.T) {
	n := open(t)
	n.must(n.bind(bob, "q", "x", "k"))
	for _, id := range []string{"1", "2", "3"} {
		n.stored("x", "k", id)
	}
	c := n.consumer(bob, "q")
	list, err := c.Take(nil, 10, everything)
	n.must(err)
	if len(list) != 3 || c.Unacked() != 3 {
		t.Fatalf("took %d, holds %d, want 3", len(list), c.Unacked())
	}
	n.must(n.do(func(done func(error)) {
		c.Settle([]engine.Settlement{
			{Tag: list[0].Tag, Verdict: engine.Ack},
			{Tag: list[1].Tag, Verdict: engine.Return},
			{Tag: list[2].Tag, Verdict: engine.Dead, Reason: "cannot be opened: wrong key"},
		}, done)
	}))
	n.holds("q", "2")
	n.holds("q.dead", "3")
	if got := n.queues(alice); len(got) != 2 || got[1].Name != "q.dead" {
		t.Errorf("queues %v", got)
	}
	c.Close(true)
	c.Close(true)
}

func TestConsumeDeclaresTheQueue(t *testing.T) {
	n := open(t)
	notified := make(chan struct{}, 10)
	c := n.Open(bob, func() { notified <- struct{}{} }, nil)
	defer c.Close(true)
	n.must(n.do(func(done func(error)) { c.Consume("q", engine.ConsumeOptions{}, done) }))
	n.must(n.bind(bob, "q", "x", "k"))
	for len(notified) > 0 {
		<-notified
	}
	n.stored("x", "k", "1")
	<-notified
	list, err := c.Take(nil, 10, everything)
	n.must(err)
	if len(list) != 1 || list[0].ID != "1" {
		t.Errorf("took %v", list)
	}
	if n.Counts().Queues != 1 {
		t.Errorf("counts %+v", n.Counts())
	}
}

func (n *node) fetch(c *broker.Consumer, queue string) engine.Fetched {
	n.Helper()
	f, err := wait(n, func(done func(engine.Fetched, error)) { c.Fetch(queue, false, done) })
	n.must(err)
	return f
}

func TestFetch(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	c := n.Open(bob, func() {}, nil)
	defer c.Close(true)
	if f := n.fetch(c, "q"); !f.Found || f.Delivery.ID != "1" {
		t.Errorf("fetched %+v", f)
	}
	if f := n.fetch(c, "q"); f.Found {
		t.Errorf("fetched %+v from an empty queue", f)
	}
	for queue, code := range map[string]sealmq.Code{"none": sealmq.NoQueue, "a b": sealmq.BadName} {
		_, err := wait(n, func(done func(engine.Fetched, error)) { c.Fetch(queue, false, done) })
		n.code(code, err)
	}
}

func TestConsumerRefuses(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	c := n.consumer(bob, "q")
	list, err := c.Take(nil, 10, everything)
	n.must(err)
	tag := list[0].Tag
	for name, s := range map[string]engine.Settlement{
		"no verdict":            {Tag: tag},
		"unknown verdict":       {Tag: tag, Verdict: engine.Extend + 1},
		"negative delay":        {Tag: tag, Verdict: engine.Return, Delay: -1},
		"long delay":            {Tag: tag, Verdict: engine.Return, Delay: sealmq.MaxDelay + 1},
		"long reason":           {Tag: tag, Verdict: engine.Dead, Reason: strings.Repeat("x", 256)},
		"reason of two lines":   {Tag: tag, Verdict: engine.Dead, Reason: "a\nb"},
		"reason that is binary": {Tag: tag, Verdict: engine.Dead, Reason: "\xff"},
	} {
		batch := []engine.Settlement{{Tag: tag, Verdict: engine.Ack}, s}
		if err := n.do(func(done func(error)) { c.Settle(batch, done) }); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("%s: error %v, want code %s", name, err, sealmq.BadArgument)
		}
	}
	if c.Unacked() != 1 {
		t.Error("a refused batch settled something")
	}
	for _, p := range []int{engine.Paused - 1, sealmq.MaxPrefetch + 1} {
		n.code(sealmq.BadArgument, c.SetPrefetch(0, p))
		n.code(sealmq.BadArgument, n.do(func(done func(error)) { c.Consume("q", engine.ConsumeOptions{Prefetch: p}, done) }))
	}
	n.must(c.SetPrefetch(0, engine.Paused))
	n.must(c.SetPrefetch(0, sealmq.MaxPrefetch))
	n.must(n.do(func(done func(error)) { c.Consume("q", engine.ConsumeOptions{Prefetch: 7}, done) }))
	n.code(sealmq.BadName, n.do(func(done func(error)) { c.Consume("a b", engine.ConsumeOptions{}, done) }))
}

func TestFindIsForThePublisher(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	for _, id := range []broker.Caller{alice, admin} {
		m, ok, err := n.Find(id, "1")
		if err != nil || !ok || m.Publisher != "alice" {
			t.Errorf("%s: found %v, error %v", id.ID, ok, err)
		}
	}
	_, _, err := n.Find(bob, "1")
	n.code(sealmq.Denied, err)
	if _, ok, err := n.Find(bob, "none"); ok || err != nil {
		t.Errorf("what is not there: found %v, error %v", ok, err)
	}
	_, _, err = n.Find(bob, "a b")
	if n.code(sealmq.BadName, err); err.Error() != "message id contains white space or a control character" {
		t.Error(err)
	}
}

// simple is an engine with no abilities at all.
type simple struct{ engine.Engine }

func (simple) Abilities() engine.Abilities { return engine.Abilities{} }

func TestAbsentAbilitiesAreErrors(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "r", "x", "l"))
	n.stored("x", "k", "1")
	b, err := broker.New(broker.Config{Engine: simple{n.engine}})
	n.must(err)
	n.Broker = b
	_, err = n.Peek(admin, "q", 0, 1)
	n.code(sealmq.Unsupported, err)
	_, err = wait(t, func(done func(int, error)) { n.Move(admin, "q", "r", 0, done) })
	n.code(sealmq.Unsupported, err)
	_, err = wait(t, func(done func(int, error)) { n.MoveMessages(admin, "q", "r", []string{"1"}, done) })
	n.code(sealmq.Unsupported, err)
	_, _, err = n.Find(admin, "1")
	n.code(sealmq.Unsupported, err)
	c := n.consumer(bob, "q")
	list, err := c.Take(nil, 1, everything)
	n.must(err)
	back := func(d time.Duration) error {
		return n.do(func(done func(error)) {
			c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Return, Delay: d}}, done)
		})
	}
	n.code(sealmq.Unsupported, back(time.Second))
	n.must(back(0))
}

func TestPeekAndMoveArguments(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", nil))
	for _, count := range []int{-1, 0, sealmq.MaxPeek + 1} {
		_, err := n.Peek(admin, "q", 0, count)
		n.code(sealmq.BadArgument, err)
	}
	_, err := n.Peek(admin, "none", 0, 1)
	n.code(sealmq.NoQueue, err)
	_, err = n.Peek(admin, "a b", 0, 1)
	n.code(sealmq.BadName, err)
	for _, tc := range []struct {
		from, to string
		n        int
		code     sealmq.Code
	}{
		{"q", "q", 0, sealmq.BadArgument}, {"q", "r", -1, sealmq.BadArgument}, {"q", "r", 0, sealmq.NoQueue},
		{"r", "q", 0, sealmq.NoQueue}, {"a b", "q", 0, sealmq.BadName}, {"q", "", 0, sealmq.BadName},
	} {
		_, err := wait(t, func(done func(int, error)) { n.Move(admin, tc.from, tc.to, tc.n, done) })
		n.code(tc.code, err)
		if tc.n == 0 {
			_, err := wait(t, func(done func(int, error)) { n.MoveMessages(admin, tc.from, tc.to, []string{"1"}, done) })
			n.code(tc.code, err)
		}
	}
	_, err = wait(t, func(done func(int, error)) {
		n.MoveMessages(admin, "q", "r", make([]string, sealmq.MaxMoveIDs+1), done)
	})
	n.code(sealmq.BadArgument, err)
}

func TestSettlementsBelongToTheirConnection(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	holder, other := n.consumer(bob, "q"), n.consumer(bob, "q")
	list, err := holder.Take(nil, 1, everything)
	n.must(err)
	n.must(n.do(func(done func(error)) {
		other.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Ack}}, done)
	}))
	holder.Close(true)
	if diff := cmp.Diff([]string{"1"}, n.waiting("q")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// faulty is an engine whose sessions fail once, with what they took.
type faulty struct{ engine.Engine }

func (f faulty) NewSession(cfg engine.SessionConfig) engine.Session {
	return &faultySession{Session: f.Engine.NewSession(cfg)}
}

type faultySession struct {
	engine.Session
	failed bool
}

var errHalf = errors.New("half of it cannot be read")

func (s *faultySession) Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
	list, err := s.Session.Take(dst, max, maxBytes)
	if len(list) > 0 && !s.failed {
		s.failed, err = true, errHalf
	}
	return list, err
}

// TestErrorBesideDeliveries: the next call tells it.
func TestErrorBesideDeliveries(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	b, err := broker.New(broker.Config{Engine: faulty{n.engine}, Clock: n.clock})
	n.must(err)
	c := b.Connect(bob)
	defer c.Close()
	s, err := c.Consume(t.Context(), "q", 5)
	n.must(err)
	batch := make([]sealmq.Delivery, 5)
	if got, err := s.Next(t.Context(), batch); got != 1 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if got, err := s.Next(t.Context(), batch); got != 0 || err != errHalf {
		t.Errorf("%d, %v", got, err)
	}
	n.stored("x", "k", "2")
	if got, err := s.Next(t.Context(), batch); got != 1 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
