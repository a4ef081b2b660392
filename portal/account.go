package portal

import (
	"net/http"
	"strconv"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// The pages about one's own account.
var accountPages = []page{
	{path: "/profile", title: "Profile and security", who: everybody, show: showProfile},
	{path: "/profile/password", title: "Change your password", up: &link{"Profile", "/profile"}, who: everybody, always: true, show: blank((*visit).passwordForm), do: changePassword},
	{path: "/profile/sessions/{id}/end", who: everybody, do: endSession},
	{path: "/profile/sessions/end-others", who: everybody, do: endOtherSessions},
}

type profileView struct {
	Account  *mainapi.Account
	Role     string
	May      string // what the role may do
	Sessions []sessionView
	Others   bool
	Activity []activityRow
}

// activityRow is something that happened to the account.
type activityRow struct {
	mainapi.Activity
	Text string
}

// sessionView is a login.
type sessionView struct {
	mainapi.Session
	Device string
	End    string
}

func showProfile(v *visit) error {
	sessions, err := v.api.ListSessionsWithResponse(v.ctx)
	if err != nil {
		return err
	}
	view := profileView{Account: v.account, Role: roleName(v.role()), May: roleTexts[v.role()].may, Others: len(sessions.JSON200.Items) > 1}
	for _, s := range sessions.JSON200.Items {
		view.Sessions = append(view.Sessions, sessionView{Session: s, Device: deviceOf(s.UserAgent),
			End: v.portal.url("/profile/sessions", strconv.FormatInt(s.ID, 10), "end")})
	}
	activity, err := v.api.ListActivityWithResponse(v.ctx)
	if err != nil {
		return err
	}
	for _, a := range activity.JSON200.Items[:min(len(activity.JSON200.Items), maxActivity)] {
		view.Activity = append(view.Activity, activityRow{a, eventText(a.EventType, true)})
	}
	return v.render("profile", view)
}

// maxActivity is how many entries of one's own activity a page shows.
const maxActivity = 20

func endSession(v *visit) error {
	return act(v, v.api.EndSessionWithResponse, "/profile", "The session has ended.")
}

func endOtherSessions(v *visit) error {
	_, err := v.api.EndOtherSessionsWithResponse(v.ctx)
	return v.doneUnless(err, "/profile", "All other sessions have ended.")
}

func (v *visit) passwordForm(problems fieldErrors) error {
	view := loginView{Form: form{Action: v.portal.url("/profile/password"), Submit: "Change password", Cancel: v.portal.url("/profile"), Fields: []field{
		{Name: "current_password", Label: "Current password", Kind: "password", Autocomplete: "current-password", Max: 200, Required: true, Focus: true},
		newPasswordField("new_password", "New password"),
		repeatField,
	}}.with(problems)}
	view.Notice = "Your other sessions end when the password changes."
	if v.account.MustChangePassword {
		view.Notice = "This password was set by somebody else. Choose one that only you know to go on."
		view.Form.Cancel = ""
	}
	return v.renderStatus(formStatus(problems), "login", view)
}

// newPasswordField is the field of a password that somebody chooses.
func newPasswordField(name, label string) field {
	return field{Name: name, Label: label, Kind: "password", Autocomplete: "new-password", Max: 200, Required: true, Hint: "At least 8 characters. A few unrelated words are easy to keep and hard to guess."}
}

// repeatField is the field of its repetition.
var repeatField = field{Name: "repeat", Label: "Once more", Kind: "password", Autocomplete: "new-password", Max: 200, Required: true}

// repeated checks the repetition of a password, which the API does not know.
func (v *visit) repeated(name string) fieldErrors {
	if v.r.FormValue(name) != v.r.FormValue("repeat") {
		return fieldErrors{"repeat": "This differs from the first one."}
	}
	return nil
}

func changePassword(v *visit) error {
	if problems := v.repeated("new_password"); problems != nil {
		return v.passwordForm(problems)
	}
	_, err := v.api.ChangePasswordWithResponse(v.ctx, mainapi.PasswordChange{CurrentPassword: v.r.FormValue("current_password"), NewPassword: v.r.FormValue("new_password")})
	if hasCode(err, httpkit.CodeInvalidCredentials) {
		return v.passwordForm(fieldErrors{"current_password": "This is not your password."})
	}
	if err != nil {
		return refused(err, v.passwordForm)
	}
	if v.account.MustChangePassword {
		return v.done("/", "Your password is changed.")
	}
	return v.done("/profile", "Your password is changed. Your other sessions have ended.")
}

// id is a number in the path of a page.
func (v *visit) id(name string) (int64, error) {
	id, err := strconv.ParseInt(v.r.PathValue(name), 10, 64)
	if err != nil || id < 1 {
		return 0, &pageError{http.StatusNotFound, "There is nothing here", "It may have been removed, or the address is wrong."}
	}
	return id, nil
}
