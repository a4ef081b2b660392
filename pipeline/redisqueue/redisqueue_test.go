package redisqueue_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/queuetest"
	"github.com/sealmq/sealmq/pipeline/redisqueue"
)

// shared is the server of all tests that do nothing bad to it.
var shared = sync.OnceValues(func() (*redis.Server, error) { return redis.Start() })

func TestMain(m *testing.M) {
	code := m.Run()
	if s, err := shared(); err == nil {
		_ = s.Close() // its process goes with ours
	}
	os.Exit(code)
}

// empty returns a client of a server without keys.
func empty(t testing.TB, s *redis.Server) *goredis.Client {
	t.Helper()
	c := s.Client()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func config(s *redis.Server) redisqueue.Config {
	return redisqueue.Config{Addr: s.Addr(), Password: s.Password()}
}

func open(t testing.TB, cfg redisqueue.Config) *redisqueue.Queue {
	t.Helper()
	q, err := redisqueue.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() }) // the server may be gone
	return q
}

func TestConformance(t *testing.T) {
	s := redis.Require(t, shared)
	for _, name := range []string{"", "other:queue"} {
		t.Run(fmt.Sprintf("queue %q", name), func(t *testing.T) {
			queuetest.Run(t, func(t *testing.T) (func() pipeline.Queue, func(string) error) {
				raw := empty(t, s)
				cfg := config(s)
				cfg.Queue = name
				put := func(body string) error {
					key := name
					if key == "" {
						key = pipeline.QueueName
					}
					return raw.LPush(t.Context(), key, body).Err()
				}
				return func() pipeline.Queue { return open(t, cfg) }, put
			})
		})
	}
}
