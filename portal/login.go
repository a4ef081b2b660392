package portal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

func (p *Portal) loginPages() []page {
	return []page{
		{path: "/", title: "SealMQ", who: everybody, show: func(v *visit) error { return v.redirect(p.start(v.role())) }},
		{path: "/login", title: "Log in", show: showLogin, do: logIn},
		{path: "/login/code", title: "Second factor", show: showCode, do: logInWithCode},
		{path: "/logout", title: "Log out", show: showLogout, do: logOut},
		{path: "/theme", do: chooseTheme},
	}
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
	if v.r.URL.Query().Get("expired") != "" {
		view.Notice = "Your session has ended. Log in to go on where you were."
	}
	return v.renderStatus(status, "login", view)
}

// next is where a login leads.
func (v *visit) next() string { return v.portal.local(v.r.FormValue("next")) }

// credentials are what a login needs. Between its two steps the browser keeps them, sealed
// with a key that this process forgets.
type credentials struct {
	Email, Password string
	Next            string
	Until           time.Time
}

func logIn(v *visit) error {
	c := credentials{Email: v.r.FormValue("email"), Password: v.r.FormValue("password"), Next: v.next()}
	err := v.openSession(c, "")
	if hasCode(err, httpkit.CodeSecondFactor) {
		c.Until = v.portal.cfg.Now().Add(loginTime)
		if err := v.sealCookie(loginCookie, c, loginTime); err != nil {
			return err
		}
		return v.redirect("/login/code")
	}
	return v.loginRefused(err, func(problems fieldErrors) error { return v.loginForm(http.StatusUnauthorized, c.Email, problems) })
}

// loginTime is how long the second step of a login may take.
const loginTime = 5 * time.Minute

// openSession logs in and sends the reader on.
func (v *visit) openSession(c credentials, code string) error {
	v.token = "" // an old session, which may have ended, has no part in a new one
	r, err := v.api.LogInWithResponse(v.ctx, mainapi.Credentials{Email: c.Email, Password: c.Password, Code: code})
	v.portal.countLogin(err)
	if err != nil {
		return err
	}
	return v.logInAs(r.JSON201, c.Next)
}

// logInAs begins a session in the browser.
func (v *visit) logInAs(s *mainapi.OpenedSession, next string) error {
	v.setCookie("", s.Token, s.ExpiresAt.Sub(v.portal.cfg.Now()))
	if _, err := v.r.Cookie(v.portal.cookieName(loginCookie)); err == nil {
		v.setCookie(loginCookie, "", -time.Second)
	}
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
	case err == nil:
		return nil
	case hasCode(err, httpkit.CodeInvalidCredentials):
		return show(fieldErrors{"": "E-mail address or password is wrong."})
	case hasCode(err, httpkit.CodeSecondFactor):
		return show(fieldErrors{"code": "This code is wrong or was used already. Wait for the next one."})
	case hasCode(err, httpkit.CodeInactive):
		return show(fieldErrors{"": "This account is not active. An administrator can activate it."})
	}
	if problems, ok := invalid(err); ok {
		return show(problems)
	}
	return err
}

func showCode(v *visit) error {
	if _, ok := v.unsealLogin(); !ok {
		return v.redirect("/login?expired=1")
	}
	return v.codeForm(http.StatusOK, nil)
}

func (v *visit) codeForm(status int, problems fieldErrors) error {
	return v.renderStatus(status, "login", loginView{Notice: "Enter the code that your authenticator app shows. A recovery code works too, once.",
		Form: form{Action: v.portal.url("/login/code"), Submit: "Go on", Wide: true, Cancel: v.portal.url("/login"), Fields: []field{
			{Name: "code", Label: "Code", Autocomplete: "one-time-code", Max: 40, Code: true, Required: true, Focus: true}}}.with(problems)})
}

func logInWithCode(v *visit) error {
	c, ok := v.unsealLogin()
	if !ok {
		return v.redirect("/login?expired=1")
	}
	err := v.openSession(c, v.r.FormValue("code"))
	return v.loginRefused(err, func(problems fieldErrors) error { return v.codeForm(http.StatusUnauthorized, problems) })
}

// sealCookie gives a value to the browser to keep, which it cannot read or change.
func (v *visit) sealCookie(name string, value any, keep time.Duration) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	aead, err := v.portal.aead()
	if err != nil {
		return err
	}
	v.setCookie(name, base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, data, []byte(name))), keep)
	return nil
}

func (v *visit) unsealLogin() (c credentials, ok bool) {
	cookie, err := v.r.Cookie(v.portal.cookieName(loginCookie))
	if err != nil {
		return c, false
	}
	data, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return c, false
	}
	aead, err := v.portal.aead()
	if err != nil {
		return c, false
	}
	if data, err = aead.Open(nil, nil, data, []byte(loginCookie)); err != nil || json.Unmarshal(data, &c) != nil {
		return c, false
	}
	return c, v.portal.cfg.Now().Before(c.Until)
}

func (p *Portal) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(p.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
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

// toLoginPath is the login that leads back to an address.
func toLoginPath(next string, expired bool) string {
	query := url.Values{}
	if next != "/" {
		query.Set("next", next)
	}
	if expired {
		query.Set("expired", "1")
	}
	if len(query) == 0 {
		return "/login"
	}
	return "/login?" + query.Encode()
}
