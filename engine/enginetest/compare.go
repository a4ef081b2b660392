package enginetest

import (
	stdcmp "cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

// Compare performs random operations on two engines and compares every answer, every
// delivery and every description; one of the two is mostly NewModelOpener's. Both need
// all abilities. Time and restarts are among the operations; crashes too, if both
// openers are Crashers. A failure is reduced to a short one and printed with the flags
// that replay it; -rapid.checks says how many sequences are tried, -rapid.seed begins
// with a given one.
//
// Operations are called one after the other, each awaited before the next. What the
// contract leaves open is not compared.
func Compare(t *testing.T, newA, newB func(tb testing.TB) Opener) {
	compare(t, patience, newA, newB)
}

func compare(t testing.TB, patience time.Duration, newA, newB func(tb testing.TB) Opener) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair(t, rt, patience, newA(t), newB(t))
		defer p.close()
		if a, b := p.engines[0].Abilities(), p.engines[1].Abilities(); !a.StrictRedelivery || !b.StrictRedelivery {
			t.Skip("what comes back may take any place")
		}
		for _, op := range opening {
			op.run(p)
		}
		for range steps {
			op := rapid.SampledFrom(operations).Draw(rt, "operation")
			op.run(p)
			p.same(op.name)
		}
	})
}

// steps is the number of operations of one sequence. It is fixed: a short one is a long
// one of which most operations do nothing.
const steps = 100

// pair is two engines that get the same operations.
type pair struct {
	*rapid.T
	tb       testing.TB
	patience time.Duration
	clock    *fakeclock.Clock
	openers  [2]Opener
	engines  [2]engine.Engine

	sessions   []*twin
	deliveries []handed // all that were ever made
	delayed    bool     // a delay was asked for since the last restart
}

// twin is one session on each engine.
type twin struct {
	sessions [2]engine.Session
	subs     map[string][2]sealmq.SubscriptionID // by queue; a session that fetches has none
	fetches  bool
	sets     bool // uses SetPrefetch
	shares   bool // uses SetCredit, and so has at most one subscription
	noAck    bool
}

// handed is one delivery of each engine.
type handed struct {
	to   *twin
	tags [2]sealmq.DeliveryTag
}

func newPair(tb testing.TB, rt *rapid.T, patience time.Duration, a, b Opener) *pair {
	p := &pair{T: rt, tb: tb, patience: patience, clock: fakeclock.New(start), openers: [2]Opener{a, b}}
	p.open()
	return p
}

func (p *pair) open() {
	p.deliveries = nil // nobody can settle them any more
	for i, o := range p.openers {
		p.engines[i] = o.Open(p.tb, Config{Clock: p.clock, DedupWindow: 1000 * time.Hour})
	}
}

func (p *pair) close() {
	for _, e := range p.engines {
		if err := e.Close(); err != nil {
			p.tb.Errorf("close: %v", err)
		}
	}
}

// reply is what a call was answered with, as far as it is compared.
type reply struct {
	Value any
	Code  sealmq.Code
}

// call makes one call on both engines and compares the replies.
func (p *pair) call(what string, f func(i int, e engine.Engine, done func(any, error))) reply {
	var replies [2]reply
	for i, e := range p.engines {
		answered := make(chan reply, 2)
		f(i, e, func(v any, err error) { answered <- reply{v, sealmq.CodeOf(err)} })
		select {
		case replies[i] = <-answered:
		case <-time.After(p.patience):
			p.Fatalf("%s: engine %d did not answer", what, i)
		}
	}
	if diff := difference(replies[0], replies[1]); diff != "" {
		p.Fatalf("%s (-first +second engine):\n%s", what, diff)
	}
	return replies[0]
}

func (p *pair) simple(what string, f func(i int, e engine.Engine, done func(error))) {
	p.call(what, func(i int, e engine.Engine, done func(any, error)) {
		f(i, e, func(err error) { done(nil, err) })
	})
}

// barrier returns when everything that was called is on stable storage.
func (p *pair) barrier() {
	p.simple("barrier", func(_ int, e engine.Engine, done func(error)) {
		e.Define([]engine.Definition{definition("barrier", "1")}, done)
	})
}

// eventually compares what two engines show, and gives them time to get there: what no
// done function announces may take a moment.
func (p *pair) eventually(what string, show func(i int) any) {
	deadline := time.Now().Add(p.patience)
	for {
		diff := difference(show(0), show(1))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("%s (-first +second engine):\n%s", what, diff)
		}
		<-time.After(time.Millisecond)
	}
}

// difference is a Diff that is quick where there is none. It is a Diff's to say what is
// equal: two times of the same moment are.
func difference(a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return cmp.Diff(a, b, cmpopts.EquateEmpty())
}

// same compares everything that can be seen from outside.
func (p *pair) same(after string) {
	p.barrier()
	p.eventually("queues after "+after, func(i int) any { return visible(p.T, p.engines[i]) })
	p.eventually("definitions after "+after, func(i int) any { return p.engines[i].Definitions() })
	for n, s := range p.sessions {
		p.eventually(fmt.Sprintf("unacked of session %d after %s", n, after), func(i int) any { return s.sessions[i].Unacked() })
	}
}

// visible leaves out what the contract leaves open: at which of several queues a
// refusal counts, whether a return that ends in death is one, and how and when a message
// gets into a dead-letter queue.
func visible(tb rapid.TB, e engine.Engine) []engine.QueueInfo {
	list, err := e.Queues()
	if err != nil {
		tb.Fatalf("queues: %v", err)
	}
	for i := range list {
		list[i].Refused, list[i].Returned, list[i].Published = 0, 0, 0
		if isDead(list[i].Name) {
			list[i].Oldest = time.Time{}
		}
	}
	return list
}

// compareDeliveries compares what both engines handed out, queue by queue, and
// remembers the tags.
func (p *pair) compareDeliveries(what string, to *twin, a, b []sealmq.Delivery) {
	a, b = inOrder(a), inOrder(b)
	if diff := cmp.Diff(a, b, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(sealmq.Delivery{}, "Tag", "Subscription")); diff != "" {
		p.Fatalf("%s (-first +second engine):\n%s", what, diff)
	}
	for i := range a {
		p.deliveries = append(p.deliveries, handed{to, [2]sealmq.DeliveryTag{a[i].Tag, b[i].Tag}})
	}
}

// inOrder returns a copy in which the order says no more than the contract, which leaves
// open the order of different queues and of messages that died at the same moment.
func inOrder(list []sealmq.Delivery) []sealmq.Delivery {
	list = append([]sealmq.Delivery{}, list...)
	slices.SortStableFunc(list, func(x, y sealmq.Delivery) int {
		if c := strings.Compare(x.Queue, y.Queue); c != 0 || !isDead(x.Queue) {
			return c
		}
		return stdcmp.Or(strings.Compare(x.ID, y.ID), strings.Compare(x.Exchange, y.Exchange),
			len(x.Body)-len(y.Body), strings.Compare(x.DeathReason, y.DeathReason),
			strings.Compare(x.DeathQueue, y.DeathQueue), int(x.Attempt)-int(y.Attempt), x.Published.Compare(y.Published))
	})
	return list
}

func isDead(queue string) bool { return strings.HasSuffix(queue, sealmq.DeadSuffix) }
