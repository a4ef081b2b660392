package receiver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/faultfs"
	"github.com/sealmq/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "out.jsonl"

func newKey() *seal.PrivateKey {
	k, err := seal.Generate(seal.CipherMQRSA, seal.MinRSABits)
	if err != nil {
		panic(err)
	}
	return k
}

var (
	key   = sync.OnceValue(newKey)
	other = sync.OnceValue(newKey)
)

func delivery(t *testing.T, k *seal.PrivateKey, id, text string) client.Delivery {
	t.Helper()
	body, err := k.Public().Seal(id, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return client.Delivery{ID: id, Body: body}
}

// queue is a broker's queue for one consumer: it hands out what it holds, within the
// prefetch, and again to the next consumer what was not settled.
type queue struct {
	fs       *faultfs.FS // to look at the file when an ack comes
	waiting  []client.Delivery
	out      map[string]client.Delivery
	acked    []string
	dead     []string
	prefetch int
	taken    int
	t        *testing.T
}

func (q *queue) NextBatch(ctx context.Context, dst []client.Delivery) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if q.out == nil {
		q.out = make(map[string]client.Delivery)
	}
	n := 0
	for n < len(dst) && len(q.waiting) > 0 && (q.prefetch == 0 || len(q.out) < q.prefetch) {
		dst[n] = q.waiting[0]
		q.waiting = q.waiting[1:]
		q.out[dst[n].ID] = dst[n]
		n++
		q.taken++
	}
	if n == 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return n, nil
}

func (q *queue) Ack(ids ...string) error {
	for _, id := range ids {
		if q.fs != nil {
			// Whatever a power cut leaves now must hold the message.
			for _, mode := range faultfs.CrashModes {
				if !strings.Contains(string(q.fs.Snapshot().Crash(mode, 1).Get(name)), `"message_id":"`+id+`"`) {
					q.t.Errorf("%s was acknowledged before it was on stable storage", id)
				}
			}
		}
		delete(q.out, id)
		q.acked = append(q.acked, id)
	}
	return nil
}

func (q *queue) Dead(id, reason string) error {
	delete(q.out, id)
	q.dead = append(q.dead, id+": "+reason)
	return nil
}

func (q *queue) SetPrefetch(n int) error { q.prefetch = n; return nil }

func run(t *testing.T, fs durable.FS, q *queue, change func(*receiver.Config)) (receiver.Stats, error) {
	t.Helper()
	file, err := jsonl.Open(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cfg := receiver.Config{Source: q, Keys: []*seal.PrivateKey{key()}, File: file, Idle: time.Second}
	if change != nil {
		change(&cfg)
	}
	r := receiver.New(cfg)
	err = r.Run(t.Context())
	return r.Stats(), err
}

func written(t *testing.T, fs *faultfs.FS) (list []string) {
	t.Helper()
	for text := range strings.Lines(string(fs.Get(name))) {
		var l struct {
			ID   string `json:"message_id"`
			Text string `json:"message"`
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Error(err)
		}
		list = append(list, l.ID+" "+l.Text)
	}
	return list
}

func TestWritesSyncsThenAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		q := &queue{t: t, fs: fs}
		var want []string
		for i := range 600 { // more than two batches
			id := fmt.Sprint("m", i)
			q.waiting = append(q.waiting, delivery(t, key(), id, "text of "+id))
			want = append(want, id+" text of "+id)
		}
		q.fs = nil // looking at every crash for each of many acks takes too long
		last := q.waiting[590:]
		q.waiting = q.waiting[:590]
		if _, err := run(t, fs, q, nil); err != nil {
			t.Fatal(err)
		}
		q.fs, q.waiting = fs, last
		stats, err := run(t, fs, q, nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, written(t, fs)); d != "" {
			t.Error(d)
		}
		if len(q.acked) != 600 || len(q.out) != 0 || stats.Received != 10 || stats.Bytes == 0 {
			t.Errorf("%d acked, %+v", len(q.acked), stats)
		}
	})
}

func TestRedeliveredMessagesAreWrittenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		a, b := delivery(t, key(), "a", "one"), delivery(t, key(), "b", "two")
		q := &queue{t: t, fs: fs, waiting: []client.Delivery{a, a, b, a}}
		stats, err := run(t, fs, q, nil)
		if err != nil || stats != (receiver.Stats{Received: 2, Known: 2, Bytes: 6}) {
			t.Errorf("%+v, %v", stats, err)
		}
		// The next process knows them from the file.
		q.waiting = []client.Delivery{b, delivery(t, key(), "c", "three"), a}
		stats, err = run(t, fs, q, nil)
		if err != nil || stats != (receiver.Stats{Received: 1, Known: 2, Bytes: 5}) {
			t.Errorf("%+v, %v", stats, err)
		}
		if d := cmp.Diff([]string{"a one", "b two", "c three"}, written(t, fs)); d != "" {
			t.Error(d)
		}
	})
}

func TestWhatCannotBeOpenedIsDeadLettered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		good := delivery(t, key(), "good", "one")
		renamed := delivery(t, key(), "inside", "one")
		renamed.ID = "outside"
		changed := delivery(t, key(), "changed", "secret text")
		changed.Body = []byte(strings.Replace(string(changed.Body), `"tag": "`, `"tag": "AAAA`, 1))
		q := &queue{t: t, waiting: []client.Delivery{
			delivery(t, other(), "wrong-key", "one"),
			{ID: "rubbish", Body: []byte("rubbish")},
			renamed, changed, good,
			delivery(t, key(), "good", "another text"),
		}}
		stats, err := run(t, fs, q, nil)
		if err != nil || stats.Received != 1 || stats.Dead != 5 {
			t.Errorf("%+v, %v", stats, err)
		}
		want := []string{
			"wrong-key: the envelope was not sealed for this key",
			"rubbish: malformed envelope: it is not a JSON object",
			"outside: the envelope names another message id",
			"changed: malformed envelope: tag is missing or not of 16 bytes",
			"good: the message id was used for another text",
		}
		if !slices.EqualFunc(q.dead, want, strings.HasPrefix) {
			t.Error(cmp.Diff(want, q.dead))
		}
		if d := cmp.Diff([]string{"good one"}, written(t, fs)); d != "" {
			t.Error(d)
		}
	})
}

// A wrong key stops the run; a key that opens anything at all is the right one.
func TestWrongKeyMovesNothing(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		sealed               string // w: for another key, g: for ours
		prefetch             int
		deadLetter           bool
		unopened, dead, good int
	}{
		{name: "a long queue", sealed: strings.Repeat("w", 300), unopened: 256},
		{name: "a short queue", sealed: "www", unopened: 3},
		{name: "a small prefetch", sealed: "wwwwg", prefetch: 2, unopened: 2},
		{name: "the first opens", sealed: "g" + strings.Repeat("w", 20), dead: 20, good: 1},
		{name: "a later one opens", sealed: "wwwwg", dead: 4, good: 1},
		{name: "asked for", sealed: strings.Repeat("w", 20), deadLetter: true, dead: 20},
		{name: "an empty queue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &queue{t: t, prefetch: tt.prefetch}
				for i, c := range tt.sealed {
					k := key()
					if c == 'w' {
						k = other()
					}
					q.waiting = append(q.waiting, delivery(t, k, fmt.Sprint("m", i), "x"))
				}
				stats, err := run(t, faultfs.New(), q, func(c *receiver.Config) { c.DeadLetter, c.Prefetch = tt.deadLetter, tt.prefetch })
				var unopened *receiver.UnopenedError
				if errors.As(err, &unopened) {
					if unopened.Messages != tt.unopened || !errors.Is(err, seal.ErrWrongKey) {
						t.Errorf("%d unopened: %v", unopened.Messages, err)
					}
				} else if err != nil || tt.unopened > 0 {
					t.Error(err)
				}
				if len(q.dead) != tt.dead || stats.Dead != uint64(tt.dead) || stats.Received != uint64(tt.good) {
					t.Errorf("%d dead, %+v", len(q.dead), stats)
				}
			})
		})
	}
}

func TestSeveralKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &queue{t: t, waiting: []client.Delivery{delivery(t, key(), "a", "one"), delivery(t, other(), "b", "two")}}
		stats, err := run(t, faultfs.New(), q, func(c *receiver.Config) { c.Keys = []*seal.PrivateKey{other(), key()} })
		if err != nil || stats.Received != 2 {
			t.Errorf("%+v, %v", stats, err)
		}
	})
}

// A receiver that wants ten messages takes ten, and not what else there is.
func TestCountTakesNoMoreThanIsWanted(t *testing.T) {
	for _, count := range []int{1, 10, 150} {
		synctest.Test(t, func(t *testing.T) {
			fs := faultfs.New()
			q := &queue{t: t, prefetch: receiver.Prefetch(100, count)}
			for i := range 200 {
				q.waiting = append(q.waiting, delivery(t, key(), fmt.Sprint("m", i), "x"))
			}
			stats, err := run(t, fs, q, func(c *receiver.Config) { c.Count, c.Prefetch, c.Idle = count, q.prefetch, 0 })
			if err != nil || stats.Received != uint64(count) || len(q.acked) != count || q.taken != count || q.prefetch != 1 {
				t.Errorf("count %d: %+v, %d acked, %d taken, prefetch %d, %v", count, stats, len(q.acked), q.taken, q.prefetch, err)
			}
		})
	}
}

func TestEndsWithContextAndWithItsSource(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file, err := jsonl.Open(faultfs.New(), name)
	if err != nil {
		t.Fatal(err)
	}
	r := receiver.New(receiver.Config{Source: &queue{t: t}, Keys: []*seal.PrivateKey{key()}, File: file})
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Errorf("ended by its context: %v", err)
	}
	r = receiver.New(receiver.Config{Source: brokenSource{&queue{t: t}}, Keys: []*seal.PrivateKey{key()}, File: file})
	if err := r.Run(t.Context()); !errors.Is(err, client.ErrClosed) {
		t.Errorf("ended by its source: %v", err)
	}
}

// However much there is to receive, an interrupt is heard.
func TestEndsWithItsContextWhileMessagesCome(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file, err := jsonl.Open(faultfs.New(), name)
	if err != nil {
		t.Fatal(err)
	}
	endless := &endlessSource{queue: queue{t: t}, next: delivery(t, key(), "a", "one"), stop: cancel}
	r := receiver.New(receiver.Config{Source: endless, Keys: []*seal.PrivateKey{key()}, File: file})
	if err := r.Run(ctx); err != nil || endless.taken != 3 || len(endless.acked) != 3 {
		t.Errorf("%v, %d taken, %d acked", err, endless.taken, len(endless.acked))
	}
}

// endlessSource always has a message, and the run is interrupted at the third.
type endlessSource struct {
	queue
	next client.Delivery
	stop func()
}

func (s *endlessSource) NextBatch(_ context.Context, dst []client.Delivery) (int, error) {
	if s.taken++; s.taken == 3 {
		s.stop()
	}
	dst[0] = s.next
	return 1, nil
}

type brokenSource struct{ *queue }

func (brokenSource) NextBatch(context.Context, []client.Delivery) (int, error) {
	return 0, client.ErrClosed
}

// When the disk fails nothing of the batch may be settled.
func TestFailingDisk(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		fs := faultfs.New()
		q := &queue{t: t, waiting: []client.Delivery{delivery(t, key(), "a", "one"), {ID: "b", Body: []byte("x")}}}
		_, err := run(t, fs, q, func(*receiver.Config) { fs.Fail(kind, 1, faultfs.Fault{Err: errors.New("disk")}) })
		if err == nil || len(q.acked)+len(q.dead) > 0 {
			t.Errorf("%v: %v, %v acked, %v dead", kind, err, q.acked, q.dead)
		}
	}
}
