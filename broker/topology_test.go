package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

func TestDeclareExchange(t *testing.T) {
	n := open(t)
	for _, tc := range []struct {
		name, exchange string
		kind           broker.ExchangeKind
		code           sealmq.Code
	}{
		{"new", "x", broker.Topic, ""},
		{"again", "x", broker.Topic, ""},
		{"bare matches", "x", "", ""},
		{"another kind", "x", broker.Direct, sealmq.Mismatch},
		{"bare is direct", "y", "", ""},
		{"so this is again", "y", broker.Direct, ""},
		{"and this is not", "y", broker.Fanout, sealmq.Mismatch},
		{"no kind", "z", "headers", sealmq.BadArgument},
		{"no name", "", "", sealmq.BadName},
		{"bad name", "a b", "", sealmq.BadName},
	} {
		if err := n.declareExchange(alice, tc.exchange, tc.kind); sealmq.CodeOf(err) != tc.code || (err == nil) != (tc.code == "") {
			t.Errorf("%s: error %v, want code %q", tc.name, err, tc.code)
		}
	}
	want := []sealmq.ExchangeInfo{{Name: "x", Owner: "alice", Kind: "topic"}, {Name: "y", Owner: "alice", Kind: "direct"}}
	if diff := cmp.Diff(want, n.Exchanges(alice)); diff != "" {
		t.Errorf("exchanges (-want +got):\n%s", diff)
	}
}

func TestDeclareQueue(t *testing.T) {
	n := open(t)
	o := &sealmq.QueueOptions{MaxMessages: 5}
	n.must(n.declareQueue(alice, "q", o))
	n.must(n.declareQueue(bob, "q", o))
	n.must(n.declareQueue(bob, "q", nil))
	n.code(sealmq.Mismatch, n.declareQueue(bob, "q", &sealmq.QueueOptions{}))
	n.code(sealmq.BadArgument, n.declareQueue(bob, "r", &sealmq.QueueOptions{Prefetch: -1}))
	n.code(sealmq.BadName, n.declareQueue(bob, "a\tb", nil))
	info, err := n.Queue(bob, "q")
	n.must(err)
	if info.Options.MaxMessages != 5 {
		t.Errorf("options %+v", info.Options)
	}
	if _, err := n.Queue(bob, "r"); !errors.Is(err, sealmq.ErrNoQueue) {
		t.Errorf("describe a queue that is not there: %v", err)
	}
}

func TestDeadLetterQueueIsBoundedForEveryDeclarer(t *testing.T) {
	n := open(t)
	for _, name := range []string{"q", "r", "s", "t"} {
		n.must(n.declareQueue(alice, name, &sealmq.QueueOptions{MaxLineBytes: 1 << 20, Private: true}))
	}
	n.must(n.declareQueue(bob, "q.dead", nil))
	c := n.Open(alice, func() {}, nil)
	defer c.Close(true)
	n.must(n.do(func(done func(error)) { c.Consume("r.dead", engine.ConsumeOptions{}, done) }))
	n.must(n.bind(alice, "s.dead", "x", "k"))
	for _, name := range []string{"q.dead", "r.dead", "s.dead"} {
		info, err := n.Queue(alice, name)
		n.must(err)
		want := sealmq.DeadLetterOptions(sealmq.QueueOptions{MaxLineBytes: 1 << 20, Private: true, Owner: alice.Owner()})
		if diff := cmp.Diff(want, info.Options); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	n.must(n.declareQueue(alice, "t.dead", &sealmq.QueueOptions{}))
	if info, _ := n.Queue(alice, "t.dead"); info.Options.MaxMessages != 0 {
		t.Errorf("options that were asked for became %+v", info.Options)
	}
}

func TestDeadLetterQueueOfTheLongestNameCanBeUsed(t *testing.T) {
	n := open(t)
	name := fmt.Sprintf("%0255d", 1)
	n.must(n.declareQueue(alice, name, nil))
	n.must(n.declareQueue(alice, name+sealmq.DeadSuffix, nil))
	n.code(sealmq.BadName, n.declareQueue(alice, name+"0", nil))
	n.code(sealmq.BadName, n.declareQueue(alice, sealmq.DeadSuffix, nil))
}

func TestBindCreatesWhatIsMissing(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	n.holds("q", "1")
	if diff := cmp.Diff([]sealmq.ExchangeInfo{{Name: "x", Owner: "alice", Kind: "direct", Bindings: 1}}, n.Exchanges(alice)); diff != "" {
		t.Errorf("exchanges (-want +got):\n%s", diff)
	}
}

func TestBindIsIdempotent(t *testing.T) {
	n := open(t)
	for range 3 {
		n.must(n.bind(alice, "q", "x", "k"))
		n.must(n.bind(bob, "q", "x", "k")) // which is what it wants, although another did it
		n.must(n.bind(admin, "q", "x", "l"))
	}
	n.stored("x", "k", "1")
	n.holds("q", "1")
	want := []broker.Binding{{Queue: "q", Exchange: "x", Key: "k"}, {Queue: "q", Exchange: "x", Key: "l"}}
	if diff := cmp.Diff(want, n.Bound(alice)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	if got := n.Counts(); got != (broker.Counts{Exchanges: 1, Bindings: 2, Queues: 1}) {
		t.Errorf("counts %+v", got)
	}
}

func TestBindRefuses(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "t", broker.Topic))
	for _, b := range [][3]string{{"", "x", "k"}, {"q", "", "k"}, {"q", "x", ""}, {"a b", "x", "k"}, {"q", "a\nb", "k"}, {"q", "x", "a b"}} {
		n.code(sealmq.BadName, n.bind(alice, b[0], b[1], b[2]))
	}
	many := "#"
	for range 16 {
		many += ".a.#"
	}
	n.code(sealmq.BadArgument, n.bind(alice, "q", "t", many))
	if got := n.Counts(); got != (broker.Counts{Exchanges: 1}) {
		t.Errorf("something was created: %+v", got)
	}
}

func TestUnbind(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "q", "x", "l"))
	for range 2 {
		n.must(n.unbind(alice, "q", "x", "k"))
	}
	n.refused(sealmq.ErrUnroutable, n.one("x", "k", "1"))
	n.stored("x", "l", "2")
	n.code(sealmq.NoExchange, n.unbind(alice, "q", "none", "k"))
	n.code(sealmq.NoQueue, n.unbind(alice, "none", "x", "k"))
	n.restart()
	n.refused(sealmq.ErrUnroutable, n.one("x", "k", "3"))
	n.stored("x", "l", "4")
}

func TestDeleteExchange(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "q", "x", "l"))
	n.must(n.bind(alice, "q", "y", "k"))
	n.must(n.deleteExchange(admin, "x"))
	n.code(sealmq.NoExchange, n.deleteExchange(admin, "x"))
	for range 2 {
		n.refused(sealmq.ErrNoExchange, n.one("x", "k", "1"))
		if diff := cmp.Diff([]broker.Binding{{Queue: "q", Exchange: "y", Key: "k"}}, n.Bound(alice)); diff != "" {
			t.Errorf("bindings (-want +got):\n%s", diff)
		}
		n.restart()
	}
	n.must(n.declareExchange(alice, "x", broker.Fanout))
	n.refused(sealmq.ErrUnroutable, n.one("x", "k", "1"))
}

func TestDeleteQueue(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "r", "x", "k"))
	n.must(n.bind(alice, "q", "y", "k"))
	n.stored("x", "k", "1")
	if removed, err := n.deleteQueue(admin, "q"); removed != 1 || err != nil {
		t.Errorf("removed %d, error %v", removed, err)
	}
	_, err := n.deleteQueue(admin, "q")
	n.code(sealmq.NoQueue, err)
	for range 2 {
		if diff := cmp.Diff([]broker.Binding{{Queue: "r", Exchange: "x", Key: "k"}}, n.Bound(alice)); diff != "" {
			t.Errorf("bindings (-want +got):\n%s", diff)
		}
		n.restart()
	}
	n.stored("x", "k", "2")
	n.refused(sealmq.ErrUnroutable, n.one("y", "k", "3"))
	n.must(n.declareQueue(alice, "q", nil))
	n.stored("x", "k", "4")
	n.holds("q")
	n.holds("r", "1", "2", "4")
}

func TestTopologySurvivesARestart(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "d/1", broker.Direct))
	n.must(n.declareExchange(alice, "f", broker.Fanout))
	n.must(n.declareExchange(alice, "t", broker.Topic))
	n.must(n.bind(alice, "q/é", "d/1", "k/1"))
	n.must(n.bind(alice, "q/é", "f", "k"))
	n.must(n.bind(alice, "r", "f", "k"))
	n.must(n.bind(alice, "r", "t", "*.#.x"))
	exchanges, bindings, counts := n.Exchanges(admin), n.Bound(admin), n.Counts()
	n.restart()
	if diff := cmp.Diff(exchanges, n.Exchanges(admin)); diff != "" {
		t.Errorf("exchanges (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(bindings, n.Bound(admin)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(counts, n.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	n.stored("d/1", "k/1", "1")
	n.stored("f", "z", "2")
	n.stored("t", "a.b.x", "3")
	n.holds("q/é", "1", "2")
	n.holds("r", "2", "3")
}

func TestLimits(t *testing.T) {
	n := open(t, func(c *broker.Config) {
		c.Limits = broker.Limits{Exchanges: 2, Bindings: 3, Queues: 2, Keys: 1}
	})
	n.must(n.bind(alice, "q", "x", "1"))
	n.must(n.bind(alice, "r", "y", "1"))
	n.code(sealmq.LimitReached, n.declareQueue(alice, "s", nil))
	n.code(sealmq.LimitReached, n.declareExchange(alice, "z", ""))
	n.code(sealmq.LimitReached, n.bind(alice, "s", "x", "1"))
	n.code(sealmq.LimitReached, n.bind(alice, "q", "z", "1"))
	c := n.Open(alice, func() {}, nil)
	defer c.Close(true)
	n.code(sealmq.LimitReached, n.do(func(done func(error)) { c.Consume("s", engine.ConsumeOptions{}, done) }))
	n.must(n.bind(alice, "q", "x", "2"))
	n.code(sealmq.LimitReached, n.bind(alice, "q", "x", "3"))
	n.must(n.bind(alice, "q", "x", "2")) // what is there is no matter of limits
	n.must(n.declareQueue(alice, "q", nil))
	n.must(n.declareExchange(alice, "x", ""))
	n.restart()
	n.code(sealmq.LimitReached, n.declareQueue(alice, "s", nil))
	n.code(sealmq.LimitReached, n.bind(alice, "q", "x", "3"))

	_, err := n.deleteQueue(admin, "q")
	n.must(err)
	n.must(n.deleteExchange(admin, "x"))
	n.must(n.bind(alice, "s", "z", "3"))
	n.must(n.bind(alice, "s", "z", "4"))
	n.code(sealmq.LimitReached, n.bind(alice, "s", "z", "5"))
}

func TestListsHideReservedNames(t *testing.T) {
	n := open(t)
	n.must(n.bind(admin, "sealmq.q", "x", "k"))
	n.must(n.bind(admin, "q", "sealmq.x", "k"))
	n.must(n.bind(admin, "q", "x", "k"))
	if diff := cmp.Diff([]broker.Binding{{Queue: "q", Exchange: "x", Key: "k"}}, n.Bound(alice)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	if got := n.Exchanges(alice); len(got) != 1 || got[0].Name != "x" {
		t.Errorf("exchanges %v", got)
	}
	if got := n.queues(alice); len(got) != 1 || got[0].Name != "q" {
		t.Errorf("queues %v", got)
	}
	_, err := n.Queue(alice, "sealmq.q")
	n.code(sealmq.Denied, err)
	if len(n.Bound(admin)) != 3 || len(n.Exchanges(admin)) != 2 || len(n.queues(admin)) != 2 {
		t.Error("the administrator does not see everything")
	}
}

func TestNothingIsAnsweredBeforeItIsStored(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", nil))
	release := n.disk.Hold(t)
	answers := make(chan string, 20)
	answer := func(name string) func(error) {
		return func(err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			answers <- name
		}
	}
	n.DeclareExchange(alice, "x", broker.Fanout, answer("declare exchange"))
	n.DeclareExchange(bob, "x", "", answer("declare exchange again"))
	n.Bind(alice, "q", "x", "k", answer("bind"))
	n.Bind(bob, "q", "x", "k", answer("bind again"))
	n.Bind(alice, "new", "y", "k", answer("bind new parts"))
	n.Keys().PutKey(alice.Identity, "alice", bareKey(9), func(_ bool, err error) { answer("put key")(err) })
	n.Keys().PutKey(alice.Identity, "alice", bareKey(9), func(_ bool, err error) { answer("put key again")(err) })
	n.Unbind(alice, "new", "y", "k", answer("unbind"))
	n.DeleteQueue(admin, "new", 0, func(_ int, err error) { answer("delete queue")(err) })
	n.DeleteExchange(admin, "y", answer("delete exchange"))
	const calls = 10
	if len(answers) > 0 {
		t.Fatalf("answered before the sync: %s", <-answers)
	}
	release()
	for range calls {
		<-answers
	}
	if len(answers) > 0 {
		t.Errorf("answered twice: %s", <-answers)
	}
}

func TestClosed(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	c := n.Open(alice, func() {}, nil)
	defer c.Close(true)
	for range 2 {
		n.must(n.Broker.Close())
	}
	n.code(sealmq.Unavailable, n.bind(alice, "q", "x", "l"))
	n.code(sealmq.Unavailable, n.declareQueue(alice, "r", nil))
	n.code(sealmq.Unavailable, n.declareExchange(alice, "y", ""))
	n.code(sealmq.Unavailable, n.do(func(done func(error)) { c.Consume("q", engine.ConsumeOptions{}, done) }))
	n.code(sealmq.Unavailable, n.RequireAdmin(admin, "reset_stats"))
	n.code(sealmq.Unavailable, n.Health())
	_, err := n.putKey(alice, "alice", bareKey(9))
	n.code(sealmq.Unavailable, err)
	n.refused(sealmq.ErrUnavailable, n.one("x", "k", "1"))
}

func TestExchangesOfAllKindsAreListed(t *testing.T) {
	n := open(t)
	for _, k := range []broker.ExchangeKind{broker.Topic, broker.Fanout, broker.Direct} {
		n.must(n.declareExchange(alice, "x-"+string(k), k))
	}
	want := []sealmq.ExchangeInfo{
		{Name: "x-direct", Owner: "alice", Kind: "direct"}, {Name: "x-fanout", Owner: "alice", Kind: "fanout"}, {Name: "x-topic", Owner: "alice", Kind: "topic"}}
	if diff := cmp.Diff(want, n.Exchanges(bob), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
