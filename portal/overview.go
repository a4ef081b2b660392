package portal

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The overview: does it flow, and if not, why.
var overviewPages = []page{
	{path: "/admin/dashboard", title: "Overview", nav: "Overview", icon: "overview", who: staff, show: showOverview},
	{path: "/dashboard", title: "Overview", who: everybody, show: showStart},
	{path: "/events", who: staff, show: showEvents, stream: true},
}

// showStart leads each role to where it begins.
func showStart(v *visit) error { return v.redirect(v.portal.start(v.role())) }

// overviewView is the page. Its parts are also what events bring.
type overviewView struct {
	liveView
	Events string // the address of events
	Ranges []rangeLink
	Chart  chart
}

// liveView is what changes while somebody looks.
type liveView struct {
	Summary   state
	Since     time.Time // since when it is not healthy
	Figures   []figure
	Steps     []startStep // of the first start; none once a message was delivered
	Attention []attention
	Parts     []part
	Refusals  []refusal
}

// rangeLink chooses how far back the page looks.
type rangeLink struct {
	Text, Path string
	Current    bool
}

// figure is one of the few numbers that matter.
type figure struct {
	ID, Label, Value, Unit, Note, Tone string
	Spark                              string // the path of a small line
}

// startStep is a step of the first start.
type startStep struct {
	Title, Text, Command string
	Link                 *link
	Done                 bool
}

// attention is something that somebody should look at.
type attention struct {
	Tone, Text string
	Since      time.Time
	Link       *link
}

// part is the state of a part of the system, and the page about it.
type part struct {
	state
	Path string
}

// refusal is a request that was not let in.
type refusal struct {
	At                   time.Time
	Who, Address, Reason string
}

// ranges are how many hours the page can look back, and of how many minutes a point then is.
var ranges = []struct{ hours, step int }{{1, 1}, {6, 3}, {24, 10}}

func showOverview(v *visit) error {
	chosen := ranges[0]
	for _, r := range ranges {
		if v.r.URL.Query().Get("hours") == strconv.Itoa(r.hours) {
			chosen = r
		}
	}
	view := overviewView{Events: v.portal.url("/events")}
	for _, r := range ranges {
		view.Ranges = append(view.Ranges, rangeLink{strconv.Itoa(r.hours) + " h", v.portal.url("/admin/dashboard") + "?hours=" + strconv.Itoa(r.hours), r == chosen})
	}
	now, err := v.api.GetOverviewWithResponse(v.ctx)
	if err != nil {
		return err
	}
	history, err := v.api.GetOverviewHistoryWithResponse(v.ctx, &mainapi.GetOverviewHistoryParams{Hours: chosen.hours})
	if err != nil {
		return err
	}
	view.liveView = v.portal.liveView(now.JSON200, v.role())
	view.Chart = newChart(history.JSON200, chosen.step)
	for i := range view.Figures {
		view.Figures[i].Spark = view.Chart.spark(view.Figures[i].ID)
	}
	return v.render("overview", view)
}

// liveView puts an overview into words, for readers of a role.
func (p *Portal) liveView(o *mainapi.Overview, role sealmq.Role) liveView {
	view := liveView{Summary: state{toneOf(o.State), o.Summary + "."}, Since: o.Since, Steps: p.startSteps(&o.Started, role)}
	waits, note := "–", "The queue does not answer"
	if q := o.Queue; q != nil {
		waits, note = number(q.Ready+q.Processing+q.Retry), ""
		if q.OldestAgeSeconds > 0 {
			note = "oldest " + took(time.Duration(q.OldestAgeSeconds*float64(time.Second)))
		}
	}
	failed := ""
	if o.LastHour.Failed > 0 {
		failed = "bad"
	}
	view.Figures = []figure{
		{ID: "accepted", Label: "Accepted", Value: number(o.LastHour.Accepted), Unit: "/h"},
		{ID: "delivered", Label: "Delivered", Value: number(o.LastHour.Delivered), Unit: "/h"},
		{ID: "waiting", Label: "Waiting", Value: waits, Note: note},
		{ID: "failed", Label: "Failed", Value: number(o.LastHour.Failed), Unit: "/h", Tone: failed},
	}
	for i := range o.Attention {
		a := &o.Attention[i]
		line := attention{toneOf(mainapi.Level(a.Level)), a.Text, a.Since, p.linkFor(role, actions[a.Code], a.Subject)}
		if a.Code == "certificate_ends" || a.Code == "messages_failed" || a.Code == "queue_idle" {
			line.Since = time.Time{} // the text has a time
		}
		view.Attention = append(view.Attention, line)
	}
	view.Parts = partsOf(o)
	for i := range o.Refusals {
		e := &o.Refusals[i]
		reason, _ := e.Details["reason"].(string)
		if n, _ := e.Details["attempts"].(float64); n > 1 {
			reason += ", " + number(int64(n)) + " times"
		}
		view.Refusals = append(view.Refusals, refusal{e.At, cmp.Or(e.ClientID, "Somebody unknown"), e.IPAddress, reason})
	}
	return view
}

func toneOf(level mainapi.Level) string {
	switch level {
	case mainapi.LevelHealthy:
		return "good"
	case mainapi.LevelUnhealthy:
		return "bad"
	}
	return "warn"
}

// actions are where something can be done about what needs attention, by its code. Each path is the
// pattern of a page, and may have a query.
var actions = map[string]link{
	"certificate_ends":   {"Renew", "/admin/certificates/{fingerprint}"},
	"certificate":        {"Look", "/admin/certificates"},
	"revocations":        {"Look", "/admin/certificates"},
	"authority":          {"Look", "/admin/certificates"},
	"dead_letters":       {"Look", "/admin/dead"},
	"queue_dead_letters": {"Look", "/admin/dead?queue={subject}"},
	"queue_grows":        {"Look", "/admin/queues/show?name={subject}"},
	"queue_idle":         {"Look", "/admin/queues/show?name={subject}"},
	"queue_paused":       {"Look", "/admin/queues/show?name={subject}"},
	"queue":              {"Look", "/admin/queues"},
	"no_worker":          {"Look", "/admin/proxies"},
	"component_away":     {"Look", "/admin/proxies"},
	"not_delivering":     {"Look", "/messages?status=queued"},
	"slow":               {"Look", "/admin/queues"},
	"messages_failed":    {"Look", "/messages?status=failed"},
	"database":           {"Look", "/admin/database"},
	"disk_low":           {"Make room", "/admin/data-retention"},
}

// linkFor is a link with its subject filled in; nil if there is none, or the role may not open the page.
func (p *Portal) linkFor(role sealmq.Role, to link, subject string) *link {
	path, query, _ := strings.Cut(to.Path, "?")
	if !slices.ContainsFunc(p.table, func(pg page) bool { return pg.path == path && slices.Contains(pg.who, role) }) {
		return nil
	}
	path = strings.Replace(path, "{fingerprint}", url.PathEscape(subject), 1)
	return &link{to.Name, joinText("?", path, strings.Replace(query, "{subject}", url.QueryEscape(subject), 1))}
}

// partsOf is the strip of the parts' states. Only what is not as it should be has a tone.
func partsOf(o *mainapi.Overview) []part {
	const components, storage = "/admin/proxies", "/admin/database"
	var parts []part
	roles := []struct {
		role      mainapi.ComponentRole
		one, many string
	}{
		{mainapi.ComponentRoleWorker, "Worker", "Workers"}, {mainapi.ComponentRoleProxy, "Proxy", "Proxies"},
		{mainapi.ComponentRoleBroker, "Broker", "Brokers"}, {mainapi.ComponentRoleMain, "Main server", "Main servers"}, {mainapi.ComponentRolePortal, "Portal", "Portals"},
	}
	for _, r := range roles {
		online, all, counted := 0, 0, r.role == mainapi.ComponentRoleWorker || r.role == mainapi.ComponentRoleProxy
		for i := range o.Components {
			if o.Components[i].Role == r.role {
				all++
				if o.Components[i].State == mainapi.ComponentStateOnline {
					online++
				}
			}
		}
		s := state{"", r.one}
		switch {
		case all == 0 && counted:
			s = state{"warn", "No " + string(r.role) + " yet"}
		case all == 0:
			continue
		case online < all:
			s.Tone = "bad"
			fallthrough
		case all > 1 || counted:
			s.Text = r.many + " " + number(online) + "/" + number(all)
		}
		parts = append(parts, part{s, components})
	}
	database := state{"bad", "Database does not answer"}
	if o.Database != nil {
		database = state{"", "Database " + took(time.Duration(o.Database.AnswerSeconds*float64(time.Second)))}
	}
	parts = append(parts, part{database, storage})
	if d := o.Disk; d != nil && d.TotalBytes > 0 {
		tone := ""
		if slices.ContainsFunc(o.Attention, func(a mainapi.Attention) bool { return a.Code == "disk_low" }) {
			tone = "bad"
		}
		parts = append(parts, part{state{tone, "Disk " + strconv.Itoa(int(100*float64(d.FreeBytes)/float64(d.TotalBytes))) + " % free"}, storage})
	}
	return parts
}

// startSteps are the first steps, until a message was delivered.
func (p *Portal) startSteps(s *mainapi.Started, role sealmq.Role) []startStep {
	if s.Delivered {
		return nil
	}
	issue := p.linkFor(role, link{"Issue one here", "/admin/certificates/new"}, "")
	return []startStep{
		{"Issue a certificate", "Each client that sends messages has a certificate with its name.", "sealmq cert issue acme-01", issue, s.Certificate},
		{"Send a message", "With that certificate a client submits to a proxy.", "sealmq submit --as acme-01 --sender +4915200000000 --message hello", nil, s.Accepted},
		{"See it arrive", "A worker delivers it within a second, and this page shows it.", "", &link{"Look at the messages", "/messages"}, s.Delivered},
	}
}
