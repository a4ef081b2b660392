package broker_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// foreign is another authority's alice.
var foreign = broker.Caller{Identity: sealmq.Identity{ID: "alice", Issuer: "another", CommonName: "alice", Role: sealmq.RoleClient}}

// TestOnlyOwnersChange: what belongs to one client is safe from all others, before and after a
// restart.
func TestOnlyOwnersChange(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.declareQueue(bob, "r", nil))
	attempts := func(c broker.Caller) map[string]error {
		ask := func(f func(done func(int, error))) error { _, err := wait(t, f); return err }
		return map[string]error{
			"purge":           ask(func(d func(int, error)) { n.PurgeQueue(c, "q", d) }),
			"move away":       ask(func(d func(int, error)) { n.Move(c, "q", "r", 0, d) }),
			"move in":         ask(func(d func(int, error)) { n.Move(c, "r", "q", 0, d) }),
			"move by id":      ask(func(d func(int, error)) { n.MoveMessages(c, "q", "r", []string{"1"}, d) }),
			"peek":            func() error { _, err := n.Peek(c, "q", 0, 1); return err }(),
			"bind":            n.bind(c, "q", "mine", "k"),
			"bind by a key":   n.bind(c, "q", "x", "other"),
			"unbind":          n.unbind(c, "q", "x", "k"),
			"delete exchange": n.deleteExchange(c, "x"),
			"delete":          ask(func(d func(int, error)) { n.DeleteQueue(c, "q", 0, d) }),
			"change":          n.do(func(d func(error)) { n.ChangeQueue(c, "q", sealmq.QueueOptions{MaxMessages: 1}, d) }),
			"dead letters":    n.declareQueue(c, "q.dead", &sealmq.QueueOptions{MaxMessages: 1}),
		}
	}
	for range 2 {
		for _, c := range []broker.Caller{bob, foreign} {
			for what, err := range attempts(c) {
				if sealmq.CodeOf(err) != sealmq.Denied {
					t.Errorf("%s of %s: %s: error %v, want code %s", c.ID, c.Issuer, what, err, sealmq.Denied)
				}
			}
			// As the older clients do, on each connection.
			n.must(n.declareQueue(c, "q", nil))
			n.must(n.declareExchange(c, "x", ""))
			n.must(n.bind(c, "q", "x", "k"))
			consumer := n.consumer(c, "q")
			consumer.Close(true)
		}
		n.restart()
	}
	if info, err := n.Queue(bob, "q"); err != nil || info.Owner != "alice" {
		t.Errorf("owner %q, %v", info.Owner, err)
	}
	n.must(n.bind(alice, "q", "x", "other"))
	n.must(n.unbind(alice, "q", "x", "other"))
	n.must(n.bind(bob, "r", "x", "k"))
	n.must(n.unbind(alice, "r", "x", "k")) // the exchange is hers
	n.stored("x", "k", "1")
	if purged, err := wait(t, func(d func(int, error)) { n.PurgeQueue(alice, "q", d) }); err != nil || purged != 1 {
		t.Errorf("purged %d: %v", purged, err)
	}
	n.must(n.deleteExchange(alice, "x"))
	_, err := n.deleteQueue(alice, "q")
	n.must(err)
}

// TestPrivateQueues: only the owner consumes, of the dead letters too.
func TestPrivateQueues(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", &sealmq.QueueOptions{Private: true}))
	n.must(n.declareQueue(admin, "ours", &sealmq.QueueOptions{Private: true}))
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "1")
	for _, other := range []broker.Caller{bob, foreign, admin} { // before there are dead letters
		s := n.Open(other, func() {}, nil)
		n.code(sealmq.Denied, n.do(func(done func(error)) { s.Consume("q.dead", engine.ConsumeOptions{}, done) }))
		s.Close(true)
	}
	c := n.consumer(alice, "q")
	list, err := c.Take(nil, 1, everything)
	n.must(err)
	n.must(n.do(func(done func(error)) { c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Dead}}, done) }))
	for _, other := range []broker.Caller{bob, foreign, admin} {
		for _, queue := range []string{"q", "q.dead"} {
			s := n.Open(other, func() {}, nil)
			n.code(sealmq.Denied, n.do(func(done func(error)) { s.Consume(queue, engine.ConsumeOptions{}, done) }))
			n.code(sealmq.Denied, n.do(func(done func(error)) { s.Fetch(queue, true, func(_ engine.Fetched, err error) { done(err) }) }))
			s.Close(true)
		}
	}
	s := n.Open(bob, func() {}, nil)
	n.code(sealmq.Denied, n.do(func(done func(error)) { s.Consume("ours", engine.ConsumeOptions{}, done) }))
	s.Close(true)
	n.consumer(admin, "ours").Close(true)
	n.consumer(alice, "q.dead").Close(true)
	n.holds("q.dead", "1")
	_, err = n.deleteQueue(admin, "q")
	n.must(err)
}

// TestDeadLettersArePrivateWithTheirQueue: also those of a queue that became private later.
func TestDeadLettersArePrivateWithTheirQueue(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", &sealmq.QueueOptions{Private: true}))
	n.must(n.declareQueue(alice, "q.dead", &sealmq.QueueOptions{MaxMessages: 5}))
	for _, other := range []broker.Caller{bob, foreign, admin} {
		s := n.Open(other, func() {}, nil)
		n.code(sealmq.Denied, n.do(func(done func(error)) { s.Consume("q.dead", engine.ConsumeOptions{}, done) }))
		s.Close(true)
	}
	n.consumer(alice, "q.dead").Close(true)
}

// TestDeadLetteringIsForOwners: the verdict of another client returns what it fetched. What a
// consumer was given is for it to judge.
func TestDeadLetteringIsForOwners(t *testing.T) {
	for _, tc := range []struct {
		owner, consumer broker.Caller
		fetches, dies   bool
	}{
		{alice, alice, true, true}, {alice, bob, true, false}, {alice, foreign, true, false}, {alice, admin, true, true}, {admin, bob, true, true},
		{alice, bob, false, true}, {alice, foreign, false, true},
	} {
		n := open(t)
		n.must(n.bind(tc.owner, "q", "x", "k"))
		n.stored("x", "k", "1")
		var c *broker.Consumer
		var tag sealmq.DeliveryTag
		if tc.fetches {
			c = n.Open(tc.consumer, func() {}, nil)
			tag = n.fetch(c, "q").Delivery.Tag
		} else {
			c = n.consumer(tc.consumer, "q")
			list, err := c.Take(nil, 1, everything)
			n.must(err)
			tag = list[0].Tag
		}
		err := n.do(func(done func(error)) {
			c.Settle([]engine.Settlement{{Tag: tag, Verdict: engine.Dead, Reason: "bad"}}, done)
		})
		if tc.dies {
			n.must(err)
			n.holds("q.dead", "1")
		} else {
			n.code(sealmq.Denied, err)
			n.holds("q", "1")
			if !n.audit.has(entry{tc.consumer.ID, "dead_letter", "", sealmq.Denied}) {
				t.Error("not in the audit")
			}
		}
		c.Close(true)
	}
}

// TestNobodyIsFirstWithAnothersDeadLetters: neither before the queue is there nor after.
func TestNobodyIsFirstWithAnothersDeadLetters(t *testing.T) {
	n := open(t)
	small := &sealmq.QueueOptions{MaxMessages: 1, DropOldest: true}
	for _, name := range []string{"victim.dead", "victim.dead.dead"} {
		n.code(sealmq.Denied, n.declareQueue(bob, name, small))
		n.code(sealmq.Denied, n.declareQueue(bob, name, nil))
		n.code(sealmq.Denied, n.bind(bob, name, "x", "k"))
		c := n.Open(bob, func() {}, nil)
		n.code(sealmq.Denied, n.do(func(done func(error)) { c.Consume(name, engine.ConsumeOptions{}, done) }))
		c.Close(true)
	}
	n.must(n.declareQueue(alice, "victim", nil))
	n.code(sealmq.Denied, n.declareQueue(bob, "victim.dead", small))
	n.code(sealmq.Denied, n.bind(bob, "victim.dead", "x", "k")) // which would fill it
	n.must(n.declareQueue(bob, "victim.dead", nil))             // which makes it as its owner would have it
	info, err := n.Queue(bob, "victim.dead")
	n.must(err)
	if info.Owner != "alice" || info.Options.MaxMessages != sealmq.DefaultDeadMaxMessages {
		t.Errorf("%+v", info)
	}
	// Who left its dead letters behind keeps them from the next owner of the name.
	_, err = n.deleteQueue(alice, "victim")
	n.must(err)
	n.code(sealmq.Denied, n.declareQueue(bob, "victim", nil))
	n.must(n.declareQueue(alice, "victim", nil))
}

// TestQuotas: what one client declares leaves the others their room, and what was deleted counts
// no more, before and after a restart.
func TestQuotas(t *testing.T) {
	n := open(t, func(c *broker.Config) {
		c.Limits = broker.Limits{QueuesPerIdentity: 2, ExchangesPerIdentity: 2, BindingsPerIdentity: 3}
	})
	n.must(n.bind(alice, "q1", "x1", "1"))
	n.must(n.bind(alice, "q2", "x2", "1"))
	n.must(n.bind(alice, "q2", "x2", "2"))
	for range 2 {
		n.code(sealmq.LimitReached, n.declareQueue(alice, "q3", nil))
		n.code(sealmq.LimitReached, n.declareExchange(alice, "x3", ""))
		n.code(sealmq.LimitReached, n.bind(alice, "q1", "x1", "2"))
		n.code(sealmq.LimitReached, n.bind(alice, "q3", "x3", "2"))
		c := n.Open(alice, func() {}, nil)
		n.code(sealmq.LimitReached, n.do(func(done func(error)) { c.Consume("q3", engine.ConsumeOptions{}, done) }))
		c.Close(true)
		n.must(n.bind(alice, "q1", "x1", "1"))
		for i := range 5 {
			n.must(n.bind(admin, fmt.Sprint("a", i), fmt.Sprint("y", i), "1"))
		}
		n.must(n.bind(bob, "b", "z", "1"))
		n.restart()
	}
	n.must(n.deleteExchange(alice, "x2"))
	n.must(n.bind(alice, "q1", "x3", "1"))
	n.must(n.bind(alice, "q1", "x3", "2"))
	n.code(sealmq.LimitReached, n.bind(alice, "q1", "x3", "3"))
	_, err := n.deleteQueue(alice, "q1")
	n.must(err)
	n.must(n.bind(alice, "q3", "x3", "1"))
}

// TestIDsAreOfTheirPublisher: nobody uses up another's message ids, but the proxies of a pipeline
// share theirs.
func TestIDsAreOfTheirPublisher(t *testing.T) {
	n := open(t, func(c *broker.Config) { c.PipelineQueue = "pipe" })
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(admin, "pipe", "pipe", "pipe"))
	send := func(c broker.Caller, exchange, key, body string, want engine.Outcome) {
		t.Helper()
		m := sealmq.Message{Exchange: exchange, Key: key, ID: "1", Body: []byte(body)}
		if r := n.publish(c, engine.Publish{Message: m})[0]; r.Outcome != want {
			t.Errorf("%s of %q sends %s to %s: outcome %d, error %v, want %d", c.ID, c.Issuer, body, exchange, r.Outcome, r.Err, want)
		}
	}
	proxy := func(name string) broker.Caller {
		return broker.Caller{Identity: sealmq.Identity{ID: name, Role: sealmq.RoleProxy}}
	}
	send(bob, "x", "k", "taken", engine.Stored)
	send(alice, "x", "k", "hers", engine.Stored)
	send(foreign, "x", "k", "the other's", engine.Stored)
	for range 2 {
		send(alice, "x", "k", "hers", engine.Repeated)
		send(alice, "x", "k", "changed", engine.Conflict)
		send(bob, "x", "k", "hers", engine.Conflict)
		n.restart()
	}
	if m, ok, err := n.Find(bob, "1"); err != nil || !ok || string(m.Body) != "taken" {
		t.Errorf("found %q, %v", m.Body, err)
	}
	send(proxy("one"), "pipe", "pipe", "item", engine.Stored)
	send(proxy("two"), "pipe", "pipe", "item", engine.Repeated)
	send(proxy("two"), "pipe", "pipe", "other", engine.Conflict)
}

// TestDeadLetterQueuesCountAtOnce: a queue that the engine makes for dead letters counts for the
// owner of their queue as soon as it is there, also once that queue is deleted. So nobody gets
// more queues by letting messages die. It is made beyond the quota too: letters need a place.
func TestDeadLetterQueuesCountAtOnce(t *testing.T) {
	n := open(t, func(c *broker.Config) { c.Limits = broker.Limits{QueuesPerIdentity: 3} })
	letters := 0
	dies := func(queue string) {
		t.Helper()
		letters++
		n.must(n.bind(admin, queue, "x", queue))
		n.stored("x", queue, strconv.Itoa(letters))
		c := n.consumer(alice, queue)
		d := n.fetch(c, queue).Delivery
		n.must(n.do(func(done func(error)) {
			c.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Dead}}, done)
		}))
		c.Close(true)
	}
	n.must(n.declareQueue(alice, "a", nil))
	before := n.Counts().Queues
	dies("a")
	if got := n.Counts().Queues; got != before+1 {
		t.Errorf("%d queues count after the first dead letter, want %d", got, before+1)
	}
	n.must(n.declareQueue(alice, "b", nil))
	n.code(sealmq.LimitReached, n.declareQueue(alice, "c", nil))
	dies("b")
	dies("b") // which needs no other queue
	_, err := n.deleteQueue(alice, "a")
	n.must(err)
	for range 2 {
		n.code(sealmq.LimitReached, n.declareQueue(alice, "c", nil))
		n.must(n.declareQueue(bob, "of-bob", nil))
		n.restart()
	}
	_, err = n.deleteQueue(alice, "a.dead")
	n.must(err)
	n.must(n.declareQueue(alice, "c", nil))
	n.code(sealmq.LimitReached, n.declareQueue(alice, "d", nil))
}
