package portal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// pageError is an error that the portal itself finds.
type pageError struct {
	status      int
	title, text string
}

func (e *pageError) Error() string { return e.title }

var (
	errLogin          = errors.New("nobody is logged in")
	errChangePassword = errors.New("the password must be changed")
)

// problemView is a page that says what is wrong and what to do.
type problemView struct {
	Status             int
	Title, Text        string
	RequestID          string
	Login, Home, Retry bool
}

// reloadAfter is when a page that could not be made is asked for again, in seconds.
const reloadAfter = 5

// fail answers with an error. Every handler's error ends here.
func (v *visit) fail(err error) {
	if v.page.stream {
		v.failStream(err)
		return
	}
	if errors.Is(err, errLogin) || hasStatus(err, http.StatusUnauthorized) {
		v.toLogin()
		return
	}
	if errors.Is(err, errChangePassword) || hasCode(err, httpkit.CodeChangePassword) {
		_ = v.redirect("/profile/password")
		return
	}
	if hasCode(err, httpkit.CodeConfirmation) {
		if err = v.askConfirmation(nil); err == nil {
			return
		}
	}
	view := describe(err, v.portal.cfg.Now())
	// What a form was refused for is said where the form is.
	if v.r.Method == http.MethodPost && v.account != nil && view.Status < 500 && view.Status != http.StatusForbidden && view.Status != http.StatusNotFound {
		v.flash(toast{"bad", strings.TrimSpace(view.Title + ". " + view.Text)})
		_ = v.redirect(v.back())
		return
	}
	v.problem(view)
}

// failStream answers a script that asked for events. It is not told to log in: no content means
// that the page should be loaded again, which leads there.
func (v *visit) failStream(err error) {
	status := http.StatusNoContent
	if !errors.Is(err, errLogin) && !errors.Is(err, errChangePassword) && !hasStatus(err, http.StatusUnauthorized) {
		status = describe(err, v.portal.cfg.Now()).Status
	}
	v.w.WriteHeader(status)
}

// toLogin asks for a login, after which the reader is back where he was.
func (v *visit) toLogin() {
	next := v.r.URL.RequestURI()
	if v.r.Method != http.MethodGet || v.partial() {
		next = v.back()
	}
	if v.token != "" {
		v.setCookie("", "", -time.Second)
	}
	_ = v.redirect(toLoginPath(v.portal.local(next), v.token != ""))
}

// describe says in words what an error means for the reader.
func describe(err error, now time.Time) problemView {
	if e, ok := errors.AsType[*pageError](err); ok {
		return problemView{Status: e.status, Title: e.title, Text: e.text, Home: true}
	}
	if e, ok := errors.AsType[*awayError](err); ok {
		return problemView{Status: http.StatusServiceUnavailable, Title: "The main server cannot be reached", Retry: true,
			Text: "It has not answered since " + sinceText(now.Sub(e.since)) + ". Messages that were accepted wait in the queue. This page tries again by itself."}
	}
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		return problemView{Status: http.StatusInternalServerError, Title: "Something went wrong here", Text: "The portal's log says more about this request.", Home: true}
	}
	view := problemView{Status: e.Status, Text: e.Problem.Detail, RequestID: e.Problem.RequestID, Home: true}
	switch {
	case e.Status == http.StatusForbidden:
		view.Title = "You may not do this"
	case e.Status == http.StatusNotFound:
		view.Title, view.Text = "There is nothing here", cmp.Or(e.Problem.Detail, "It may have been removed, or the address is wrong.")
	case e.Status == http.StatusConflict:
		view.Title = "This is not possible now"
	case e.Status == http.StatusTooManyRequests:
		view.Title = "Too many attempts"
		if s := e.Problem.RetryAfter; s > 0 {
			view.Text = "Try again in " + waitText(time.Duration(s)*time.Second) + "."
		}
	case e.Status == http.StatusServiceUnavailable:
		view.Title, view.Retry = "The main server cannot do this now", true
	case e.Status >= 500:
		view.Title, view.Text = "The main server failed", "Its log says more about this request."
	default:
		view.Title = "This was not accepted"
	}
	return view
}

// problem answers with a page about what is wrong.
func (v *visit) problem(view problemView) {
	view.RequestID = httpkit.RequestID(v.r.Context())
	if view.Status >= 500 {
		v.w.Header().Set("Retry-After", fmt.Sprint(reloadAfter))
	}
	v.title = view.Title
	if err := v.renderStatus(view.Status, "problem", view); err != nil {
		v.portal.cfg.Log.Error("the page about an error cannot be made", "error", err)
		http.Error(v.w, view.Title, http.StatusInternalServerError)
	}
}

// errorPage is what the router answers with by itself: unknown addresses, wrong methods,
// forms that are too large, panics.
func (p *Portal) errorPage(w http.ResponseWriter, r *http.Request, status int, e *httpkit.Error) {
	if path := p.local(r.URL.Path); strings.HasPrefix(path, "/static/") || path == "/metrics" {
		http.Error(w, e.Message, status)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	v, err := p.visit(ctx, w, r, &page{})
	if err != nil {
		http.Error(w, e.Message, status)
		return
	}
	view := problemView{Status: status, Title: "Something went wrong here", Text: "The portal's log says more about this request.", Home: true}
	switch status {
	case http.StatusNotFound:
		view.Title, view.Text = "There is no such page", "The address may be mistyped, or what was here has been removed."
	case http.StatusMethodNotAllowed:
		view.Title, view.Text = "This address takes no such request", "Begin again at the start page."
	case http.StatusRequestEntityTooLarge:
		view.Title, view.Text = "The form is too large", e.Message+"."
	}
	if v.token != "" {
		if me, err := v.api.GetMeWithResponse(ctx); err == nil {
			v.account = me.JSON200
		}
	}
	v.problem(view)
}

func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Status == status
}

// fieldErrors are the errors of a form: those of its fields, and what is left under "".
type fieldErrors map[string]string

// invalid takes what the API has against the values of a form. ok is false for errors that
// are not about them.
func invalid(err error) (problems fieldErrors, ok bool) {
	e, is := errors.AsType[*apiError](err)
	if !is || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Status >= 500 {
		return nil, false
	}
	problems = make(fieldErrors)
	for _, f := range e.Problem.Errors {
		name := ""
		if n := len(f.Loc); n > 0 {
			name = fmt.Sprint(f.Loc[n-1])
		}
		problems[name] = f.Msg
	}
	if len(problems) == 0 {
		view := describe(err, time.Time{})
		problems[""] = cmp.Or(view.Text, view.Title)
	}
	return problems, true
}
