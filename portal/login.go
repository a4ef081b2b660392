package portal

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

var loginPages = []page{
	{path: "/", title: "SealMQ", who: everybody, show: showStart},
	{path: "/login", title: "Log in", show: showLogin, do: logIn},
	{path: "/login/code", title: "Second factor", show: showCode, do: logInWithCode},
	{path: "/logout", title: "Log out", show: showLogout, do: logOut},
	{path: "/theme", do: chooseTheme},
}

// loginView is a page with one form for people who are not logged in.
type loginView struct {
	Notice string
	Form   form
	Forgot string
}

func showLogin(v *visit) error {
	if v.token != "" {
		if me, err := v.api.GetMeWithResponse(v.ctx); err == nil {
			v.account = me.JSON200
			return v.redirect(v.next())
		}
	}
	return v.loginForm(http.StatusOK, "", nil)
}

func (v *visit) loginForm(status int, email string, problems fieldErrors) error {
	view := loginView{Forgot: v.portal.url("/forgot-password"), Form: form{Action: v.portal.url("/login"), Submit: "Log in", Wide: true, Fields: []field{
		{Name: "email", Label: "E-mail address", Kind: "email", Value: email, Autocomplete: "username", Max: 254, Required: true, Focus: email == ""},
		{Name: "password", Label: "Password", Kind: "password", Autocomplete: "current-password", Max: 200, Required: true, Focus: email != ""},
		{Name: "next", Kind: "hidden", Value: v.next()},
	}}.with(problems)}
	switch v.r.URL.Query().Get("expired") {
	case "":
	case notSent:
		view.Notice = "You are not logged in any more, so nothing of what you sent was done. Log in to go back to that page."
	default:
		view.Notice = "Your session has ended. Log in to go on where you were."
	}
	return v.renderStatus(status, "login", view)
}

// next is where a login leads.
func (v *visit) next() string { return v.portal.local(v.r.FormValue("next")) }

// halfLogin is a login whose code is asked for. The browser keeps it, so that any portal can go on.
type halfLogin struct {
	Token string
	Next  string
}

func logIn(v *visit) error {
	email := v.r.FormValue("email")
	v.token = "" // an old session, which may have ended, has no part in a new one
	r, err := v.api.LogInWithResponse(v.ctx, mainapi.Credentials{Email: email, Password: v.r.FormValue("password")})
	v.portal.countLogin(err)
	if err == nil {
		return v.logInAs(r.JSON201, v.next())
	}
	if e, ok := errors.AsType[*apiError](err); ok && e.Problem.SecondFactorToken != "" {
		v.keep(loginCookie, halfLogin{e.Problem.SecondFactorToken, v.next()}, loginTime)
		return v.redirect("/login/code")
	}
	return v.loginRefused(err, func(problems fieldErrors) error { return v.loginForm(http.StatusUnauthorized, email, problems) })
}

// loginTime is how long the second step of a login may take.
const loginTime = 5 * time.Minute

// logInAs begins a session in the browser.
func (v *visit) logInAs(s *mainapi.OpenedSession, next string) error {
	v.setCookie("", s.Token, s.ExpiresAt.Sub(v.portal.cfg.Now()))
	v.dropCookie(loginCookie)
	v.dropCookie(flashCookie)
	v.dropCookie(givenCookie)
	return v.redirect(next)
}

func (p *Portal) countLogin(err error) {
	result := "refused"
	switch {
	case err == nil:
		result = "success"
	case hasCode(err, httpkit.CodeSecondFactor):
		result = "second_factor"
	case hasStatus(err, http.StatusTooManyRequests):
		result = "locked"
	case !hasStatus(err, http.StatusUnauthorized) && !hasStatus(err, http.StatusForbidden):
		return
	}
	p.logins.WithLabelValues(result).Inc()
}

// loginRefused shows a form again with the reason, unless the error is not about it.
func (v *visit) loginRefused(err error, show func(fieldErrors) error) error {
	switch {
	case hasCode(err, httpkit.CodeInvalidCredentials):
		return show(fieldErrors{"": "E-mail address or password is wrong."})
	case hasCode(err, httpkit.CodeSecondFactor):
		return show(fieldErrors{"code": "This code is wrong or was used already. Wait for the next one."})
	case hasCode(err, httpkit.CodeInactive):
		return show(fieldErrors{"": "This account is not active. An administrator can activate it."})
	}
	return refused(err, show)
}

func showCode(v *visit) error {
	if _, ok := v.halfLogin(); !ok {
		return v.redirect(toLoginPath("/", sessionEnded))
	}
	return v.codeForm(http.StatusOK, nil)
}

func (v *visit) codeForm(status int, problems fieldErrors) error {
	return v.renderStatus(status, "login", loginView{Notice: "Enter the code that your authenticator app shows. A recovery code works too, once.",
		Form: form{Action: v.portal.url("/login/code"), Submit: "Go on", Wide: true, Cancel: v.portal.url("/login"), Fields: []field{
			{Name: "code", Label: "Code", Autocomplete: "one-time-code", Max: 40, Code: true, Required: true, Focus: true}}}.with(problems)})
}

func logInWithCode(v *visit) error {
	half, ok := v.halfLogin()
	if !ok {
		return v.redirect(toLoginPath("/", sessionEnded))
	}
	v.token = ""
	r, err := v.api.LogInWithCodeWithResponse(v.ctx, mainapi.SecondFactorLogin{Token: half.Token, Code: v.r.FormValue("code")})
	v.portal.countLogin(err)
	switch {
	case err == nil:
		return v.logInAs(r.JSON201, v.portal.local(half.Next))
	case hasCode(err, httpkit.CodeAuthentication): // it took too long
		v.dropCookie(loginCookie)
		return v.redirect(toLoginPath(v.portal.local(half.Next), sessionEnded))
	}
	return v.loginRefused(err, func(problems fieldErrors) error { return v.codeForm(http.StatusUnauthorized, problems) })
}

func (v *visit) halfLogin() (half halfLogin, ok bool) {
	ok = v.kept(loginCookie, &half)
	return half, ok && half.Token != ""
}

// showLogout asks first: an address that others can make a browser open logs nobody out.
func showLogout(v *visit) error {
	return v.render("login", loginView{Form: form{Action: v.portal.url("/logout"), Submit: "Log out", Wide: true, Cancel: v.portal.url("/")}})
}

func logOut(v *visit) error {
	if v.token != "" {
		if _, err := v.api.LogOutWithResponse(v.ctx); err != nil && !hasStatus(err, http.StatusUnauthorized) {
			return err
		}
	}
	v.setCookie("", "", -time.Second)
	v.dropCookie(flashCookie)
	v.dropCookie(givenCookie)
	return v.redirect("/login")
}

// chooseTheme takes light, dark, or the colours of the system.
func chooseTheme(v *visit) error {
	theme, keep := v.r.FormValue("theme"), 365*24*time.Hour
	if theme != "light" && theme != "dark" {
		keep = -time.Second
	}
	v.setCookie(themeCookie, theme, keep)
	return v.redirect(v.back())
}

// Why somebody is asked to log in: values of "expired" in the address of the login.
const (
	sessionEnded = "1"
	notSent      = "form"
)

// toLoginPath is the login that leads back to an address. why is empty if it explains itself.
func toLoginPath(next, why string) string {
	query := url.Values{}
	if next != "/" {
		query.Set("next", next)
	}
	if why != "" {
		query.Set("expired", why)
	}
	return joinText("?", "/login", query.Encode())
}
