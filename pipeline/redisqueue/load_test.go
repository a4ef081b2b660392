package redisqueue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/redisqueue"
)

// load is a producer and two workers, and a ledger of what they were told.
type load struct {
	*testing.T
	ctx     context.Context
	running sync.WaitGroup
	calm    sync.RWMutex // held for writing, the producer is quiet

	mu       sync.Mutex
	stored   map[string]bool
	finished map[string]int
	unknown  map[string]bool // Finish was left without an answer
	again    []string        // taken after Finish had returned
	complete bool            // the producer has ended
	moved    chan struct{}
}

const batch = 20

// startLoad begins to enqueue batches of items.
func startLoad(t *testing.T, cfg redisqueue.Config, batches int) *load {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	l := &load{T: t, ctx: ctx, stored: make(map[string]bool), finished: make(map[string]int), unknown: make(map[string]bool), moved: make(chan struct{}, 1)}
	producer, workers := open(t, cfg), []*redisqueue.Queue{open(t, cfg), open(t, cfg)}
	l.running.Go(func() { l.produce(producer, batches) })
	for i, q := range workers {
		l.running.Go(func() { l.work(q, fmt.Sprintf("worker-%d", i)) })
	}
	t.Cleanup(func() {
		cancel()
		l.running.Wait()
	})
	return l
}

func (l *load) produce(q *redisqueue.Queue, batches int) {
	for b := range batches {
		items := sealedItems(batch, fmt.Sprintf("m-%d", b))
		for len(items) > 0 && l.ctx.Err() == nil {
			l.calm.RLock()
			results, err := q.Enqueue(l.ctx, items)
			l.calm.RUnlock()
			if err != nil {
				l.Error(err)
				return
			}
			var again []pipeline.Item
			for i, r := range results {
				switch r.Outcome {
				case pipeline.Stored, pipeline.Duplicate:
					l.note(func() { l.stored[items[i].MessageID] = true })
				case pipeline.Conflict:
					l.Errorf("%s conflicts with itself", items[i].MessageID)
				default:
					again = append(again, items[i])
				}
			}
			items = again
		}
	}
	l.note(func() { l.complete = true })
}

// work does what a worker does: after an error it begins again with a new consumer.
func (l *load) work(q *redisqueue.Queue, name string) {
	for l.ctx.Err() == nil {
		c, err := q.Consumer(name)
		for err == nil {
			var taken []pipeline.Taken
			if taken, err = c.Take(l.ctx, 2*batch); err != nil {
				break
			}
			list := make([]pipeline.Finished, len(taken))
			for i, t := range taken {
				l.note(func() {
					if l.finished[t.Item.MessageID] > 0 {
						l.again = append(l.again, t.Item.MessageID)
					}
				})
				list[i] = pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Done}
			}
			err = c.Finish(l.ctx, list)
			l.note(func() {
				for _, t := range taken {
					if err == nil {
						l.finished[t.Item.MessageID]++
					} else {
						l.unknown[t.Item.MessageID] = true
					}
				}
			})
		}
		if c != nil {
			_ = c.Close() // the server may be away
		}
	}
}

func (l *load) note(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// until waits until something is true of the ledger.
func (l *load) until(what string, is func() bool) {
	l.Helper()
	for {
		l.mu.Lock()
		ok := is()
		stored, finished := len(l.stored), len(l.finished)
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.moved:
		case <-l.ctx.Done():
			l.Fatalf("not until the end: %s; %d stored, %d finished", what, stored, finished)
		}
	}
}

// some waits until so many items more are finished.
func (l *load) some(n int) {
	l.Helper()
	l.mu.Lock()
	want := len(l.finished) + n
	l.mu.Unlock()
	l.until("items are finished", func() bool { return len(l.finished) >= want || l.complete })
}

// judge waits for the end. What was stored is finished, or Finish was left without an answer, and
// what is finished does not come again, unless some were lost with their server's last second.
func (l *load) judge(q *redisqueue.Queue, again int) {
	l.Helper()
	l.until("everything is finished", func() bool {
		for id := range l.stored {
			if l.finished[id] == 0 && !l.unknown[id] {
				return false
			}
		}
		return l.complete
	})
	for {
		c, err := q.Counts(l.ctx)
		if err == nil && c.Ready+c.Processing+c.Retry+c.Dead == 0 {
			break
		}
		if l.ctx.Err() != nil {
			l.Fatalf("left over: %+v, %v", c, err)
		}
		_ = await(l.ctx, 10*time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.again) > again {
		l.Errorf("%d items came again after they were finished, for example %s", len(l.again), l.again[0])
	}
}

// await is a pause between two looks at another process.
func await(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestFaults harms the server in the middle of load.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for time-outs")
	}
	for name, harm := range map[string]func(l *load, s *redis.Server, q *redisqueue.Queue){
		"nothing": func(*load, *redis.Server, *redisqueue.Queue) {},
		"killed": func(l *load, s *redis.Server, _ *redisqueue.Queue) {
			s.Kill()
			if err := s.Restart(); err != nil {
				l.Fatal(err)
			}
			awaitNewLog(l.T, s) // being killed before that can do harm, as the page says
		},
		"frozen": func(l *load, s *redis.Server, q *redisqueue.Queue) {
			if err := s.Freeze(); err != nil {
				l.Skip(err)
			}
			for q.Status().Up && l.ctx.Err() == nil {
				_, _ = q.Counts(l.ctx) // until it is noticed
			}
			if err := s.Thaw(); err != nil {
				l.Fatal(err)
			}
		},
		"paused":          func(l *load, s *redis.Server, _ *redisqueue.Queue) { l.command(s, "CLIENT", "PAUSE", "700") },
		"cut off":         func(l *load, s *redis.Server, _ *redisqueue.Queue) { l.command(s, "CLIENT", "KILL", "TYPE", "normal") },
		"without scripts": func(l *load, s *redis.Server, _ *redisqueue.Queue) { l.command(s, "SCRIPT", "FLUSH") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redis.Run(t)
			q := open(t, config(s))
			l := startLoad(t, config(s), 150)
			for range 3 {
				l.some(500)
				harm(l, s, q)
			}
			l.judge(q, 0)
		})
	}
}

func (l *load) command(s *redis.Server, args ...any) {
	l.Helper()
	c := s.Client()
	defer c.Close()
	if err := c.Do(l.ctx, args...).Err(); err != nil {
		l.Fatal(err)
	}
}

// TestFailover kills the master while its replica has everything that was stored. Sentinel
// promotes the replica, and the queue goes on there. What the replica did not have of takes
// and finishes comes again.
func TestFailover(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a failover")
	}
	master := redis.Run(t)
	replica := redis.Require(t, func() (*redis.Server, error) { return redis.StartReplica(master) })
	defer replica.Close()
	sentinel := redis.Require(t, func() (*redis.Server, error) { return redis.StartSentinel("mq", master) })
	defer sentinel.Close()
	watch := sentinel.Client()
	defer watch.Close()
	known := func(field string, want string) func() bool {
		return func() bool {
			info, err := watch.Info(t.Context(), "sentinel").Result()
			return err == nil && contains(info, field+"="+want)
		}
	}
	until(t, "the Sentinel knows the replica", known("slaves", "1"))
	cfg := redisqueue.Config{Sentinels: []string{sentinel.Addr()}, Master: "mq", Password: master.Password()}
	q := open(t, cfg)
	if st := q.Status(); !st.Up {
		t.Fatal(st.Why)
	}
	l := startLoad(t, cfg, 150)
	l.some(1000)
	l.calm.Lock()
	raw := master.Client()
	defer raw.Close()
	if n, err := raw.Do(t.Context(), "WAIT", "1", "10000").Int(); err != nil || n != 1 {
		t.Fatalf("%d replicas, %v", n, err)
	}
	until(t, "the replica has everything", func() bool {
		return offset(t, raw, "master_repl_offset") <= offset(t, replica.Client(), "slave_repl_offset")
	})
	master.Kill()
	l.calm.Unlock()
	until(t, "the replica is the master", func() bool { return q.Status().Up && isMaster(t, replica) })
	l.judge(q, 1000)
}
