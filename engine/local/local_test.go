package local_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
)

func mustOpen(tb testing.TB, cfg local.Config) *local.Engine {
	tb.Helper()
	e, err := local.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

func declare(tb testing.TB, e *local.Engine, name string, o *sealmq.QueueOptions) {
	tb.Helper()
	done := make(chan error, 1)
	var options sealmq.QueueOptions
	if o != nil {
		options = *o
	}
	e.DeclareQueue(name, options, engine.AllFields, func(_ engine.QueueInfo, _ bool, err error) { done <- err })
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
}

func publish(tb testing.TB, e *local.Engine, reqs ...engine.Publish) []engine.PublishResult {
	tb.Helper()
	done := make(chan []engine.PublishResult, 1)
	e.Publish(reqs, func(r []engine.PublishResult) { done <- append([]engine.PublishResult(nil), r...) })
	return <-done
}

func message(id, body string, queues ...string) engine.Publish {
	return engine.Publish{Message: sealmq.Message{ID: id, Exchange: "x", Key: "k", Publisher: "p", Body: []byte(body)}, Queues: queues}
}

func TestBacklogSurvivesReopenAcrossManySegments(t *testing.T) {
	cfg := local.Config{Dir: t.TempDir(), SegmentBytes: 64 << 10}
	e := mustOpen(t, cfg)
	declare(t, e, "q", nil)
	const total = 5000
	var reqs []engine.Publish
	for i := range total {
		reqs = append(reqs, message(fmt.Sprintf("id-%d", i), fmt.Sprintf("body-%d", i), "q"))
	}
	for len(reqs) > 0 {
		for _, r := range publish(t, e, reqs[:50]...) {
			if r.Outcome != engine.Stored {
				t.Fatalf("%+v", r)
			}
		}
		reqs = reqs[50:]
	}
	s := e.NewSession(engine.SessionConfig{})
	s.Consume("q", engine.ConsumeOptions{Prefetch: 100}, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	next := 0
	take := func(n int) {
		t.Helper()
		for n > 0 {
			ds, err := s.Take(nil, min(n, 50), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if len(ds) == 0 {
				t.Fatalf("nothing to take at %d", next)
			}
			var acks []engine.Settlement
			for _, d := range ds {
				if string(d.Body) != fmt.Sprintf("body-%d", next) || d.ID != fmt.Sprintf("id-%d", next) {
					t.Fatalf("got %s %q, want %d", d.ID, d.Body, next)
				}
				next++
				n--
				acks = append(acks, engine.Settlement{Tag: d.Tag, Verdict: engine.Ack})
			}
			done := make(chan error, 1)
			s.Settle(acks, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	take(1234)
	for round := range 3 {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = mustOpen(t, cfg)
		if q, _ := e.Queue("q"); q.Ready != total-next {
			t.Fatalf("round %d: %d ready, want %d", round, q.Ready, total-next)
		}
		if r := publish(t, e, message("id-7", "body-7", "q"), message("id-8", "other", "q")); r[0].Outcome != engine.Repeated || r[1].Outcome != engine.Conflict {
			t.Fatalf("round %d: %+v", round, r)
		}
		s = e.NewSession(engine.SessionConfig{})
		s.Consume("q", engine.ConsumeOptions{Prefetch: 100}, func(error) {})
		take(1000)
	}
	take(total - next)
	if q, _ := e.Queue("q"); q.Ready != 0 || q.Unacked != 0 {
		t.Fatalf("%+v", q)
	}
}

// TestPeekIsBounded: large messages come in pages that memory has room for.
func TestPeekIsBounded(t *testing.T) {
	e := mustOpen(t, local.Config{Dir: t.TempDir()})
	declare(t, e, "q", &sealmq.QueueOptions{MaxLineBytes: sealmq.MaxLineBytes})
	body := strings.Repeat("b", 3<<20)
	for i := range 8 {
		publish(t, e, message(fmt.Sprint(i), body, "q"))
	}
	var pages []int
	for from := uint64(0); ; {
		list, err := e.Peek("q", from, sealmq.MaxPeek)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		pages, from = append(pages, len(list)), list[len(list)-1].Tag.Seq+1
	}
	if !slices.Equal(pages, []int{5, 3}) {
		t.Errorf("pages of %v messages, want 5 and 3", pages)
	}
}
