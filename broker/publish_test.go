package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

func TestPublishRoutesByKind(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "d", broker.Direct))
	n.must(n.declareExchange(alice, "f", broker.Fanout))
	n.must(n.declareExchange(alice, "t", broker.Topic))
	for _, b := range [][3]string{
		{"q1", "d", "k"}, {"q2", "d", "k"}, {"q3", "d", "K"},
		{"q1", "f", "k"}, {"q1", "f", "l"}, {"q3", "f", "m"},
		{"q1", "t", "a.#"}, {"q1", "t", "*.b"}, {"q2", "t", "a.*"}, {"q3", "t", "x"},
	} {
		n.must(n.bind(alice, b[0], b[1], b[2]))
	}
	n.stored("d", "k", "1")
	n.stored("d", "K", "2")
	n.stored("f", "anything", "3")
	n.stored("t", "a.b", "4") // q1 matches twice and gets one copy
	n.stored("t", "a", "5")
	n.stored("t", "z.b", "6")
	n.stored("t", "a.b", "7")
	n.holds("q1", "1", "3", "4", "5", "6", "7")
	n.holds("q2", "1", "4", "7")
	n.holds("q3", "2", "3")
}

func TestPublishRefusals(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "empty", ""))
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.declareExchange(admin, "sealmq.internal", ""))
	n.must(n.declareExchange(alice, "t", broker.Topic))
	long := strings.Repeat("x", 256)
	for _, tc := range []struct {
		name          string
		exchange, key string
		id            string
		code          sealmq.Code
		text          string
	}{
		{"never declared", "none", "k", "1", sealmq.NoExchange, "Exchange 'none' not found"},
		{"nothing bound", "empty", "k", "1", sealmq.Unroutable, "No queues bound to exchange 'empty' with routing key 'k'"},
		{"other key", "x", "l", "1", sealmq.Unroutable, "No queues bound to exchange 'x' with routing key 'l'"},
		{"no pattern matches", "t", "k", "1", sealmq.Unroutable, "No queues bound to exchange 't' with routing key 'k'"},
		{"reserved", "sealmq.internal", "k", "1", sealmq.Denied, "not allowed to publish to 'sealmq.internal'"},
		{"reserved and missing", "sealmq.none", "k", "1", sealmq.Denied, "not allowed to publish to 'sealmq.none'"},
		{"bad exchange", "a\nb", "k", "1", sealmq.BadName, "exchange contains white space or a control character"},
		{"no exchange", "", "k", "1", sealmq.BadName, "exchange is empty"},
		{"bad key", "x", "a b", "1", sealmq.BadName, "routing key contains white space or a control character"},
		{"no key", "x", "", "1", sealmq.BadName, "routing key is empty"},
		{"bad key of a topic", "t", "a\x00", "1", sealmq.BadName, "routing key contains white space or a control character"},
		{"bad id", "x", "k", "a\nACK b", sealmq.BadName, "message id contains white space or a control character"},
		{"long id", "x", "k", long, sealmq.BadName, "message id is longer than 255 bytes"},
		{"long key", "t", long, "1", sealmq.BadName, "routing key is longer than 255 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := n.one(tc.exchange, tc.key, tc.id)
			if r.Outcome != refusal(r.Err) || sealmq.CodeOf(r.Err) != tc.code || r.Err.Error() != tc.text {
				t.Errorf("outcome %d, error %v with code %q\nwant %q with code %q", r.Outcome, r.Err, sealmq.CodeOf(r.Err), tc.text, tc.code)
			}
		})
	}
	n.holds("q")
}

func TestPublishAnswersEachOfABatchInItsPlace(t *testing.T) {
	n := open(t)
	n.must(n.declareQueue(alice, "q", &sealmq.QueueOptions{MaxMessages: 3}))
	n.must(n.bind(alice, "q", "x", "k"))
	p := func(exchange, id, body string) engine.Publish {
		return engine.Publish{Message: sealmq.Message{Exchange: exchange, Key: "k", ID: id, Body: []byte(body)}}
	}
	results := n.publish(alice, p("none", "0", ""), p("x", "1", ""), p("x", "bad id", ""), p("x", "1", ""),
		p("x", "1", "other"), p("x", "2", ""), p("none", "3", ""), p("x", "4", ""), p("x", "5", ""), p("none", "6", ""))
	type answer struct {
		Outcome engine.Outcome
		Code    sealmq.Code
		Queue   string
	}
	var got []answer
	for _, r := range results {
		got = append(got, answer{r.Outcome, sealmq.CodeOf(r.Err), r.Queue})
	}
	want := []answer{
		{engine.Refused, sealmq.NoExchange, ""}, {engine.Stored, "", ""}, {engine.Refused, sealmq.BadName, ""},
		{engine.Repeated, "", ""}, {engine.Conflict, sealmq.Duplicate, ""}, {engine.Stored, "", ""},
		{engine.Refused, sealmq.NoExchange, ""}, {engine.Stored, "", ""}, {engine.Refused, sealmq.QueueFull, "q"},
		{engine.Refused, sealmq.NoExchange, ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	n.holds("q", "1", "2", "4")
	if got := n.publish(alice); len(got) != 0 {
		t.Errorf("%d results for no message", len(got))
	}
}

func TestPublishKeepsNothingOfTheCallersBuffer(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "t", broker.Topic))
	n.must(n.bind(alice, "q", "t", "a.#"))
	buffer := []byte("t a.b id-1 body")
	part := func(from, to int) string { return unsafe.String(&buffer[from], to-from) }
	done := make(chan engine.PublishResult, 1)
	n.Publish(alice, []engine.Publish{{Message: sealmq.Message{
		Exchange: part(0, 1), Key: part(2, 5), ID: part(6, 10), Body: buffer[11:], Properties: buffer[:1],
	}}}, func(results []engine.PublishResult) { done <- results[0] })
	copy(buffer, "################")
	if r := <-done; r.Outcome != engine.Stored {
		t.Fatalf("outcome %d, error %v", r.Outcome, r.Err)
	}
	list, err := n.Peek(admin, "q", 0, 1)
	n.must(err)
	want := sealmq.Message{ID: "id-1", Publisher: "alice", Exchange: "t", Key: "a.b",
		Published: start.Truncate(time.Millisecond), Properties: []byte("t"), Body: []byte("body")}
	if diff := cmp.Diff(want, list[0].Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	n.stored("t", "a.b", "id-2") // the cached route is for this key, not for the buffer
}

// TestDeletedQueueHurtsNoPublisher deletes one of two queues of a fanout again and again.
// Publishers must never be told that it is gone.
func TestDeletedQueueHurtsNoPublisher(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "f", broker.Fanout))
	n.must(n.bind(alice, "stays", "f", "k"))
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for p := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", p, i)
				n.Publish(alice, []engine.Publish{{Message: sealmq.Message{Exchange: "f", Key: "k", ID: id}}}, func(r []engine.PublishResult) {
					if r[0].Outcome != engine.Stored {
						t.Errorf("%s: outcome %d, error %v", id, r[0].Outcome, r[0].Err)
					}
				})
				if i%50 == 49 {
					n.engine.PurgeQueue("stays", func(int, error) {})
				}
			}
		})
	}
	for range 50 {
		n.must(n.bind(alice, "goes", "f", "k"))
		if _, err := n.deleteQueue(admin, "goes"); err != nil {
			t.Error(err)
		}
	}
	close(quit)
	wg.Wait()
}

// choosy is an engine that stops before some messages, by their id, although it has their
// queues, and answers all calls at the end, the last one first.
type choosy struct {
	engine.Engine
	stops   map[string]int // how often
	answers []func()
}

func (e *choosy) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	n := 0
	for n < len(batch) && (len(batch[n].Queues) == 0 || e.stops[batch[n].Message.ID] == 0) {
		n++
	}
	if n < len(batch) {
		e.stops[batch[n].Message.ID]--
	}
	return e.Engine.Publish(batch[:n], func(results []engine.PublishResult) {
		results = slices.Clone(results)
		e.answers = append(e.answers, func() { done(results) })
	})
}

func (e *choosy) answer() {
	slices.Reverse(e.answers)
	for _, f := range e.answers {
		f()
	}
	e.answers = nil
}

// TestMessagesAreRoutedAgain: what is behind a message that is routed again waits for it.
// A message that never finds its queues holds up nobody for ever.
func TestMessagesAreRoutedAgain(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	e := &choosy{Engine: n.engine, stops: map[string]int{"2": 1, "4": 3, "5": 1000}}
	b, err := broker.New(broker.Config{Engine: e, Clock: n.clock})
	n.must(err)
	var batch []engine.Publish
	for i, exchange := range []string{"x", "none", "x", "x", "x", "x", "none", "x", "x"} {
		batch = append(batch, engine.Publish{Message: sealmq.Message{Exchange: exchange, Key: "k", ID: fmt.Sprint(i)}})
	}
	batch[8].Message.Key = "l"
	var got []string
	b.Publish(alice, batch, func(results []engine.PublishResult) {
		if got != nil {
			t.Error("answered twice")
		}
		for _, r := range results {
			got = append(got, fmt.Sprint(r.Outcome, " ", sealmq.CodeOf(r.Err)))
		}
	})
	if e.answer(); got == nil {
		t.Fatal("not answered")
	}
	stored, none, unrouted := "1 ", "4 no_exchange", "5 unroutable"
	want := []string{stored, none, stored, stored, stored, unrouted, none, stored, unrouted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	n.holds("q", "0", "2", "3", "4", "7")
	if e.stops["5"] < 900 {
		t.Errorf("a message was routed %d times", 1000-e.stops["5"])
	}
}

func TestCanPublish(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "x", ""))
	n.must(n.declareExchange(admin, "sealmq.x", ""))
	for exchange, code := range map[string]sealmq.Code{"x": "", "none": sealmq.NoExchange, "a b": sealmq.BadName, "sealmq.x": sealmq.Denied} {
		if err := n.CanPublish(alice, exchange); sealmq.CodeOf(err) != code {
			t.Errorf("%s: error %v, want code %q", exchange, err, code)
		}
	}
	if !n.audit.has(entry{"alice", "publish", "sealmq.x", sealmq.Denied}) {
		t.Error("the audit was not told of what is denied")
	}
}

// sink is an engine that takes every message and keeps none.
type sink struct {
	engine.Engine
	results     []engine.PublishResult
	definitions []engine.Definition
	queues      []engine.QueueInfo
}

func (s *sink) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	done(s.results[:len(batch)])
	return len(batch)
}

func (s *sink) Definitions() []engine.Definition                   { return s.definitions }
func (s *sink) Queues() ([]engine.QueueInfo, error)                { return s.queues, nil }
func (s *sink) Queue(string) (engine.QueueInfo, error)             { return engine.QueueInfo{}, nil }
func (s *sink) ReportDeadQueues(func(string, sealmq.QueueOptions)) {}
func (s *sink) Define(_ []engine.Definition, done func(error))     { done(nil) }
func (s *sink) DeclareQueue(_ string, _ sealmq.QueueOptions, _ engine.Fields, done func(engine.QueueInfo, bool, error)) {
	done(engine.QueueInfo{}, false, nil)
}

// hot is a broker with n bindings on an exchange of each kind, over an engine that costs
// nothing, and a batch for one of them.
func hot(t testing.TB, kind broker.ExchangeKind, bindings, size int) (*broker.Broker, []engine.Publish) {
	s := &sink{results: make([]engine.PublishResult, size)}
	for i := range s.results {
		s.results[i].Outcome = engine.Stored
	}
	s.definitions = append(s.definitions, engine.Definition{Key: "exchange/x", Value: []byte(`{"v":1,"kind":"` + kind + `"}`)})
	for i := range bindings {
		s.queues = append(s.queues, engine.QueueInfo{Name: fmt.Sprint("queue-", i)})
		s.definitions = append(s.definitions, engine.Definition{Key: fmt.Sprintf("binding/queue-%d x key.%d", i, i), Value: []byte(`{"v":1}`)})
	}
	b, err := broker.New(broker.Config{Engine: s, Limits: broker.Limits{Bindings: 2_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	batch := make([]engine.Publish, size)
	for i := range batch {
		batch[i] = engine.Publish{Message: sealmq.Message{Exchange: "x", Key: fmt.Sprint("key.", i%bindings),
			ID: fmt.Sprint("0f8fad5b-d9cb-469f-a165-", i), Body: make([]byte, 256)}}
	}
	return b, batch
}

func TestPublishDoesNotAllocatePerMessage(t *testing.T) {
	for _, kind := range []broker.ExchangeKind{broker.Direct, broker.Fanout, broker.Topic} {
		b, batch := hot(t, kind, 10, 200)
		done := func([]engine.PublishResult) {}
		n := testing.AllocsPerRun(200, func() { b.Publish(alice, batch, done) })
		// A pool may lose its content to the garbage collector; that is far below one a message.
		if n > 4 {
			t.Errorf("%s: %.1f allocations for a batch of %d", kind, n, len(batch))
		}
	}
}

// TestRoutesStayAsTheyWereRead binds and unbinds while others route.
func TestRoutesStayAsTheyWereRead(t *testing.T) {
	for _, kind := range []broker.ExchangeKind{broker.Direct, broker.Fanout, broker.Topic} {
		b, batch := hot(t, kind, 1, 10)
		stop := make(chan struct{})
		var publishers sync.WaitGroup
		for range 2 {
			publishers.Go(func() {
				own := slices.Clone(batch)
				for {
					select {
					case <-stop:
						return
					default:
					}
					b.Publish(alice, own, func(results []engine.PublishResult) {})
					for i := range own {
						if q := own[i].Queues; len(q) == 0 || q[0] > q[len(q)-1] || q[0] != "queue-0" {
							t.Errorf("%s: routed to %v", kind, q)
						}
					}
				}
			})
		}
		for range 300 {
			for _, queue := range []string{"queue-1", "queue-2"} {
				b.Bind(alice, queue, "x", "key.0", func(error) {})
			}
			for _, queue := range []string{"queue-2", "queue-1"} {
				b.Unbind(alice, queue, "x", "key.0", func(error) {})
			}
		}
		close(stop)
		publishers.Wait()
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, kind := range []broker.ExchangeKind{broker.Direct, broker.Topic} {
		for _, bindings := range []int{1, 10_000} {
			for _, size := range []int{1, 100} {
				b.Run(fmt.Sprintf("%s/%d bindings/batch of %d", kind, bindings, size), func(b *testing.B) {
					br, batch := hot(b, kind, bindings, size)
					done := func([]engine.PublishResult) {}
					b.ReportAllocs()
					b.ResetTimer()
					for i := 0; i < b.N; i += size {
						br.Publish(alice, batch, done)
					}
				})
			}
		}
	}
}

// BenchmarkPublishWhileBinding has a client that binds and unbinds all the time.
func BenchmarkPublishWhileBinding(b *testing.B) {
	for _, kind := range []broker.ExchangeKind{broker.Direct, broker.Topic} {
		for _, bindings := range []int{1_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d bindings", kind, bindings), func(b *testing.B) {
				const size = 100
				br, batch := hot(b, kind, bindings, size)
				var quit atomic.Bool
				var binds atomic.Int64
				var binder sync.WaitGroup
				binder.Go(func() {
					for i := 0; !quit.Load(); i++ {
						key := fmt.Sprint("new.", i%100)
						br.Bind(admin, "queue-1", "x", key, func(error) {})
						br.Unbind(admin, "queue-1", "x", key, func(error) {})
						binds.Add(2)
					}
				})
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					own := slices.Clone(batch)
					done := func([]engine.PublishResult) {}
					for n := 0; pb.Next(); n++ {
						if n%size == 0 {
							br.Publish(alice, own, done)
						}
					}
				})
				b.ReportMetric(float64(binds.Load())/b.Elapsed().Seconds(), "binds/s")
				quit.Store(true)
				binder.Wait()
			})
		}
	}
}
