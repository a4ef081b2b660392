package records_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

func TestRegisterAndDeliver(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		first, err := e.s.Register(ctx(t), messages(0, 3))
		want(t, first, err, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRegistered)
		for i, r := range first {
			if r.RowID != first[0].RowID+int64(i) || !r.At.Equal(t0) || r.State != pipeline.Queued {
				t.Errorf("result %d: %+v", i, r)
			}
		}
		e.clock.Advance(time.Minute)
		again, err := e.s.Register(ctx(t), messages(1, 3))
		want(t, again, err, pipeline.StatusDuplicate, pipeline.StatusDuplicate, pipeline.StatusRegistered)
		if again[0].RowID != first[1].RowID || !again[0].At.Equal(t0) {
			t.Errorf("a duplicate: %+v", again[0])
		}
		done, err := e.s.Deliver(ctx(t), deliveries(messages(2, 3)))
		want(t, done, err, pipeline.StatusDelivered, pipeline.StatusDelivered, pipeline.StatusDelivered)
		if done[0].RowID != first[2].RowID || !done[2].At.Equal(t0.Add(time.Minute)) || done[2].RowID == 0 {
			t.Errorf("deliveries: %+v", done)
		}
		e.clock.Advance(time.Minute)
		done, err = e.s.Deliver(ctx(t), deliveries(messages(4, 1)))
		want(t, done, err, pipeline.StatusAlready)
		if !done[0].At.Equal(t0.Add(time.Minute)) {
			t.Errorf("the first time of delivery: %+v", done[0])
		}
		late, err := e.s.Register(ctx(t), messages(4, 1))
		want(t, late, err, pipeline.StatusDuplicate)
		if late[0].State != pipeline.Delivered {
			t.Errorf("a late registration: %+v", late[0])
		}
		for _, id := range []string{"message-0", "message-2", "message-4"} {
			r, err := e.s.Get(ctx(t), "acme-01", id)
			if err != nil || r.Body != "text "+id[len(id)-1:] || r.QueuedAt != t0.Add(-time.Second) || r.Proxy != "proxy-1" {
				t.Errorf("%s: %+v, %v", id, r, err)
			}
		}
		e.checkCounts()
	})
}

func TestDeliverByID(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		other := message(1)
		other.Client = "acme-02"
		r, err := e.s.Register(ctx(t), append(messages(0, 2), other))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRegistered)
		r, err = e.s.Deliver(ctx(t), []records.Delivery{
			{Message: records.Message{ID: "message-0"}, Worker: "w", Attempts: 3},
			{Message: records.Message{ID: "message-1"}, Worker: "w", Attempts: 3},
			{Message: records.Message{ID: "message-1", Client: "acme-02"}, Worker: "w", Attempts: -1},
			{Message: records.Message{ID: "message-9"}, Worker: "w"},
			{Message: records.Message{ID: "message-0"}, Worker: "w"},
		})
		want(t, r, err, pipeline.StatusDelivered, pipeline.StatusInvalid, pipeline.StatusDelivered, pipeline.StatusNotFound, pipeline.StatusAlready)
		got, err := e.s.Get(ctx(t), "", "message-0")
		if err != nil || got.Attempts != 3 || got.Worker != "w" || got.State != pipeline.Delivered || !got.DeliveredAt.Equal(t0) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestConflicts(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		text, number := message(0), message(0)
		text.Body += "."
		number.Number += "1"
		r, err = e.s.Register(ctx(t), []records.Message{text, number, message(0)})
		want(t, r, err, pipeline.StatusConflict, pipeline.StatusConflict, pipeline.StatusDuplicate)
		r, err = e.s.Deliver(ctx(t), deliveries([]records.Message{text, number, message(0), text}))
		want(t, r, err, pipeline.StatusConflict, pipeline.StatusConflict, pipeline.StatusDelivered, pipeline.StatusConflict)
		// All in one call, on a row that is new in it.
		a, b := message(1), message(1)
		b.Body = "another text"
		r, err = e.s.Register(ctx(t), []records.Message{a, a, b})
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusDuplicate, pipeline.StatusConflict)
		if r[0].RowID == 0 || r[0].RowID != r[1].RowID {
			t.Errorf("rows %+v", r)
		}
		e.checkCounts()
	})
}

func TestLifeCycle(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		all := []pipeline.State{pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed}
		allowed := map[string]bool{
			"queued processing": true, "queued delivered": true, "queued failed": true, "queued queued": true,
			"processing queued": true, "processing delivered": true, "processing failed": true, "processing processing": true,
			"failed delivered": true, "failed failed": true, "failed requeue": true,
		}
		n := 0
		for _, from := range all {
			for _, to := range append(all, "requeue") {
				m := message(n)
				n++
				r, err := e.s.Register(ctx(t), []records.Message{m})
				want(t, r, err, pipeline.StatusRegistered)
				if from != pipeline.Queued {
					r, err = e.s.Status(ctx(t), []pipeline.Update{{MessageID: m.ID, ClientID: m.Client, State: from, Attempts: 1}})
					want(t, r, err, pipeline.StatusUpdated)
				}
				change, u := e.s.Status, pipeline.Update{MessageID: m.ID, ClientID: m.Client, State: to, Attempts: 7, Error: "no route", Worker: "worker-2"}
				if to == "requeue" {
					change, u.State = e.s.Requeue, pipeline.Queued
				}
				outcome, state := pipeline.StatusKept, from
				switch {
				case allowed[string(from)+" "+string(to)] || to == "requeue" && from != pipeline.Delivered:
					outcome, state = pipeline.StatusUpdated, u.State
				case from == pipeline.Delivered && to == pipeline.Delivered:
					outcome = pipeline.StatusAlready
				}
				e.clock.Advance(time.Second)
				r, err = change(ctx(t), []pipeline.Update{u})
				want(t, r, err, outcome)
				got, err := e.s.Get(ctx(t), m.Client, m.ID)
				if err != nil || got.State != state || r[0].State != state {
					t.Errorf("%s to %s: %+v, %v", from, to, got, err)
				}
				if outcome == pipeline.StatusUpdated && (got.Attempts != 7 || got.Error != "no route" || got.Worker != "worker-2") {
					t.Errorf("%s to %s: %+v", from, to, got)
				}
				if outcome != pipeline.StatusAlready && !got.LastAttemptAt.Equal(e.clock.Now()) {
					t.Errorf("%s to %s: last attempt at %v", from, to, got.LastAttemptAt)
				}
				if (state == pipeline.Delivered) == got.DeliveredAt.IsZero() {
					t.Errorf("%s to %s: delivered at %v", from, to, got.DeliveredAt)
				}
			}
		}
		r, err := e.s.Status(ctx(t), []pipeline.Update{{MessageID: "message-0", State: "gone"}, {MessageID: "nothing", State: pipeline.Failed}, {MessageID: "message-0", State: pipeline.Failed, Attempts: -2}})
		want(t, r, err, pipeline.StatusInvalid, pipeline.StatusNotFound, pipeline.StatusInvalid)
		e.checkCounts()
	})
}

func TestNamesAreComparedByteByByte(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		var list []records.Message
		for _, client := range []string{"acme", "Acme", "ACME", "acmé", "acme\u0301", "ß", "ss"} {
			for _, id := range []string{"one", "One", "öne", "one-"} {
				m := message(len(list))
				m.Client, m.ID, m.Domain = client, id, client
				list = append(list, m)
			}
		}
		r, err := e.s.Register(ctx(t), list)
		if err != nil {
			t.Fatal(err)
		}
		rows := make(map[int64]bool)
		for i := range r {
			if r[i].Status != pipeline.StatusRegistered || rows[r[i].RowID] {
				t.Errorf("%q of %q: %+v", list[i].ID, list[i].Client, r[i])
			}
			rows[r[i].RowID] = true
		}
		for _, client := range []string{"acme", "ACME", "ss"} {
			p, err := e.s.List(ctx(t), records.Filter{Client: client})
			if err != nil || len(p.Records) != 4 {
				t.Errorf("%q has %d messages, %v", client, len(p.Records), err)
			}
			if p, err = e.s.List(ctx(t), records.Filter{Domain: client}); err != nil || len(p.Records) != 4 {
				t.Errorf("domain %q has %d messages, %v", client, len(p.Records), err)
			}
		}
		for _, f := range []records.Filter{{Client: "acme "}, {Client: "aCme"}, {Domain: "acme "}, {Client: "acme\x00"}} {
			if p, err := e.s.List(ctx(t), f); err != nil || len(p.Records) != 0 {
				t.Errorf("%q has %d messages, %v", f.Client, len(p.Records), err)
			}
		}
		e.checkCounts()
	})
}

func TestInvalidMessages(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		for name, change := range map[string]func(*records.Message){
			"no id":                  func(m *records.Message) { m.ID = "" },
			"long id":                func(m *records.Message) { m.ID = strings.Repeat("x", 37) },
			"id ends in a blank":     func(m *records.Message) { m.ID = "id " },
			"client ends in a blank": func(m *records.Message) { m.Client = "acme " },
			"client begins with one": func(m *records.Message) { m.Client = " acme" },
			"client ends in a tab":   func(m *records.Message) { m.Client = "acme\t" },
			"client with zero":       func(m *records.Message) { m.Client = "ac\x00me" },
			"domain ends in a blank": func(m *records.Message) { m.Domain = "default " },
			"key ends in a blank":    func(m *records.Message) { m.ClientKey = "k " },
			"no number":              func(m *records.Message) { m.Number = "" },
			"invalid UTF-8, text":    func(m *records.Message) { m.Body = "a\xff" },
			"invalid UTF-8, client":  func(m *records.Message) { m.Client = "a\xff" },
			"invalid UTF-8, number":  func(m *records.Message) { m.Number = "a\xff" },
			"no text":                func(m *records.Message) { m.Body = "" },
			"long text":              func(m *records.Message) { m.Body = strings.Repeat("x", records.MaxBody+1) },
			"no JSON":                func(m *records.Message) { m.Metadata = json.RawMessage("{") },
			"long metadata": func(m *records.Message) {
				m.Metadata = json.RawMessage(`"` + strings.Repeat("x", records.MaxMetadata) + `"`)
			},
			"year 10000": func(m *records.Message) { m.QueuedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		} {
			m := message(0)
			change(&m)
			r, err := e.s.Register(ctx(t), []records.Message{m})
			want(t, r, err, pipeline.StatusInvalid)
			if r[0].Reason == "" || strings.Contains(r[0].Reason, "acme") {
				t.Errorf("%s: reason %q", name, r[0].Reason)
			}
		}
		if _, err := e.s.Register(ctx(t), messages(0, records.MaxBatch+1)); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("too many: %v", err)
		}
		if r, err := e.s.Register(ctx(t), nil); len(r) != 0 || err != nil {
			t.Errorf("none: %v, %v", r, err)
		}
	})
}

// hostile are texts that mean something to databases, shells, browsers and terminals.
var hostile = []string{`'; DROP TABLE messages; --`, `" OR ""="`, `\`, `\'`, `%_`, "<script>alert(1)</script>", "{{.}}", "$(reboot)", "🙈 \u202e abc", "NULL", "0x41", "/*!50000 x */", "?", "`", "a;b", "\u200b"}

func TestHostileTextInEveryField(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		var list []records.Message
		for i, h := range hostile {
			quoted, err := json.Marshal(map[string]string{h: h})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, records.Message{ID: h, Client: h, ClientKey: h, Domain: h, Number: h, Body: strings.Repeat(h, 3), Metadata: quoted, Sealed: i%2 == 0})
		}
		r, err := e.s.Register(ctx(t), list)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range hostile {
			if r[i].Status != pipeline.StatusRegistered {
				t.Errorf("%q: %+v", h, r[i])
				continue
			}
			u, err := e.s.Status(ctx(t), []pipeline.Update{{MessageID: h, ClientID: h, State: pipeline.Failed, Error: h, Worker: h, Attempts: 1}})
			want(t, u, err, pipeline.StatusUpdated)
			got, err := e.s.Get(ctx(t), h, h)
			if err != nil || got.ClientKey != h || got.Domain != h || got.Body != strings.Repeat(h, 3) || string(got.Metadata) != string(list[i].Metadata) ||
				got.Error != h || got.Worker != h || got.Sealed != (i%2 == 0) {
				t.Errorf("%q: %+v, %v", h, got, err)
			}
			for _, f := range []records.Filter{{Client: h}, {Domain: h}, {Number: h}, {ClientKey: h}} {
				if p, err := e.s.List(ctx(t), f); err != nil || len(p.Records) != 1 || p.Records[0].ID != h {
					t.Errorf("%+v: %d records, %v", f, len(p.Records), err)
				}
			}
		}
		for _, f := range []records.Filter{{Client: "' OR '1'='1"}, {IDPrefix: "%%%%"}, {IDPrefix: "____"}} {
			if p, err := e.s.List(ctx(t), f); err != nil || len(p.Records) != 0 {
				t.Errorf("%+v: %d records, %v", f, len(p.Records), err)
			}
		}
		e.checkCounts()
	})
}

func TestLongTexts(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		var list []records.Message
		for i, body := range []string{strings.Repeat("x", 64<<10), strings.Repeat("🙈", 64<<10), strings.Repeat("ä", 1000)} {
			m := message(i)
			m.Body = body
			list = append(list, m)
		}
		for i := range 40 { // more than one statement takes
			m := message(10 + i)
			m.Body = strings.Repeat("y", 64<<10)
			list = append(list, m)
		}
		r, err := e.s.Deliver(ctx(t), deliveries(list))
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range list {
			got, err := e.s.Get(ctx(t), m.Client, m.ID)
			if err != nil || got.Body != m.Body || got.RowID != r[i].RowID {
				t.Errorf("message %d: %d bytes, row %d and %d, %v", i, len(got.Body), got.RowID, r[i].RowID, err)
			}
		}
		again, err := e.s.Register(ctx(t), list[:2])
		want(t, again, err, pipeline.StatusDuplicate, pipeline.StatusDuplicate)
	})
}

func TestClockSetBack(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
		back := t0.Add(-48 * time.Hour)
		e.clock.Advance(back.Sub(t0))
		if !e.clock.Now().Equal(back) {
			t.Fatal("the clock was not set back")
		}
		r, err = e.s.Deliver(ctx(t), deliveries(messages(1, 2)))
		want(t, r, err, pipeline.StatusDelivered, pipeline.StatusDelivered)
		st, err := e.s.Stats(ctx(t), "", "", time.Time{})
		if err != nil || st.AverageDelivery != 0 || st.Total != 3 {
			t.Errorf("%+v, %v", st, err)
		}
		p, err := e.s.List(ctx(t), records.Filter{Limit: 2})
		if err != nil || len(p.Records) != 2 || p.Next == "" {
			t.Fatalf("%+v, %v", p, err)
		}
		q, err := e.s.List(ctx(t), records.Filter{Limit: 2, Cursor: p.Next})
		if err != nil || len(q.Records) != 1 || q.Records[0].ID != "message-2" {
			t.Errorf("%+v, %v", q, err)
		}
		e.checkCounts()
	})
}

// A row that the database refuses does not take the others of its group with it.
func TestSpoiledRow(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		if e.name == "" {
			e.exec("CREATE TRIGGER spoil BEFORE INSERT ON messages WHEN NEW.message_id = 'spoiled' BEGIN SELECT RAISE(ABORT, 'spoiled'); END")
		} else {
			e.exec("CREATE TRIGGER spoil BEFORE INSERT ON messages FOR EACH ROW IF NEW.message_id = 'spoiled' THEN SIGNAL SQLSTATE '45000'; END IF")
		}
		bad := message(100)
		bad.ID = "spoiled"
		list := append(messages(0, 2), bad)
		list = append(list, messages(1, 3)...)
		r, err := e.s.Register(ctx(t), list)
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRefused, pipeline.StatusDuplicate, pipeline.StatusRegistered, pipeline.StatusRegistered)
		if r[1].RowID != r[3].RowID || r[2].RowID != 0 {
			t.Errorf("%+v", r)
		}
		e.checkCounts()
	})
}

func TestManyWriters(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		const writers = 1000
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for i := range writers {
			wg.Go(func() {
				m := message(i)
				m.Client = fmt.Sprintf("client-%d", i%7)
				r, err := e.s.Register(ctx(t), []records.Message{m, message(i)})
				if err == nil && (r[0].Status != pipeline.StatusRegistered || r[1].Status != pipeline.StatusRegistered) {
					err = fmt.Errorf("writer %d: %+v", i, r)
				}
				if err == nil {
					r, err = e.s.Deliver(ctx(t), deliveries([]records.Message{m}))
				}
				if err == nil && r[0].Status != pipeline.StatusDelivered {
					err = fmt.Errorf("writer %d: %+v", i, r)
				}
				errs <- err
			})
		}
		wg.Wait()
		for range writers {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		n, exact, err := e.s.Count(ctx(t), records.Filter{})
		if err != nil || n != 2*writers || !exact {
			t.Errorf("%d messages, %v", n, err)
		}
		if c := e.s.Counters(); c.Groups >= writers {
			t.Errorf("%d transactions for %d calls", c.Groups, 2*writers)
		}
		e.checkCounts()
	})
}

// late is a context that ends while a call waits for its commit, and after that was over: the call
// can see either first.
type late struct {
	context.Context
	looks  int
	before func()
}

func (l *late) Done() <-chan struct{} {
	if l.looks++; l.looks == 2 { // the first is for handing it in
		l.before()
	}
	return l.Context.Done()
}

// TestCommitThatIsOverBeforeTheEnd: what is stored is not reported as unknown, because the call's
// time is over when it gets to look.
func TestCommitThatIsOverBeforeTheEnd(t *testing.T) {
	e := &env{t: t, url: "sqlite:" + filepath.Join(t.TempDir(), "records.db"), keys: ring(t, 1, 1), hash: hasher(t)}
	s := e.open(nil)
	r, err := s.Register(ctx(t), messages(0, 1))
	want(t, r, err, pipeline.StatusRegistered)
	update := []pipeline.Update{{ClientID: "acme-01", MessageID: "message-0", State: pipeline.Processing, Worker: "w"}}
	for range 50 { // enough for a select that finds both to take the wrong one
		within, cancel := context.WithCancel(ctx(t))
		l := &late{Context: within, before: func() {
			if _, err := s.Status(ctx(t), update); err != nil { // which is stored after it
				t.Error(err)
			}
			cancel()
		}}
		if _, err := s.Status(l, update); err != nil || l.looks != 2 {
			t.Fatalf("%v after %d looks", err, l.looks)
		}
	}
}
