package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// site is two portals before two main servers over one database, as a browser sees them behind a
// load balancer: each request goes to the other portal, which asks the other main server.
type site struct {
	*testing.T
	mains, portals [2]string
	boards         [2]*switchboard
	worlds         [2]*rolesWorld
	browser        *http.Client
	program        *http.Client
	n              int // of the next request
}

func newSite(t *testing.T) *site {
	one, two := mainServersOfOneDatabase(t)
	s := &site{T: t, worlds: [2]*rolesWorld{one, two}}
	for i, w := range s.worlds {
		s.mains[i] = w.URL(pipelineproc.Main)
		s.boards[i] = newSwitchboard(t)
		s.boards[i].lead(one.Addr(pipelineproc.Main))
		_, port, _ := net.SplitHostPort(s.boards[i].Addr().String())
		w.Set("SEALMQ_PIPELINE_MAIN=https://localhost:" + port)
		w.start(pipelineproc.Portal)
		s.portals[i] = w.URL(pipelineproc.Portal)
	}
	s.browser, s.program = one.client(""), one.client("")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser.Jar = jar // whose cookies are good for every port of a host
	s.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

// page opens a page at the next portal, or posts a form to it, and returns the body and where it
// leads. Headers are pairs.
func (s *site) page(want int, path string, form url.Values, header ...string) (body, leads string) {
	s.Helper()
	portal, main := s.n%2, s.n/2%2
	s.n++
	s.boards[portal].lead(s.worlds[main].Addr(pipelineproc.Main))
	s.worlds[portal].until("the portal has a connection to the other main server", func() bool {
		r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.portals[portal]+"/profile", nil)
		if err != nil {
			return false
		}
		r.AddCookie(&http.Cookie{Name: "__Host-sealmq", Value: "of nobody"}) // so that the main server is asked
		resp, err := s.program.Do(r)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK && resp.Request.URL.Path == "/login"
	})
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.portals[portal]+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return s.do(s.browser, r, want)
}

// call asks one of the main servers.
func (s *site) call(want, main int, method, path, token string, body any) map[string]any {
	s.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.Context(), method, s.mains[main]+path, bytes.NewReader(data))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	text, _ := s.do(s.program, r, want)
	m := make(map[string]any)
	_ = json.Unmarshal([]byte(text), &m) // some answers are empty
	return m
}

func (s *site) do(c *http.Client, r *http.Request, want int) (body, leads string) {
	s.Helper()
	resp, err := c.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		s.Fatalf("%s %s: %d, want %d: %.2000s, %v", r.Method, r.URL.Path, resp.StatusCode, want, data, err)
	}
	return string(data), resp.Header.Get("Location")
}

// TestNothingIsSticky: with two portals and two main servers behind load balancers, a person and a
// program may meet others with every request.
func TestNothingIsSticky(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const email, password = "anna@example.com", "correct horse battery"
	var link struct{ Link string }
	if err := json.Unmarshal([]byte(s.worlds[0].run("user", "setup-link", "--json")), &link); err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(link.Link, "token=")

	// A program's session, at both.
	session, _ := s.call(201, 1, "POST", "/api/v1/setup", "", map[string]any{"token": token, "email": email, "name": "Anna", "password": password})["token"].(string)
	s.call(204, 0, "POST", "/api/v1/sessions/current/confirm", session, map[string]any{"password": password})
	secret, _ := s.call(200, 1, "POST", "/api/v1/me/second-factor", session, nil)["secret"].(string)
	began := time.Now()
	code := func(at time.Time) string { // the second factor takes those of three steps, each once
		text, err := totp.GenerateCode(secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	codes, _ := s.call(200, 0, "POST", "/api/v1/me/second-factor/confirm", session, map[string]any{"code": code(began)})["recovery_codes"].([]any)
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	recovery := func(i int) string { s, _ := codes[i].(string); return s }

	// JSON Web Tokens, and those that follow them.
	pair := s.call(200, 0, "POST", "/portal/auth/login", "", map[string]any{"email": email, "password": password, "code": recovery(0)})
	access, _ := pair["access_token"].(string)
	refresh, _ := pair["refresh_token"].(string)
	s.call(200, 1, "GET", "/portal/profile", access, nil)
	pair = s.call(200, 1, "POST", "/portal/auth/refresh", "", map[string]any{"refresh_token": refresh})
	access, _ = pair["access_token"].(string)
	s.call(200, 0, "GET", "/portal/profile", access, nil)

	// A person: login with a second factor, step by step.
	credentials := url.Values{"email": {email}, "password": {password}, "next": {"/profile"}}
	s.page(200, "/login", nil)
	if _, to := s.page(303, "/login", credentials); to != "/login/code" {
		t.Fatalf("the password leads to %q", to)
	}
	s.page(200, "/login/code", nil)
	s.page(401, "/login/code", url.Values{"code": {"000000"}})
	next := began.Add(30 * time.Second)
	if now := time.Now(); now.After(next) {
		next = now
	}
	if _, to := s.page(303, "/login/code", url.Values{"code": {code(next)}}); to != "/profile" {
		t.Fatalf("the code leads to %q", to)
	}
	for range 4 { // every pair of portal and main server
		s.page(200, "/profile", nil)
	}

	// Forms, and what is said after them once.
	s.page(403, "/profile/sessions/end-others", url.Values{}, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	if _, to := s.page(303, "/profile/sessions/end-others", url.Values{}); to != "/profile" {
		t.Fatalf("the form leads to %q", to)
	}
	const said = "All other sessions have ended."
	if text, _ := s.page(200, "/profile", nil); !strings.Contains(text, said) {
		t.Error("the next page does not say what was done")
	}
	if text, _ := s.page(200, "/profile", nil); strings.Contains(text, said) {
		t.Error("what was done is said again")
	}
	s.call(401, 0, "GET", "/api/v1/me", session, nil)
	s.call(401, 1, "GET", "/portal/profile", access, nil)

	// A download whose form is confirmed on the way, and given once.
	text, _ := s.page(200, "/admin/certificates/new", nil)
	id := regexp.MustCompile(`name="form" value="([0-9a-f]{32})"`).FindStringSubmatch(text)
	if id == nil {
		t.Fatal("the form has no number")
	}
	form := url.Values{"client_id": {"acme-01"}, "role": {"client"}, "validity_days": {"30"}, "form": {id[1]}, "confirm_password": {password}, "confirm_code": {recovery(1)}}
	text, _ = s.page(200, "/admin/certificates/new", form)
	if z, err := zip.NewReader(strings.NewReader(text), int64(len(text))); err != nil || len(z.File) != 4 {
		t.Fatalf("the download: %v", err)
	}
	for range 2 {
		if _, to := s.page(303, "/admin/certificates/new?sent="+id[1], nil); !strings.HasPrefix(to, "/admin/certificates/") {
			t.Errorf("after the download the page leads to %q", to)
		}
	}
	form.Del("confirm_password")
	for range 2 {
		if text, _ := s.page(409, "/admin/certificates/new", form); !strings.Contains(text, "given once") {
			t.Errorf("the form again: %.2000s", text)
		}
	}
	s.page(303, "/logout", url.Values{})
	if _, to := s.page(303, "/profile", nil); !strings.HasPrefix(to, "/login") {
		t.Errorf("after the end of the session a page leads to %q", to)
	}
}
