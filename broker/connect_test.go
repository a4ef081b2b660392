package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// aQueue is a queue of its own on a node that all tests of connections share.
type aQueue struct {
	*testing.T
	sealmq.Connection
	// another opens one more connection.
	another func() sealmq.Connection
	node    *testnode.Node
	name    string
}

func (q *aQueue) must(err error) {
	q.Helper()
	if err != nil {
		q.Fatal(err)
	}
}

func (q *aQueue) message(id string) sealmq.Message {
	return sealmq.Message{Exchange: "x", Key: q.name, ID: q.name + id, Body: fmt.Appendf(nil, `{"message_id":%q}`, q.name+id)}
}

func (q *aQueue) publish(ids ...string) {
	q.Helper()
	var batch []sealmq.Message
	for _, id := range ids {
		batch = append(batch, q.message(id))
	}
	for _, r := range q.PublishBatch(q.Context(), batch) {
		q.must(r.Err)
	}
}

func (q *aQueue) consume(c sealmq.Connection, prefetch int) sealmq.Subscription {
	q.Helper()
	s, err := c.Consume(q.Context(), q.name, prefetch)
	q.must(err)
	return s
}

// next takes messages with these ids, one by one.
func (q *aQueue) next(s sealmq.Subscription, ids ...string) (list []sealmq.Delivery) {
	q.Helper()
	for _, id := range ids {
		var one [1]sealmq.Delivery
		if n, err := s.Next(q.Context(), one[:]); n != 1 || err != nil || one[0].ID != q.name+id {
			q.Fatalf("%d deliveries, %v: %+v; want %s", n, err, one[0], id)
		}
		list = append(list, one[0])
	}
	return list
}

// nothing checks that no delivery comes for a while.
func (q *aQueue) nothing(s sealmq.Subscription) {
	q.Helper()
	ctx, cancel := context.WithTimeout(q.Context(), 20*time.Millisecond)
	defer cancel()
	if n, err := s.Next(ctx, make([]sealmq.Delivery, 10)); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		q.Errorf("%d deliveries, %v; want none", n, err)
	}
}

// holds checks how many messages wait and how many are in hand.
func (q *aQueue) holds(ready, unacked int) {
	q.Helper()
	info, err := q.Queue(q.Context(), q.name)
	if q.must(err); info.Ready != ready || info.Unacked != unacked {
		q.Errorf("%d wait and %d are in hand, want %d and %d", info.Ready, info.Unacked, ready, unacked)
	}
}

func (q *aQueue) wants(err error, code sealmq.Code) {
	q.Helper()
	if sealmq.CodeOf(err) != code {
		q.Errorf("%v; want %s", err, code)
	}
}

// TestConnections makes the same demands on a connection within the process and on one over
// the network.
func TestConnections(t *testing.T) {
	node := testnode.Start(t, testnode.Config{})
	kinds := map[string]func(*testing.T) sealmq.Connection{
		"in process":   func(*testing.T) sealmq.Connection { return node.Broker().Connect(admin) },
		"over network": func(t *testing.T) sealmq.Connection { return node.Dial(client.Config{Meta: true}) },
	}
	queues := 0
	for kind, open := range kinds {
		for name, test := range connectionTests {
			t.Run(kind+"/"+name, func(t *testing.T) {
				queues++
				q := &aQueue{T: t, node: node, name: fmt.Sprint("q", queues), another: func() sealmq.Connection {
					c := open(t)
					t.Cleanup(func() { c.Close() })
					return c
				}}
				q.Connection = q.another()
				q.must(q.DeclareQueue(t.Context(), q.name, &sealmq.QueueOptions{DeliveryLimit: 3, AckTimeout: time.Hour}))
				q.must(q.Bind(t.Context(), q.name, "x", q.name))
				test(q)
			})
		}
	}
}

var connectionTests = map[string]func(*aQueue){
	"publish": func(q *aQueue) {
		stored, other, unroutable, noExchange := q.message("a"), q.message("a"), q.message("b"), q.message("c")
		other.Body = fmt.Appendf(nil, `{"message_id":%q,"other":1}`, other.ID)
		unroutable.Key = "nowhere"
		noExchange.Exchange = "none"
		results := q.PublishBatch(q.Context(), []sealmq.Message{stored, stored, other, unroutable, noExchange, q.message("d")})
		for i, want := range []sealmq.Code{"", "", sealmq.Duplicate, sealmq.Unroutable, sealmq.NoExchange, ""} {
			if err := results[i].Err; sealmq.CodeOf(err) != want || (err == nil) != (want == "") {
				q.Errorf("message %d: %v; want %s", i, err, want)
			}
		}
		q.must(q.Publish(q.Context(), stored))
		q.wants(q.Publish(q.Context(), unroutable), sealmq.Unroutable)
		q.holds(2, 0)
		if results := q.PublishBatch(q.Context(), nil); len(results) != 0 {
			q.Errorf("no messages: %v", results)
		}
	},
	"publish with a digest": func(q *aQueue) {
		first, again, other := q.message("a"), q.message("a"), q.message("a")
		again.Body = fmt.Appendf(nil, `{"message_id":%q,"sealed":"anew"}`, again.ID)
		first.Digest, again.Digest, other.Digest = []byte{1, 0}, []byte{1, 0}, []byte{2}
		tooLong := q.message("b")
		tooLong.Digest = make([]byte, sealmq.MaxDigestBytes+1)
		results := q.PublishBatch(q.Context(), []sealmq.Message{first, again, other, q.message("a"), tooLong, q.message("c")})
		for i, want := range []sealmq.Code{"", "", sealmq.Duplicate, sealmq.Duplicate, sealmq.BadArgument, ""} {
			if r := results[i]; sealmq.CodeOf(r.Err) != want || (r.Err == nil) != (want == "") || r.Repeated != (i == 1) {
				q.Errorf("message %d: %+v; want %s", i, r, want)
			}
		}
		q.wants(q.Publish(q.Context(), other), sealmq.Duplicate)
		q.must(q.Publish(q.Context(), again))
		list := q.next(q.consume(q, 0), "a", "c")
		if d := list[0]; string(d.Body) != string(first.Body) || d.Digest != nil {
			q.Errorf("%+v", d)
		}
	},
	"delays and age": func(q *aQueue) {
		q.publish("a", "b")
		info, err := q.Queue(q.Context(), q.name)
		if q.must(err); info.Delayed != 0 || time.Since(info.Oldest) > time.Hour || info.Oldest.IsZero() {
			q.Errorf("%+v", info)
		}
		s := q.consume(q, 2)
		list := q.next(s, "a", "b")
		q.must(s.Nack(time.Hour, list[0]))
		q.must(s.AckWait(q.Context(), list[1]))
		info, err = q.Queue(q.Context(), q.name)
		if q.must(err); info.Ready != 1 || info.Delayed != 1 || !info.Oldest.IsZero() {
			q.Errorf("%+v", info)
		}
	},
	"peek by pages, move by ids": func(q *aQueue) {
		q.publish("a", "b", "c", "d", "e")
		var all []string
		var from uint64
		for {
			list, err := q.Peek(q.Context(), q.name, from, 2)
			if q.must(err); len(list) == 0 {
				break
			}
			for _, m := range list {
				all = append(all, strings.TrimPrefix(m.ID, q.name))
				from = m.Seq + 1
			}
		}
		if got := strings.Join(all, ""); got != "abcde" {
			q.Errorf("pages: %s", got)
		}
		other := q.name + "other"
		q.must(q.DeclareQueue(q.Context(), other, nil))
		moved, err := q.MoveMessages(q.Context(), q.name, other, []string{q.name + "d", q.name + "b", "none"})
		if q.must(err); moved != 2 {
			q.Errorf("%d moved", moved)
		}
		if moved, err = q.MoveMessages(q.Context(), q.name, other, nil); moved != 0 || err != nil {
			q.Errorf("%d moved, %v", moved, err)
		}
		_, err = q.MoveMessages(q.Context(), q.name, other, slices.Repeat([]string{"x"}, sealmq.MaxMoveIDs+1))
		q.wants(err, sealmq.BadArgument)
		_, err = q.MoveMessages(q.Context(), q.name, q.name+"none", []string{"x"})
		q.wants(err, sealmq.NoQueue)
		q.next(q.consume(q, 0), "a", "c", "e")
		_, err = q.Peek(q.Context(), q.name, 1, -1)
		q.wants(err, sealmq.BadArgument)
		list, err := q.Peek(q.Context(), other, 0, 0)
		if q.must(err); len(list) != 2 || list[0].ID != q.name+"b" || list[1].ID != q.name+"d" {
			q.Errorf("%+v", list)
		}
	},
	"queue full": func(q *aQueue) {
		q.wants(q.DeclareQueue(q.Context(), q.name, &sealmq.QueueOptions{MaxMessages: 1}), sealmq.Mismatch)
		small := q.name + "small"
		q.must(q.DeclareQueue(q.Context(), small, &sealmq.QueueOptions{MaxMessages: 1}))
		q.must(q.Bind(q.Context(), small, "x", small))
		a, b := q.message("a"), q.message("b")
		a.Key, b.Key = small, small
		results := q.PublishBatch(q.Context(), []sealmq.Message{a, b})
		q.must(results[0].Err)
		q.wants(results[1].Err, sealmq.QueueFull)
	},
	"consume": func(q *aQueue) {
		q.publish("a", "b", "c")
		s := q.consume(q, 2)
		list := q.next(s, "a", "b")
		d := list[0]
		if d.Queue != q.name || d.Publisher != "admin" || d.Exchange != "x" || d.Key != q.name || d.Attempt != 1 || d.Published.IsZero() || d.Redelivered() {
			q.Errorf("%+v", d)
		}
		q.nothing(s)
		q.must(s.AckWait(q.Context(), list[0]))
		list = append(list, q.next(s, "c")...)
		q.must(s.SetPrefetch(3))
		q.publish("d", "e")
		list = append(list, q.next(s, "d")...)
		q.nothing(s)
		q.must(s.Ack(list...)) // the first one again, which has no effect
		list = q.next(s, "e")
		q.must(s.AckWait(q.Context(), list...))
		q.holds(0, 0)
		_, err := q.Consume(q.Context(), "other", 1)
		q.wants(err, sealmq.InUse)
	},
	"prefetch after close": func(q *aQueue) {
		s := q.consume(q, 2)
		q.must(s.SetPrefetch(3))
		q.must(s.Close(q.Context()))
		if err := s.SetPrefetch(4); !errors.Is(err, sealmq.ErrClosed) {
			q.Error(err)
		}
	},
	"batch": func(q *aQueue) {
		q.publish("a", "b", "c")
		s := q.consume(q, 0)
		got := 0
		for got < 3 {
			batch := make([]sealmq.Delivery, 2)
			n, err := s.Next(q.Context(), batch)
			q.must(err)
			q.must(s.Ack(batch[:n]...))
			got += n
		}
		q.must(s.Close(q.Context()))
		q.holds(0, 0)
	},
	"return": func(q *aQueue) {
		q.publish("a", "b")
		s := q.consume(q, 2)
		list := q.next(s, "a", "b")
		q.must(s.Nack(0, list[0]))
		again := q.next(s, "a")
		if again[0].Attempt != 2 || !again[0].Redelivered() {
			q.Errorf("%+v", again[0])
		}
		q.must(s.Release(0, again[0]))
		if again = q.next(s, "a"); again[0].Attempt != 2 {
			q.Errorf("a release counted: %+v", again[0])
		}
		q.must(s.Nack(time.Hour, again[0]))
		q.must(s.Nack(50*time.Millisecond, list[1]))
		list = q.next(s, "b")
		q.must(s.AckWait(q.Context(), list...))
		q.holds(1, 0) // for an hour
		q.wants(s.Nack(-1, list...), sealmq.BadArgument)
		q.wants(s.Release(sealmq.MaxDelay+1, list...), sealmq.BadArgument)
	},
	"dead letter": func(q *aQueue) {
		q.publish("a", "b")
		s := q.consume(q, 2)
		list := q.next(s, "a", "b")
		q.must(s.Dead("cannot be\nopened", list[0]))
		for range 3 {
			q.must(s.Nack(0, list[1]))
			if list[1].Attempt < 3 {
				list[1] = q.next(s, "b")[0]
			}
		}
		q.must(s.Close(q.Context()))
		c := q.another()
		dead, err := c.Consume(q.Context(), q.name+sealmq.DeadSuffix, 2)
		q.must(err)
		list = q.next(dead, "a", "b")
		for i, reason := range []string{"cannot be opened", sealmq.DeathDeliveryLimit} {
			if list[i].DeathReason != reason || list[i].DeathQueue != q.name {
				q.Errorf("%+v", list[i])
			}
		}
		q.must(dead.Close(q.Context(), list...))
		peeked, err := q.Peek(q.Context(), q.name+sealmq.DeadSuffix, 0, 0)
		if q.must(err); len(peeked) != 2 || peeked[0].DeathReason != "cannot be opened" || string(peeked[0].Body) != string(q.message("a").Body) {
			q.Errorf("%+v", peeked)
		}
		moved, err := q.Move(q.Context(), q.name+sealmq.DeadSuffix, q.name, 0)
		if q.must(err); moved != 2 {
			q.Errorf("%d moved", moved)
		}
		removed, err := q.PurgeQueue(q.Context(), q.name)
		if q.must(err); removed != 2 {
			q.Errorf("%d purged", removed)
		}
	},
	"extend": func(q *aQueue) {
		q.publish("a")
		s := q.consume(q, 1)
		list := q.next(s, "a")
		q.must(s.Extend(list...))
		q.must(s.Extend())
		q.must(s.AckWait(q.Context(), list...))
		q.must(s.Extend(list...)) // it is not held any more
	},
	"subscription closed": func(q *aQueue) {
		q.publish("a", "b", "c", "d")
		s := q.consume(q, 3)
		list := q.next(s, "a", "b")
		q.must(s.Close(q.Context(), list[0]))
		if _, err := s.Next(q.Context(), make([]sealmq.Delivery, 1)); !errors.Is(err, sealmq.ErrClosed) {
			q.Errorf("after Close: %v", err)
		}
		q.holds(3, 1)
		q.must(s.AckWait(q.Context(), list[1]))
		if list = q.next(q.consume(q.another(), 0), "a", "c", "d"); list[0].Attempt != 1 {
			q.Errorf("giving back counted: %+v", list[0])
		}
	},
	"connection closed": func(q *aQueue) {
		q.publish("a", "b")
		c := q.another()
		s := q.consume(c, 2)
		held := q.next(s, "a")
		waits := make(chan error, 1)
		go func() {
			_, err := s.Next(q.Context(), make([]sealmq.Delivery, 1))
			for err == nil {
				_, err = s.Next(q.Context(), make([]sealmq.Delivery, 1))
			}
			waits <- err
		}()
		q.must(c.Close())
		q.must(c.Close())
		_, err := c.Queue(q.Context(), q.name)
		for _, err := range []error{<-waits, c.Publish(q.Context(), q.message("c")), s.Ack(held...), s.AckWait(q.Context(), held...), err} {
			if !errors.Is(err, sealmq.ErrClosed) {
				q.Errorf("after Close: %v", err)
			}
		}
		if list := q.next(q.consume(q, 0), "a", "b"); list[0].Attempt != 2 {
			q.Errorf("a lost connection did not count: %+v", list[0])
		}
	},
	"queue deleted": func(q *aQueue) {
		s := q.consume(q, 1)
		_, err := q.PurgeQueue(q.Context(), q.name+"none")
		q.wants(err, sealmq.NoQueue)
		_, err = q.Queue(q.Context(), q.name+"none")
		q.wants(err, sealmq.NoQueue)
		_, err = wait(q, func(done func(int, error)) { q.node.Broker().DeleteQueue(admin, q.name, 0, done) })
		q.must(err)
		_, err = s.Next(q.Context(), make([]sealmq.Delivery, 1))
		q.wants(err, sealmq.NoQueue)
	},
	"given up": func(q *aQueue) {
		ctx, cancel := context.WithCancel(q.Context())
		cancel()
		s := q.consume(q, 1)
		_, err := s.Next(ctx, make([]sealmq.Delivery, 1))
		for _, err := range []error{err, q.DeclareQueue(ctx, q.name, nil)} {
			if !errors.Is(err, context.Canceled) {
				q.Errorf("%v", err)
			}
		}
		if _, err := s.Next(q.Context(), nil); err == nil {
			q.Error("no room, and no error")
		}
	},
}
