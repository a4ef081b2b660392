package broker_test

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = broker.Caller{Identity: sealmq.Identity{ID: "alice", CommonName: "alice", Role: sealmq.RoleClient}}
	bob   = broker.Caller{Identity: sealmq.Identity{ID: "bob", CommonName: "bob", Role: sealmq.RoleClient}}
	admin = broker.Caller{Identity: sealmq.Identity{ID: "admin", CommonName: "admin", Role: sealmq.RoleAdmin}}
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 8_900_000, time.UTC)

const everything = 1 << 30

// node is a broker over a model engine.
type node struct {
	testing.TB
	*broker.Broker
	disk   *enginetest.Disk
	engine engine.Engine
	clock  *fakeclock.Clock
	audit  *trail
	cfg    broker.Config
}

// trail is what an audit was told.
type trail struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	identity, command, object string
	code                      sealmq.Code
}

func (l *trail) Write(r audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{r.Identity.ID, r.Command, r.Object, sealmq.CodeOf(r.Outcome)})
}

func (l *trail) has(e entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.entries, e)
}

func open(t testing.TB, change ...func(*broker.Config)) *node {
	t.Helper()
	n := &node{TB: t, disk: enginetest.NewDisk(), clock: fakeclock.New(start), audit: &trail{}}
	n.cfg = broker.Config{
		Clock: n.clock,
		Audit: n.audit,
		Log:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&n.cfg)
	}
	n.start()
	t.Cleanup(func() { n.Broker.Close(); n.engine.Close() })
	return n
}

// start opens the engine, unless the test has set one, and the broker on it.
func (n *node) start() {
	n.Helper()
	n.engine = n.cfg.Engine
	if n.engine == nil {
		n.engine = n.disk.Open(n, enginetest.Config{Clock: n.clock})
	}
	cfg := n.cfg
	cfg.Engine = n.engine
	cfg.Metrics = broker.NewMetrics()
	b, err := broker.New(cfg)
	if err != nil {
		n.Fatal(err)
	}
	n.Broker = b
}

// restart closes broker and engine and opens them again.
func (n *node) restart() {
	n.Helper()
	n.Broker.Close()
	if err := n.engine.Close(); err != nil {
		n.Fatal(err)
	}
	n.start()
}

// wait makes a call and waits for its answer.
func wait[T any](t testing.TB, call func(done func(T, error))) (T, error) {
	t.Helper()
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 2)
	call(func(v T, err error) { ch <- answer{v, err} })
	select {
	case a := <-ch:
		return a.v, a.err
	case <-time.After(time.Minute):
		t.Fatal("no answer")
		panic("unreachable")
	}
}

func (n *node) do(call func(done func(error))) error {
	n.Helper()
	_, err := wait(n, func(done func(struct{}, error)) { call(func(err error) { done(struct{}{}, err) }) })
	return err
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

func (n *node) code(want sealmq.Code, err error) {
	n.Helper()
	if sealmq.CodeOf(err) != want || err == nil {
		n.Errorf("error %v, want code %s", err, want)
	}
}

func (n *node) declareExchange(id broker.Caller, name string, kind broker.ExchangeKind) error {
	n.Helper()
	return n.do(func(done func(error)) { n.DeclareExchange(id, name, kind, done) })
}

func (n *node) deleteExchange(id broker.Caller, name string) error {
	n.Helper()
	return n.do(func(done func(error)) { n.DeleteExchange(id, name, done) })
}

func (n *node) declareQueue(id broker.Caller, name string, o *sealmq.QueueOptions) error {
	n.Helper()
	return n.do(func(done func(error)) { n.DeclareQueue(id, name, o, done) })
}

func (n *node) deleteQueue(id broker.Caller, name string) (int, error) {
	n.Helper()
	return wait(n, func(done func(int, error)) { n.DeleteQueue(id, name, 0, done) })
}

func (n *node) bind(id broker.Caller, queue, exchange, key string) error {
	n.Helper()
	return n.do(func(done func(error)) { n.Bind(id, queue, exchange, key, done) })
}

func (n *node) unbind(id broker.Caller, queue, exchange, key string) error {
	n.Helper()
	return n.do(func(done func(error)) { n.Unbind(id, queue, exchange, key, done) })
}

func (n *node) putKey(id broker.Caller, client string, key []byte) (bool, error) {
	n.Helper()
	return wait(n, func(done func(bool, error)) { n.Keys().PutKey(id.Identity, client, key, done) })
}

func (n *node) publish(id broker.Caller, batch ...engine.Publish) []engine.PublishResult {
	n.Helper()
	results, _ := wait(n, func(done func([]engine.PublishResult, error)) {
		n.Publish(id, batch, func(r []engine.PublishResult) { done(slices.Clone(r), nil) })
	})
	if len(results) != len(batch) {
		n.Fatalf("%d results for %d messages", len(results), len(batch))
	}
	return results
}

// one publishes one message with its id as its body.
func (n *node) one(exchange, key, messageID string) engine.PublishResult {
	n.Helper()
	return n.publish(alice, engine.Publish{Message: sealmq.Message{Exchange: exchange, Key: key, ID: messageID, Body: []byte(messageID)}})[0]
}

func (n *node) stored(exchange, key, messageID string) {
	n.Helper()
	if r := n.one(exchange, key, messageID); r.Outcome != engine.Stored {
		n.Fatalf("publish %s to %s with %s: outcome %d, error %v", messageID, exchange, key, r.Outcome, r.Err)
	}
}

func (n *node) refused(want error, r engine.PublishResult) {
	n.Helper()
	if r.Outcome != refusal(r.Err) || !errors.Is(r.Err, want) {
		n.Errorf("outcome %d, error %v, want a refusal like %v", r.Outcome, r.Err, want)
	}
}

// refusal is the outcome that an error comes with.
func refusal(err error) engine.Outcome {
	if errors.Is(err, sealmq.ErrUnroutable) {
		return engine.Unrouted
	}
	return engine.Refused
}

// queues lists what the caller may see.
func (n *node) queues(c broker.Caller) (list []engine.QueueInfo) {
	n.Helper()
	queues, err := n.Queues(c)
	n.must(err)
	for q := range queues {
		list = append(list, *q)
	}
	return list
}

// waiting is the ids that wait in a queue, in order.
func (n *node) waiting(queue string) []string {
	n.Helper()
	list, err := n.Peek(admin, queue, 0, sealmq.MaxPeek)
	n.must(err)
	var ids []string
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

func (n *node) holds(queue string, want ...string) {
	n.Helper()
	if got := n.waiting(queue); !slices.Equal(got, want) {
		n.Errorf("queue %s holds %v, want %v", queue, got, want)
	}
}
