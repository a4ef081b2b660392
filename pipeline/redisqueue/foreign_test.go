package redisqueue_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/pipeline"
)

// foreign is an item of another program, with a member that we do not know.
const foreign = `{"message_id":"test-msg-1","sender_number":"+4915200000000","message_body":"in clear","client_id":"acme-01","priority":9007199254740993,"attempt_count":2}`

// TestForeigners: other programs see a plain list, first in, first out, with the commands of the
// design documents.
func TestForeigners(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	q := open(t, config(s))
	outcome(t, q, "first")
	if err := raw.LPush(t.Context(), "message_queue", foreign).Err(); err != nil {
		t.Fatal(err)
	}
	outcome(t, q, "third")
	if n, err := raw.LLen(t.Context(), "message_queue").Result(); n != 3 || err != nil {
		t.Errorf("LLEN says %d, %v", n, err)
	}
	all, err := raw.LRange(t.Context(), "message_queue", 0, -1).Result()
	if err != nil || len(all) != 3 || all[1] != foreign || !contains(all[0], `"message_id":"third`) {
		t.Errorf("LRANGE shows %q, %v", all, err)
	}
	if got, err := raw.BRPop(t.Context(), time.Second, "message_queue").Result(); err != nil || !contains(got[1], `"message_id":"first`) {
		t.Errorf("BRPOP takes %q, %v", got, err)
	}
	c, err := q.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := c.Take(t.Context(), 10)
	if err != nil || len(taken) != 2 || taken[0].Item.MessageBody != "in clear" || taken[0].Item.Enc != "" || taken[0].Item.AttemptCount != 2 {
		t.Fatalf("%+v, %v", taken, err)
	}
	held, err := raw.Keys(t.Context(), "message_queue:processing:worker-1:*").Result()
	if err != nil || len(held) != 1 {
		t.Errorf("%q, %v", held, err)
	}
	// It is tried again, with everything that it had.
	if err := c.Finish(t.Context(), []pipeline.Finished{{Ticket: taken[0].Ticket, Verdict: pipeline.Retry, After: time.Hour, Reason: `no "route"`}}); err != nil {
		t.Fatal(err)
	}
	list, err := raw.ZRange(t.Context(), "message_queue:retry", 0, -1).Result()
	if err != nil || len(list) != 1 || !contains(list[0], `"priority":9007199254740993`) || !contains(list[0], `"attempt_count":3`) ||
		!contains(list[0], `"last_error":"no \"route\""`) || !contains(list[0], `"next_attempt_at":"`) || !json.Valid([]byte(list[0])) {
		t.Errorf("%q, %v", list, err)
	}
}

// TestDeadList: dead items are wrapped, whatever they are, and come back as they were.
func TestDeadList(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	q := open(t, config(s))
	bad := "\xff no JSON"
	if err := raw.LPush(t.Context(), "message_queue", foreign, bad).Err(); err != nil {
		t.Fatal(err)
	}
	c, err := q.Consumer("worker-1")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := c.Take(t.Context(), 10)
	if err != nil || len(taken) != 2 {
		t.Fatalf("%+v, %v", taken, err)
	}
	for _, one := range taken {
		if err := c.Finish(t.Context(), []pipeline.Finished{{Ticket: one.Ticket, Verdict: pipeline.Dead, Reason: pipeline.ReasonMalformed}}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := raw.LRange(t.Context(), "message_queue:dead", 0, -1).Result()
	if err != nil || len(list) != 2 || !contains(list[1], `{"item":`+foreign+`,"reason":"malformed","at":"`) || !contains(list[1], `"worker_id":"worker-1"`) || !contains(list[0], `"raw":"`) {
		t.Errorf("%q, %v", list, err)
	}
	if n, err := q.Requeue(t.Context(), nil); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	list, err = raw.LRange(t.Context(), "message_queue", 0, -1).Result()
	if err != nil || len(list) != 2 || list[0] != bad || !contains(list[1], `"attempt_count":0`) || !contains(list[1], `"priority":9007199254740993`) {
		t.Errorf("%q, %v", list, err)
	}
}

// TestManyDead puts back some of more dead items than are read at a time.
func TestManyDead(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	q := open(t, config(s))
	var ids []string
	for i := range 350 {
		id := fmt.Sprintf("m-%03d", i)
		if i%3 == 0 {
			ids = append(ids, id)
		}
		if err := raw.LPush(t.Context(), "message_queue:dead", fmt.Sprintf(`{"item":{"message_id":%q,"client_id":"acme-01"},"reason":"refused"}`, id)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := q.Requeue(t.Context(), append(ids, "nobody")); n != len(ids) || err != nil {
		t.Errorf("%d requeued, %v", n, err)
	}
	if n, err := q.Requeue(t.Context(), nil); n != 350-len(ids) || err != nil {
		t.Errorf("%d requeued, %v", n, err)
	}
	if counts, err := q.Counts(t.Context()); err != nil || counts.Ready != 350 || counts.Dead != 0 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// TestKilledWorker: what it held is taken at once by a worker of the same name, and by
// others when its heartbeat has ended.
func TestKilledWorker(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	for i, body := range []string{"third", "second", "first"} { // each was pushed to the left
		body = fmt.Sprintf(`{"message_id":%q,"client_id":"acme-01"}`, body)
		if err := raw.RPush(t.Context(), "message_queue:processing:dead:RUNOFTHEDEAD", body).Err(); err != nil {
			t.Fatal(i, err)
		}
	}
	raw.LPush(t.Context(), "message_queue", `{"message_id":"fourth","client_id":"acme-01"}`)
	raw.ZAdd(t.Context(), "message_queue:workers", member("dead:RUNOFTHEDEAD"))
	q := open(t, config(s))
	if counts, err := q.Counts(t.Context()); err != nil || counts.Processing != 3 || counts.Ready != 1 {
		t.Errorf("%+v, %v", counts, err)
	}
	take := func(worker string, want ...string) {
		t.Helper()
		c, err := q.Consumer(worker)
		if err != nil {
			t.Fatal(err)
		}
		taken, err := c.Take(t.Context(), 10)
		if err != nil || len(taken) != len(want) {
			t.Fatalf("%d taken, %v", len(taken), err)
		}
		for i, id := range want {
			if taken[i].Item.MessageID != id {
				t.Errorf("item %d is %s, want %s", i, taken[i].Item.MessageID, id)
			}
		}
	}
	until(t, "they are put back without a worker", func() bool {
		counts, err := q.Counts(t.Context())
		return err == nil && counts.Processing == 0 && counts.Ready == 4
	})
	take("worker-1", "first", "second", "third", "fourth")
	take("worker-1", "first", "second", "third", "fourth") // an earlier run of its own has one
}

// TestWaitingMoves: a look that goes on after items were taken begins again.
func TestWaitingMoves(t *testing.T) {
	s := redis.Require(t, shared)
	raw := empty(t, s)
	q := open(t, config(s))
	for _, id := range []string{"a", "b", "c", "d"} {
		outcome(t, q, id)
	}
	_, next, err := q.Waiting(t.Context(), 0, 2)
	if err != nil || next != 2 {
		t.Fatalf("%d, %v", next, err)
	}
	raw.RPop(t.Context(), "message_queue")
	if items, _, err := q.Waiting(t.Context(), next, 10); err != nil || len(items) != 3 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func member(name string) goredis.Z { return goredis.Z{Member: name} }
