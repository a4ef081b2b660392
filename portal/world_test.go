package portal

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// A world is a portal with a main server that a test plays. Its tokens are the names of
// roles.
type world struct {
	t      *testing.T
	portal *Portal

	mu      sync.Mutex
	answers map[string]answer // by method and path
	asked   []string
	headers http.Header // of the last request with a session
}

// An answer is a status and a value for its JSON.
type answer struct {
	status int
	body   any
}

var testNow = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, answers: make(map[string]answer)}
	if cfg.API == nil {
		cfg.API = InProcess(w)
	}
	cfg.Now, cfg.Version = func() time.Time { return testNow }, "1.2.3"
	var err error
	if w.portal, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	w.on("GET /health/live", http.StatusOK, map[string]any{"status": "alive"})
	w.on("GET /api/v1/state", http.StatusOK, mainapi.StateSummary{State: mainapi.LevelHealthy, Summary: "Everything flows"})
	return w
}

// on plays an answer of the main server.
func (w *world) on(request string, status int, body any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[request] = answer{status, body}
}

// refuse plays an error of the main server.
func (w *world) refuse(request string, status int, code, detail string) {
	p := mainapi.Problem{Code: mainapi.ProblemCode(code), Detail: detail, Status: status, Title: http.StatusText(status)}
	if status == http.StatusTooManyRequests {
		p.RetryAfter = 15 * 60
	}
	w.on(request, status, p)
}

func account(role sealmq.Role) mainapi.Account {
	return mainapi.Account{ID: 7, Email: "anna@example.com", Name: "Anna", Role: role, Active: true, CreatedAt: testNow}
}

// ServeHTTP is the main server.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	request := r.Method + " " + r.URL.Path
	body, _ := io.ReadAll(r.Body)
	w.asked = append(w.asked, strings.TrimSpace(request+" "+string(body)))
	a, ok := w.answers[request]
	if r.Header.Get("Authorization") != "" {
		w.headers = r.Header
	}
	w.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "expired" { // of which the main server hears nothing more, whatever is asked
		a = answer{http.StatusUnauthorized, mainapi.Problem{Code: "authentication_error"}}
	} else if !ok && request == "GET /api/v1/me" {
		switch role := sealmq.Role(token); role {
		case admin, operator, userManager, user:
			a = answer{http.StatusOK, account(role)}
		default:
			a = answer{http.StatusUnauthorized, mainapi.Problem{Code: "authentication_error"}}
		}
	} else if !ok {
		a = answer{http.StatusNotFound, mainapi.Problem{Code: "not_found", Detail: "There is no such thing"}}
	}
	contentType := "application/json"
	if a.status >= 400 {
		contentType = "application/problem+json"
	}
	rw.Header().Set("Content-Type", contentType)
	rw.WriteHeader(a.status)
	if a.body != nil {
		_ = json.NewEncoder(rw).Encode(a.body)
	}
}

// browse opens a page as a role; "" is nobody. A form makes it a POST. Headers are pairs.
func (w *world) browse(role sealmq.Role, path string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	method, body := http.MethodGet, ""
	if form != nil {
		method, body = http.MethodPost, form.Encode()
	}
	r := httptest.NewRequest(method, "https://portal.example"+path, strings.NewReader(body))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if role != "" {
		r.AddCookie(&http.Cookie{Name: w.portal.cookieName(""), Value: string(role)})
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.portal.Router().ServeHTTP(rec, r)
	return rec
}

// want fails unless an answer has a status and texts.
func want(t *testing.T, rec *httptest.ResponseRecorder, status int, texts ...string) {
	t.Helper()
	if rec.Code != status {
		t.Errorf("status %d, want %d: %s", rec.Code, status, rec.Header().Get("Location"))
	}
	for _, text := range texts {
		if !strings.Contains(rec.Body.String(), text) {
			t.Errorf("the page lacks %q:\n%s", text, rec.Body)
		}
	}
}

// wantRedirect fails unless an answer leads to a path.
func wantRedirect(t *testing.T, rec *httptest.ResponseRecorder, path string) {
	t.Helper()
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != path {
		t.Errorf("status %d to %q, want a redirect to %q\n%s", rec.Code, rec.Header().Get("Location"), path, rec.Body)
	}
}

// cookie is a cookie that an answer sets, as "value; attributes".
func cookie(rec *httptest.ResponseRecorder, name string) string {
	for _, c := range rec.Header()["Set-Cookie"] {
		if value, ok := strings.CutPrefix(c, name+"="); ok {
			return value
		}
	}
	return fmt.Sprintf("no cookie %s", name)
}
