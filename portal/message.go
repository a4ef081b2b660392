package portal

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// readers are those who may read texts.
var readers = []sealmq.Role{admin, userManager, user}

type messageView struct {
	mainapi.Message
	State state
	Story []storyItem
	// Hashed says that only a hash of the number is stored.
	Hashed bool
	// Text is there once it was asked for; ShowText is where to ask, for those who may.
	Text     *string
	Metadata string
	ShowText string
	Retry    string // where to queue it again
	Client   string // the client's page, for those who may open it
	Command  string
}

// storyItem is one thing that happened to a message.
type storyItem struct {
	Tone, Title, Note string
	At                time.Time
	// After is the time since the item before it, if that says something.
	After time.Duration
	// Link is where something can be done about it, or empty.
	Link *link
}

// message is a message as a story, without its text.
func (v *visit) message() error {
	view, err := v.messageView()
	if err != nil {
		return err
	}
	return v.render("message", view)
}

func (v *visit) messageView() (view messageView, err error) {
	client, id := v.r.PathValue("client"), v.r.PathValue("id")
	m, err := v.api.GetMessageWithResponse(v.ctx, client, id)
	if hasStatus(err, http.StatusUnprocessableEntity) { // no message has such a name
		err = &pageError{http.StatusNotFound, "There is no such message", "It may have been deleted by retention, or the address is wrong."}
	}
	if err != nil {
		return view, err
	}
	t, err := v.api.GetMessageTimelineWithResponse(v.ctx, client, id)
	if err != nil {
		return view, err
	}
	v.title = short(id, idRunes)
	view = messageView{Message: *m.JSON200, State: stateOf(messageStates, m.JSON200.Status)}
	view.Hashed = strings.HasPrefix(view.SenderNumberMasked, "hash:")
	view.Story = storyOf(&view.Message, t.JSON200.Events)
	if next := &view.Story[len(view.Story)-1]; view.Status == queued && t.JSON200.Workers == 0 {
		next.Tone, next.Title = "warn", "Waits: no worker is connected"
		if v.may(staff) {
			next.Link = &link{"Proxies and workers", v.portal.url("/admin/proxies")}
		}
	}
	if v.may(readers) {
		view.ShowText = v.portal.url("/messages", client, id, "text")
	}
	if v.may(admins) {
		view.Command = "sealmq message show " + id
		if view.Status == failed {
			view.Retry = v.portal.url("/messages", client, id, "retry")
		}
	}
	if v.may(staff) {
		view.Client = v.portal.url("/admin/clients", client)
	}
	return view, nil
}

// idRunes is how much of an id stands in a title.
const idRunes = 14

// storyOf tells what happened, and what is to happen next.
func storyOf(m *mainapi.Message, events []mainapi.TimelineEvent) (story []storyItem) {
	var last time.Time
	add := func(i storyItem) {
		if !last.IsZero() && !i.At.IsZero() {
			i.After = i.At.Sub(last)
		}
		if !i.At.IsZero() {
			last = i.At
		}
		story = append(story, i)
	}
	for _, e := range events {
		if e.Omitted > 0 {
			story = append(story, storyItem{Title: plural(e.Omitted, "further attempt") + " failed", Note: "Of many attempts the first and the last ones are kept."})
		}
		i := storyItem{At: e.At}
		switch e.Event {
		case mainapi.TimelineEventEventAccepted:
			i.Title, i.Note = "Accepted"+by(e.ProxyID)+" from "+m.ClientID, "A proxy stored it in the queue."
			switch {
			case !m.Sealed:
				i.Note = "It came in clear from outside the proxies."
			case e.ProxyID != "":
				i.Note = "The proxy stored it in the queue."
			}
		case mainapi.TimelineEventEventFailed:
			i.Tone, i.Title, i.Note = "warn", "Attempt "+number(e.Attempt)+by(e.WorkerID)+" failed", e.ErrorMessage
		case mainapi.TimelineEventEventGivenUp:
			i.Tone, i.Title, i.Note = "bad", "Given up after "+plural(e.Attempt, "attempt")+by(e.WorkerID), e.ErrorMessage
		case mainapi.TimelineEventEventRequeued:
			i.Title, i.Note = "Queued again by an administrator", "Attempts are counted from one again."
		case mainapi.TimelineEventEventDelivered:
			i.Tone, i.Title = "good", "Delivered"+by(e.WorkerID)
			if e.Attempt > 1 {
				i.Note = "At attempt " + number(e.Attempt) + "."
			}
		default:
			i.Title = string(e.Event)
		}
		add(i)
	}
	switch m.Status {
	case queued:
		story = append(story, storyItem{Title: "Waits to be delivered", Note: m.ErrorMessage})
	case processing:
		story = append(story, storyItem{Title: "A worker delivers it now"})
	case failed:
		if !slices.ContainsFunc(events, func(e mainapi.TimelineEvent) bool { return e.Event == mainapi.TimelineEventEventGivenUp }) {
			story = append(story, storyItem{Tone: "bad", Title: "Given up", Note: m.ErrorMessage, At: m.LastAttemptAt})
		}
	}
	return story
}

func by(name string) string {
	if name == "" {
		return ""
	}
	return " by " + name
}

// messageText shows a message with its text. It is a POST, because that somebody reads is recorded.
func (v *visit) messageText() error {
	view, err := v.messageView()
	if err != nil {
		return err
	}
	c, err := v.api.GetMessageContentWithResponse(v.ctx, v.r.PathValue("client"), v.r.PathValue("id"))
	if err != nil {
		return err
	}
	view.Text = &c.JSON200.MessageBody
	if len(c.JSON200.Metadata) > 0 {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if e.Encode(c.JSON200.Metadata) == nil {
			view.Metadata = strings.TrimSpace(b.String())
		}
	}
	return v.render("message", view)
}

func (v *visit) retryMessage() error {
	client, id := v.r.PathValue("client"), v.r.PathValue("id")
	_, err := v.api.RetryMessageWithResponse(v.ctx, client, id)
	return v.doneUnless(err, localPath("/messages", client, id), "The message is queued again.")
}
