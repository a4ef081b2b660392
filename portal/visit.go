package portal

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// A visit is one request of a browser.
type visit struct {
	portal *Portal
	page   *page
	w      http.ResponseWriter
	r      *http.Request
	// ctx bounds the calls of api, which act with the reader's session.
	ctx context.Context
	api *mainapi.ClientWithResponses
	// account is nil on pages for everybody.
	account *mainapi.Account
	token   string
	// title replaces the page's, and crumb its up.
	title string
	crumb *link
}

// link is a link within the portal.
type link struct{ Name, Path string }

func (p *Portal) visit(ctx context.Context, w http.ResponseWriter, r *http.Request, pg *page) (v *visit, err error) {
	v = &visit{portal: p, page: pg, w: w, r: r, ctx: ctx, title: pg.title, crumb: pg.up}
	if c, err := r.Cookie(p.cookieName("")); err == nil {
		v.token = c.Value
	}
	secure(w.Header())
	v.api, err = v.client()
	return v, err
}

// policy lets a page load from the portal itself, and nothing within itself be a script or
// a style.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// admit finds out who the reader is, and refuses what is not for him.
func (v *visit) admit() error {
	if err := v.portal.origins.Check(v.r); err != nil {
		return &pageError{http.StatusForbidden, "This form was sent from another site", "Open the page here and try again. If a reverse proxy is in front of the portal, set portal.url to the address that browsers show."}
	}
	if v.page.who == nil {
		return nil
	}
	if v.token == "" {
		return errLogin
	}
	me, err := v.api.GetMeWithResponse(v.ctx)
	if err != nil {
		return err
	}
	v.account = me.JSON200
	if id := v.r.PostFormValue(accountField); v.r.Method == http.MethodPost && id != "" && id != strconv.FormatInt(v.account.ID, 10) {
		return errOtherAccount
	}
	if v.account.MustChangePassword && !v.page.always {
		return errChangePassword
	}
	if !slices.Contains(v.page.who, v.role()) {
		return &pageError{http.StatusForbidden, "This page is not for your role", "Your account has the role " + roleName(v.role()) + ". An administrator can change it."}
	}
	return nil
}

// role is the reader's.
func (v *visit) role() sealmq.Role {
	if v.account == nil {
		return ""
	}
	return sealmq.Role(v.account.Role)
}

// may reports whether the reader has one of the roles.
func (v *visit) may(roles []sealmq.Role) bool { return slices.Contains(roles, v.role()) }

// partial reports whether a script asks for the page's content alone.
func (v *visit) partial() bool { return v.r.Header.Get("Hx-Request") == "true" }

// redirect sends the reader to a page of the portal.
func (v *visit) redirect(path string) error {
	if v.partial() {
		v.w.Header().Set("Hx-Redirect", v.portal.url(path))
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	v.w.Header().Set("Location", v.portal.url(path))
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// done sends the reader to a page that shows once what was done.
func (v *visit) done(path, text string) error {
	v.flash(toast{"good", text})
	return v.redirect(path)
}

// doneUnless is done if there is no error.
func (v *visit) doneUnless(err error, path, text string) error {
	if err != nil {
		return err
	}
	return v.done(path, text)
}

// act calls the API for what the path names by its number.
func act[T any](v *visit, call func(context.Context, int64, ...mainapi.RequestEditorFn) (T, error), path, text string) error {
	id, err := v.id("id")
	if err == nil {
		_, err = call(v.ctx, id)
	}
	return v.doneUnless(err, path, text)
}

// back is the page from which the reader sent a form.
func (v *visit) back() string {
	if u, err := url.Parse(v.r.Referer()); err == nil && u.Path != "" {
		return v.portal.local(u.RequestURI())
	}
	return "/"
}

// local is an address within the portal without its prefix, or "/" if it is another one.
func (p *Portal) local(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || len(address) > 2048 || strings.ContainsAny(address, "\\\t\r\n") {
		return "/"
	}
	path := address
	if p.cfg.Prefix != "" {
		if rest, ok := strings.CutPrefix(address, p.cfg.Prefix); ok && (rest == "" || rest[0] == '/' || rest[0] == '?') {
			path = rest
		}
	}
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return "/"
	}
	return path
}

// Cookies. Their names bind them to this host, or to the path prefix.

func (p *Portal) cookieName(name string) string {
	if name != "" {
		name = "-" + name
	}
	if p.cfg.Prefix != "" {
		return "__Secure-sealmq" + name
	}
	return "__Host-sealmq" + name
}

// setCookie sets a cookie that ends after a time; zero is the end of the browser's session,
// and a negative time removes it.
func (v *visit) setCookie(name, value string, keep time.Duration) {
	c := &http.Cookie{Name: v.portal.cookieName(name), Value: value, Path: v.portal.cfg.Prefix + "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(keep / time.Second)}
	if v.portal.cfg.Prefix != "" {
		c.Path = v.portal.cfg.Prefix
	}
	http.SetCookie(v.w, c)
}

// dropCookie removes a cookie if the browser has it.
func (v *visit) dropCookie(name string) {
	if _, err := v.r.Cookie(v.portal.cookieName(name)); err == nil {
		v.setCookie(name, "", -time.Second)
	}
}

const (
	flashCookie = "flash"
	themeCookie = "theme"
	loginCookie = "login"
	givenCookie = "given"
)

// toast is a short text about what was done.
type toast struct{ Tone, Text string }

// keep has the browser keep a value for a time, which any portal can read.
func (v *visit) keep(name string, value any, d time.Duration) {
	if data, err := json.Marshal(value); err == nil {
		v.setCookie(name, base64.RawURLEncoding.EncodeToString(data), d)
	}
}

// kept reads what keep had the browser keep. It is checked before it is believed.
func (v *visit) kept(name string, value any) bool {
	c, err := v.r.Cookie(v.portal.cookieName(name))
	if err != nil {
		return false
	}
	data, err := base64.RawURLEncoding.DecodeString(c.Value)
	return err == nil && json.Unmarshal(data, value) == nil
}

// flash shows a toast on the next page.
func (v *visit) flash(t toast) { v.keep(flashCookie, t, time.Minute) }

// takeFlash is the toast for this page, which is not shown again.
func (v *visit) takeFlash() (t toast) {
	v.dropCookie(flashCookie)
	if !v.kept(flashCookie, &t) || !slices.Contains([]string{"good", "warn", "bad"}, t.Tone) {
		return toast{}
	}
	return t
}

// theme is light, dark, or empty for the system's.
func (v *visit) theme() string {
	if c, err := v.r.Cookie(v.portal.cookieName(themeCookie)); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}
