package worker_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/worker"
)

// queue is a queue in memory for one consumer.
type queue struct {
	pipeline.Queue
	mu       sync.Mutex
	counted  int // calls of Counts
	ready    []pipeline.Item
	attempts map[string]int
	dead     map[string]string // by message id: the reason
	done     map[string]int
	held     map[string]pipeline.Item
	retried  map[string]time.Duration
	away     error
	lost     error // ends the consumers that there are
	epoch    int   // of consumers
	opened   int
	refusals int // of Finish
	more     chan struct{}
}

func newQueue(ids ...string) *queue {
	q := &queue{attempts: map[string]int{}, dead: map[string]string{}, done: map[string]int{}, held: map[string]pipeline.Item{},
		retried: map[string]time.Duration{}, more: make(chan struct{}, 1)}
	for _, id := range ids {
		q.ready = append(q.ready, pipeline.Item{MessageID: id, ClientID: "acme", QueuedAt: time.Now()})
	}
	return q
}

func (q *queue) Consumer(string) (pipeline.Consumer, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opened++
	return &consumer{queue: q, epoch: q.epoch}, q.away
}

// lose ends all consumers, as the deletion of the queue does.
func (q *queue) lose(why error) {
	q.mu.Lock()
	q.lost = why
	q.epoch++
	q.mu.Unlock()
	q.wake()
}

func (q *queue) Counts(context.Context) (pipeline.Counts, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counted++
	return pipeline.Counts{Ready: len(q.ready), Retry: 2, Dead: 1, Oldest: time.Now().Add(-time.Minute)}, q.away
}

func (q *queue) setAway(err error) {
	q.mu.Lock()
	q.away = err
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) put(it pipeline.Item) {
	q.mu.Lock()
	q.ready = append(q.ready, it)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) + len(q.held)
}

type consumer struct {
	*queue
	epoch int
}

// Close gives back what is held.
func (c *consumer) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, it := range c.held {
		c.ready = append(c.ready, it)
		delete(c.held, id)
	}
	c.wake()
	return nil
}

func (c *consumer) Take(ctx context.Context, max int) ([]pipeline.Taken, error) {
	for {
		c.mu.Lock()
		if c.away != nil {
			defer c.mu.Unlock()
			return nil, c.away
		}
		if c.epoch != c.queue.epoch {
			defer c.mu.Unlock()
			defer c.wake() // for the others
			return nil, c.lost
		}
		if n := min(max, len(c.ready)); n > 0 {
			var taken []pipeline.Taken
			for _, it := range c.ready[:n] {
				c.held[it.MessageID] = it
				it.AttemptCount = c.attempts[it.MessageID]
				t := pipeline.Taken{Item: it, Ticket: it.MessageID}
				if strings.HasPrefix(it.MessageID, "garbage") {
					t = pipeline.Taken{Err: fmt.Errorf("%w: no JSON", pipeline.ErrMalformed), Ticket: it.MessageID}
				}
				taken = append(taken, t)
			}
			c.ready = c.ready[n:]
			if len(c.ready) > 0 {
				c.wake()
			}
			c.mu.Unlock()
			return taken, nil
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *consumer) Finish(_ context.Context, finished []pipeline.Finished) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away != nil {
		c.refusals++
		return c.away
	}
	for _, f := range finished {
		id := f.Ticket.(string)
		it, held := c.held[id]
		if !held { // it is somebody else's now
			continue
		}
		delete(c.held, id)
		switch f.Verdict {
		case pipeline.Done:
			c.done[id]++
		case pipeline.Dead:
			c.dead[id] = f.Reason
		case pipeline.Release:
			c.ready = append([]pipeline.Item{it}, c.ready...)
			c.wake()
		case pipeline.Retry:
			c.attempts[id]++
			c.retried[id] = f.After
			time.AfterFunc(f.After, func() { c.put(it) })
		}
	}
	return nil
}

// server is a main server whose answer a test decides.
type server struct {
	pipeline.Main
	mu      sync.Mutex
	deliver func(it pipeline.Item) (pipeline.ResultStatus, error)
	calls   [][]string
	updates []pipeline.Update
	away    error
	deaf    error // of Status alone
	unknown int   // calls of Status that find no row
}

func (s *server) Deliver(ctx context.Context, _ string, items []pipeline.Item) ([]pipeline.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	var results []pipeline.Result
	for _, it := range items {
		ids = append(ids, it.MessageID)
	}
	s.calls = append(s.calls, ids)
	if s.away != nil {
		return nil, s.away
	}
	for _, it := range items {
		status, err := s.deliver(it)
		if err != nil {
			return nil, err
		}
		results = append(results, pipeline.Result{MessageID: it.MessageID, Status: status, Reason: "because"})
	}
	return results, ctx.Err()
}

func (s *server) Status(_ context.Context, updates []pipeline.Update) ([]pipeline.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates = append(s.updates, updates...)
	results := make([]pipeline.Result, len(updates))
	if s.unknown > 0 {
		s.unknown--
		results[0].Status = pipeline.StatusNotFound
	}
	return results, cmp.Or(s.away, s.deaf)
}

func (s *server) Keys(context.Context) (pipeline.Keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return pipeline.Keys{}, s.away
}

func (s *server) setAway(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

func takeAll(pipeline.Item) (pipeline.ResultStatus, error) { return pipeline.StatusDelivered, nil }

// start runs a worker until the returned function is called.
func start(t *testing.T, cfg worker.Config) (w *worker.Worker, stop func()) {
	t.Helper()
	cfg.Name = "worker-1"
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return w, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("m-%03d", i)
	}
	return list
}

func TestEverythingIsDeliveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(ids(1000)...), &server{deliver: takeAll}
		w, stop := start(t, worker.Config{Queue: q, Main: s})
		synctest.Wait()
		for _, id := range ids(1000) {
			if q.done[id] != 1 {
				t.Fatalf("%s was finished %d times", id, q.done[id])
			}
		}
		if h := w.Health(); h.Status != "healthy" {
			t.Errorf("health is %+v", h)
		}
		stop()
	})
}

// TestMainServerAway: ten minutes without a main server use up no attempts but those of the
// items that were tried with, cost few calls, and everything arrives soon afterwards.
func TestMainServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(ids(1000)...), &server{deliver: takeAll, away: errors.New("connection refused")}
		w, stop := start(t, worker.Config{Queue: q, Main: s})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if calls := len(s.calls); calls > 200 {
			t.Errorf("%d calls were made while the main server was away", calls)
		}
		if h := w.Health(); h.Status != "unhealthy" || !strings.Contains(h.Checks["main_server"], "connection refused") {
			t.Errorf("health is %+v", h)
		}
		s.setAway(nil)
		time.Sleep(pipeline.RetryInterval + time.Second)
		synctest.Wait()
		if n := q.left(); n > 0 || len(q.done) != 1000 || len(q.dead) > 0 {
			t.Errorf("%d items are left, %d delivered, %d dead", n, len(q.done), len(q.dead))
		}
		stop()
	})
}

// TestMainServerGone: what was never sent costs no attempt, and does not wait for one after the
// main server is back.
func TestMainServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := &sealmq.Error{Code: sealmq.Unavailable, Err: pipeline.ErrUnsent}
		q, s := newQueue(ids(1)...), &server{deliver: takeAll, away: gone}
		_, stop := start(t, worker.Config{Queue: q, Main: s})
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls := len(s.calls); len(q.retried) > 0 || calls < 10 || calls > 30 {
			t.Errorf("%d calls in a minute, and %d attempts used up", calls, len(q.retried))
		}
		s.setAway(nil)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if len(q.done) != 1 {
			t.Error("the message still waits although the main server is back")
		}
		stop()
	})
}

// TestOnePoisonousItem: an item that makes every call fail that carries it holds up no other.
func TestOnePoisonousItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(ids(300)...)
		s := &server{deliver: func(it pipeline.Item) (pipeline.ResultStatus, error) {
			if it.MessageID == "m-007" {
				return "", errors.New("internal error")
			}
			return pipeline.StatusDelivered, nil
		}}
		_, stop := start(t, worker.Config{Queue: q, Main: s, MaxAttempts: 5})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(q.done) != 299 {
			t.Errorf("%d of 299 good items were delivered", len(q.done))
		}
		if q.dead["m-007"] != pipeline.ReasonMaxAttempts {
			t.Errorf("the bad item is dead for %q after %d attempts", q.dead["m-007"], q.attempts["m-007"])
		}
		if n := len(s.updates); n != 6 || s.updates[n-1].State != pipeline.Failed || s.updates[n-1].Error != "Exceeded maximum attempts (5)" {
			t.Errorf("the main server was told %+v", s.updates)
		}
		stop()
	})
}

func TestAnswersDecide(t *testing.T) {
	for answer, want := range map[pipeline.ResultStatus]string{
		pipeline.StatusDelivered: "done", pipeline.StatusAlready: "done", pipeline.StatusConflict: "conflict: because",
		pipeline.StatusInvalid: "malformed: because", pipeline.StatusRefused: "refused: because", pipeline.StatusNotFound: "retry",
		pipeline.StatusUnavailable: "retry", "strange": "retry",
	} {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue("m-1")
			s := &server{deliver: func(pipeline.Item) (pipeline.ResultStatus, error) { return answer, nil }}
			_, stop := start(t, worker.Config{Queue: q, Main: s})
			synctest.Wait()
			got := q.dead["m-1"]
			if q.done["m-1"] == 1 {
				got = "done"
			} else if q.retried["m-1"] == pipeline.RetryInterval {
				got = "retry"
			}
			if got != want {
				t.Errorf("%s: became %q, want %q", answer, got, want)
			}
			stop()
		})
	}
}

// TestRowsOfDeadLetters: before an item becomes a dead letter its row says why, unless the row is
// another message's. As long as it cannot, the item stays in the queue.
func TestRowsOfDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("invalid", "refused", "conflict")
		s := &server{deaf: errors.New("the database is away"), deliver: func(it pipeline.Item) (pipeline.ResultStatus, error) {
			return pipeline.ResultStatus(it.MessageID), nil
		}}
		_, stop := start(t, worker.Config{Queue: q, Main: s})
		synctest.Wait()
		if len(q.dead) != 1 || q.dead["conflict"] == "" || q.retried["invalid"] != pipeline.RetryInterval {
			t.Errorf("while rows cannot be changed: dead %v, retried %v", q.dead, q.retried)
		}
		s.mu.Lock()
		s.updates, s.deaf = nil, nil
		s.mu.Unlock()
		time.Sleep(pipeline.RetryInterval + time.Second)
		synctest.Wait()
		if len(q.dead) != 3 || q.left() != 0 {
			t.Errorf("afterwards: dead %v", q.dead)
		}
		want := []pipeline.Update{
			{MessageID: "invalid", ClientID: "acme", State: pipeline.Failed, Attempts: 2, Worker: "worker-1", Error: "malformed: because"},
			{MessageID: "refused", ClientID: "acme", State: pipeline.Failed, Attempts: 2, Worker: "worker-1", Error: "refused: because"},
		}
		slices.SortFunc(s.updates, func(a, b pipeline.Update) int { return strings.Compare(a.MessageID, b.MessageID) }) // they come back at one moment
		if !slices.Equal(s.updates, want) {
			t.Errorf("the main server was told %+v", s.updates)
		}
		stop()
	})
}

// TestFailuresAreReported: the main server learns of each failed attempt, once it can, and of those
// whose message has no row yet again.
func TestFailuresAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("m-1")
		s := &server{unknown: 2, deliver: func(it pipeline.Item) (pipeline.ResultStatus, error) {
			if it.AttemptCount < 3 {
				return "", errors.New("no answer")
			}
			return pipeline.StatusDelivered, nil
		}}
		_, stop := start(t, worker.Config{Queue: q, Main: s})
		began := time.Now()
		time.Sleep(3 * pipeline.RetryInterval)
		synctest.Wait()
		stop()
		report := func(n int, after time.Duration) pipeline.Update {
			return pipeline.Update{MessageID: "m-1", ClientID: "acme", State: pipeline.Queued, Attempts: n, Error: "no answer", Worker: "worker-1", At: began.Add(after)}
		}
		first := report(1, 0)
		second := report(2, pipeline.RetryInterval)
		if got := s.updates; len(got) != 4 || got[0] != first || got[1] != first || got[2] != first || got[3] != second {
			t.Errorf("the main server was told %+v", got)
		}
	})
}

func TestGarbageIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue("garbage-1", "m-1", "garbage-2"), &server{deliver: takeAll}
		_, stop := start(t, worker.Config{Queue: q, Main: s})
		synctest.Wait()
		if len(q.dead) != 2 || q.dead["garbage-1"] != pipeline.ReasonMalformed || q.done["m-1"] != 1 {
			t.Errorf("dead: %v, delivered: %v", q.dead, q.done)
		}
		stop()
	})
}

// TestQueueAway: the worker starts without a queue, finds it, loses it and finds it again;
// what was delivered while it was away is settled when it is back.
func TestQueueAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(ids(10)...), &server{deliver: takeAll}
		q.away = errors.New("no broker")
		w, stop := start(t, worker.Config{Queue: q, Main: s})
		time.Sleep(time.Minute)
		if h := w.Health(); h.Status != "unhealthy" || h.Checks["main_server"] != "healthy" {
			t.Errorf("health is %+v", h)
		}
		s.deliver = func(pipeline.Item) (pipeline.ResultStatus, error) {
			q.setAway(errors.New("gone again"))
			return pipeline.StatusDelivered, nil
		}
		q.setAway(nil)
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.deliver = takeAll
		s.mu.Unlock()
		q.setAway(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(q.done) != 10 {
			t.Errorf("%d of 10 were delivered", len(q.done))
		}
		if h := w.Health(); h.Status != "healthy" {
			t.Errorf("health is %+v", h)
		}
		stop()
	})
}

// TestSubscriptionEnds: a worker whose queue was deleted, or that may not consume for a while,
// begins again by itself.
func TestSubscriptionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(ids(10)...), &server{deliver: takeAll}
		w, stop := start(t, worker.Config{Queue: q, Main: s})
		synctest.Wait()
		for i := range 3 {
			q.lose(errors.New("queue was deleted"))
			synctest.Wait()
			if h := w.Health(); h.Status != "unhealthy" || !strings.Contains(h.Checks["queue"], "deleted") {
				t.Errorf("health is %+v", h)
			}
			q.put(pipeline.Item{MessageID: fmt.Sprintf("later-%d", i), ClientID: "acme"})
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if q.done[fmt.Sprintf("later-%d", i)] != 1 {
				t.Errorf("after loss %d: %v", i, q.done)
			}
			if h := w.Health(); h.Status != "healthy" {
				t.Errorf("health is %+v", h)
			}
		}
		if q.opened != 4 {
			t.Errorf("%d consumers were opened", q.opened)
		}
		stop()
	})
}

// TestQueueAwayWhileFinishing: the slots of a worker try one at a time until the queue takes
// what became of its items.
func TestQueueAwayWhileFinishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(ids(40)...)
		s := &server{deliver: func(pipeline.Item) (pipeline.ResultStatus, error) {
			q.setAway(errors.New("gone"))
			return pipeline.StatusDelivered, nil
		}}
		w, stop := start(t, worker.Config{Queue: q, Main: s, Batch: 10, Concurrency: 4})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if q.refusals > 130 {
			t.Errorf("the queue was told %d times in ten minutes", q.refusals)
		}
		if h := w.Health(); h.Checks["queue"] == "healthy" {
			t.Errorf("health is %+v", h)
		}
		s.mu.Lock()
		s.deliver = takeAll
		s.mu.Unlock()
		q.setAway(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(q.done) != 40 {
			t.Errorf("%d of 40 were delivered", len(q.done))
		}
		stop()
	})
}

// TestNothingToDo: an idle worker too notices that the queue or the main server is away, and
// that it is back.
func TestNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(), &server{deliver: takeAll}
		w, stop := start(t, worker.Config{Queue: silent{q}, Main: s})
		for range 2 {
			for name, away := range map[string]func(error){"queue": q.setAway, "main_server": s.setAway} {
				away(&sealmq.Error{Code: sealmq.Unavailable, Message: "away"})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if h := w.Health(); h.Status != "unhealthy" || !strings.Contains(h.Checks[name], "away") {
					t.Errorf("%s: health is %+v", name, h)
				}
				away(nil)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if h := w.Health(); h.Status != "healthy" {
					t.Errorf("%s: health is %+v", name, h)
				}
			}
		}
		stop()
	})
}

// silent is a queue whose consumers only wait while it is away, as over a network.
type silent struct{ *queue }

func (s silent) Consumer(string) (pipeline.Consumer, error) { return silentConsumer{}, nil }

type silentConsumer struct{ pipeline.Consumer }

func (silentConsumer) Take(ctx context.Context, _ int) ([]pipeline.Taken, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silentConsumer) Close() error { return nil }

// TestStopFinishesWhatIsUnderWay: a delivery that is under way when the worker is stopped is
// finished, and nothing else is begun.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(ids(10)...)
		s := &server{deliver: func(pipeline.Item) (pipeline.ResultStatus, error) {
			time.Sleep(10 * time.Second)
			return pipeline.StatusDelivered, nil
		}}
		_, stop := start(t, worker.Config{Queue: q, Main: s, Concurrency: 1, Batch: 2})
		synctest.Wait()
		stop()
		if len(q.done) != 2 || q.left() != 8 {
			t.Errorf("%d were delivered and %d are left, want 2 and 8", len(q.done), q.left())
		}
	})
}

func TestStopGivesBackWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, s := newQueue(ids(3)...), &hanging{}
		_, stop := start(t, worker.Config{Queue: q, Main: s, Timeout: time.Hour})
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took > worker.DefaultDrain+time.Second {
			t.Errorf("the stop took %s", took)
		}
		if q.left() != 3 || len(q.attempts) > 0 {
			t.Errorf("%d of 3 items are left; attempts %v", q.left(), q.attempts)
		}
	})
}

type hanging struct{ server }

func (*hanging) Deliver(ctx context.Context, _ string, _ []pipeline.Item) ([]pipeline.Result, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestBadConfigurations(t *testing.T) {
	for _, cfg := range []worker.Config{{}, {Name: strings.Repeat("w", 101)}, {Name: "w", Batch: 501}, {Name: "w", Batch: -1}, {Name: "w", Concurrency: -1}} {
		if _, err := worker.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
