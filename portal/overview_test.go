package portal

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// exampleOverview is one of a system in which something is wrong.
func exampleOverview() mainapi.Overview {
	six := int64(6)
	since := testNow.Add(-3 * time.Minute)
	return mainapi.Overview{
		At: testNow, State: mainapi.LevelUnhealthy, Summary: "No worker runs, and 412 messages wait", Since: since,
		Attention: []mainapi.Attention{
			{Code: "no_worker", Level: mainapi.AttentionLevelUnhealthy, Text: "No worker runs, and 412 messages wait", Since: since},
			{Code: "certificate_ends", Level: mainapi.AttentionLevelNotice, Text: "The certificate of <b>proxy-2</b> ends in 6 days", Subject: "00ff", Since: since},
		},
		LastHour: mainapi.Totals{Accepted: 12480, Delivered: 12068, Failed: 2},
		Queue:    &mainapi.QueueCounts{Ready: 410, Retry: 2, OldestAgeSeconds: 180},
		Minutes:  []mainapi.Minute{{At: testNow.Add(-time.Minute), Accepted: 200, Waiting: &six}, {At: testNow, Accepted: 10, Waiting: &six}},
		Components: []mainapi.Component{
			{Role: mainapi.ComponentRoleWorker, Name: "w-1", State: mainapi.ComponentStateAway}, {Role: mainapi.ComponentRoleWorker, Name: "w-2", State: mainapi.ComponentStateOnline},
			{Role: mainapi.ComponentRoleMain, Name: "main", State: mainapi.ComponentStateOnline},
		},
		Refusals: []mainapi.AuditEntry{{At: testNow, ClientID: "mallory", IPAddress: "192.0.2.7", Details: map[string]any{"reason": "Client certificate has been revoked", "attempts": 2}}},
		Database: &mainapi.DatabaseAnswer{AnswerSeconds: 0.003}, Disk: &mainapi.Disk{FreeBytes: 81, TotalBytes: 100},
		Started: mainapi.Started{Certificate: true, Accepted: true, Delivered: true},
	}
}

func newOverviewWorld(t *testing.T, o mainapi.Overview) *world {
	w := newWorld(t, Config{})
	w.on("GET /api/v1/overview", http.StatusOK, o)
	w.on("GET /api/v1/overview/history", http.StatusOK, mainapi.History{From: testNow.Add(-59 * time.Minute), To: testNow, Minutes: o.Minutes})
	return w
}

// TestOverviewParts is the HTML of the parts that events bring.
func TestOverviewParts(t *testing.T) {
	w := newWorld(t, Config{})
	o := exampleOverview()
	view := w.portal.liveView(&o, admin)
	grows := w.portal.linkFor(admin, actions["queue_grows"], "a&b=c/d")
	if grows == nil || grows.Path != "/admin/queues/show?name=a%26b%3Dc%2Fd" {
		t.Errorf("a queue that grows leads to %v", grows)
	}
	for code, to := range actions {
		if w.portal.linkFor(admin, to, "") == nil {
			t.Errorf("%s leads to %s, which is no page", code, to.Path)
		}
	}
	const since = `<time datetime="2026-11-30T11:57:00Z" title="2026-11-30 11:57:00.000 UTC">11:57 UTC</time>`
	for name, want := range map[string]string{
		"overview-summary": `<p class="summary bad"><span class="dot bad"></span>No worker runs, and 412 messages wait. <span class="muted small">began ` + since + `</span></p>`,
		"overview-parts": `<ul class="strip" aria-label="Parts"> <li><a href="/admin/proxies"><span class="dot bad"></span>Workers 1/2</a></li> <li><a href="/admin/proxies"><span class="dot warn"></span>No proxy yet</a></li> ` +
			`<li><a href="/admin/proxies">Main server</a></li> <li><a href="/admin/database">Database 3 ms</a></li> <li><a href="/admin/database">Disk 81 % free</a></li> </ul>`,
		"overview-steps": ``,
	} {
		var b bytes.Buffer
		if err := w.portal.templates.ExecuteTemplate(&b, name, view); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(strings.Fields(b.String()), " "); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	for i, want := range []string{`<span>12,480</span> <span class="unit">/h</span>`, `<span>12,068</span> <span class="unit">/h</span>`,
		`<span>412</span> <span class="note">oldest 3 min</span>`, `<span class="bad">2</span> <span class="unit">/h</span>`} {
		var b bytes.Buffer
		if err := w.portal.templates.ExecuteTemplate(&b, "overview-figure", view.Figures[i]); err != nil || b.String() != want {
			t.Errorf("%v %s\nwant %s", err, &b, want)
		}
	}
}

func TestOverview(t *testing.T) {
	w := newOverviewWorld(t, exampleOverview())
	for _, path := range []string{"/admin/dashboard", "/admin/dashboard?hours=24", "/admin/dashboard?hours=evil"} {
		rec := w.browse(operator, path, nil)
		want(t, rec, http.StatusOK, "No worker runs, and 412 messages wait.", "The certificate of &lt;b&gt;proxy-2&lt;/b&gt; ends in 6 days", "Last refused", "mallory", "has been revoked, 2 times", `data-events="/events"`)
		if strings.Contains(rec.Body.String(), "First steps") {
			t.Errorf("%s has the first steps", path)
		}
	}
	want(t, w.browse(user, "/admin/dashboard", nil), http.StatusForbidden)
	wantRedirect(t, w.browse(admin, "/dashboard", nil), "/admin/dashboard")
	if to := w.browse(user, "/dashboard", nil).Header().Get("Location"); to == "/admin/dashboard" || to == "/dashboard" || to == "" {
		t.Errorf("a user is led to %q", to)
	}
	want(t, w.browse(user, "/events", nil), http.StatusForbidden)

	fresh := exampleOverview()
	fresh.Started, fresh.Queue, fresh.Database, fresh.Disk, fresh.Minutes, fresh.Components = mainapi.Started{Certificate: true}, nil, nil, nil, nil, nil
	w = newOverviewWorld(t, fresh)
	want(t, w.browse(admin, "/admin/dashboard", nil), http.StatusOK, "First steps", `<li class="done">`, "sealmq submit", "The queue does not answer", "Database does not answer", "No worker yet")
}

// TestOverviewLinks: the overview, and what events bring, lead a reader to pages that are for his role.
func TestOverviewLinks(t *testing.T) {
	o := exampleOverview()
	o.Started = mainapi.Started{}
	o.Attention = append(o.Attention, mainapi.Attention{Code: "disk_low", Level: mainapi.AttentionLevelUnhealthy, Text: "The disk is nearly full", Since: testNow})
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	w := newOverviewWorld(t, o)
	for _, role := range []sealmq.Role{admin, operator, admin} {
		event, err := w.portal.eventFor(data, role)
		if err != nil {
			t.Fatal(err)
		}
		page := w.browse(role, "/admin/dashboard", nil)
		want(t, page, http.StatusOK, "The disk is nearly full", "Issue a certificate", "Look at the messages", `href="/admin/certificates/00ff"`)
		for _, text := range []string{page.Body.String(), string(event)} {
			for _, path := range []string{"/admin/data-retention", "/admin/certificates/new"} {
				if got := strings.Contains(text[max(0, strings.Index(text, "<main")):], path); got != (role == admin) {
					t.Errorf("%s leads a reader of the role %s there: %v", path, role, got)
				}
			}
		}
	}
}

// TestEvents: an event of the main server becomes the parts of the page and points of the
// chart. Without a session the browser is told not to ask again.
func TestEvents(t *testing.T) {
	o := exampleOverview()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	main := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); {
		case token != "admin":
			rw.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/v1/me":
			rw.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(rw).Encode(account(admin))
		default:
			rw.Header().Set("Content-Type", "text/event-stream")
			// From another process an event comes in pieces.
			for piece := range slices.Chunk([]byte(": \n\nevent: overview\ndata: "+string(data)+"\n\n"), 100) {
				_, _ = rw.Write(piece)
			}
		}
	})
	w := newWorld(t, Config{API: InProcess(main)})
	rec := w.browse(admin, "/events", nil)
	want(t, rec, http.StatusOK)
	rest, ok := strings.CutPrefix(rec.Body.String(), ":\n\ndata: ")
	var e liveEvent
	if err := json.Unmarshal([]byte(rest), &e); !ok || err != nil || rec.Header().Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v\n%s", err, rec.Body)
	}
	if len(e.Parts) != 9 || !strings.Contains(e.Parts["summary"], "No worker runs") || !strings.Contains(e.Parts["figure-accepted"], "12,480") {
		t.Errorf("%v", e.Parts)
	}
	// The minute that runs has just begun, so it shows what came in the minute before.
	if n := len(e.Points); n != 2 || e.Points[1].Accepted != 210 || e.Points[0].Accepted != 200 || *e.Points[1].Waiting != 6 {
		t.Errorf("%+v", e.Points)
	}
	if rec := w.browse("ended", "/events", nil); rec.Code != http.StatusNoContent {
		t.Errorf("without a session: status %d", rec.Code)
	}
	w = newWorld(t, Config{API: deadTransport{}})
	if rec := w.browse(admin, "/events", nil); rec.Code != http.StatusServiceUnavailable || rec.Body.Len() > 0 {
		t.Errorf("without a main server: status %d, %s", rec.Code, rec.Body)
	}
}

// TestChart: lines have gaps where no main server ran, points of several minutes are their mean,
// and the newest one is that of the last sixty seconds.
func TestChart(t *testing.T) {
	start := testNow.Truncate(time.Hour)
	at := func(n int) time.Time { return start.Add(time.Duration(n) * time.Minute) }
	h := mainapi.History{From: at(0), To: at(5).Add(30 * time.Second), Minutes: []mainapi.Minute{
		{At: at(0), Accepted: 10}, {At: at(1), Accepted: 5}, {At: at(4), Accepted: 8}, {At: at(5), Accepted: 1}}}
	c := newChart(&h, 1)
	if want := "M0.0 0.5L200.0 100.0M800.0 40.3L1000.0 100.0"; c.Lines[0].Path != want || c.Max != "10" {
		t.Errorf("%s up to %s, want %s", c.Lines[0].Path, c.Max, want)
	}
	if c := newChart(&h, 3); c.Data[:strings.Index(c.Data, `,"delivered"`)] != `{"step":180,"times":[1796040000,1796040180],"accepted":[7.5,6.5]` {
		t.Errorf("%s", c.Data)
	}
	h.Minutes = h.Minutes[:1]
	if c := newChart(&h, 1); c.Lines[0].Path != "M0.0 0.5h0" {
		t.Errorf("one point is %s", c.Lines[0].Path)
	}
	h.Minutes = nil
	if c := newChart(&h, 1); c.Lines[0].Path != "" || c.Area != "" {
		t.Errorf("nothing is %v", c.Lines)
	}
	w := []*float64{new(float64), nil}
	if got := linePath(w, 5, 100, 28, true); got != "M0.0 27.5L0.0 28L0.0 28Z" {
		t.Errorf("an area is %s", got)
	}
	for most, want := range map[float64]float64{0: 5, 5: 5, 6: 10, 13: 20, 21: 50, 412: 500, 1000: 1000} {
		if got := niceTop([]*float64{&most, nil}); got != want {
			t.Errorf("the top of %v is %v, want %v", most, got, want)
		}
	}
}

// TestHealthLine: what every page says at its side is the overview's judgement. Why is for those
// who can do something about it.
func TestHealthLine(t *testing.T) {
	const wrong = "No worker runs, and 3 messages wait"
	for _, tc := range []struct {
		role   sealmq.Role
		status int
		state  mainapi.StateSummary
		tone   string
		says   string
	}{
		{admin, 200, mainapi.StateSummary{State: "healthy", Summary: "Everything flows"}, "good", "Healthy"},
		{user, 200, mainapi.StateSummary{State: "healthy"}, "good", "Healthy"},
		{operator, 200, mainapi.StateSummary{State: "unhealthy", Summary: wrong}, "bad", wrong},
		{user, 200, mainapi.StateSummary{State: "degraded"}, "warn", "Limited: an administrator can see why"},
		{admin, 503, mainapi.StateSummary{}, "bad", "The main server does not answer"},
	} {
		w := newWorld(t, Config{})
		w.on("GET /api/v1/state", tc.status, tc.state)
		want(t, w.browse(tc.role, "/profile/second-factor", nil), http.StatusOK, `<span class="health"><span class="dot `+tc.tone+`"></span><span>`+tc.says+`</span>`)
	}
}

// TestStatisticsAge: statistics are never shown when they are older than the page says, also
// after the look of another reader has failed.
func TestStatisticsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path, request = "/admin/statistics", "GET /api/v1/statistics"
		w := newWorld(t, Config{})
		s := exampleStatistics()
		w.on(request, http.StatusOK, s)
		want(t, w.browse(operator, path, nil), http.StatusOK, "1,000")
		s.Messages.Total = 2345
		w.on(request, http.StatusOK, s)
		want(t, w.browse(operator, path, nil), http.StatusOK, "1,000")
		time.Sleep(time.Hour)
		w.refuse(request, http.StatusServiceUnavailable, "service_unavailable", "The database does not answer")
		for range 2 {
			want(t, w.browse(operator, path, nil), http.StatusServiceUnavailable)
		}
		w.on(request, http.StatusOK, s)
		want(t, w.browse(operator, path, nil), http.StatusOK, "2,345")
	})
}
