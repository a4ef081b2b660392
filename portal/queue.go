package portal

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

type queueView struct {
	Row      queueRow
	Paused   bool
	Delayed  int64
	Facts    []fact
	Totals   []fact
	Bindings []bindingRow
	More     int // bindings that are left out
	// Consumers are connections; Local says how many more subscriptions there are.
	Consumers []connectionRow
	Local     int64
	Dead      *link
	DeadCount int64

	Messages *peekView // nil until they are asked for
	Peek     string    // the address that shows them
	Commands []string

	// The rest is empty for those who may not.
	Options, Purge, Delete, Pause string
}

// fact is a name and a value.
type fact struct{ Name, Value string }

type bindingRow struct{ Queue, QueueLink, Exchange, ExchangeLink, Key string }

// peekView are waiting messages without their bodies.
type peekView struct {
	Rows  []peekedRow
	Pager pager
}

type peekedRow struct {
	ID, Publisher, Exchange, Key, Reason, DiedIn string
	Letter                                       string // how a form names it
	Published                                    time.Time
	Attempts                                     int64
	Size                                         int
}

func showQueue(v *visit) error {
	name := v.queueName()
	d, err := v.queue(name)
	if err != nil {
		return err
	}
	q := &d.Queue
	v.title = sealmq.Escape(q.Name)
	view := queueView{Row: v.queueRow(q), Paused: q.Paused, Delayed: q.Delayed, Facts: optionFacts(q, &d.Options), Totals: totalFacts(&d.Totals), More: d.MoreBindings}
	view.Bindings, view.Consumers = rows(d.Bindings, v.bindingRow), rows(d.Consumers, v.connectionRow)
	view.Local = max(0, int64(q.Consumers)-int64(len(d.Consumers)))
	if q.DeadLetters != "" {
		view.Dead, view.DeadCount = &link{sealmq.Escape(q.DeadLetters), v.deadLink(q.DeadLetters)}, d.DeadReady
	}
	query := url.Values{"name": {name}, "messages": {"1"}}
	view.Peek = "?" + query.Encode() + "#messages"
	if v.r.URL.Query().Get("messages") != "" {
		if view.Messages, err = v.peek(name, query); err != nil {
			return err
		}
	}
	word := shellWord(name)
	view.Commands = []string{"sealmq queue show " + word}
	if v.may(admins) {
		view.Options, view.Purge, view.Delete = v.queueLink("options", name), v.queueLink("purge", name), v.queueLink("delete", name)
		view.Pause = v.queueLink(map[bool]string{true: "resume", false: "pause"}[q.Paused], name)
		view.Commands = append(view.Commands, "sealmq queue "+map[bool]string{true: "resume ", false: "pause "}[q.Paused]+word, "sealmq queue purge "+word, "sealmq queue delete "+word)
	}
	return v.render("queue", view)
}

// peek looks at a page of waiting messages.
func (v *visit) peek(name string, query url.Values) (*peekView, error) {
	cursor := v.r.URL.Query().Get("cursor")
	const size = 20
	r, err := v.api.PeekBrokerQueueWithResponse(v.ctx, &mainapi.PeekBrokerQueueParams{Name: name, Limit: size, Cursor: cursor})
	if err != nil {
		return nil, err
	}
	next := r.JSON200.NextCursor
	if len(r.JSON200.Items) < size {
		next = ""
	}
	query.Set("cursor", cursor)
	return &peekView{Rows: rows(r.JSON200.Items, peekedMessage), Pager: pagerOf(query, next)}, nil
}

func peekedMessage(m *mainapi.BrokerMessage) peekedRow {
	return peekedRow{ID: sealmq.Escape(m.ID), Publisher: m.Publisher, Exchange: sealmq.Escape(m.Exchange), Key: sealmq.Escape(m.Key), Reason: m.DeathReason, DiedIn: sealmq.Escape(m.DeathQueue),
		Letter: strconv.FormatInt(m.Seq, 10) + " " + m.ID, Published: m.Published, Attempts: m.Attempts, Size: m.Size}
}

func (v *visit) bindingRow(b *mainapi.BrokerBinding) bindingRow {
	return bindingRow{Queue: sealmq.Escape(b.Queue), QueueLink: v.queueLink("show", b.Queue), Exchange: sealmq.Escape(b.Exchange), ExchangeLink: v.exchangeLink(b.Exchange), Key: sealmq.Escape(b.Key)}
}

// optionFacts are the options of a queue in words.
func optionFacts(q *mainapi.BrokerQueue, o *mainapi.BrokerQueueOptions) []fact {
	limit := func(n int64, text string) string {
		if n == 0 {
			return "no limit"
		}
		return text
	}
	full := "publishes are refused"
	if o.DropOldest {
		full = "the oldest messages are dropped"
	}
	accepts, audience := "all messages", "everybody"
	if len(o.Sealed) > 0 {
		accepts = "only messages sealed with " + strings.Join(o.Sealed, ", ")
	}
	if o.Private {
		audience = "its owner only"
	}
	ttl := "for ever"
	if o.TTL != "" {
		ttl = durationText(o.TTL)
	}
	return []fact{{"Owner", cmp.Or(q.Owner, "the administrators")}, {"Open to", audience}, {"Most messages", limit(o.MaxMessages, number(o.MaxMessages))}, {"Most bytes", limit(o.MaxBytes, byteSize(o.MaxBytes))},
		{"At a limit", full}, {"Messages wait", ttl}, {"Delivery limit", plural(o.DeliveryLimit, "attempt")}, {"Ack timeout", durationText(o.AckTimeout)}, {"Prefetch", number(o.Prefetch)}, {"Accepts", accepts}}
}

func totalFacts(t *mainapi.BrokerQueueTotals) []fact {
	return []fact{{"Published", number(t.Published)}, {"Delivered", number(t.Delivered)}, {"Acknowledged", number(t.Acked)}, {"Returned", number(t.Returned)},
		{"Dead-lettered", number(t.DeadLettered)}, {"Expired", number(t.Expired)}, {"Dropped", number(t.Dropped)}, {"Refused at a limit", number(t.Refused)}}
}

func (v *visit) newQueueForm(problems fieldErrors) error {
	fields := append([]field{{Name: "name", Label: "Name", Value: v.r.FormValue("name"), Max: 255, Code: true, Required: true, Focus: true, Autocomplete: "off",
		Hint: "Without spaces. What other clients declare under this name must have the same options."}}, v.optionFields(&mainapi.BrokerQueueOptions{})...)
	return v.renderStatus(formStatus(problems), "queue-form", queueFormView{Form: form{Action: v.portal.url("/admin/queues/new"), Submit: "Declare the queue", Cancel: v.portal.url("/admin/queues"), Fields: fields}.with(problems),
		Command: "sealmq queue declare NAME --max-messages 50000"})
}

type queueFormView struct {
	Form    form
	Command string
}

// optionFields are the options of a queue as they are, or as they were sent.
func (v *visit) optionFields(o *mainapi.BrokerQueueOptions) []field {
	sent := v.r.Method == http.MethodPost
	text := func(name, label, hint, is string) field {
		if sent {
			is = v.r.FormValue(name)
		}
		return field{Name: name, Label: label, Hint: hint, Value: is, Max: 32, Autocomplete: "off"}
	}
	count := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	size := ""
	if o.MaxBytes > 0 {
		size = typedSizeOf(o.MaxBytes)
	}
	check := func(name, label, hint string, is bool) field {
		if sent {
			is = v.r.FormValue(name) != ""
		}
		return field{Name: name, Label: label, Hint: hint, Kind: "check", Checked: is}
	}
	return []field{
		text("max_messages", "Most messages", "Empty is no limit.", count(o.MaxMessages)),
		text("max_bytes", "Most bytes", "Such as 500 MB or 1 GiB. Empty is no limit.", size),
		check("drop_oldest", "Drop the oldest messages at a limit", "Otherwise publishes are refused.", o.DropOldest),
		text("ttl", "Messages wait at most", "Such as 24h or 7 days. Empty is for ever.", o.TTL),
		text("delivery_limit", "Delivery limit", "Attempts until a message is a dead letter. Empty is 16.", count(o.DeliveryLimit)),
		text("ack_timeout", "Ack timeout", "Such as 30s, which is the default.", o.AckTimeout),
		text("prefetch", "Prefetch", "Messages in a consumer's hands at a time. Empty is 100.", count(int64(o.Prefetch))),
		check("private", "Only the owner may consume", "", o.Private),
	}
}

// sentOptions are the options of a form, on top of those that it does not show.
func (v *visit) sentOptions(o mainapi.BrokerQueueOptions) (mainapi.BrokerQueueOptions, fieldErrors) {
	problems := make(fieldErrors)
	count := func(name string) int64 {
		text := strings.ReplaceAll(strings.TrimSpace(v.r.FormValue(name)), ",", "")
		if text == "" {
			return 0
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			problems[name] = "This is not a whole number."
		}
		return n
	}
	size, ok := sizeOf(v.r.FormValue("max_bytes"))
	if !ok {
		problems["max_bytes"] = "This is not a size. Write one such as 500 MB, 1 GiB or 1000000."
	}
	o.MaxBytes = size
	o.MaxMessages, o.DeliveryLimit, o.Prefetch = count("max_messages"), count("delivery_limit"), int(count("prefetch"))
	period := func(name string) string {
		text := durationOf(v.r.FormValue(name))
		if _, err := time.ParseDuration(text); text != "" && err != nil {
			problems[name] = "This is not a duration. Write one such as 30s, 24h or 7 days."
		}
		return text
	}
	o.TTL, o.AckTimeout = period("ttl"), period("ack_timeout")
	o.DropOldest, o.Private = v.r.FormValue("drop_oldest") != "", v.r.FormValue("private") != ""
	return o, problems
}

func makeQueue(v *visit) error {
	name := strings.TrimSpace(v.r.FormValue("name"))
	o, problems := v.sentOptions(mainapi.BrokerQueueOptions{})
	if len(problems) > 0 {
		return v.newQueueForm(problems)
	}
	if _, err := v.api.DeclareBrokerQueueWithResponse(v.ctx, mainapi.DeclareBrokerQueueJSONRequestBody{Name: name, Options: o}); err != nil {
		return refused(err, v.newQueueForm)
	}
	return v.done(v.queuePath(name), "The queue is declared. Bind it to an exchange so that messages come.")
}

func (v *visit) queueOptionsForm(problems fieldErrors) error {
	name := v.queueName()
	d, err := v.queue(name)
	if err != nil {
		return err
	}
	v.title = "Options of " + sealmq.Escape(name)
	return v.renderStatus(formStatus(problems), "queue-form", queueFormView{Form: form{Action: v.queueLink("options", name), Submit: "Change the options", Cancel: v.queueLink("show", name), Fields: v.optionFields(&d.Options)}.with(problems),
		Command: "sealmq queue change " + shellWord(name) + " --max-messages 50000"})
}

func changeQueue(v *visit) error {
	name := v.queueName()
	d, err := v.queue(name)
	if err != nil {
		return err
	}
	o, problems := v.sentOptions(d.Options)
	if len(problems) > 0 {
		return v.queueOptionsForm(problems)
	}
	if _, err := v.api.ChangeBrokerQueueWithResponse(v.ctx, &mainapi.ChangeBrokerQueueParams{Name: name}, o); err != nil {
		return refused(err, v.queueOptionsForm)
	}
	return v.done(v.queuePath(name), "The options are changed. What waits stays, also beyond a new limit.")
}
