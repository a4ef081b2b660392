// Package queuetest is the conformance suite of the pipeline's queues: what a proxy, a
// worker and an operator rely on.
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// patience bounds every wait of the suite.
const patience = 2 * time.Minute

// Run runs the suite. open returns an empty queue, or the same one again: a second opening
// within one test is another process that uses the same queue. put stores bytes that may be
// no item, as a foreign producer would; nil if the queue takes none.
func Run(t *testing.T, open func(t *testing.T) (again func() pipeline.Queue, put func(body string) error)) {
	for name, check := range map[string]func(*suite){
		"order":             (*suite).order,
		"repeats":           (*suite).repeats,
		"retry":             (*suite).retry,
		"release":           (*suite).release,
		"dead and requeued": (*suite).deadAndRequeued,
		"malformed":         (*suite).malformed,
		"waiting":           (*suite).waiting,
		"closed consumer":   (*suite).closedConsumer,
		"several consumers": (*suite).severalConsumers,
		"large items":       (*suite).largeItems,
		"empty":             (*suite).empty,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &suite{T: t, ctx: ctx}
			s.again, s.put = open(t)
			s.q = s.again()
			check(s)
		})
	}
}

type suite struct {
	*testing.T
	ctx   context.Context
	again func() pipeline.Queue
	put   func(string) error
	q     pipeline.Queue
	// workers is how many consumers there were: each is of a worker of its own.
	workers int
}

func item(id string) pipeline.Item {
	return pipeline.Item{MessageID: id, ClientID: "acme-01", Domain: pipeline.DefaultDomain, QueuedAt: time.Now().UTC().Truncate(time.Microsecond),
		Enc: pipeline.EncHPKE, Sealed: []byte(`{"text":"` + id + `"}`), Digest: []byte("digest of " + id)}
}

func (s *suite) enqueue(want pipeline.Outcome, items ...pipeline.Item) {
	s.Helper()
	results, err := s.q.Enqueue(s.ctx, items)
	if err != nil || len(results) != len(items) {
		s.Fatalf("enqueue %d items: %d results, error %v", len(items), len(results), err)
	}
	for i, r := range results {
		if r.Outcome != want {
			s.Fatalf("item %s: outcome %d (%v), want %d", items[i].MessageID, r.Outcome, r.Err, want)
		}
	}
}

func (s *suite) consumer(q pipeline.Queue) pipeline.Consumer {
	s.Helper()
	s.workers++
	c, err := q.Consumer(fmt.Sprintf("worker-%d", s.workers))
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// take takes n items, in as many calls as it needs.
func (s *suite) take(c pipeline.Consumer, n int) []pipeline.Taken {
	s.Helper()
	var all []pipeline.Taken
	for len(all) < n {
		taken, err := c.Take(s.ctx, n-len(all))
		if err != nil {
			s.Fatalf("take: %v after %d of %d items", err, len(all), n)
		}
		all = append(all, taken...)
	}
	return all
}

func (s *suite) finish(c pipeline.Consumer, v pipeline.Verdict, after time.Duration, reason string, taken ...pipeline.Taken) {
	s.Helper()
	var list []pipeline.Finished
	for _, t := range taken {
		list = append(list, pipeline.Finished{Ticket: t.Ticket, Verdict: v, After: after, Reason: reason})
	}
	if err := c.Finish(s.ctx, list); err != nil {
		s.Fatal(err)
	}
}

// counts waits until the queue has these numbers.
func (s *suite) counts(ready, processing, retry, dead int) {
	s.Helper()
	for {
		got, err := s.q.Counts(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		if got.Ready == ready && got.Processing == processing && got.Retry == retry && got.Dead == dead {
			if (ready > 0) == got.Oldest.IsZero() {
				s.Errorf("%d items wait, the oldest since %v", ready, got.Oldest)
			}
			return
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("counts are %+v, want ready %d, processing %d, retry %d, dead %d", got, ready, processing, retry, dead)
		case <-time.After(time.Millisecond):
		}
	}
}

// dead waits until so many dead items are listed: Finish may return before they are.
func (s *suite) dead(want int) []pipeline.DeadItem {
	s.Helper()
	for {
		list, err := s.q.Dead(s.ctx, want+1)
		if err != nil {
			s.Fatal(err)
		}
		if len(list) == want {
			return list
		}
		select {
		case <-s.ctx.Done():
			s.Fatalf("%d dead items are listed, want %d", len(list), want)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *suite) order() {
	var items []pipeline.Item
	for i := range 20 {
		items = append(items, item(fmt.Sprintf("m-%02d", i)))
	}
	s.enqueue(pipeline.Stored, items[:10]...)
	s.enqueue(pipeline.Stored, items[10:]...)
	c := s.consumer(s.q)
	taken := s.take(c, 20)
	for i, t := range taken {
		if t.Err != nil || t.Item.MessageID != items[i].MessageID {
			s.Fatalf("item %d is %q (%v)", i, t.Item.MessageID, t.Err)
		}
		if t.Item.AttemptCount != 0 || !t.Item.QueuedAt.Equal(items[i].QueuedAt) || string(t.Item.Sealed) != string(items[i].Sealed) {
			s.Errorf("item %d came as %+v", i, t.Item)
		}
	}
	s.counts(0, 20, 0, 0)
	s.finish(c, pipeline.Done, 0, "", taken...)
	s.counts(0, 0, 0, 0)
}

// repeats: an id is recognised for all producers together, by its digest and not by its
// sealed bytes, while it waits and afterwards.
func (s *suite) repeats() {
	first := item("m-1")
	s.enqueue(pipeline.Stored, first)
	again := first
	again.Sealed, again.QueuedAt = []byte(`{"text":"sealed anew"}`), first.QueuedAt.Add(time.Second)
	s.enqueue(pipeline.Duplicate, again)
	other := first
	other.Digest = []byte("another digest")
	s.enqueue(pipeline.Conflict, other)
	q := s.again()
	if results, err := q.Enqueue(s.ctx, []pipeline.Item{again, other, item("m-2")}); err != nil ||
		results[0].Outcome != pipeline.Duplicate || results[1].Outcome != pipeline.Conflict || results[2].Outcome != pipeline.Stored {
		s.Errorf("another producer: %+v, error %v", results, err)
	}
	c := s.consumer(s.q)
	s.finish(c, pipeline.Done, 0, "", s.take(c, 2)...)
	s.enqueue(pipeline.Duplicate, again)
	s.counts(0, 0, 0, 0)
}

func (s *suite) retry() {
	s.enqueue(pipeline.Stored, item("m-1"), item("m-2"))
	c := s.consumer(s.q)
	taken := s.take(c, 2)
	s.finish(c, pipeline.Retry, time.Hour, "no route", taken[0])
	s.counts(0, 1, 1, 0)
	s.finish(c, pipeline.Retry, 50*time.Millisecond, "no route", taken[1])
	back := s.take(c, 1)
	if back[0].Item.MessageID != "m-2" || back[0].Item.AttemptCount != 1 {
		s.Errorf("%q came back as attempt %d", back[0].Item.MessageID, back[0].Item.AttemptCount)
	}
	s.finish(c, pipeline.Retry, 0, "no route", back...)
	if back = s.take(c, 1); back[0].Item.AttemptCount != 2 {
		s.Errorf("the item came back as attempt %d", back[0].Item.AttemptCount)
	}
}

func (s *suite) release() {
	s.enqueue(pipeline.Stored, item("m-1"))
	c := s.consumer(s.q)
	for range 3 {
		taken := s.take(c, 1)
		if taken[0].Item.AttemptCount != 0 {
			s.Fatalf("a release counted as attempt %d", taken[0].Item.AttemptCount)
		}
		s.finish(c, pipeline.Release, 0, "", taken...)
	}
}

// waiting: what no worker has is shown in pages, in order, and stays.
func (s *suite) waiting() {
	var items []pipeline.Item
	for i := range 250 {
		items = append(items, item(fmt.Sprintf("m-%03d", i)))
	}
	s.enqueue(pipeline.Stored, items...)
	c := s.consumer(s.q)
	s.take(c, 250)
	if list, next, err := s.q.Waiting(s.ctx, 0, 10); len(list) > 0 || next != 0 || err != nil {
		s.Errorf("a worker has everything: %d shown, next %d, error %v", len(list), next, err)
	}
	if err := c.Close(); err != nil {
		s.Fatal(err)
	}
	s.counts(250, 0, 0, 0)
	var from uint64
	for seen := 0; seen < 250; {
		list, next, err := s.q.Waiting(s.ctx, from, 120)
		if err != nil || len(list) == 0 || len(list) > 120 || next <= from {
			s.Fatalf("%d of 250 are shown; then %d, next %d after %d, error %v", seen, len(list), next, from, err)
		}
		for _, it := range list {
			if it.MessageID != items[seen].MessageID || string(it.Sealed) != string(items[seen].Sealed) || it.ClientID != items[seen].ClientID {
				s.Fatalf("item %d is shown as %+v", seen, it)
			}
			seen++
		}
		from = next
	}
	if list, next, err := s.q.Waiting(s.ctx, from, 10); len(list) > 0 || next != from || err != nil {
		s.Errorf("at the end: %d shown, next %d, error %v", len(list), next, err)
	}
	s.enqueue(pipeline.Stored, item("later"))
	if list, _, err := s.q.Waiting(s.ctx, from, 10); len(list) != 1 || list[0].MessageID != "later" {
		s.Errorf("%+v, error %v", list, err)
	}
	s.counts(251, 0, 0, 0)
}

func (s *suite) deadAndRequeued() {
	for i := range 5 {
		s.enqueue(pipeline.Stored, item(fmt.Sprintf("m-%d", i)))
	}
	c := s.consumer(s.q)
	s.finish(c, pipeline.Dead, 0, pipeline.ReasonConflict+": because", s.take(c, 5)...)
	s.counts(0, 0, 0, 5)
	s.dead(5)
	list, err := s.q.Dead(s.ctx, 3)
	if err != nil || len(list) != 3 {
		s.Fatalf("%d dead items, error %v", len(list), err)
	}
	if d := list[0]; d.Item.MessageID != "m-0" || d.Err != nil || d.Reason != pipeline.ReasonConflict+": because" {
		s.Errorf("the oldest dead item is %+v", d)
	}
	if n, err := s.q.Requeue(s.ctx, []string{"m-3", "nobody"}); err != nil || n != 1 {
		s.Fatalf("requeued %d, error %v", n, err)
	}
	back := s.take(c, 1)
	if back[0].Item.MessageID != "m-3" || back[0].Item.AttemptCount != 0 {
		s.Errorf("%q came back as attempt %d", back[0].Item.MessageID, back[0].Item.AttemptCount)
	}
	s.finish(c, pipeline.Done, 0, "", back...)
	if n, err := s.q.Requeue(s.ctx, nil); err != nil || n != 4 {
		s.Fatalf("requeued %d, error %v", n, err)
	}
	s.finish(c, pipeline.Done, 0, "", s.take(c, 4)...)
	s.counts(0, 0, 0, 0)
}

func (s *suite) malformed() {
	if s.put == nil {
		s.Skip("this queue takes no bytes of others")
	}
	bodies := []string{`{"message_id":"f-1","client_id":"foreign","sender_number":"+4915200000000","message_body":"in clear"}`,
		"not JSON", `{"message_id":7}`, "\xff\xfe"}
	for _, b := range bodies {
		if err := s.put(b); err != nil {
			s.Fatal(err)
		}
	}
	c := s.consumer(s.q)
	for i, t := range s.take(c, len(bodies)) {
		if (i == 0) != (t.Err == nil) || t.Err != nil && !errors.Is(t.Err, pipeline.ErrMalformed) {
			s.Errorf("%q: error %v", bodies[i], t.Err)
		}
		s.finish(c, pipeline.Dead, 0, pipeline.ReasonMalformed, t)
	}
	s.counts(0, 0, 0, len(bodies))
	if list := s.dead(len(bodies)); list[1].Err == nil {
		s.Errorf("dead items: %+v", list)
	}
}

// closedConsumer: what a consumer held is taken by another one, and does not count as tried.
func (s *suite) closedConsumer() {
	s.enqueue(pipeline.Stored, item("m-1"), item("m-2"))
	c := s.consumer(s.q)
	taken := s.take(c, 2)
	s.finish(c, pipeline.Done, 0, "", taken[0])
	if err := c.Close(); err != nil {
		s.Fatal(err)
	}
	c = s.consumer(s.again())
	back := s.take(c, 1)
	if back[0].Item.MessageID != "m-2" || back[0].Item.AttemptCount != 0 {
		s.Errorf("%q came back as attempt %d", back[0].Item.MessageID, back[0].Item.AttemptCount)
	}
	s.finish(c, pipeline.Done, 0, "", back...)
	s.counts(0, 0, 0, 0)
}

func (s *suite) severalConsumers() {
	const n = 2000
	for i := 0; i < n; i += 100 {
		var items []pipeline.Item
		for j := range 100 {
			items = append(items, item(fmt.Sprintf("m-%04d", i+j)))
		}
		s.enqueue(pipeline.Stored, items...)
	}
	seen := make(chan string, n)
	for range 3 {
		c := s.consumer(s.again())
		go func() {
			for {
				taken, err := c.Take(s.ctx, 50)
				if err != nil {
					return
				}
				var list []pipeline.Finished
				for _, t := range taken {
					list = append(list, pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Done})
				}
				if c.Finish(s.ctx, list) != nil {
					return
				}
				for _, t := range taken {
					seen <- t.Item.MessageID
				}
			}
		}()
	}
	ids := make(map[string]bool)
	for range n {
		select {
		case id := <-seen:
			if ids[id] {
				s.Fatalf("%s went to two consumers", id)
			}
			ids[id] = true
		case <-s.ctx.Done():
			s.Fatalf("%d of %d items came", len(ids), n)
		}
	}
	s.counts(0, 0, 0, 0)
}

func (s *suite) largeItems() {
	it := item("m-1")
	it.Sealed = []byte(`{"text":"` + strings.Repeat("x", 600<<10) + `"}`)
	s.enqueue(pipeline.Stored, it)
	c := s.consumer(s.q)
	if taken := s.take(c, 1); len(taken[0].Item.Sealed) != len(it.Sealed) {
		s.Errorf("%d of %d bytes came back", len(taken[0].Item.Sealed), len(it.Sealed))
	}
}

// empty: a Take waits quietly, ends with its context, and finds what comes meanwhile.
func (s *suite) empty() {
	c := s.consumer(s.q)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	if taken, err := c.Take(ctx, 10); len(taken) > 0 || !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("took %d items from an empty queue, error %v", len(taken), err)
	}
	go func() { _, _ = s.q.Enqueue(s.ctx, []pipeline.Item{item("m-1")}) }()
	if taken := s.take(c, 1); taken[0].Item.MessageID != "m-1" {
		s.Errorf("took %q", taken[0].Item.MessageID)
	}
	if n, err := s.q.Requeue(s.ctx, nil); n != 0 || err != nil {
		s.Errorf("requeued %d of no dead items, error %v", n, err)
	}
}
