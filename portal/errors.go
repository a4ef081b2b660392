package portal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
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
	errOtherAccount   = errors.New("the form was made for another account")
)

// problemView is a page that says what is wrong and what to do.
type problemView struct {
	Status      int
	Title, Text string
	RequestID   string
	Home, Retry bool
	// Alone says that this is not said above the form that was sent, but on a page of its own. Back is
	// the address of that form, if it can be opened.
	Alone bool
	Back  string
	// Until is when a lock ends, and Wait how long that is. Locked says that it is an e-mail address's.
	Until  time.Time
	Wait   string
	Locked bool
	// Again sends the form that could not be answered once more. It may be nil.
	Again *form
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
	if v.r.Method == http.MethodPost && v.account != nil && view.Status < 500 && view.Status != http.StatusForbidden && view.Status != http.StatusNotFound && !view.Alone {
		v.flash(toast{"bad", strings.TrimSpace(view.Title + ". " + view.Text)})
		_ = v.redirect(v.back())
		return
	}
	if v.r.Method == http.MethodPost && view.Retry {
		view.Again, view.Retry = v.sendAgain(), false
	}
	if errors.Is(err, errOtherAccount) {
		view.Back = v.again()
	}
	v.problem(view)
}

// sendAgain is a form that was sent while the main server could not answer. It stays until the
// reader sends it again. A code of a second factor is good for a moment only.
func (v *visit) sendAgain() *form {
	if v.r.PostForm == nil {
		_ = v.r.ParseMultipartForm(maxFormMemory) // what cannot be read is not kept
	}
	f := form{Action: v.self(), Submit: "Send it again", Cancel: v.portal.url(v.back()), Fields: v.filledIn("Password")}
	for i := range f.Fields {
		if f.Fields[i].Name == "code" {
			f.Fields[i] = field{Name: "code", Label: "Code", Autocomplete: "one-time-code", Max: 40, Code: true, Required: true}
		}
	}
	return &f
}

// maxFormMemory bounds the files of a form in memory; the router bounds the form.
const maxFormMemory = 1 << 20

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
	why := ""
	switch {
	case v.r.Method == http.MethodPost:
		why = notSent
	case v.token != "":
		why = sessionEnded
	}
	_ = v.redirect(toLoginPath(v.portal.local(next), why))
}

// describe says in words what an error means for the reader.
func describe(err error, now time.Time) problemView {
	if e, ok := errors.AsType[*pageError](err); ok {
		return problemView{Status: e.status, Title: e.title, Text: e.text, Home: true}
	}
	if errors.Is(err, errOtherAccount) {
		return problemView{Status: http.StatusConflict, Title: "You are logged in with another account now", Home: true, Alone: true,
			Text: "Since you opened that page, another account has logged in with this browser. Nothing of what you sent was done, and nothing of it is kept. Send it again with the account that you mean."}
	}
	if e, ok := errors.AsType[*awayError](err); ok {
		return problemView{Status: http.StatusServiceUnavailable, Title: "The main server cannot be reached", Retry: true,
			Text: "It has not answered since " + sinceText(now.Sub(e.since)) + ". Messages that were accepted wait in the queue."}
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
		wait := time.Duration(e.Problem.RetryAfter) * time.Second
		view.Title, view.Alone, view.Until, view.Wait = "Too many attempts", true, now.Add(wait), waitText(wait)
		view.Text = "Too many logins or links from your network address were wrong, so that it is locked. People who share it with you are locked out too."
		if view.Locked = hasCode(err, httpkit.CodeAccountLocked); view.Locked {
			view.Text = "Too many passwords or codes for this e-mail address were wrong, so that logins with it are locked. Whether there is an account with it plays no part."
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
	} else if !view.Until.IsZero() {
		v.w.Header().Set("Retry-After", fmt.Sprint(math.Ceil(view.Until.Sub(v.portal.cfg.Now()).Seconds())))
	}
	v.title, v.crumb = view.Title, nil
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

// refused shows a form again if the API has something against its values. Other errors stay as they
// are.
func refused(err error, form func(fieldErrors) error) error {
	if problems, ok := invalid(err); ok {
		return form(problems)
	}
	return err
}

// invalid takes what the API has against the values of a form. ok is false for errors that
// are not about them.
func invalid(err error) (problems fieldErrors, ok bool) {
	e, is := errors.AsType[*apiError](err)
	if !is || e.Status >= 500 || slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests}, e.Status) {
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
