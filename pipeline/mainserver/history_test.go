package mainserver_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// historyWorld is a database and the clock of those who write to it.
type historyWorld struct {
	*testing.T
	url   string
	clock *fakeclock.Clock
	queue *queue
}

func (w *historyWorld) open() *records.Store {
	w.Helper()
	key, err := atrest.ParseKey([]byte(strings.Repeat("1", 63) + "0"))
	if err != nil {
		w.Fatal(err)
	}
	ring, err := atrest.NewRing(1, map[uint16]atrest.Key{1: key})
	if err != nil {
		w.Fatal(err)
	}
	s, err := records.Open(w.Context(), records.Config{URL: w.url, Keys: ring, Numbers: atrest.NewHasher(ring, nil), Clock: w.clock})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.Close() })
	return s
}

func (w *historyWorld) history(s mainserver.HistoryRecords) *mainserver.History {
	return mainserver.NewHistory(s, w.queue, w.clock.Now, nil)
}

// register stores messages.
func (w *historyWorld) register(s *records.Store, ids ...string) {
	w.Helper()
	for _, id := range ids {
		if _, err := s.Register(w.Context(), []records.Message{{ID: id, Client: "acme-01", Number: "+4915200000000", Body: "text", QueuedAt: w.clock.Now()}}); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *historyWorld) look(list ...*mainserver.History) {
	w.Helper()
	for _, h := range list {
		if err := h.Look(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
}

// accepted are the accepted messages of the minutes since the beginning, by their number; a gap
// is not there.
func (w *historyWorld) accepted(h *mainserver.History) map[int]int64 {
	w.Helper()
	list, err := h.Minutes(w.Context(), historyStart, historyStart.Add(24*time.Hour))
	if err != nil {
		w.Fatal(err)
	}
	got := make(map[int]int64)
	for _, m := range list {
		got[int(m.At.Sub(historyStart)/time.Minute)] = m.Accepted
	}
	return got
}

var historyStart = time.Date(2026, 3, 1, 8, 15, 0, 0, time.UTC)

func (w *historyWorld) want(when string, h *mainserver.History, want map[int]int64) {
	w.Helper()
	if diff := cmp.Diff(want, w.accepted(h)); diff != "" {
		w.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestHistory: what happened in each minute survives a restart, a clock that is set, and a
// database that was away; a time without a main server is a gap.
func TestHistory(t *testing.T) {
	w := &historyWorld{T: t, url: "sqlite:" + filepath.Join(t.TempDir(), "records.db"), clock: fakeclock.New(historyStart), queue: &queue{}}
	s := w.open()
	h := w.history(s)
	w.register(s, "a", "b")
	w.look(h)
	w.clock.Advance(time.Minute)
	w.look(h)
	w.want("a minute without messages is no gap", h, map[int]int64{0: 2, 1: 0})
	w.clock.Set(2 * time.Minute)
	w.register(s, "c")
	w.look(h)
	w.clock.Set(-3 * time.Minute)
	w.register(s, "d")
	w.look(h)
	w.want("the clock was set forth and back", h, map[int]int64{0: 3, 1: 0, 3: 1})
	s.Close()
	w.clock.Advance(4 * time.Minute)
	s = w.open()
	h = w.history(s)
	w.register(s, "e")
	w.look(h)
	w.look(h)
	w.want("after a restart", h, map[int]int64{0: 3, 1: 0, 3: 1, 4: 1})

	away := &awayRecords{Store: s}
	h = w.history(away)
	away.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "away"}
	w.register(s, "f")
	if err := h.Look(t.Context()); !errors.Is(err, away.err) {
		t.Fatalf("%v", err)
	}
	w.clock.Advance(time.Minute)
	if err := h.Look(t.Context()); err == nil {
		t.Fatal("it stored the history in a database that is away")
	}
	if list, err := h.Minutes(t.Context(), historyStart, w.clock.Now()); err == nil || len(list) != 2 {
		t.Errorf("%v %v: without the database it must tell of its own minutes, and that others are missing", list, err)
	}
	away.err = nil
	w.look(h)
	w.want("the database is back", w.history(s), map[int]int64{0: 3, 1: 0, 3: 1, 4: 2, 5: 0})
}

// awayRecords may be away.
type awayRecords struct {
	*records.Store
	err error
}

func (r *awayRecords) PutMinutes(ctx context.Context, server string, list []records.Minute) error {
	if r.err != nil {
		return r.err
	}
	return r.Store.PutMinutes(ctx, server, list)
}

func (r *awayRecords) Minutes(ctx context.Context, from, to time.Time, without string) ([]records.Minute, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.Store.Minutes(ctx, from, to, without)
}

// TestHistoryOfSeveralMainServers: two over one database add up, and each shows the same.
func TestHistoryOfSeveralMainServers(t *testing.T) {
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	address, _, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	w := &historyWorld{T: t, url: address, clock: fakeclock.New(historyStart), queue: &queue{}}
	one, two := w.open(), w.open()
	first, second := w.history(one), w.history(two)
	w.register(one, "a", "b")
	w.register(two, "b", "c") // one of them is a repeat
	w.queue.set(func() { w.queue.ready = make([]pipeline.Item, 3) })
	w.look(first, second, first, second)
	w.want("the first", first, map[int]int64{0: 3})
	w.want("the second", second, map[int]int64{0: 3})
	w.register(two, "d")
	w.look(second)
	w.want("the first after the second", first, map[int]int64{0: 4})
	for _, h := range []*mainserver.History{first, second, w.history(one)} {
		list, err := h.Minutes(t.Context(), historyStart, historyStart)
		if err != nil || len(list) != 1 || list[0].Waiting == nil || *list[0].Waiting != 3 {
			t.Errorf("%+v %v, want 3 messages that wait, with every look", list, err)
		}
	}
}
