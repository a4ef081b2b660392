package brokerview_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline/brokerview"
)

// world is a view of a real broker, and a clock that it goes by.
type world struct {
	*testing.T
	*testnode.Node
	*brokerview.View
	client *client.Client // an administrator

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) pass(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.now = w.now.Add(d) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) publish(exchange, key string, ids ...string) {
	w.Helper()
	for _, id := range ids {
		w.must(w.client.Publish(w.Context(), sealmq.Message{ID: id, Exchange: exchange, Key: key, Body: []byte(`{"message_id":"` + id + `"}`)}))
	}
}

// bind declares a queue and binds it under its own name.
func (w *world) bind(queues ...string) {
	w.Helper()
	for _, q := range queues {
		w.must(w.client.Bind(w.Context(), q, "x", q))
	}
}

// bothWays runs a test with the broker in this process, and over the network with the main
// server's certificate.
func bothWays(t *testing.T, test func(w *world)) {
	for _, way := range []string{"in process", "over the network"} {
		t.Run(way, func(t *testing.T) {
			w := &world{T: t, Node: testnode.Start(t, testnode.Config{}), now: time.Now()}
			w.client = w.Dial(client.Config{Meta: true})
			server := sealmq.Identity{ID: "server", CommonName: "server", Role: sealmq.RoleServer}
			var m sealmq.Manager
			if way == "in process" {
				m = w.Broker().Manage(broker.Caller{Identity: server}, w.Server())
			} else {
				m = w.Dial(client.Config{TLS: w.CA.RoleTLS("server", sealmq.RoleServer), MaxLineBytes: 64 << 20})
			}
			w.View = brokerview.New(brokerview.Config{Connect: func(context.Context) (sealmq.Manager, error) { return m, nil }, Now: w.clock})
			test(w)
		})
	}
}

func (w *world) list(f brokerview.Filter) (names []string) {
	w.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	for {
		list, err := w.Queues(w.Context(), f)
		w.must(err)
		for _, q := range list.Items {
			names = append(names, q.Name)
		}
		if f.Cursor = list.Next; f.Cursor == "" {
			if list.Total != len(names) {
				w.Errorf("%+v: a total of %d, and %d queues", f, list.Total, len(names))
			}
			return names
		}
	}
}

func TestListsOfQueues(t *testing.T) {
	bothWays(t, func(w *world) {
		w.bind("b", "a", "C/ö", "a.dead", "..")
		w.publish("x", "b", "1", "2")
		w.publish("x", "C/ö", "3")
		w.publish("x", "a.dead", "4", "5", "6")
		for _, tc := range []struct {
			filter brokerview.Filter
			want   string
		}{
			{brokerview.Filter{}, ".. C/ö a a.dead b"},
			{brokerview.Filter{Desc: true}, "b a.dead a C/ö .."},
			{brokerview.Filter{Sort: "ready", Desc: true}, "a.dead b C/ö .. a"},
			{brokerview.Filter{Sort: "ready"}, ".. a C/ö b a.dead"},
			{brokerview.Filter{Sort: "oldest", Desc: true, Search: "B"}, "b"},
			{brokerview.Filter{Search: "c/Ö"}, "C/ö"},
			{brokerview.Filter{Search: "nothing"}, ""},
			{brokerview.Filter{Kind: brokerview.Dead}, "a.dead"},
			{brokerview.Filter{Kind: brokerview.Waiting}, "C/ö a.dead b"},
			{brokerview.Filter{Kind: brokerview.Idle, Sort: "bytes", Desc: true}, "a.dead b C/ö"},
		} {
			for _, limit := range []int{100, 1, 2} {
				tc.filter.Limit = limit
				if got := strings.Join(w.list(tc.filter), " "); got != tc.want {
					w.Errorf("%+v: %q, want %q", tc.filter, got, tc.want)
				}
			}
		}
		for _, f := range []brokerview.Filter{{Page: brokerview.Page{Cursor: "?"}}, {Page: brokerview.Page{Cursor: "e30x"}}, {Sort: "?"}} {
			if _, err := w.Queues(w.Context(), f); sealmq.CodeOf(err) != sealmq.BadArgument {
				w.Errorf("%+v: error %v", f, err)
			}
		}
	})
}

// TestRates: between two samples, and none of a queue that is new.
func TestRates(t *testing.T) {
	bothWays(t, func(w *world) {
		w.bind("q")
		w.publish("x", "q", "0")
		w.list(brokerview.Filter{})
		w.publish("x", "q", "1", "2", "3", "4", "5")
		w.bind("new")
		w.publish("x", "new", "6")
		w.pass(10 * time.Second)
		list, err := w.Queues(w.Context(), brokerview.Filter{Page: brokerview.Page{Limit: 10}})
		w.must(err)
		for _, q := range list.Items {
			want := map[string]float64{"q": 0.5}[q.Name]
			if q.In < want*0.99 || q.In > want*1.01 || q.Growing != (want > 0) || q.Out != 0 {
				w.Errorf("%s: %v in, %v out, growing %t, want %v in", q.Name, q.In, q.Out, q.Growing, want)
			}
		}
		if got := w.list(brokerview.Filter{Kind: brokerview.Growing}); len(got) != 1 || got[0] != "q" {
			w.Errorf("growing: %v", got)
		}
		conns, err := w.View.Connections(w.Context(), "ADMIN", brokerview.Page{Limit: 10})
		w.must(err)
		if len(conns.Items) != 1 || conns.Items[0].CommandsPerSecond <= 0 || conns.Items[0].BytesInPerSecond <= 0 {
			w.Errorf("connections: %+v", conns.Items)
		}
	})
}

func TestOneQueue(t *testing.T) {
	bothWays(t, func(w *world) {
		o := sealmq.QueueOptions{MaxMessages: 10}
		w.must(w.Declare(w.Context(), "q", &o))
		w.must(w.Declare(w.Context(), "q", &o))
		if err := w.Declare(w.Context(), "q", &sealmq.QueueOptions{}); sealmq.CodeOf(err) != sealmq.Mismatch {
			w.Errorf("declared with other options: %v", err)
		}
		w.must(w.Change(w.Context(), "q", sealmq.QueueOptions{MaxMessages: 20}))
		w.bind("q")
		w.publish("x", "q", "1", "2", "3")
		consumer := w.Dial(client.Config{TLS: w.CA.ClientTLS("bob"), BackoffMin: 1 << 40}) // it does not come back
		_, err := consumer.Consume(w.Context(), "q", 1)
		w.must(err)
		w.pass(time.Minute)
		d, err := w.Queue(w.Context(), "q")
		w.must(err)
		if d.Options.MaxMessages != 20 || d.Ready+d.Unacked != 3 || len(d.Consumers) != 1 || d.Consumers[0].Client != "bob" {
			w.Errorf("%+v", d)
		}
		if diff := cmp.Diff([]sealmq.BindingInfo{{Queue: "q", Exchange: "x", Key: "q"}}, d.Bindings); diff != "" {
			w.Error(diff)
		}
		x, bindings, more, err := w.Exchange(w.Context(), "x")
		if err != nil || x.Kind != "direct" || len(bindings) != 1 || more != 0 {
			w.Errorf("exchange %+v %v %d, error %v", x, bindings, more, err)
		}
		if _, _, _, err := w.Exchange(w.Context(), "none"); sealmq.CodeOf(err) != sealmq.NoExchange {
			w.Errorf("no exchange: %v", err)
		}
		gone, err := w.Disconnect(w.Context(), d.Consumers[0].ID)
		if err != nil || gone.Client != "bob" {
			w.Errorf("disconnected %+v, error %v", gone, err)
		}
		if _, err := w.Disconnect(w.Context(), 4711); sealmq.CodeOf(err) != sealmq.BadArgument {
			w.Errorf("no connection: %v", err)
		}
		w.must(w.Pause(w.Context(), "q", true))
		if got := w.list(brokerview.Filter{Kind: brokerview.Paused}); len(got) != 1 {
			w.Errorf("paused: %v", got)
		}
		w.must(w.Pause(w.Context(), "q", false))
		if got := w.list(brokerview.Filter{Kind: brokerview.Paused}); len(got) != 0 {
			w.Errorf("paused, after it was resumed: %v", got)
		}
		if err := w.Pause(w.Context(), "none", true); !errors.Is(err, sealmq.ErrNoQueue) {
			w.Errorf("paused what does not exist: %v", err)
		}
		n, err := w.Purge(w.Context(), "q")
		if err != nil || n < 2 {
			w.Errorf("purged %d, error %v", n, err)
		}
		_, err = w.Delete(w.Context(), "q")
		w.must(err)
		if got := w.list(brokerview.Filter{}); len(got) != 0 {
			w.Errorf("after the deletion: %v", got)
		}
		if _, err := w.Queue(w.Context(), "q"); !errors.Is(err, sealmq.ErrNoQueue) {
			w.Errorf("after the deletion: %v", err)
		}
	})
}

func TestKeys(t *testing.T) {
	bothWays(t, func(w *world) {
		for i, name := range []string{"clinic-1", "clinic-2", "clinic 3", "lab"} {
			key := append(make([]byte, 31), byte(9+i))
			_, err := w.client.Command(w.Context(), "register_key "+strings.ReplaceAll(name, " ", "-")+" "+base64.StdEncoding.EncodeToString(key))
			w.must(err)
		}
		for _, tc := range []struct{ prefix, want string }{{"", "clinic-1 clinic-2 clinic-3 lab"}, {"clinic", "clinic-1 clinic-2 clinic-3"}, {"lab", "lab"}, {"z", ""}} {
			for _, n := range []int{1, 2, 100} {
				var got []string
				for cursor := ""; ; {
					list, next, err := w.View.Keys(w.Context(), tc.prefix, cursor, n)
					w.must(err)
					for _, k := range list {
						got = append(got, k.Client)
						if k.Proven || !strings.HasPrefix(k.Fingerprint, "sha256:") {
							w.Errorf("%+v", k)
						}
					}
					if cursor = next; cursor == "" {
						break
					}
				}
				if strings.Join(got, " ") != tc.want {
					w.Errorf("%q by %d: %v, want %s", tc.prefix, n, got, tc.want)
				}
			}
		}
	})
}

// kill makes dead letters of what waits in a queue.
func (w *world) kill(queue, reason string, n int) {
	w.Helper()
	c := w.Dial(client.Config{Meta: true})
	sub, err := c.Consume(w.Context(), queue, 100)
	w.must(err)
	list := make([]sealmq.Delivery, 100)
	for n > 0 {
		k, err := sub.Next(w.Context(), list)
		w.must(err)
		w.must(sub.Dead(reason, list[:k]...))
		n -= k
	}
	w.must(sub.Close(w.Context()))
	w.must(c.Close())
}

func (w *world) peek(queue string) (ids []string, letters []brokerview.Letter) {
	w.Helper()
	for cursor := ""; ; {
		list, next, err := w.Peek(w.Context(), queue, cursor, 2)
		w.must(err)
		for _, m := range list {
			ids, letters = append(ids, m.ID), append(letters, brokerview.Letter{ID: m.ID, Seq: m.Seq})
			if m.Body != nil || m.BodyBytes != nil || m.Size == 0 {
				w.Errorf("%s is shown with its body, or without its size", m.ID)
			}
		}
		if cursor = next; cursor == "" {
			return ids, letters
		}
	}
}

func (w *world) holds(queue, want string) {
	w.Helper()
	if ids, _ := w.peek(queue); strings.Join(ids, " ") != want {
		w.Errorf("%s holds %v, want %q", queue, ids, want)
	}
}

func TestDeadLettersReturn(t *testing.T) {
	bothWays(t, func(w *world) {
		w.bind("a", "b", "gone")
		w.must(w.client.DeclareQueue(w.Context(), "full", &sealmq.QueueOptions{MaxMessages: 1}))
		w.bind("full")
		w.publish("x", "a", "a1", "a2", "a3")
		w.publish("x", "b", "b1")
		w.publish("x", "gone", "g1")
		w.publish("x", "full", "f1")
		w.kill("a", "bad", 3)
		w.kill("b", "bad", 1)
		w.kill("gone", "bad", 1)
		w.kill("full", "bad", 1)
		w.publish("x", "full", "f2")
		for _, from := range []string{"b.dead", "gone.dead", "full.dead"} {
			_, err := w.client.Move(w.Context(), from, "a.dead", 0)
			w.must(err)
		}
		_, err := w.client.DeleteQueue(w.Context(), "gone")
		w.must(err)
		w.must(w.client.Bind(w.Context(), "a.dead", "x", "dead"))
		w.publish("x", "dead", "never-died")
		_, letters := w.peek("a.dead")
		r, err := w.ReturnSome(w.Context(), "a.dead", append(letters[1:2], brokerview.Letter{ID: "a1", Seq: letters[2].Seq}, brokerview.Letter{ID: "z", Seq: 1 << 40}))
		w.must(err)
		if r.Total() != 1 || r.Kept != 2 || r.WhyKept == "" {
			w.Errorf("some: %+v", r)
		}
		w.holds("a", "a2")
		r, err = w.ReturnAll(w.Context(), "a.dead", "")
		w.must(err)
		if r.Next != "" || r.WhyKept == "" {
			w.Errorf("all: %+v", r)
		}
		w.holds("a", "a2 a1 a3")
		// A dead letter that was moved has lost where it died; nothing of the others is lost.
		ids, _ := w.peek("a.dead")
		if len(ids)+r.Total() != 6 || r.Kept != len(ids) {
			w.Errorf("%d are left and %d returned: %+v", len(ids), r.Total(), r)
		}
		if list, err := w.Queues(w.Context(), brokerview.Filter{Search: "a.dead", Page: brokerview.Page{Limit: 1}}); err != nil || list.Items[0].Ready != len(ids) {
			w.Errorf("the list is behind: %+v, error %v", list, err)
		}
		if _, err := w.ReturnAll(w.Context(), "none.dead", ""); sealmq.CodeOf(err) != sealmq.NoQueue {
			w.Errorf("no queue: %v", err)
		}
		if _, err := w.ReturnAll(w.Context(), "a.dead", "x"); sealmq.CodeOf(err) != sealmq.BadArgument {
			w.Errorf("a bad cursor: %v", err)
		}
	})
}

// TestManyDeadLettersReturn: a call returns a bounded part, and the last one says so.
func TestManyDeadLettersReturn(t *testing.T) {
	bothWays(t, func(w *world) {
		w.bind("q")
		batch := make([]sealmq.Message, 2500)
		for i := range batch {
			id := fmt.Sprint("m-", i)
			batch[i] = sealmq.Message{ID: id, Exchange: "x", Key: "q", Body: []byte(`{"message_id":"` + id + `"}`)}
		}
		for _, r := range w.client.PublishBatch(w.Context(), batch) {
			w.must(r.Err)
		}
		w.kill("q", "bad", len(batch))
		returned, calls := 0, 0
		for cursor := ""; calls == 0 || cursor != ""; calls++ {
			r, err := w.ReturnAll(w.Context(), "q.dead", cursor)
			w.must(err)
			returned += r.Total()
			cursor = r.Next
		}
		info, err := w.client.Queue(w.Context(), "q")
		w.must(err)
		if returned != len(batch) || info.Ready != len(batch) || calls != 3 {
			w.Errorf("returned %d in %d calls, %d wait, want %d in 3", returned, calls, info.Ready, len(batch))
		}
	})
}

// TestBrokerAway: words and a code while it is away, and everything again when it is back.
func TestBrokerAway(t *testing.T) {
	away := true
	n := testnode.Start(t, testnode.Config{})
	w := &world{T: t, Node: n, now: time.Now()}
	m := n.Broker().Manage(broker.Caller{Identity: sealmq.Identity{ID: "server", Role: sealmq.RoleServer}}, n.Server())
	w.View = brokerview.New(brokerview.Config{Now: w.clock, Connect: func(context.Context) (sealmq.Manager, error) {
		if away {
			return nil, errors.New("refused")
		}
		return m, nil
	}})
	for range 2 {
		for what, call := range map[string]func() error{
			"list":  func() error { _, err := w.Queues(t.Context(), brokerview.Filter{}); return err },
			"queue": func() error { _, err := w.Queue(t.Context(), "q"); return err },
			"purge": func() error { _, err := w.Purge(t.Context(), "q"); return err },
		} {
			if err := call(); sealmq.CodeOf(err) != sealmq.Unavailable || !strings.Contains(err.Error(), "cannot be reached") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	away = false
	w.pass(2 * time.Second)
	w.list(brokerview.Filter{})
}

// TestOthersLookAfterNothing: the role server of another authority is an ordinary client.
func TestOthersLookAfterNothing(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	m := n.Broker().Manage(broker.Caller{Identity: sealmq.Identity{ID: "server", Issuer: "another", Role: sealmq.RoleServer}}, n.Server())
	admin := n.Dial(client.Config{})
	if err := admin.DeclareQueue(t.Context(), "q", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.PurgeQueue(t.Context(), "q"); !errors.Is(err, sealmq.ErrDenied) {
		t.Errorf("purge: %v", err)
	}
	if list, err := m.Connections(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("connections %v, error %v", list, err)
	}
	if err := m.CloseConnection(t.Context(), 1); !errors.Is(err, sealmq.ErrDenied) {
		t.Errorf("close: %v", err)
	}
}

// TestTenThousandQueues measures what a page of a list costs.
func TestTenThousandQueues(t *testing.T) {
	if testing.Short() {
		t.Skip("declares 10,000 queues")
	}
	bothWays(t, func(w *world) {
		var topology client.Topology
		for i := range 10_000 {
			topology.Queues = append(topology.Queues, client.Queue{Name: fmt.Sprint("results.clinic-", i)})
		}
		w.must(w.client.Declare(w.Context(), topology))
		w.list(brokerview.Filter{Page: brokerview.Page{Limit: 500}})
		const looks = 200
		var total time.Duration
		least := time.Hour // the others may have waited for other tests, which share the processors
		for range looks {
			began := time.Now()
			_, err := w.Queues(w.Context(), brokerview.Filter{Search: "CLINIC", Sort: "ready", Desc: true, Page: brokerview.Page{Limit: 50}})
			w.must(err)
			took := time.Since(began)
			total += took
			least = min(least, took)
		}
		w.Logf("a page takes %v on average, %v at least", total/looks, least)
		if least > 30*time.Millisecond {
			w.Errorf("a page takes at least %v", least)
		}
		began := time.Now()
		w.pass(time.Hour)
		w.list(brokerview.Filter{Search: "clinic-77", Page: brokerview.Page{Limit: 500}})
		w.Logf("a sample takes %v", time.Since(began))
	})
}
