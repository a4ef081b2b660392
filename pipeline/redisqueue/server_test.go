package redisqueue_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/redisqueue"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// until waits until something is true of a server.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(end) || await(t.Context(), 10*time.Millisecond) != nil {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func info(t *testing.T, c *goredis.Client, name string) string {
	t.Helper()
	all, err := c.Info(t.Context()).Result()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(all) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

func offset(t *testing.T, c *goredis.Client, name string) int64 {
	t.Helper()
	n, _ := strconv.ParseInt(info(t, c, name), 10, 64)
	return n
}

// awaitNewLog waits until a server has rewritten its append-only file since its start.
func awaitNewLog(t *testing.T, s *redis.Server) {
	t.Helper()
	c := s.Client()
	defer c.Close()
	until(t, "the append-only file is rewritten", func() bool {
		last := info(t, c, "aof_last_rewrite_time_sec")
		return last != "" && last != "-1" && info(t, c, "aof_rewrite_in_progress") == "0"
	})
}

// TestTornTransaction: Redis is killed as it writes what a script has changed, and later once more.
func TestTornTransaction(t *testing.T) {
	s := redis.Run(t)
	q := open(t, config(s))
	awaitNewLog(t, s)
	items := sealedItems(10, "m")
	enqueue := func() {
		t.Helper()
		results, err := q.Enqueue(t.Context(), items)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Outcome != pipeline.Stored {
				t.Fatalf("%+v", r)
			}
		}
	}
	again := func() {
		t.Helper()
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		until(t, "the queue has found the server", func() bool { _, err := q.Counts(t.Context()); return err == nil })
	}

	enqueue()
	s.Kill()
	log, err := s.Log()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(log)
	if err == nil {
		err = os.Truncate(log, st.Size()-20)
	}
	if err != nil {
		t.Fatal(err)
	}
	again()
	enqueue() // of the torn transaction nothing is there
	awaitNewLog(t, s)
	s.Kill()
	again()
	if c, err := q.Counts(t.Context()); err != nil || c.Ready != len(items) {
		t.Errorf("%+v, %v, want %d ready", c, err, len(items))
	}
}

func isMaster(t *testing.T, s *redis.Server) bool {
	c := s.Client()
	defer c.Close()
	return info(t, c, "role") == "master"
}

// outcome enqueues an item and returns what became of it.
func outcome(t *testing.T, q *redisqueue.Queue, id string) pipeline.EnqueueResult {
	t.Helper()
	results, err := q.Enqueue(t.Context(), sealedItems(1, id))
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	return results[0]
}

// TestAway: without a server calls fail at once or within two seconds, and it is found when it
// is there again.
func TestAway(t *testing.T) {
	s := redis.Run(t)
	s.Kill()
	q := open(t, config(s)) // is no error
	began := time.Now()
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Refused || sealmq.CodeOf(r.Err) != sealmq.Unavailable {
		t.Errorf("%+v", r)
	}
	if _, err := q.Consumer("worker-1"); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("consumer: %v", err)
	}
	if _, err := q.Counts(t.Context()); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("counts: %v", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("it took %v to say so", d)
	}
	if st := q.Status(); st.Up || st.Why == "" {
		t.Errorf("%+v", st)
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Stored {
		t.Errorf("%+v", r)
	}
	if st := q.Status(); !st.Up || st.Trouble != "" || st.Version == "" {
		t.Errorf("%+v", st)
	}
	c, err := q.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.Close(); err != nil {
		t.Errorf("a consumer ends without its server: %v", err)
	}
}

// TestRefusedServers are servers that cannot hold the queue.
func TestRefusedServers(t *testing.T) {
	s := redis.Require(t, shared)
	empty(t, s)
	bad := config(s)
	bad.Password = "guessed"
	if _, err := redisqueue.Open(t.Context(), bad); err == nil || strings.Contains(err.Error(), "guessed") || strings.Contains(err.Error(), s.Password()) {
		t.Errorf("a wrong password: %v", err)
	}
	for replaced, want := range map[string]string{"redis_version:4.0.15": "version 5 or later", "redis_mode:cluster   ": "Redis Cluster"} {
		cfg := config(s)
		cfg.Addr = pretend(t, s, "redis_"+strings.SplitN(replaced[6:], ":", 2)[0]+":", replaced)
		if _, err := redisqueue.Open(t.Context(), cfg); err == nil || !contains(err.Error(), want) {
			t.Errorf("%s: %v", replaced, err)
		}
	}
	replica := redis.Require(t, func() (*redis.Server, error) { return redis.StartReplica(s) })
	defer replica.Close()
	cfg := config(s)
	cfg.Addr = replica.Addr()
	q := open(t, cfg) // it may become the master
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Refused || sealmq.CodeOf(r.Err) != sealmq.Unavailable || !contains(q.Status().Why, "replica") {
		t.Errorf("a replica: %+v, %+v", r, q.Status())
	}
}

// pretend is a way to a server on which one thing that it says of itself is another one of the same length, and on
// which it knows WAITAOF if synced is given, of which it says that so many servers have synced.
func pretend(t *testing.T, s *redis.Server, prefix, says string, synced ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	change := func(b []byte) []byte {
		if i := bytes.Index(b, []byte(prefix)); i >= 0 {
			copy(b[i:], says)
		}
		const refusal = "-ERR unknown command 'WAITAOF'"
		if i := bytes.Index(b, []byte(refusal)); i >= 0 && len(synced) > 0 {
			end := i + bytes.Index(b[i:], []byte("\r\n"))
			b = bytes.Replace(b, b[i:end], []byte("*2\r\n:"+synced[0]+"\r\n:0"), 1)
		}
		return b
	}
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", s.Addr())
			if err != nil {
				_ = from.Close()
				return
			}
			go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
			go func() {
				defer from.Close()
				b := make([]byte, 1<<20) // the answers are small, and come as a whole
				for {
					n, err := to.Read(b)
					if _, errWrite := from.Write(change(b[:n])); err != nil || errWrite != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestVersions: an old server has other commands, and a new one is waited for.
func TestVersions(t *testing.T) {
	s := redis.Run(t, "--appendfsync", "everysec")
	for name, c := range map[string]struct {
		says    string
		synced  string
		outcome pipeline.Outcome
		trouble string
	}{
		"old":              {"redis_version:5.0.15", "", pipeline.Stored, "set appendfsync always"},
		"new":              {"redis_version:7.2.15", "1", pipeline.Stored, ""},
		"new and unsynced": {"redis_version:7.2.15", "0", pipeline.Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			empty(t, s)
			cfg := config(s)
			cfg.Addr = pretend(t, s, "redis_version:", c.says, c.synced)
			q := open(t, cfg)
			if st := q.Status(); !contains(st.Trouble, c.trouble) || (c.trouble == "") != (st.Trouble == "") {
				t.Errorf("%+v", st)
			}
			if r := outcome(t, q, "m"); r.Outcome != c.outcome {
				t.Errorf("%+v", r)
			}
			if c.outcome != pipeline.Stored {
				return
			}
			consumer, err := q.Consumer("worker-1")
			if err != nil {
				t.Fatal(err)
			}
			if taken, err := consumer.Take(t.Context(), 10); err != nil || len(taken) != 1 {
				t.Fatalf("%d, %v", len(taken), err)
			}
			came := make(chan int, 1)
			go func() {
				taken, _ := consumer.Take(t.Context(), 10) // waits for it
				came <- len(taken)
			}()
			outcome(t, q, "later")
			if n := <-came; n != 1 {
				t.Errorf("%d came later", n)
			}
		})
	}
}

// TestStatus: what the settings of a server mean, as they are and as they change.
func TestStatus(t *testing.T) {
	s := redis.Run(t)
	raw := s.Client()
	defer raw.Close()
	set := func(name, value string) {
		t.Helper()
		if err := raw.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, value, good, says string }{
		{"appendfsync", "everysec", "always", "set appendfsync always"},
		{"appendfsync", "no", "always", "set appendfsync always"},
		{"maxmemory-policy", "allkeys-lru", "noeviction", "set maxmemory-policy noeviction"},
		{"appendonly", "no", "yes", "set appendonly yes"},
	} {
		set(c.name, c.value)
		if st := open(t, config(s)).Status(); !contains(st.Trouble, c.says) {
			t.Errorf("%s %s: %+v", c.name, c.value, st)
		}
		set(c.name, c.good)
		if st := open(t, config(s)).Status(); st.Trouble != "" || !st.Up {
			t.Errorf("%s %s: %+v", c.name, c.good, st)
		}
	}
	if err := raw.Do(t.Context(), "ACL", "SETUSER", "sealmq", "on", ">a password", "~message_queue*", "+@all", "-@dangerous", "+info").Err(); err != nil {
		t.Fatal(err)
	}
	q := open(t, redisqueue.Config{Addr: s.Addr(), User: "sealmq", Password: "a password"})
	if st := q.Status(); !contains(st.Trouble, "does not say") {
		t.Errorf("a server without CONFIG: %+v", st)
	}
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Stored {
		t.Errorf("%+v", r)
	}
}

// TestMemoryFull: nothing goes in, and everything goes out.
func TestMemoryFull(t *testing.T) {
	s := redis.Run(t)
	raw := s.Client()
	defer raw.Close()
	q := open(t, config(s))
	for _, id := range []string{"a", "b", "c", "d"} {
		if r := outcome(t, q, id); r.Outcome != pipeline.Stored {
			t.Fatalf("%+v", r)
		}
	}
	if err := raw.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	r := outcome(t, q, "e")
	if r.Outcome != pipeline.Refused || sealmq.CodeOf(r.Err) != sealmq.NoStorage || !contains(r.Err.Error(), "maxmemory") {
		t.Errorf("%+v", r)
	}
	c, err := q.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := c.Take(t.Context(), 10)
	if err != nil || len(taken) != 4 {
		t.Fatalf("%d taken, %v", len(taken), err)
	}
	if err := c.Finish(t.Context(), []pipeline.Finished{{Ticket: taken[0].Ticket, Verdict: pipeline.Done}, {Ticket: taken[1].Ticket, Verdict: pipeline.Retry},
		{Ticket: taken[2].Ticket, Verdict: pipeline.Dead, Reason: "refused"}, {Ticket: taken[3].Ticket, Verdict: pipeline.Retry, After: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	if taken, err := c.Take(t.Context(), 10); err != nil || len(taken) != 1 {
		t.Errorf("%d taken, %v", len(taken), err)
	}
	if n, err := q.Requeue(t.Context(), nil); n != 1 || err != nil {
		t.Errorf("%d requeued, %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if counts, err := q.Counts(t.Context()); err != nil || counts.Ready != 2 || counts.Retry != 1 || counts.Processing != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
	if err := raw.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if r := outcome(t, q, "e"); r.Outcome != pipeline.Stored {
		t.Errorf("%+v", r)
	}
}

// TestWrongType: a key of another kind loses nothing.
func TestWrongType(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	if err := raw.Set(t.Context(), pipeline.QueueName, "text", 0).Err(); err != nil {
		t.Fatal(err)
	}
	q := open(t, config(s))
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Refused || r.Err == nil || !errors.As(r.Err, new(*sealmq.Error)) {
		t.Errorf("%+v", r)
	}
	raw.Del(t.Context(), pipeline.QueueName)
	if r := outcome(t, q, "m"); r.Outcome != pipeline.Stored {
		t.Errorf("%+v", r)
	}
}
