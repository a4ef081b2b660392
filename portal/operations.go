package portal

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages with which operators look after the node: its processes, its database, what is kept
// and for how long, and what was done.
var operationPages = []page{
	{path: "/admin/proxies", title: "Proxies and workers", nav: "Proxies and workers", who: staff, show: (*visit).proxies},
	{path: "/admin/log-level", who: admins, do: (*visit).setLogLevel},
	{path: "/admin/database", title: "Database", nav: "Database", who: staff, show: (*visit).database},
	{path: "/admin/backups", title: "Backups", nav: "Backups", who: admins, show: (*visit).backups},
	{path: "/admin/db/backup", who: admins, do: (*visit).startBackup},
	{path: "/admin/backups/{filename}", who: admins, show: (*visit).fetchBackup, long: true},
	{path: "/admin/data-retention", title: "Retention", nav: "Retention", who: admins, show: (*visit).retention},
	{path: "/admin/data-retention/cleanup", who: admins, do: (*visit).cleanUp},
	{path: "/admin/audit", title: "Audit", nav: "Audit", who: staff, show: (*visit).auditLog},
}

type proxiesView struct {
	Rows  []componentRow
	Empty empty
	Log   *form // for those who may change the level of the log
}

type componentRow struct {
	mainapi.Component
	Label state
	What  string
}

// roleWords are what processes do, in the order of the list.
var roleWords = []struct{ role, word string }{{"proxy", "Proxy"}, {"worker", "Worker"}, {"broker", "Broker"}, {"main", "Main server"}, {"portal", "Portal"}}

// proxies are the processes of the pipeline that the main server has heard of.
func (v *visit) proxies() error {
	r, err := v.api.GetOverviewWithResponse(v.ctx)
	if err != nil {
		return err
	}
	view := proxiesView{Empty: empty{Title: "No process has reported yet", Text: "Proxies, workers and brokers report to the main server every few seconds.", Command: "sealmq serve proxy worker"}}
	for _, w := range roleWords {
		for _, c := range r.JSON200.Components {
			if string(c.Role) != w.role {
				continue
			}
			row := componentRow{Component: c, Label: state{"good", "Online"}, What: w.word}
			if c.State != mainapi.ComponentStateOnline {
				row.Label = state{"bad", "Away"}
			}
			view.Rows = append(view.Rows, row)
		}
	}
	if v.may(admins) {
		view.Log = v.logLevel()
	}
	return v.render("proxies", view)
}

// logLevel is the form that changes the level of the log; nil if the main server does not tell it.
func (v *visit) logLevel() *form {
	r, err := v.api.GetLogLevelWithResponse(v.ctx)
	if err != nil {
		return nil
	}
	level := string(r.JSON200.Level)
	if r.JSON200.Configured {
		level = "default"
	}
	return &form{Action: v.portal.url("/admin/log-level"), Submit: "Change", Fields: []field{{Name: "level", Label: "Level of the log", Kind: "select",
		Hint:    "For all processes with the main server's data folder. It outlives a restart. Now: " + string(r.JSON200.Level) + ".",
		Options: options(level, "default", "as configured", "debug", "debug", "info", "info", "warn", "warn", "error", "error")}}}
}

func (v *visit) setLogLevel() error {
	r, err := v.api.SetLogLevelWithResponse(v.ctx, mainapi.SetLogLevelJSONRequestBody{Level: mainapi.SetLogLevelJSONBodyLevel(v.r.PostFormValue("level"))})
	if err != nil {
		return err
	}
	return v.done("/admin/proxies", "The level of the log is "+string(r.JSON200.Level)+".")
}

type databaseView struct {
	mainapi.Database
	Kind, Where string
	Answer      time.Duration
	Waited      time.Duration
	Disk        *mainapi.Disk // where a file is
	Tables      []tableRow
}

type tableRow struct {
	Name string
	Rows int64
}

func (v *visit) database() error {
	r, err := v.api.GetDatabaseWithResponse(v.ctx)
	if err != nil {
		return err
	}
	d := r.JSON200
	view := databaseView{Database: *d, Kind: "SQLite", Where: d.Path, Answer: time.Duration(d.AnswerSeconds * float64(time.Second)), Waited: time.Duration(d.Connections.WaitedSeconds * float64(time.Second))}
	if d.Host != "" {
		view.Kind, view.Where = "MySQL or MariaDB", d.Host+":"+d.Port
	} else if o, err := v.api.GetOverviewWithResponse(v.ctx); err == nil {
		view.Disk = o.JSON200.Disk
	}
	for _, name := range slices.Sorted(maps.Keys(d.Rows)) {
		view.Tables = append(view.Tables, tableRow{name, d.Rows[name]})
	}
	return v.render("database", view)
}

// The bounds of retention, and what is proposed.
const (
	leastDays, mostDays = 30, 3650
	proposedDays        = 180
)

type retentionView struct {
	Action  string
	Days    field
	Preview *mainapi.RetentionResult
	Form    form
}

// retention shows what a clean-up would delete, before anybody confirms it.
func (v *visit) retention() error {
	days := proposedDays
	text := strings.TrimSpace(v.r.URL.Query().Get("days"))
	view := retentionView{Action: v.portal.url("/admin/data-retention"), Days: field{Name: "days", Label: "Keep for days", Kind: "number", Value: cmp.Or(text, strconv.Itoa(days)), Required: true}}
	if text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < leastDays || n > mostDays {
			view.Days.Error = fmt.Sprintf("Give a number of days between %d and %s.", leastDays, number(mostDays))
			return v.renderStatus(http.StatusUnprocessableEntity, "retention", view)
		}
		days = n
	}
	r, err := v.api.PreviewRetentionWithResponse(v.ctx, mainapi.RetentionRequest{RetentionDays: days})
	if err != nil {
		return err
	}
	view.Preview = r.JSON200
	word := strconv.FormatInt(view.Preview.Messages, 10)
	view.Form = form{Action: v.portal.url("/admin/data-retention/cleanup"), Submit: "Delete " + plural(view.Preview.Messages, "message"), Danger: true, Fields: []field{
		{Name: "retention_days", Kind: "hidden", Value: strconv.Itoa(days)},
		{Name: "confirm", Label: "Type " + word + " to confirm", Match: word, Required: true, Autocomplete: "off", Hint: "About this many messages are deleted. They cannot be brought back."},
		{Name: "expected", Kind: "hidden", Value: word}}}
	return v.render("retention", view)
}

func (v *visit) cleanUp() error {
	days, err := strconv.Atoi(v.r.PostFormValue("retention_days"))
	if err != nil || v.r.PostFormValue("confirm") == "" || v.r.PostFormValue("confirm") != v.r.PostFormValue("expected") {
		v.flash(toast{"warn", "Nothing was deleted: the number was not typed as shown."})
		return v.redirect("/admin/data-retention?days=" + url.QueryEscape(v.r.PostFormValue("retention_days")))
	}
	r, err := v.api.RunRetentionWithResponse(v.ctx, mainapi.RetentionRequest{RetentionDays: days})
	if err != nil {
		return err
	}
	return v.done("/admin/data-retention?days="+strconv.Itoa(days), plural(r.JSON200.Messages, "message")+" deleted.")
}

type auditView struct {
	listView[auditRow]
	Chain *chainView
}

type chainView struct {
	mainapi.AuditChain
	Tone, Text string
}

type auditRow struct {
	mainapi.AuditEntry
	What, Tone, Details string
	Client              string // its page
}

func (v *visit) auditLog() error {
	q := v.r.URL.Query()
	var view auditView
	problems := fieldErrors{}
	p := mainapi.ListAuditParams{EventType: strings.TrimSpace(q.Get("event_type")), Actor: strings.TrimSpace(q.Get("actor")), ClientID: strings.TrimSpace(q.Get("client_id")),
		Severity: mainapi.ListAuditParamsSeverity(q.Get("severity")), Limit: pageSize, Cursor: q.Get("cursor")}
	p.From, p.To = filterPeriod(q, problems)
	here := v.portal.url("/admin/audit")
	events := []string{"", "Any"}
	for _, e := range auditEvents {
		events = append(events, e.name, e.audit)
	}
	view.Filters = filters{Action: here, Fields: []field{
		{Name: "event_type", Label: "What", Kind: "select", Options: options(p.EventType, events...)},
		{Name: "actor", Label: "Who", Value: p.Actor, Max: 255, Autocomplete: "off"},
		{Name: "client_id", Label: "Client", Value: p.ClientID, Max: 255, Autocomplete: "off"},
		{Name: "severity", Label: "Severity", Kind: "select", Options: options(string(p.Severity), "", "Any", "info", "Information", "warning", "Warning", "error", "Error", "critical", "Critical")},
		{Name: "from", Label: "From", Kind: "date", Value: q.Get("from"), Error: problems["from"]}, {Name: "to", Label: "To", Kind: "date", Value: q.Get("to"), Error: problems["to"]}}}
	view.Empty = empty{Title: "Nothing is recorded yet", Text: "What administrators do, who reads a text and who is refused appears here."}
	if len(dropped(q, "cursor")) > 0 {
		view.Filters.Clear = here
		view.Empty = empty{Title: "Nothing matches", Text: "Take filters away to see more.", Link: &link{"Show everything", "/admin/audit"}}
	}
	r, err := v.api.ListAuditWithResponse(v.ctx, &p)
	if err != nil {
		return err
	}
	view.Rows, view.Pager = rows(r.JSON200.Items, v.auditRow), pagerOf(q, r.JSON200.NextCursor)
	view.Pager.Older, view.Pager.Next = view.Pager.Next, ""
	switch chain, err := v.api.GetAuditChainWithResponse(v.ctx); {
	case err == nil:
		view.Chain = chainOf(*chain.JSON200)
	case !hasStatus(err, http.StatusNotFound):
		view.Chain = &chainView{Tone: "warn", Text: "The audit file cannot be checked now."}
	}
	return v.render("audit", view)
}

// chainOf says in words how far the audit file is whole.
func chainOf(c mainapi.AuditChain) *chainView {
	view := &chainView{AuditChain: c, Tone: "good", Text: "The audit file is whole: " + plural(c.Records, "record") + ", denied attempts among them. The list below is of the database, and has fewer: of a broker on another machine, only what is done in the portal."}
	if !c.Whole {
		view.Tone = "bad"
		view.Text = "The audit file is broken at line " + number(c.Records+1) + ": " + c.Broken + ". The " + plural(c.Records, "record") + " before it are whole."
	}
	return view
}

func (v *visit) auditRow(e *mainapi.AuditEntry) auditRow {
	row := auditRow{AuditEntry: *e, What: eventText(e.EventType, false)}
	switch e.Severity {
	case "warning":
		row.Tone = "warn"
	case "error", "critical":
		row.Tone = "bad"
	}
	if e.ClientID != "" {
		row.Client = v.portal.url("/admin/clients", e.ClientID)
	}
	row.Details = detailsText(e.Details)
	return row
}
