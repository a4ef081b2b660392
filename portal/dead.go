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

// The pages about dead letters.
var deadPages = []page{
	{path: "/admin/dead", title: "Dead letters", nav: "Dead letters", icon: "dead", who: staff, show: showDead},
	{path: "/admin/dead/return", who: admins, do: returnDead},
}

type deadView struct {
	Queues []deadQueue
	Empty  *empty
	// Of the queue whose letters are shown.
	Queue, From, FromLink string
	Count                 int64
	Messages              *peekView
	Return                string // where the form goes; empty for those who may not
	Command               string
}

type deadQueue struct {
	Name, Link, From string
	Count            int64
	Oldest           time.Time
	Current          bool
}

func (v *visit) deadLink(queue string) string {
	return v.portal.url("/admin/dead") + "?" + url.Values{"queue": {queue}}.Encode()
}

// deadQueues is how many queues with dead letters are shown; the list of queues has the rest.
const deadQueues = 20

func showDead(v *visit) error {
	r, err := v.api.ListBrokerQueuesWithResponse(v.ctx, &mainapi.ListBrokerQueuesParams{Kind: mainapi.ListBrokerQueuesParamsKindDead, Sort: mainapi.ListBrokerQueuesParamsSortReady, Limit: deadQueues})
	if err != nil {
		return err
	}
	asked := v.r.URL.Query().Get("queue")
	var view deadView
	name := asked
	for _, q := range r.JSON200.Items {
		if q.Ready == 0 && q.Name != asked {
			continue
		}
		name = cmp.Or(name, q.Name)
		view.Queues = append(view.Queues, deadQueue{Name: sealmq.Escape(q.Name), Link: v.deadLink(q.Name), From: sealmq.Escape(q.DeadLettersOf), Count: q.Ready, Oldest: q.Oldest, Current: q.Name == name})
	}
	if name == "" {
		view.Empty = &empty{Title: "No dead letters", Text: "A message comes here when a consumer refuses it, or after too many attempts. It stays until somebody returns or removes it."}
		return v.render("dead", view)
	}
	d, err := v.queue(name)
	if asked != "" && hasStatus(err, 404) && len(view.Queues) == 0 {
		view.Empty = &empty{Title: "No dead letters in " + sealmq.Escape(asked), Text: "The queue is made when the first message dies."}
		return v.render("dead", view)
	}
	if err != nil {
		return err
	}
	from := d.Queue.DeadLettersOf
	if from == "" {
		view.Empty = &empty{Title: sealmq.Escape(name) + " takes no dead letters", Text: "It is an ordinary queue: what waits in it has not died.", Link: &link{"Look at the queue", v.queuePath(name)}}
		return v.render("dead", view)
	}
	view.Queue, view.Count = sealmq.Escape(name), d.Queue.Ready
	view.From, view.FromLink = sealmq.Escape(from), v.queueLink("show", from)
	view.Command = "sealmq queue move " + shellWord(name) + " " + shellWord(from)
	if v.may(admins) {
		view.Return = v.portal.url("/admin/dead/return") + "?" + url.Values{"queue": {name}}.Encode()
	}
	if view.Messages, err = v.peek(name, url.Values{"queue": {name}}); err != nil {
		return err
	}
	return v.render("dead", view)
}

// returnTime bounds how long one click returns letters. What is left, the next click returns.
const returnTime = 10 * time.Second

// returnDead returns what the button says: one letter, those that are chosen, or all.
func returnDead(v *visit) error {
	queue := v.r.URL.Query().Get("queue")
	_ = v.r.ParseForm() // FormValue of others has done it, and tells its error
	letters := v.r.Form["letter"]
	if one := v.r.Form.Get("one"); one != "" {
		letters = []string{one}
	}
	body := mainapi.ReturnDeadLettersJSONRequestBody{Queue: queue, All: v.r.Form.Get("all") != ""}
	if !body.All {
		for _, l := range letters {
			seq, id, _ := strings.Cut(l, " ")
			n, err := strconv.ParseInt(seq, 10, 64)
			if err != nil {
				continue
			}
			i := len(body.Items)
			body.Items = slices.Grow(body.Items, 1)[:i+1]
			body.Items[i].ID, body.Items[i].Seq = id, n
		}
		if len(body.Items) == 0 {
			v.flash(toast{"warn", "Choose the letters to return first."})
			return v.redirect(v.deadPath(queue))
		}
	}
	var sum mainapi.DeadLettersReturned
	stopped := false // the broker stopped answering half way
	began := time.Now()
	for {
		r, err := v.api.ReturnDeadLettersWithResponse(v.ctx, body)
		if err != nil && sum.Returned == 0 {
			return err
		}
		if stopped = err != nil; stopped {
			break
		}
		got := r.JSON200
		sum.Returned, sum.Kept, sum.WhyKept = sum.Returned+got.Returned, sum.Kept+got.Kept, cmp.Or(sum.WhyKept, got.WhyKept)
		if len(sum.Queues) == 0 {
			sum.Queues = got.Queues
		}
		if sum.NextCursor = got.NextCursor; sum.NextCursor == "" || !body.All || time.Since(began) > returnTime {
			break
		}
		body.Cursor = sum.NextCursor
	}
	v.flash(returnedToast(&sum, stopped))
	return v.redirect(v.deadPath(queue))
}

func (v *visit) deadPath(queue string) string {
	return "/admin/dead?" + url.Values{"queue": {queue}}.Encode()
}

// returnedToast says what became of dead letters. stopped says that the rest was not tried, because
// the broker did not answer.
func returnedToast(r *mainapi.DeadLettersReturned, stopped bool) toast {
	to := ""
	if len(r.Queues) == 1 {
		to = " to " + sealmq.Escape(r.Queues[0].Name)
	}
	text := plural(r.Returned, "message") + " returned" + to + "."
	tone := "good"
	if r.Kept > 0 {
		tone = "warn"
		text += " " + plural(r.Kept, "message stays", "messages stay") + ": " + r.WhyKept + "."
	}
	switch {
	case stopped:
		tone, text = "warn", text+" The broker did not take the rest; return all once more to go on."
	case r.NextCursor != "":
		tone, text = "warn", text+" There are more; return all once more to go on."
	}
	return toast{tone, text}
}
