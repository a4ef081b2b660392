package portal

import (
	"net/http"
	"strings"

	"github.com/sealmq/sealmq/api/mainapi"
)

// askRetry says what queueing all failed messages again that match would do.
func (v *visit) askRetry() error {
	q := dropped(v.r.URL.Query(), "cursor", "trail", "status")
	f, _ := messageFilter(q)
	f.Status, f.Limit = "failed", 1
	r, err := v.api.ListMessagesWithResponse(v.ctx, &f)
	if err != nil {
		return err
	}
	t := r.JSON200.Total
	count := plural(t.Count, "failed message")
	if !t.Exact {
		count = "More than " + count
	}
	if t.Count == 0 {
		return v.render("nothing", empty{Title: "No failed message matches", Text: "There is nothing to queue again.", Link: &link{"Back to the list", "/messages" + with(q, "", "")}})
	}
	view := dangerView{Title: count + " will be queued again", Text: []string{
		"Workers try to deliver them at once, behind what waits already. A message that was delivered meanwhile is not delivered twice.",
		"It goes on in the background; you can watch it, and cancel it."},
		Form: form{Action: v.portal.url("/messages/retry"), Submit: "Queue them again", Cancel: v.portal.url("/messages") + with(q, "status", "failed"), Fields: []field{{Kind: "hidden", Name: "all", Value: "true"}}}}
	view.Form.Fields = append(view.Form.Fields, hidden(q, messageFilters...)...)
	return v.render("danger", view)
}

// startRetry starts a job for the chosen messages, or for all that match.
func (v *visit) startRetry() error {
	if err := v.r.ParseForm(); err != nil {
		return &pageError{http.StatusBadRequest, "The form cannot be read", "Send it again."}
	}
	var body mainapi.RetryJobRequest
	if v.r.PostForm.Get("all") == "true" {
		f, _ := messageFilter(v.r.PostForm)
		body = mainapi.RetryJobRequest{ClientID: f.ClientID, Domain: f.Domain, MessageID: f.MessageID, ClientKey: f.ClientKey, NumberToken: f.NumberToken, From: f.From, To: f.To}
	} else {
		for _, name := range v.r.PostForm["m"] {
			if i := strings.LastIndexByte(name, '/'); i > 0 {
				body.Items = append(body.Items, mainapi.MessageName{ClientID: name[:i], MessageID: name[i+1:]})
			}
		}
		if len(body.Items) == 0 {
			v.flash(toast{"warn", "Choose the messages first, with the boxes at the left."})
			return v.redirect(v.back())
		}
	}
	r, err := v.api.StartRetryJobWithResponse(v.ctx, body)
	if err != nil {
		return err
	}
	return v.redirect(localPath("/admin/retries", r.JSON202.ID))
}

type retryView struct {
	mainapi.RetryJob
	Label    state
	Path     string
	Self     string // where to ask again, while it runs
	Cancel   string
	Progress int // of 100
	Failed   string
}

func (v *visit) retryView(j *mainapi.RetryJob) retryView {
	view := retryView{RetryJob: *j, Path: v.portal.url("/admin/retries", j.ID), Failed: v.portal.url("/messages") + "?status=failed"}
	if j.Total.Count > 0 {
		view.Progress = int(min(100, j.Looked*100/j.Total.Count))
	}
	switch j.State {
	case mainapi.RetryJobStateRunning:
		view.Label, view.Self = state{"", "Running"}, view.Path
		if v.may(admins) {
			view.Cancel = view.Path + "/cancel"
		}
	case mainapi.RetryJobStateDone:
		view.Label, view.Progress = state{"good", "Done"}, 100
	case mainapi.RetryJobStateCancelled:
		view.Label = state{"warn", "Cancelled"}
	case mainapi.RetryJobStateInterrupted:
		view.Label = state{"warn", "Interrupted by a restart"}
	default:
		view.Label = state{"bad", "Failed"}
	}
	return view
}

// retryJob shows how far a job is. With scripts it brings itself up to date.
func (v *visit) retryJob() error {
	r, err := v.api.GetRetryJobWithResponse(v.ctx, v.r.PathValue("job"))
	if hasStatus(err, http.StatusUnprocessableEntity) {
		err = &pageError{http.StatusNotFound, "There is no such job", "The last twenty are kept."}
	}
	if err != nil {
		return err
	}
	return v.render("retry-job", v.retryView(r.JSON200))
}

// retryJobs are the last ones.
func (v *visit) retryJobs() error {
	r, err := v.api.ListRetryJobsWithResponse(v.ctx)
	if err != nil {
		return err
	}
	return v.render("retry-jobs", rows(r.JSON200.Items, v.retryView))
}

func (v *visit) cancelRetry() error {
	id := v.r.PathValue("job")
	_, err := v.api.CancelRetryJobWithResponse(v.ctx, id)
	return v.doneUnless(err, localPath("/admin/retries", id), "The job ends. What it has queued again stays queued.")
}
