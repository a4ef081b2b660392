package portal

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// example is an address of a page: each wildcard stands for "7".
func example(pattern string) string {
	var b strings.Builder
	for i, part := range strings.Split(pattern, "{") {
		if i > 0 {
			_, part, _ = strings.Cut(part, "}")
			part = "7" + part
		}
		b.WriteString(part)
	}
	return b.String()
}

// TestWhoMayOpenWhat walks the table of pages. The main server plays no data, so a page that
// is open for a role may have nothing to show; but it is never refused, and a page that is not
// for a role always is.
func TestWhoMayOpenWhat(t *testing.T) {
	w := newWorld(t, Config{})
	for _, pg := range w.portal.table {
		for _, role := range []sealmq.Role{"", admin, operator, userManager, user, "nobody"} {
			for _, form := range []url.Values{nil, {}} {
				if form == nil && pg.show == nil || form != nil && pg.do == nil || pg.stream {
					continue
				}
				rec := w.browse(role, example(pg.path), form)
				switch known := role != "" && role != "nobody"; {
				case pg.who != nil && !known:
					if to := rec.Header().Get("Location"); !strings.HasPrefix(to, "/login") {
						t.Errorf("%s without a session leads to %q with status %d", pg.path, to, rec.Code)
					}
				case pg.who != nil && !slices.Contains(pg.who, role):
					if rec.Code != http.StatusForbidden {
						t.Errorf("%s as %s: status %d, want 403", pg.path, role, rec.Code)
					}
				case rec.Code == http.StatusForbidden || rec.Code >= 500:
					t.Errorf("%s as %q: status %d", pg.path, role, rec.Code)
				}
			}
		}
	}
}

func TestPagesAreProtected(t *testing.T) {
	w := newWorld(t, Config{})
	for _, path := range []string{"/login", "/nothing", "/static/" + w.portal.assets.version + "/base.css"} {
		h := w.browse("", path, nil).Header()
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s has the headers %v", path, h)
		}
	}
	rec := w.browse("", "/login", url.Values{"email": {"a@b.c"}}, "Sec-Fetch-Site", "cross-site")
	want(t, rec, http.StatusForbidden, "sent from another site")
}

func TestLogin(t *testing.T) {
	const logIn = "POST /api/v1/sessions"
	right := url.Values{"email": {"anna@example.com"}, "password": {"secret"}, "next": {"/profile"}}
	w := newWorld(t, Config{})
	w.on(logIn, http.StatusCreated, mainapi.OpenedSession{Token: "admin", ExpiresAt: testNow.Add(1e9 * 3600), Account: account(admin)})
	rec := w.browse("", "/login", right)
	wantRedirect(t, rec, "/profile")
	if got := cookie(rec, "__Host-sealmq"); got != "admin; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("cookie %q", got)
	}
	wantRedirect(t, w.browse(admin, "/login?next=/profile", nil), "/profile")

	for _, tc := range []struct {
		status     int
		code, text string
		page       int
	}{
		{401, "invalid_credentials", "E-mail address or password is wrong", 401},
		{403, "account_inactive", "not active", 401},
		{429, "account_locked", "for this e-mail address were wrong", 429},
		{429, "account_locked", "Try again in 15 minutes, at <time datetime=\"2026-11-30T12:15:00Z\"", 429},
		{429, "account_locked", `<a href="/forgot-password">ask for a link by mail</a>`, 429},
		{429, "rate_limit_exceeded", "from your network address were wrong", 429},
		{503, "service_unavailable", "cannot do this now", 503},
	} {
		w.refuse(logIn, tc.status, tc.code, "")
		want(t, w.browse("", "/login", right), tc.page, tc.text)
	}
}

func TestSecondFactorAtLogin(t *testing.T) {
	const goOn = "POST /api/v1/second-factor"
	w := newWorld(t, Config{})
	w.on("POST /api/v1/sessions", 401, map[string]any{"code": "second_factor_required", "second_factor_token": "half"})
	rec := w.browse("", "/login", url.Values{"email": {"anna@example.com"}, "password": {"s3cr3t-word"}, "next": {"/profile"}})
	wantRedirect(t, rec, "/login/code")
	kept, _, _ := strings.Cut(cookie(rec, "__Host-sealmq-login"), ";")
	if data, err := base64.RawURLEncoding.DecodeString(kept); err != nil || strings.Contains(string(data), "s3cr3t") {
		t.Fatalf("the browser keeps %q, %v", data, err)
	}
	w = newWorld(t, Config{}) // another portal
	w.refuse(goOn, 401, "second_factor_required", "")
	wantRedirect(t, w.browse("", "/login/code", nil), "/login?expired=1")
	wantRedirect(t, w.browse("", "/login/code", url.Values{"code": {"1"}}, "Cookie", "__Host-sealmq-login=forged"), "/login?expired=1")
	want(t, w.browse("", "/login/code", url.Values{"code": {"1"}}, "Cookie", "__Host-sealmq-login="+kept), 401, "code is wrong")
	w.refuse(goOn, 401, "authentication_error", "")
	rec = w.browse("", "/login/code", url.Values{"code": {"1"}}, "Cookie", "__Host-sealmq-login="+kept)
	wantRedirect(t, rec, "/login?expired=1&next=%2Fprofile")
	w.on(goOn, http.StatusCreated, mainapi.OpenedSession{Token: "user", ExpiresAt: testNow.Add(1e9), Account: account(user)})
	rec = w.browse("", "/login/code", url.Values{"code": {"123456"}}, "Cookie", "__Host-sealmq-login="+kept)
	wantRedirect(t, rec, "/profile")
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `"code":"123456"`) || !strings.Contains(last, `"token":"half"`) {
		t.Errorf("the main server was asked %s", last)
	}
}

// TestAddressOfABrowser: a browser cannot give itself another address.
func TestAddressOfABrowser(t *testing.T) {
	w := newWorld(t, Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	for _, tc := range []struct{ peer, forwarded, want string }{
		{"192.0.2.7:1234", "", "192.0.2.7"}, {"192.0.2.7:1234", "203.0.113.9", "192.0.2.7"}, {"10.1.2.3:1234", "203.0.113.9", "203.0.113.9"},
		{"10.1.2.3:1234", "198.51.100.1, 203.0.113.9", "203.0.113.9"}, {"10.1.2.3:1234", "nobody", "10.1.2.3"}, {"[::ffff:10.1.2.3]:1", "2001:db8::1", "2001:db8::1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tc.peer
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		if got := w.portal.address(r); got != tc.want {
			t.Errorf("%s for %q is %s, want %s", tc.peer, tc.forwarded, got, tc.want)
		}
	}
}

// TestNextStaysHere: a login leads to pages of the portal only.
func TestNextStaysHere(t *testing.T) {
	for _, prefix := range []string{"", "/mq"} {
		w := newWorld(t, Config{Prefix: prefix})
		for next, want := range map[string]string{
			"/messages?state=failed": "/messages?state=failed", "": "/", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/",
			`\\evil.example`: "/", "javascript:alert(1)": "/", "evil": "/", "/a\r\nSet-Cookie: x": "/", prefix + "/profile": "/profile", "/\t/evil.example": "/",
		} {
			if got := w.portal.local(next); got != want {
				t.Errorf("%q leads to %q, want %q", next, got, want)
			}
		}
	}
}

func TestExpiredSession(t *testing.T) {
	w := newWorld(t, Config{})
	rec := w.browse("expired", "/?a=b", nil)
	wantRedirect(t, rec, "/login?expired=1&next=%2F%3Fa%3Db")
	if got := cookie(rec, "__Host-sealmq"); !strings.HasPrefix(got, ";") && !strings.Contains(got, "Max-Age=0") {
		t.Errorf("cookie %q", got)
	}
	rec = w.browse("expired", "/?a=b", nil, "HX-Request", "true", "Referer", "https://portal.example/x?y=1")
	if to := rec.Header().Get("Hx-Redirect"); to != "/login?expired=1&next=%2Fx%3Fy%3D1" {
		t.Errorf("a part leads to %q", to)
	}
	want(t, w.browse("", "/login?expired=1", nil), http.StatusOK, "Your session has ended")

	w.on("POST /api/v1/sessions", http.StatusCreated, mainapi.OpenedSession{Token: "admin", ExpiresAt: testNow.Add(1e9), Account: account(admin)})
	wantRedirect(t, w.browse("expired", "/login", url.Values{"email": {"anna@example.com"}, "password": {"secret"}}), "/")
}

// TestOtherTab: a form of a page that is older than the logout, or than another account's login,
// does nothing, and says why.
func TestOtherTab(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("DELETE /api/v1/sessions", http.StatusNoContent, nil)
	w.on("GET /api/v1/sessions", http.StatusOK, map[string]any{"items": []mainapi.Session{{ID: 1, Current: true}, {ID: 2}}})
	w.on("GET /api/v1/me/activity", http.StatusOK, map[string]any{"items": []mainapi.Activity{}})
	page := w.browse(admin, "/profile", nil).Body.String()
	const field = `<input type="hidden" name="for_account" value="7">`
	if forms := strings.Count(page, `method="post"`); forms == 0 || strings.Count(page, field) != forms {
		t.Fatalf("%d forms, and %d say for whom they are\n%s", forms, strings.Count(page, field), page)
	}
	const path = "/profile/sessions/end-others"
	send := func(session sealmq.Role, account string) *httptest.ResponseRecorder {
		return w.browse(session, path, url.Values{"for_account": {account}, "secret": {"typed by Anna"}}, "Referer", "https://portal.example/profile?tab=1")
	}
	wantRedirect(t, send(admin, "7"), "/profile")
	asked := len(w.asked)
	rec := send(admin, "8")
	want(t, rec, http.StatusConflict, "You are logged in with another account now", "Nothing of what you sent was done", `href="/profile?tab=1"`)
	for _, request := range w.asked[asked:] {
		if strings.HasPrefix(request, "DELETE") {
			t.Errorf("the main server was asked %s", request)
		}
	}
	if strings.Contains(rec.Body.String(), "typed by Anna") {
		t.Error("the page keeps what the other account sent")
	}
	for _, session := range []sealmq.Role{"", "expired"} {
		rec := send(session, "7")
		wantRedirect(t, rec, "/login?expired=form&next=%2Fprofile%3Ftab%3D1")
		want(t, w.browse("", rec.Header().Get("Location"), nil), http.StatusOK, "nothing of what you sent was done")
	}
	// A toast is for the account that it was made for.
	w.on("DELETE /api/v1/sessions/current", http.StatusNoContent, nil)
	w.on("POST /api/v1/sessions", http.StatusCreated, mainapi.OpenedSession{Token: "user", ExpiresAt: testNow.Add(1e9), Account: account(user)})
	for path, form := range map[string]url.Values{"/logout": {}, "/login": {"email": {"bob@example.com"}, "password": {"secret"}}} {
		if got := cookie(w.browse("", path, form, "Cookie", "__Host-sealmq=admin; __Host-sealmq-flash=x"), "__Host-sealmq-flash"); !strings.Contains(got, "Max-Age=0") {
			t.Errorf("the toast stays after %s: %s", path, got)
		}
	}
}

type deadTransport struct{}

func (deadTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

func TestMainServerAway(t *testing.T) {
	w := newWorld(t, Config{API: deadTransport{}, Prefix: "/mq"})
	want(t, w.browse(admin, "/mq/logout", nil), http.StatusOK)
	want(t, w.browse(admin, "/mq", nil), http.StatusServiceUnavailable, "cannot be reached", `http-equiv="refresh" content="5;url=/mq`)
	want(t, w.browse("", "/health", nil), http.StatusOK, `"degraded"`)
	rec := w.browse(admin, "/mq/admin/users/create", url.Values{"email": {"bob@example.com"}, "note": {"<b>"}, "password": {"typed-secret"}, "repeat": {"typed-secret"}, "code": {"123456"}, "confirm_password": {"typed-secret"}})
	want(t, rec, http.StatusServiceUnavailable, "cannot be reached", "Send it again", `action="/mq/admin/users/create"`, `<input type="hidden" name="email" value="bob@example.com">`, `value="&lt;b&gt;"`, `name="password" type="password"`, `name="repeat" type="password"`)
	if page := rec.Body.String(); strings.Contains(page, "typed-secret") || strings.Contains(page, "123456") || strings.Contains(page, `http-equiv="refresh"`) || strings.Contains(page, "by itself") {
		t.Errorf("a secret stands in the page, or it goes away by itself:\n%s", page)
	}
}

func TestErrorPages(t *testing.T) {
	w := newWorld(t, Config{})
	want(t, w.browse("", "/nothing", nil), http.StatusNotFound, "There is no such page", `class="plain"`)
	want(t, w.browse(admin, "/nothing", nil), http.StatusNotFound, "There is no such page", `class="side"`)
	want(t, w.browse(admin, "/theme", nil), http.StatusMethodNotAllowed)
}

func TestForcedPasswordChange(t *testing.T) {
	w := newWorld(t, Config{})
	a := account(admin)
	a.MustChangePassword = true
	w.on("GET /api/v1/me", http.StatusOK, a)
	wantRedirect(t, w.browse(admin, "/", nil), "/profile/password")
}

func TestThemeAndFlash(t *testing.T) {
	w := newWorld(t, Config{})
	rec := w.browse("", "/theme", url.Values{"theme": {"dark"}}, "Referer", "https://portal.example/login?next=/profile")
	wantRedirect(t, rec, "/login?next=/profile")
	if got := cookie(rec, "__Host-sealmq-theme"); !strings.HasPrefix(got, "dark;") {
		t.Errorf("cookie %q", got)
	}
	want(t, w.browse("", "/login", nil, "Cookie", "__Host-sealmq-theme=dark"), http.StatusOK, `data-theme="dark"`)
	want(t, w.browse("", "/login", nil, "Cookie", `__Host-sealmq-theme="><script>`), http.StatusOK, `<html lang="en">`)
}

func TestAssets(t *testing.T) {
	w := newWorld(t, Config{Prefix: "/mq"})
	address := w.portal.url("/static", w.portal.assets.version, "portal.js")
	rec := w.browse("", address, nil, "Accept-Encoding", "br, gzip")
	if h := rec.Header(); h.Get("Content-Encoding") != "gzip" || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("%s has the headers %v", address, h)
	}
	rec = w.browse("", "/static/old/portal.js", nil)
	want(t, rec, http.StatusOK, "use strict")
	if got := rec.Header().Get("Cache-Control"); strings.Contains(got, "immutable") {
		t.Errorf("an old address has Cache-Control %q", got)
	}
	want(t, w.browse("", "/static/old/nothing.js", nil), http.StatusNotFound)
}

// TestFirstVisitIsLight: what a browser fetches for its first page is under 100 KiB, all
// scripts and style sheets included.
func TestFirstVisitIsLight(t *testing.T) {
	w := newWorld(t, Config{})
	total := w.browse("", "/login", nil, "Accept-Encoding", "gzip").Body.Len()
	for name, file := range w.portal.assets.files {
		if file.contentType == "" {
			t.Errorf("%s has no type", name)
		}
		if name != "licences.txt" {
			total += w.browse("", w.portal.url("/static", w.portal.assets.version, name), nil, "Accept-Encoding", "gzip").Body.Len()
		}
	}
	if total > 100<<10 {
		t.Errorf("the first page takes %d bytes", total)
	}
	t.Logf("%d bytes", total)
}

// TestPagesThatRefreshThemselves: what a page asks by itself, and a stream of events, is told to
// the main server as no use of the session.
func TestPagesThatRefreshThemselves(t *testing.T) {
	w := newWorld(t, Config{})
	for _, tc := range []struct{ path, header, want string }{{"/profile", "", ""}, {"/profile", "1", "1"}, {"/events", "", "1"}} {
		w.browse(admin, tc.path, nil, httpkit.UnattendedHeader, tc.header)
		w.mu.Lock()
		if got := w.headers.Get(httpkit.UnattendedHeader); got != tc.want {
			t.Errorf("%s with %q: %q was told, want %q", tc.path, tc.header, got, tc.want)
		}
		w.mu.Unlock()
	}
}

// TestUserManagerSeesWhatWorks: what would be refused is not offered.
func TestUserManagerSeesWhatWorks(t *testing.T) {
	for _, tc := range []struct {
		role   sealmq.Role
		client string
		offers bool
	}{{userManager, "", true}, {userManager, "acme-01", false}, {admin, "acme-01", true}} {
		w := newWorld(t, Config{})
		w.on("GET /api/v1/users/9", http.StatusOK, mainapi.Account{ID: 9, Email: "bob@example.com", Role: user, ClientID: tc.client, Active: true, SecondFactor: true})
		rec := w.browse(tc.role, "/admin/users/9", nil)
		want(t, rec, http.StatusOK, "/admin/users/9/sign-out")
		for _, deed := range []string{"/admin/users/9/password", "/admin/users/9/second-factor"} {
			if got := strings.Contains(rec.Body.String(), deed); got != tc.offers {
				t.Errorf("a %s of an account with the client %q is offered %s: %t", tc.role, tc.client, deed, got)
			}
		}
		form := w.browse(tc.role, "/admin/users/create", nil).Body.String()
		if got := strings.Contains(form, "The client whose messages"); got != (tc.role == admin) {
			t.Errorf("a %s is asked for the client of a new account: %t", tc.role, got)
		}
	}
}

// TestAuditInWords: every event that the main server records has words, and what the machine
// calls it stays in reach.
func TestAuditInWords(t *testing.T) {
	found := 0
	files, _ := filepath.Glob("../pipeline/mainserver/*.go")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:event[A-Z]\w* *=|event:|changeQueue\(ctx,|pauseQueue\(ctx,|removeMessages\(ctx,) "([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
			found++
			if eventText(m[1], false) == spaced(m[1]) {
				t.Errorf("%s has no words", m[1])
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d events were found", found)
	}
	w := newWorld(t, Config{})
	w.on("GET /api/v1/audit", http.StatusOK, mainapi.AuditPage{Items: []mainapi.AuditEntry{{ID: 8, At: testNow, EventType: "certificate_revoked", Severity: "warning", Details: map[string]any{"reason": "keyCompromise"}}}})
	want(t, w.browse(admin, "/admin/audit", nil), http.StatusOK, `title="certificate_revoked">Revoked a certificate`, "reason: lost or stolen")
}
