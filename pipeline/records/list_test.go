package records_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// populate stores n messages of several clients, domains and states, with times that go
// forward and now and then back, and returns what it stored by id.
func (e *env) populate(n int, seed uint64) map[string]records.Record {
	e.t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0))
	stored := make(map[string]records.Record)
	states := []pipeline.State{pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed}
	for i := 0; i < n; {
		var list []records.Message
		var updates []pipeline.Update
		e.clock.Advance(time.Duration(rnd.IntN(1200)-100) * time.Second)
		for range min(1+rnd.IntN(20), n-i) {
			m := records.Message{ID: fmt.Sprintf("%04x-%d", rnd.IntN(40), i), Client: fmt.Sprintf("client-%d", rnd.IntN(4)), Domain: fmt.Sprintf("domain-%d", rnd.IntN(3)),
				Number: fmt.Sprintf("+49152%04d", rnd.IntN(20)), Body: fmt.Sprintf("text %d", i)}
			if rnd.IntN(3) == 0 {
				m.ClientKey = fmt.Sprintf("key-%d", rnd.IntN(30))
			}
			list = append(list, m)
			state := states[rnd.IntN(4)]
			updates = append(updates, pipeline.Update{MessageID: m.ID, ClientID: m.Client, State: state, Attempts: 1})
			stored[m.ID] = records.Record{ID: m.ID, Client: m.Client, Domain: m.Domain, State: state, ClientKey: m.ClientKey, Worker: m.Number, Body: m.Body, CreatedAt: e.clock.Now()}
			i++
		}
		if _, err := e.s.Register(ctx(e.t), list); err != nil {
			e.t.Fatal(err)
		}
		if _, err := e.s.Status(ctx(e.t), updates); err != nil {
			e.t.Fatal(err)
		}
	}
	return stored
}

// TestLists compares every page of many filters with a naive search.
func TestLists(t *testing.T) {
	const seed = 7
	onBoth(t, func(t *testing.T, e *env) {
		stored := e.populate(700, seed)
		rnd := rand.New(rand.NewPCG(seed, 1))
		pick := func(s string) string {
			if rnd.IntN(3) > 0 {
				return ""
			}
			return s
		}
		for i := range 150 {
			e.s.SetExamined([]int{1000, 13, 1}[i%3])
			f := records.Filter{
				Client: pick(fmt.Sprintf("client-%d", rnd.IntN(5))), Domain: pick(fmt.Sprintf("domain-%d", rnd.IntN(3))), State: pipeline.State(pick("failed")),
				Number: pick(fmt.Sprintf("+49152%04d", rnd.IntN(20))), ClientKey: pick(fmt.Sprintf("key-%d", rnd.IntN(30))), IDPrefix: pick(fmt.Sprintf("%04x", rnd.IntN(40))),
				Limit: 1 + rnd.IntN(60), Bodies: true,
			}
			if rnd.IntN(3) == 0 {
				f.From = t0.Add(time.Duration(rnd.IntN(10)) * time.Hour)
				f.To = f.From.Add(time.Duration(rnd.IntN(10)) * time.Hour)
			}
			var wanted []string
			for id, r := range stored {
				if (f.Client == "" || r.Client == f.Client) && (f.Domain == "" || r.Domain == f.Domain) && (f.State == "" || r.State == f.State) && (f.Number == "" || r.Worker == f.Number) &&
					(f.ClientKey == "" || r.ClientKey == f.ClientKey) && strings.HasPrefix(id, f.IDPrefix) && (f.From.IsZero() || !r.CreatedAt.Before(f.From)) && (f.To.IsZero() || r.CreatedAt.Before(f.To)) {
					wanted = append(wanted, id)
				}
			}
			if f.Number != "" && i%2 == 0 { // a token finds the same
				f.NumberToken, f.Number = e.s.NumberToken(f.Number), ""
			}
			n, exact, err := e.s.Count(ctx(t), f)
			if err != nil || !exact || n != int64(len(wanted)) {
				t.Errorf("%+v: count %d, want %d, %v", f, n, len(wanted), err)
			}
			got := e.pages(f, stored)
			slices.Sort(wanted)
			slices.Sort(got)
			if !slices.Equal(got, wanted) {
				t.Fatalf("%+v:\n got %v\nwant %v", f, got, wanted)
			}
		}
	})
}

// pages reads all pages of a filter and checks their order and content.
func (e *env) pages(f records.Filter, stored map[string]records.Record) (ids []string) {
	e.t.Helper()
	var last *records.Record
	for {
		p, err := e.s.List(ctx(e.t), f)
		if err != nil {
			e.t.Fatal(err)
		}
		for _, r := range p.Records {
			w := stored[r.ID]
			if r.Client != w.Client || r.State != w.State || r.Body != w.Body || !r.CreatedAt.Equal(w.CreatedAt) || r.NumberMasked != "+491****"+w.Worker[len(w.Worker)-4:] {
				e.t.Errorf("%+v, want %+v", r, w)
			}
			if last != nil {
				ordered := last.CreatedAt.After(r.CreatedAt) || last.CreatedAt.Equal(r.CreatedAt) && last.RowID > r.RowID
				if f.IDPrefix != "" && f.Number == "" && f.NumberToken == "" && f.ClientKey == "" {
					ordered = last.ID > r.ID
				}
				if !ordered {
					e.t.Fatalf("%+v: %s comes after %s", f, r.ID, last.ID)
				}
			}
			last = &r
			ids = append(ids, r.ID)
		}
		if p.Next == "" {
			return ids
		}
		if len(p.Records) > f.Limit {
			e.t.Fatalf("%d records on a page of %d", len(p.Records), f.Limit)
		}
		f.Cursor = p.Next
	}
}

func TestListRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		for _, f := range []records.Filter{
			{Limit: -1}, {Limit: 501}, {State: "gone"}, {IDPrefix: "abc"},
			{Cursor: "!"}, {Cursor: "e30"}, {Cursor: strings.Repeat("A", 4000)}, {Cursor: "bnVsbA"},
		} {
			if _, err := e.s.List(ctx(t), f); sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("%+v: %v", f, err)
			}
		}
		for _, id := range []string{"", "nothing", "nothing ", "a\xff"} {
			if _, err := e.s.Get(ctx(t), "", id); !errors.Is(err, records.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
}

func TestStatistics(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		list := messages(0, 4)
		list[3].Client, list[3].Domain = "acme-02", "other"
		r, err := e.s.Register(ctx(t), list)
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRegistered, pipeline.StatusRegistered)
		e.clock.Advance(2 * time.Second)
		r, err = e.s.Deliver(ctx(t), deliveries(list[:2]))
		want(t, r, err, pipeline.StatusDelivered, pipeline.StatusDelivered)
		r, err = e.s.Status(ctx(t), []pipeline.Update{{MessageID: "message-2", State: pipeline.Failed}})
		want(t, r, err, pipeline.StatusUpdated)
		e.clock.Advance(3 * time.Hour)
		r, err = e.s.Deliver(ctx(t), deliveries(messages(10, 1)))
		want(t, r, err, pipeline.StatusDelivered)

		st, err := e.s.Stats(ctx(t), "", "", time.Time{})
		if err != nil || st.Total != 5 || st.ByState[pipeline.Delivered] != 3 || st.ByState[pipeline.Failed] != 1 || st.ByState[pipeline.Queued] != 1 || st.SuccessRate != 0.75 {
			t.Errorf("%+v, %v", st, err)
		}
		st, err = e.s.Stats(ctx(t), "acme-01", "default", e.clock.Now().Add(-time.Hour))
		if err != nil || st.Total != 1 {
			t.Errorf("the last hour: %+v, %v", st, err)
		}
		st, err = e.s.Stats(ctx(t), "acme-01", "", e.clock.Now().Add(-4*time.Hour))
		if err != nil || st.Total != 4 {
			t.Errorf("four hours: %+v, %v", st, err)
		}
		for _, c := range []struct{ client, domain string }{{"acme-02", "other"}, {"", "other"}} {
			if st, err = e.s.Stats(ctx(t), c.client, c.domain, time.Time{}); err != nil || st.Total != 1 || st.ByState[pipeline.Queued] != 1 {
				t.Errorf("%+v: %+v, %v", c, st, err)
			}
		}
		points, err := e.s.Series(ctx(t), "", "", t0.Add(-time.Hour), e.clock.Now())
		if err != nil || len(points) != 2 || points[0].Hour != t0.Truncate(time.Hour) || points[0].ByState[pipeline.Delivered] != 2 || points[1].ByState[pipeline.Delivered] != 1 {
			t.Errorf("%+v, %v", points, err)
		}
		if _, err := e.s.Series(ctx(t), "", "", t0.AddDate(0, -3, 0), t0); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("a long series: %v", err)
		}
		status, err := e.s.DatabaseStatus(ctx(t))
		if err != nil || status.Bytes == 0 || status.Rows["messages"] != 5 || status.Rows["clients"] != 2 || status.Rows["audit_log"] != 2 || status.Version == "" {
			t.Errorf("%+v, %v", status, err)
		}
	})
}

// TestPagesWhileRowsArrive: pages go on behind what was seen, whatever is stored meanwhile, and
// also for a search by number.
func TestPagesWhileRowsArrive(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		register := func(from, n int) {
			t.Helper()
			list := messages(from, n)
			for i := range list {
				list[i].Number = "+4915200000000"
			}
			if _, err := e.s.Register(ctx(t), list); err != nil {
				t.Fatal(err)
			}
			e.clock.Advance(time.Second)
		}
		register(0, 30)
		f := records.Filter{NumberToken: e.s.NumberToken("+4915200000000"), Limit: 7}
		var got []string
		for page := 0; ; page++ {
			p, err := e.s.List(ctx(t), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Records {
				got = append(got, r.ID)
			}
			if f.Cursor = p.Next; f.Cursor == "" {
				break
			}
			register(1000+10*page, 10)
		}
		var wanted []string
		for i := 29; i >= 0; i-- {
			wanted = append(wanted, fmt.Sprintf("message-%d", i))
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("got %v", got)
		}
		e.clock.Advance(25 * time.Hour)
		if _, err := e.s.List(ctx(t), f); !errors.Is(err, records.ErrNumberToken) {
			t.Errorf("a token after its time: %v", err)
		}
	})
}
