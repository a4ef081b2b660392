package portal

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about messages.
var messagePages = []page{
	{path: "/messages", title: "Messages", nav: "Messages", icon: "messages", who: everybody, show: (*visit).messages},
	{path: "/admin/messages", title: "Messages", who: staff, show: (*visit).messages},
	{path: "/messages/find", title: "Messages", who: everybody, do: (*visit).findMessages},
	{path: "/messages/retry", title: "Queue messages again", up: &link{"Messages", "/messages"}, who: admins, show: (*visit).askRetry, do: (*visit).startRetry},
	{path: "/messages/{client}/{id}", title: "Message", up: &link{"Messages", "/messages"}, who: everybody, show: (*visit).message},
	{path: "/messages/{client}/{id}/text", title: "Message", up: &link{"Messages", "/messages"}, who: readers, show: (*visit).message, do: (*visit).messageText},
	{path: "/messages/{client}/{id}/retry", who: admins, do: (*visit).retryMessage},
	{path: "/admin/retries", title: "Messages queued again", up: &link{"Messages", "/messages"}, who: staff, show: (*visit).retryJobs},
	{path: "/admin/retries/{job}", title: "Queue messages again", up: &link{"Messages", "/messages"}, who: staff, show: (*visit).retryJob},
	{path: "/admin/retries/{job}/cancel", who: admins, do: (*visit).cancelRetry},
}

// The states of messages.
const (
	queued     = mainapi.State("queued")
	processing = mainapi.State("processing")
	delivered  = mainapi.State("delivered")
	failed     = mainapi.State("failed")
)

// defaultDomain is the domain of messages that name none; it says nothing.
const defaultDomain = "default"

// maxLooks is how often a page asks for more if the rows that were looked at have little of what is
// wanted, and maxTrail how many pages it leads back.
const (
	maxLooks = 5
	maxTrail = 12
)

// messageFilters are the names of the filters in the address, which are the API's. The number is
// not among them, because it must not stand in an address: a token stands for it.
var messageFilters = []string{"status", "client_id", "from", "to", "message_id", "client_key", "domain", "number_token"}

type messagesView struct {
	Path    string // of the list, for what leads back to it
	Find    []field
	FindURL string
	Fields  []field
	More    []field
	Opened  bool // the rarer filters are shown
	Found   string
	Clear   string
	// Number is the number that is searched for, masked, and WithoutNumber the address without it.
	Number, WithoutNumber string
	Rows                  []messageRow
	ShowClient, ShowError bool
	ShowDomain, ShowKey   bool
	Retry                 *retryChoice
	Pager                 pager
	Empty                 empty
}

type messageRow struct {
	mainapi.Message
	Path  string
	State state
	Took  time.Duration // from queueing to delivery; 0 if it is not delivered
	Name  string        // for the retry of this one; empty if it cannot be retried
}

// retryChoice is what a list offers for the failed messages in it.
type retryChoice struct {
	Action, All string
	Text        string // "Retry all 12 that match"
}

// filter reads the filters of an address, as far as they make sense. Bad ones are said at their
// fields.
func messageFilter(q url.Values) (f mainapi.ListMessagesParams, problems fieldErrors) {
	problems = fieldErrors{}
	f = mainapi.ListMessagesParams{Status: mainapi.State(q.Get("status")), ClientID: strings.TrimSpace(q.Get("client_id")), MessageID: strings.TrimSpace(q.Get("message_id")),
		ClientKey: strings.TrimSpace(q.Get("client_key")), Domain: strings.TrimSpace(q.Get("domain")), NumberToken: q.Get("number_token"), Cursor: q.Get("cursor"), Limit: pageSize}
	f.From, f.To = filterPeriod(q, problems)
	if f.MessageID != "" && len(f.MessageID) < minIDPrefix {
		problems["message_id"] = "Give at least 4 characters."
		f.MessageID = ""
	}
	return f, problems
}

const minIDPrefix = 4

// filterPeriod is the period of the filters from and to.
func filterPeriod(q url.Values, problems fieldErrors) (from, to time.Time) {
	var err error
	if from, err = filterTime(q.Get("from"), false); err != nil {
		problems["from"] = "This is not a day or a time."
	}
	if to, err = filterTime(q.Get("to"), true); err != nil {
		problems["to"] = "This is not a day or a time."
	}
	return from, to
}

// filterTime is a day or a time of a filter, in UTC. The end of a period includes its day.
func filterTime(s string, end bool) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	if t, err = time.Parse(time.DateOnly, s); err == nil {
		if end {
			t = t.AddDate(0, 0, 1)
		}
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}

// messages is the list.
func (v *visit) messages() error {
	q := v.r.URL.Query()
	f, problems := messageFilter(q)
	view := v.messagesView(q, problems)
	rows, next, total, err := v.lookForMessages(f)
	switch {
	case hasStatus(err, http.StatusUnprocessableEntity) && f.NumberToken != "":
		v.flash(toast{"warn", "The search for a number has ended. Enter the number again."})
		return v.redirect(v.page.path + with(dropped(q, "cursor", "trail"), "number_token", ""))
	case hasStatus(err, http.StatusUnprocessableEntity):
		if more, ok := invalid(err); ok {
			view = v.messagesView(q, more)
		}
	case err != nil:
		return err
	}
	v.addRows(&view, rows)
	v.addPager(&view, q, next)
	if f.NumberToken != "" {
		view.WithoutNumber = v.portal.url(v.page.path) + with(dropped(q, "cursor", "trail"), "number_token", "")
		view.Number = "a number"
		if len(rows) > 0 {
			view.Number = rows[0].SenderNumberMasked
		}
	}
	if f.Cursor == "" {
		view.Found = foundText(total)
	}
	some := f.Status == failed || slices.ContainsFunc(view.Rows, func(r messageRow) bool { return r.Name != "" })
	if v.may(admins) && some && len(view.Rows) > 0 {
		all := dropped(q, "cursor", "trail", "status")
		view.Retry = &retryChoice{Action: v.portal.url("/messages/retry"), All: v.portal.url("/messages/retry") + with(all, "", ""), Text: "Retry all failed that match"}
		if f.Status == failed && f.Cursor == "" && total.Exact {
			view.Retry.Text = "Retry the " + number(total.Count) + " that match"
		}
	}
	if len(rows) == 0 {
		if next != "" {
			view.Empty = empty{Title: "Nothing in the newest messages", Text: "The newest ones were looked through without a match. Older messages can still match: go on with “Older”, or make the period smaller."}
		} else {
			view.Empty = v.noMessages(q)
		}
	}
	return v.render("messages", view)
}

// noMessages says what would fill the list.
func (v *visit) noMessages(q url.Values) empty {
	if slices.ContainsFunc(messageFilters, func(name string) bool { return q.Get(name) != "" }) {
		return empty{Title: "No message matches", Text: "Clients' own keys are compared as a whole. " + numberAdvice + " Take filters away to see more.", Link: &link{"Show all messages", v.page.path}}
	}
	if !v.may(staff) && v.account.ClientID == "" {
		return empty{Title: "Your account has no client yet", Text: "You see the messages of one client. An administrator chooses it for your account."}
	}
	return empty{Title: "No message has arrived yet", Text: "A client submits messages to the proxy with its certificate. They appear here at once.", Command: "sealmq submit --as CLIENT --sender +4915200000000 --message 'Results are ready'"}
}

// lookForMessages asks for a page of the list. Each answer looks at a bounded number of rows, so
// a rare combination of filters may need several.
func (v *visit) lookForMessages(f mainapi.ListMessagesParams) (rows []mainapi.Message, next string, total mainapi.Total, err error) {
	for range maxLooks {
		r, err := v.api.ListMessagesWithResponse(v.ctx, &f)
		if err != nil {
			return nil, "", total, err
		}
		page := r.JSON200
		if f.Cursor == "" {
			total = page.Total
		}
		rows, next = append(rows, page.Items...), page.NextCursor
		if len(rows) > 0 || next == "" {
			return rows, next, total, nil
		}
		f.Cursor = next
	}
	return rows, next, total, nil
}

// messagesView has the filters.
func (v *visit) messagesView(q url.Values, problems fieldErrors) messagesView {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	view := messagesView{Path: v.page.path, FindURL: v.portal.url("/messages/find"), Find: []field{
		{Name: "q", Label: "Number or id", Kind: "search", Placeholder: "+49 152 0000 0000", Max: 64, Autocomplete: "off", Grow: true, Error: problems["q"], Hint: "The whole number with its country code, or an id’s beginning"}}}
	view.Find = append(view.Find, hidden(dropped(q, "number_token", "message_id"), messageFilters...)...)
	view.Fields = []field{{Name: "status", Label: "State", Kind: "select", Options: options(get("status"), "", "Any", "queued", "Waiting", "processing", "Being delivered", "delivered", "Delivered", "failed", "Failed")}}
	if v.may(staff) {
		view.Fields = append(view.Fields, field{Name: "client_id", Label: "Client", Value: get("client_id"), Max: 255, Autocomplete: "off"})
	}
	view.Fields = append(view.Fields, field{Name: "from", Label: "From", Kind: "date", Value: get("from"), Error: problems["from"]}, field{Name: "to", Label: "To", Kind: "date", Value: get("to"), Error: problems["to"]})
	view.More = []field{
		{Name: "message_id", Label: "Id begins with", Value: get("message_id"), Max: 36, Code: true, Autocomplete: "off", Error: problems["message_id"]},
		{Name: "client_key", Label: "Client’s own key", Value: get("client_key"), Max: 128, Code: true, Autocomplete: "off", Error: problems["client_key"]},
		{Name: "domain", Label: "Domain", Value: get("domain"), Max: 255, Autocomplete: "off", Error: problems["domain"]},
	}
	for _, m := range view.More {
		view.Opened = view.Opened || m.Value != "" || m.Error != ""
	}
	view.Fields = append(view.Fields, hidden(q, "number_token")...)
	if slices.ContainsFunc(messageFilters, func(name string) bool { return get(name) != "" }) {
		view.Clear = v.portal.url(v.page.path)
	}
	return view
}

// addRows fills the table. Columns that are empty in all rows go away.
func (v *visit) addRows(view *messagesView, rows []mainapi.Message) {
	for i := range rows {
		m := &rows[i]
		row := messageRow{Message: *m, Path: v.portal.url("/messages", m.ClientID, m.MessageID), State: stateOf(messageStates, m.Status)}
		if m.Status == delivered {
			row.Took = max(time.Microsecond, m.DeliveredAt.Sub(m.QueuedAt))
		}
		if m.Status == failed && v.may(admins) {
			row.Name = m.ClientID + "/" + m.MessageID
		}
		view.ShowError = view.ShowError || m.ErrorMessage != ""
		view.ShowDomain = view.ShowDomain || m.Domain != defaultDomain
		view.ShowKey = view.ShowKey || m.ClientKey != ""
		view.Rows = append(view.Rows, row)
	}
	view.ShowClient = v.may(staff)
}

// addPager leads on, and back through the pages that led here.
func (v *visit) addPager(view *messagesView, q url.Values, next string) {
	at := func(cursor string, trail []string) string {
		q := dropped(q, "cursor", "trail")
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if len(trail) > 0 {
			q.Set("trail", strings.Join(trail, "."))
		}
		return v.portal.url(v.page.path) + with(q, "", "")
	}
	cursor := q.Get("cursor")
	var trail []string
	if t := q.Get("trail"); t != "" {
		trail = strings.Split(t, ".")
	}
	if cursor != "" {
		view.Pager.First = at("", nil)
		if n := len(trail); n > 0 {
			before := trail[n-1]
			if before == firstPage {
				before = ""
			}
			view.Pager.Newer = at(before, trail[:n-1])
		}
	}
	if next != "" {
		trail = append(slices.Clone(trail), cmp.Or(cursor, firstPage))
		view.Pager.Older = at(next, trail[max(0, len(trail)-maxTrail):])
	}
}

// firstPage stands for the first page, which has no cursor, among the pages that led to one.
const firstPage = "-"

// dropped is a copy of a query without some values.
func dropped(q url.Values, names ...string) url.Values {
	c := make(url.Values, len(q))
	for name, values := range q {
		if !slices.Contains(names, name) && len(values) > 0 && values[0] != "" {
			c[name] = values
		}
	}
	return c
}

func foundText(t mainapi.Total) string {
	switch {
	case t.Count == 0:
		return ""
	case t.Exact:
		return number(t.Count) + " found · newest first"
	}
	return "more than " + number(t.Count) + " found · newest first"
}

var messageStates = map[mainapi.State]state{delivered: {"good", "Delivered"}, failed: {"bad", "Failed"}, processing: {"", "Being delivered"}, queued: {"", "Waiting"}}

// findMessages takes what was typed into the list's own search: a number, which is exchanged for a
// token, or the beginning of an id.
func (v *visit) findMessages() error {
	q := make(url.Values)
	for _, name := range messageFilters {
		if value := strings.TrimSpace(v.r.PostFormValue(name)); value != "" && name != "number_token" && name != "message_id" {
			q.Set(name, value)
		}
	}
	text := strings.TrimSpace(v.r.PostFormValue("q"))
	switch {
	case text == "":
	case numberText.MatchString(text):
		number, advice := internationalNumber(text)
		if advice != "" {
			v.flash(toast{"warn", advice})
			if len(text) < leastDigits { // too short to be anybody's number
				q.Set("message_id", text)
			}
			break
		}
		r, err := v.api.SearchMessagesWithResponse(v.ctx, mainapi.MessageSearch{SenderNumber: number, Limit: 1})
		if hasStatus(err, http.StatusUnprocessableEntity) {
			v.flash(toast{"warn", numberAdvice})
			break
		}
		if err != nil {
			return err
		}
		q.Set("number_token", r.JSON200.NumberToken)
	case len(text) < minIDPrefix:
		v.flash(toast{"warn", "Give at least 4 characters of an id, or a whole number."})
	default:
		q.Set("message_id", text)
	}
	return v.redirect("/messages" + with(q, "", ""))
}
