package portal

import (
	"cmp"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about the broker's queues.
var queuePages = []page{
	{path: "/admin/queues", title: "Queues", nav: "Queues", icon: "queues", who: staff, show: showQueues},
	{path: "/admin/queues/show", title: "Queue", up: &link{"Queues", "/admin/queues"}, who: staff, show: named(showQueue)},
	{path: "/admin/queues/new", title: "New queue", up: &link{"Queues", "/admin/queues"}, who: admins, show: blank((*visit).newQueueForm), do: makeQueue},
	{path: "/admin/queues/options", title: "Options", up: &link{"Queues", "/admin/queues"}, who: admins, show: named(blank((*visit).queueOptionsForm)), do: changeQueue},
	{path: "/admin/queues/pause", who: admins, do: pauseQueue},
	{path: "/admin/queues/resume", who: admins, do: resumeQueue},
	{path: "/admin/queues/purge", title: "Purge a queue", up: &link{"Queues", "/admin/queues"}, who: admins, show: named(blank((*visit).purgeForm)), do: purgeQueue},
	{path: "/admin/queues/delete", title: "Delete a queue", up: &link{"Queues", "/admin/queues"}, who: admins, show: named(blank((*visit).deleteForm)), do: deleteQueue},
}

type queuesView struct {
	listView[queueRow]
	Heads []sortHead
	New   string // empty for those who may not
}

// sortHead is the head of a column by which a list can be sorted.
type sortHead struct {
	Text, Link string
	Sorted     string // ascending or descending, or empty
	Right      bool
}

type queueRow struct {
	Name, Link, ID                   string
	State                            state
	Ready, Unacked, Consumers, Bytes int64
	In, Out                          string
	Oldest                           time.Time
}

func (v *visit) queueRow(q *mainapi.BrokerQueue) queueRow {
	return queueRow{Name: sealmq.Escape(q.Name), Link: v.queueLink("show", q.Name), ID: "q-" + url.QueryEscape(q.Name), State: queueState(q),
		Ready: q.Ready, Unacked: q.Unacked, Consumers: int64(q.Consumers), Bytes: q.Bytes, In: rateText(q.InPerSecond), Out: rateText(q.OutPerSecond), Oldest: q.Oldest}
}

// queueLink is the address of a page about one queue. Names stand in the query, because they
// may have slashes and dots.
func (v *visit) queueLink(what, name string) string {
	return v.portal.url("/admin/queues/"+what) + "?" + url.Values{"name": {name}}.Encode()
}

// queueState is how a queue is, in a word.
func queueState(q *mainapi.BrokerQueue) state {
	held := q.Ready + q.Unacked
	switch {
	case q.Paused:
		return state{"warn", "Paused"}
	case q.DeadLettersOf != "" && held > 0:
		return state{"warn", "Dead letters"}
	case q.DeadLettersOf != "":
		return state{"", "No dead letters"}
	case q.MaxMessages > 0 && held >= q.MaxMessages || q.MaxBytes > 0 && q.Bytes >= q.MaxBytes:
		return state{"bad", "Full"}
	case q.Ready > 0 && q.Consumers == 0:
		return state{"warn", "No consumer"}
	case q.Consumers > 0 && (q.ReturnedPerSecond > 0 && 2*q.ReturnedPerSecond >= q.OutPerSecond || q.Delayed > 0 && q.Delayed == q.Ready):
		return state{"warn", "Consumers return it"}
	case q.Ready > q.Delayed && q.InPerSecond == 0 && q.OutPerSecond == 0 && time.Since(q.Oldest) > time.Minute:
		return state{"warn", "Stands still"}
	case q.Ready > q.Delayed && q.InPerSecond > q.OutPerSecond && time.Since(q.Oldest) > time.Minute:
		return state{"warn", "Behind"}
	case q.InPerSecond > 0 || q.OutPerSecond > 0:
		return state{"good", "Flows"}
	}
	return state{"", "Quiet"}
}

// rateText is a rate with two or three digits.
func rateText(perSecond float64) string {
	switch {
	case perSecond < 0.005:
		return "0"
	case perSecond < 1:
		return strconv.FormatFloat(perSecond, 'f', 2, 64)
	case perSecond < 100:
		return strconv.FormatFloat(perSecond, 'f', 1, 64)
	}
	return number(int64(math.Round(perSecond)))
}

func showQueues(v *visit) error {
	q := v.r.URL.Query()
	sort, order := q.Get("sort"), q.Get("order")
	r, err := v.api.ListBrokerQueuesWithResponse(v.ctx, &mainapi.ListBrokerQueuesParams{Search: q.Get("search"), Kind: mainapi.ListBrokerQueuesParamsKind(q.Get("kind")),
		Sort: mainapi.ListBrokerQueuesParamsSort(sort), Order: mainapi.ListBrokerQueuesParamsOrder(order), Limit: pageSize, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	list := r.JSON200
	view := queuesView{listView: listView[queueRow]{AsOf: list.AsOf, Self: v.self(), Rows: rows(list.Items, v.queueRow), Pager: pagerOf(q, list.NextCursor)}, Heads: v.sortHeads(q, "name",
		"Queue", "name", "State", "", "Ready", "ready", "Unacked", "unacked", "In /s", "in", "Out /s", "out", "Consumers", "consumers", "Size", "bytes", "Oldest", "oldest")}
	if v.may(admins) {
		view.New = v.portal.url("/admin/queues/new")
	}
	filtered := q.Get("search") != "" || q.Get("kind") != ""
	view.Filters = filters{Action: v.portal.url("/admin/queues"), Found: plural(list.Total, "queue"), Fields: append([]field{
		{Name: "search", Label: "Name or owner", Kind: "search", Value: q.Get("search"), Max: 255, Grow: true},
		{Name: "kind", Label: "Show", Kind: "select", Options: options(q.Get("kind"), "", "All queues", "waiting", "With waiting messages", "idle", "Waiting without a consumer",
			"growing", "Growing", "paused", "Paused", "dead", "Dead letters")}}, hidden(q, "sort", "order")...)}
	view.Empty = empty{Title: "There are no queues yet", Text: "A queue appears when a client declares or consumes it. Declare one:", Command: "sealmq queue declare results"}
	if filtered {
		view.Filters.Clear = v.portal.url("/admin/queues")
		view.Empty = empty{Title: "No queue matches", Text: "Try a shorter part of the name, or show all queues."}
	}
	return v.render("queues", view)
}

// self is the address of the page as it was asked for.
func (v *visit) self() string { return v.portal.url(v.portal.local(v.r.URL.RequestURI())) }

// hidden keeps values of the query in a form.
func hidden(q url.Values, names ...string) (list []field) {
	for _, name := range names {
		if q.Get(name) != "" {
			list = append(list, field{Name: name, Kind: "hidden", Value: q.Get(name)})
		}
	}
	return list
}

// sortHeads makes heads from pairs of a text and what the API sorts by; none for a column that
// cannot be sorted. A second click turns the order round.
func (v *visit) sortHeads(q url.Values, usual string, pairs ...string) (list []sortHead) {
	sorted := cmp.Or(q.Get("sort"), usual)
	for i := 0; i+1 < len(pairs); i += 2 {
		h := sortHead{Text: pairs[i], Right: i > 2}
		if by := pairs[i+1]; by != "" {
			ascending := by == "name"
			if by == sorted {
				if order := q.Get("order"); order != "" {
					ascending = order == "asc"
				}
				h.Sorted = map[bool]string{true: "ascending", false: "descending"}[ascending]
				ascending = !ascending
			}
			to := url.Values{"sort": {by}, "order": {map[bool]string{true: "asc", false: "desc"}[ascending]}}
			for _, f := range hidden(q, "search", "kind") {
				to.Set(f.Name, f.Value)
			}
			h.Link = "?" + to.Encode()
		}
		list = append(list, h)
	}
	return list
}

// queueName is the queue that a page is about.
func (v *visit) queueName() string { return v.r.URL.Query().Get("name") }

func (v *visit) queue(name string) (*mainapi.BrokerQueueDetail, error) {
	r, err := v.api.GetBrokerQueueWithResponse(v.ctx, &mainapi.GetBrokerQueueParams{Name: name})
	if err != nil {
		return nil, err
	}
	return r.JSON200, nil
}

// shellWord is a text as one word of a command line.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:@%+=,", r)
	}
	if s != "" && s[0] != '-' && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func pauseQueue(v *visit) error {
	name := v.queueName()
	_, err := v.api.PauseBrokerQueueWithResponse(v.ctx, &mainapi.PauseBrokerQueueParams{Name: name})
	return v.doneUnless(err, v.queuePath(name), "Deliveries are paused. Publishes go on, so the queue grows.")
}

func resumeQueue(v *visit) error {
	name := v.queueName()
	_, err := v.api.ResumeBrokerQueueWithResponse(v.ctx, &mainapi.ResumeBrokerQueueParams{Name: name})
	return v.doneUnless(err, v.queuePath(name), "The queue delivers again.")
}

// queuePath is the path of a queue's page within the portal.
func (v *visit) queuePath(name string) string {
	return "/admin/queues/show?" + url.Values{"name": {name}}.Encode()
}

func (v *visit) purgeForm(problems fieldErrors) error {
	d, err := v.queue(v.queueName())
	if err != nil {
		return err
	}
	text := []string{"Removes " + plural(d.Queue.Ready, "waiting message") + " for good. Nobody gets them."}
	if d.Queue.Unacked > 0 {
		text = append(text, plural(d.Queue.Unacked, "message in consumers' hands is not touched.", "messages in consumers' hands are not touched."))
	}
	return v.dangerForm(dangerView{Title: "Purge " + sealmq.Escape(d.Queue.Name), Text: text}, "purge", "Purge the queue", d.Queue.Name, problems)
}

// dangerForm asks for the name of a queue before something is done to it.
func (v *visit) dangerForm(view dangerView, what, submit, name string, problems fieldErrors) error {
	view.Form = form{Action: v.queueLink(what, name), Submit: submit, Danger: true, Cancel: v.queueLink("show", name), Fields: []field{
		{Name: "name", Label: "Type the name to confirm", Hint: name, Match: name, Autocomplete: "off", Code: true, Required: true, Focus: true}}}.with(problems)
	return v.renderStatus(formStatus(problems), "danger", view)
}

func purgeQueue(v *visit) error {
	name := v.queueName()
	r, err := v.api.PurgeBrokerQueueWithResponse(v.ctx, &mainapi.PurgeBrokerQueueParams{Name: name}, mainapi.PurgeBrokerQueueJSONRequestBody{Name: v.r.FormValue("name")})
	if err != nil {
		return refused(err, v.purgeForm)
	}
	return v.done(v.queuePath(name), plural(r.JSON200.Removed, "message")+" removed.")
}

func (v *visit) deleteForm(problems fieldErrors) error {
	d, err := v.queue(v.queueName())
	if err != nil {
		return err
	}
	q := &d.Queue
	text := []string{"Removes " + plural(q.Ready+q.Unacked, "message") + " (" + byteSize(q.Bytes) + ") and " + plural(len(d.Bindings)+d.MoreBindings, "binding") + " for good."}
	if q.Consumers > 0 {
		text = append(text, plural(q.Consumers, "consumer gets nothing more from it.", "consumers get nothing more from it."))
	}
	if len(d.Bindings) > 0 {
		text = append(text, "Messages that would go to this queue only are refused from then on.")
	}
	return v.dangerForm(dangerView{Title: "Delete " + sealmq.Escape(q.Name), Text: text}, "delete", "Delete the queue", q.Name, problems)
}

func deleteQueue(v *visit) error {
	name := v.queueName()
	r, err := v.api.DeleteBrokerQueueWithResponse(v.ctx, &mainapi.DeleteBrokerQueueParams{Name: name}, mainapi.DeleteBrokerQueueJSONRequestBody{Name: v.r.FormValue("name")})
	if err != nil {
		return refused(err, v.deleteForm)
	}
	return v.done("/admin/queues", "The queue is deleted, with "+plural(r.JSON200.Removed, "message")+".")
}
