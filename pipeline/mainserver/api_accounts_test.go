package mainserver_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// person is somebody who is logged in, or not.
type person struct {
	*server
	token string
	peer  sealmq.Role // of the certificate, if there is one
}

// ask asks with the person's token, from a peer that has no certificate unless peer says so.
func (p *person) ask(method, path, body string, header ...string) answer {
	p.Helper()
	if p.token != "" {
		header = append(header, "Authorization", "Bearer "+p.token)
	}
	return p.server.ask(p.as(p.peer), method, path, body, header...)
}

// want asks and expects a status.
func (p *person) want(status int, method, path, body string, header ...string) answer {
	p.Helper()
	a := p.ask(method, path, body, header...)
	if a.StatusCode != status {
		p.Errorf("%s %s %s: %d, want %d\n%s", method, path, body, a.StatusCode, status, a.body)
	}
	return a
}

const goodPassword = "correct horse battery"

func credentials(email, password string) string {
	return toJSON(map[string]string{"email": email, "password": password})
}

// firstAdmin makes the first administrator, who is logged in.
func (s *server) firstAdmin() *person {
	s.Helper()
	link := s.want(201, "POST", "/api/v1/setup/link", "").str("token")
	p := &person{server: s}
	p.token = p.want(201, "POST", "/api/v1/setup", toJSON(map[string]string{"token": link, "email": "Anna@Example.com", "name": "Anna", "password": goodPassword})).str("token")
	return p
}

// logIn is another login.
func (s *server) logIn(email, password string) *person {
	s.Helper()
	p := &person{server: s}
	p.token = p.want(201, "POST", "/api/v1/sessions", credentials(email, password)).str("token")
	return p
}

// confirm lets a person do guarded acts.
func (p *person) confirm() {
	p.server.Helper()
	p.want(204, "POST", "/api/v1/sessions/current/confirm", `{"password":"`+goodPassword+`"}`)
}

// askAccounts asks every operation of accounts.
func (s *server) askAccounts(doc *document) {
	s.Helper()
	anna := s.firstAdmin()
	other := s.logIn("anna@example.com", goodPassword)
	for _, tc := range []struct {
		p                  *person
		method, path, body string
		status             int
	}{
		{anna, "GET", "/api/v1/me", "", 200},
		{anna, "GET", "/api/v1/me/activity", "", 200},
		{anna, "GET", "/api/v1/state", "", 200},
		{anna, "POST", "/api/v1/me/tokens", `{"name":"x","scopes":["messages:read"]}`, 403},
		{anna, "POST", "/api/v1/me/second-factor", "", 403},
		{anna, "POST", "/api/v1/sessions/current/confirm", `{"password":"` + goodPassword + `"}`, 204},
		{anna, "POST", "/api/v1/me/second-factor", "", 200},
		{anna, "POST", "/api/v1/me/second-factor/confirm", `{"code":"000000"}`, 422},
		{anna, "POST", "/api/v1/me/second-factor/remove", `{"password":"` + goodPassword + `"}`, 204},
		{anna, "POST", "/api/v1/me/tokens", `{"name":"x","scopes":["messages:read"]}`, 201},
		{anna, "POST", "/api/v1/me/tokens", `{"name":"x","scopes":["everything:read"]}`, 422},
		{anna, "GET", "/api/v1/me/tokens", "", 200},
		{anna, "DELETE", "/api/v1/me/tokens/1", "", 204},
		{anna, "DELETE", "/api/v1/me/tokens/1", "", 404},
		{anna, "POST", "/api/v1/passwords/forgot", `{"email":"nobody@example.com"}`, 202},
		{anna, "POST", "/api/v1/passwords/reset", `{"token":"x","new_password":"long enough"}`, 410},
		{anna, "POST", "/api/v1/users", credentials("bob@example.com", goodPassword), 201},
		{anna, "POST", "/api/v1/users", credentials("Bob@example.com", goodPassword), 409},
		{anna, "GET", "/api/v1/users", "", 200},
		{anna, "GET", "/api/v1/users/2", "", 200},
		{anna, "GET", "/api/v1/users/3", "", 404},
		{anna, "PATCH", "/api/v1/users/2", `{"role":"operator","name":"Bob"}`, 200},
		{anna, "PATCH", "/api/v1/users/2", `{"name":"\u202eevil"}`, 422},
		{anna, "PATCH", "/api/v1/users/2", `{"client_id":"nobody-1"}`, 422},
		{anna, "PATCH", "/api/v1/users/1", `{"active":false}`, 409},
		{anna, "POST", "/api/v1/users/2/password", `{"new_password":"some other one"}`, 204},
		{anna, "POST", "/api/v1/users/2/unlock", "", 204},
		{anna, "POST", "/api/v1/users/2/sign-out", "", 204},
		{anna, "POST", "/api/v1/users/2/second-factor/remove", "", 204},
		{anna, "DELETE", "/api/v1/users/2", "", 204},
		{anna, "DELETE", "/api/v1/users/1", "", 409},
		{anna, "POST", "/api/v1/second-factor", `{"token":"x","code":"000000"}`, 401},
		{anna, "GET", "/api/v1/sessions", "", 200},
		{anna, "DELETE", "/api/v1/sessions/999", "", 404},
		{anna, "POST", "/api/v1/sessions/current/confirm", `{"password":"wrong"}`, 401},
		{anna, "POST", "/api/v1/sessions/current/confirm", `{"password":"` + goodPassword + `"}`, 204},
		{anna, "POST", "/api/v1/me/password", `{"current_password":"` + goodPassword + `","new_password":"short"}`, 422},
		{anna, "POST", "/api/v1/me/password", `{"current_password":"` + goodPassword + `","new_password":"another one 2"}`, 204},
		{other, "GET", "/api/v1/me", "", 401},
		{anna, "DELETE", "/api/v1/sessions", "", 204},
		{anna, "POST", "/api/v1/setup", `{"token":"x","email":"b@example.com","password":"long enough"}`, 410},
		{anna, "POST", "/api/v1/setup/link", "", 409},
		{anna, "POST", "/api/v1/setup/check", `{"token":"x"}`, 410},
		{anna, "POST", "/api/v1/passwords/reset/check", `{"token":"x"}`, 410},
		{anna, "POST", "/api/v1/sessions", credentials("anna@example.com", "another one 2"), 201},
		{anna, "DELETE", "/api/v1/sessions/current", "", 204},
		{anna, "GET", "/api/v1/me", "", 401},
	} {
		a := tc.p.want(tc.status, tc.method, tc.path, tc.body)
		doc.check(tc.method, tc.path, a)
	}
}

func TestSetupLink(t *testing.T) {
	s := newServer(t, nil)
	nobody := &person{server: s}
	body := func(token, email, password string) string {
		return toJSON(map[string]string{"token": token, "email": email, "password": password})
	}
	old := s.want(201, "POST", "/api/v1/setup/link", "").str("token")
	late := s.want(201, "POST", "/api/v1/setup/link", "").str("token")
	nobody.want(410, "POST", "/api/v1/setup", body(old, "a@example.com", goodPassword)) // another one has replaced it
	check := func(status int, token string) {
		t.Helper()
		nobody.want(status, "POST", "/api/v1/setup/check", toJSON(map[string]string{"token": token}))
	}
	check(410, old)
	check(204, late)
	s.pass(31 * time.Minute)
	check(410, late)
	nobody.want(410, "POST", "/api/v1/setup", body(late, "a@example.com", goodPassword))
	link := s.want(201, "POST", "/api/v1/setup/link", "").str("token")
	check(204, link)
	for field, bad := range map[string]string{
		"email":    body(link, "a@", goodPassword),
		"password": body(link, "a@example.com", "7 bytes"),
	} {
		if a := nobody.want(422, "POST", "/api/v1/setup", bad); !strings.Contains(a.body, `["body","`+field+`"]`) {
			t.Errorf("%s", a.body)
		}
	}
	nobody.want(201, "POST", "/api/v1/setup", body(link, "a@example.com", goodPassword)) // mistakes have not used it up
	nobody.want(410, "POST", "/api/v1/setup", body(link, "b@example.com", goodPassword))
	check(410, link)
	if strings.Contains(s.log.String(), link) {
		t.Error("the log has a link")
	}
	for range 20 {
		nobody.ask("POST", "/api/v1/setup/check", `{"token":"x"}`)
	}
	check(429, link) // guessing is slow
	s.want(409, "POST", "/api/v1/setup/link", "")
}

// TestSessions: how logins end.
func TestSessions(t *testing.T) {
	s := newServer(t, nil)
	s.as(sealmq.RoleServer) // its certificate is valid from now on, before time passes
	anna := s.firstAdmin()
	for _, token := range []string{"", "x", "smqs_", anna.token + "x", anna.token[:len(anna.token)-1], "smqs_" + strings.Repeat("A", 43), strings.Repeat("x", 5000)} {
		p := &person{server: s, token: token}
		if a := p.want(401, "GET", "/api/v1/me", ""); token != "" && a.Header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%.20s: no challenge", token)
		}
	}
	anna.want(200, "GET", "/api/v1/clients", "")
	t.Run("ends after an hour without a request", func(t *testing.T) {
		p := s.logIn("anna@example.com", goodPassword)
		s.pass(50 * time.Minute)
		p.want(200, "GET", "/api/v1/me", "")
		s.pass(50 * time.Minute)
		p.want(200, "GET", "/api/v1/me", "")
		s.pass(time.Hour)
		p.want(401, "GET", "/api/v1/me", "")
	})
	t.Run("ends while a page refreshes itself", func(t *testing.T) {
		p := s.logIn("anna@example.com", goodPassword)
		through := &person{server: s, token: p.token, peer: sealmq.RoleServer}
		for _, tc := range []struct {
			asks   *person
			after  time.Duration
			status int
		}{{through, 30, 200}, {p, 20, 200}, {through, 50, 200}, {through, 20, 401}} { // only from a portal it is no use
			s.pass(tc.after * time.Minute)
			tc.asks.want(tc.status, "GET", "/api/v1/me", "", httpkit.UnattendedHeader, "1")
		}
	})
	t.Run("ends after 12 hours", func(t *testing.T) {
		p := s.logIn("anna@example.com", goodPassword)
		for range 23 {
			s.pass(31 * time.Minute)
			p.want(200, "GET", "/api/v1/me", "")
		}
		s.pass(31 * time.Minute)
		p.want(401, "GET", "/api/v1/me", "")
	})
	t.Run("is ended from another", func(t *testing.T) {
		p, other := s.logIn("anna@example.com", goodPassword), s.logIn("anna@example.com", goodPassword)
		list := other.want(200, "GET", "/api/v1/sessions", "").items()
		if len(list) != 2 {
			t.Fatalf("%v", list)
		}
		for _, session := range list {
			if session["current"] == false {
				other.want(204, "DELETE", fmt.Sprintf("/api/v1/sessions/%v", session["id"]), "")
			}
		}
		p.want(401, "GET", "/api/v1/me", "")
		other.want(200, "GET", "/api/v1/me", "")
	})
	t.Run("ends its stream at once", func(t *testing.T) {
		for name, end := range map[string]func(){
			"ended from another":        func() { anna.want(204, "DELETE", "/api/v1/sessions", "") },
			"signed out by certificate": func() { s.want(204, "POST", "/api/v1/users/1/sign-out", "") },
		} {
			anna = s.logIn("anna@example.com", goodPassword)
			p := s.logIn("anna@example.com", goodPassword)
			req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/api/v1/overview/events", nil)
			s.must(err)
			req.Header.Set("Authorization", "Bearer "+p.token)
			resp, err := s.as("").Do(req)
			s.must(err)
			defer resp.Body.Close()
			lines := bufio.NewScanner(resp.Body)
			if lines.Scan(); lines.Text() != "event: overview" {
				t.Fatalf("%s: %q", name, lines.Text())
			}
			end()
			ended := time.Now()
			for lines.Scan() {
			}
			if took := time.Since(ended); took > 4*time.Second { // the next look by itself would be after five
				t.Errorf("%s: the stream went on for %v", name, took)
			}
		}
	})
	t.Run("no more than fifty", func(t *testing.T) {
		first := s.logIn("anna@example.com", goodPassword)
		for range 50 {
			s.logIn("anna@example.com", goodPassword)
		}
		first.want(401, "GET", "/api/v1/me", "")
	})
	if strings.Contains(s.log.String(), anna.token) || strings.Contains(s.log.String(), goodPassword) {
		t.Error("the log has a secret")
	}
}

// TestBearerNeedsAGoodCertificate: a token does not make up for a certificate that is revoked.
func TestBearerNeedsAGoodCertificate(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	cert := s.issue("laptop", sealmq.RoleClient)
	laptop := s.with(&cert)
	if a := s.ask(laptop, "GET", "/api/v1/me", "", "Authorization", "Bearer "+anna.token); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	s.want(200, "POST", "/api/v1/clients/laptop/revoke", `{}`)
	if a := s.ask(laptop, "GET", "/api/v1/me", "", "Authorization", "Bearer "+anna.token); a.StatusCode != 403 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	// The token decides, and not an administrator's certificate beside it.
	if a := s.ask(s.as(sealmq.RoleAdmin), "GET", "/api/v1/clients", "", "Authorization", "Bearer x"); a.StatusCode != 401 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestLockout: five failures lock an account, known or not, and twenty an address.
func TestLockout(t *testing.T) {
	s := newServer(t, nil)
	s.firstAdmin()
	p := &person{server: s}
	portal := s.as(sealmq.RoleServer)
	from := func(address, email, password string) answer {
		return s.ask(portal, "POST", "/api/v1/sessions", credentials(email, password), "X-Forwarded-For", address)
	}
	for _, email := range []string{"anna@example.com", "nobody@example.com"} {
		for i := range 7 {
			a := from(fmt.Sprintf("192.0.2.%d", i), email, "wrong")
			if want := map[bool]int{true: 401, false: 429}[i < 5]; a.StatusCode != want {
				t.Errorf("%s, attempt %d: %d %s", email, i, a.StatusCode, a.body)
			}
			if a.StatusCode == 429 && (a.str("code") != "account_locked" || a.Header.Get("Retry-After") == "") {
				t.Errorf("%s", a.body)
			}
		}
	}
	p.want(429, "POST", "/api/v1/sessions", credentials("anna@example.com", goodPassword))
	s.pass(15 * time.Minute)
	p.want(201, "POST", "/api/v1/sessions", credentials("anna@example.com", goodPassword))
	for i := range 21 {
		// A network of IPv6 is one customer, and a browser's own header is not believed.
		a := from(fmt.Sprintf("10.9.9.9, 2001:db8::%x", i), fmt.Sprintf("user-%d@example.com", i), "wrong")
		if want := map[bool]int{true: 401, false: 429}[i < 20]; a.StatusCode != want || a.StatusCode == 429 && a.str("code") != "rate_limit_exceeded" {
			t.Errorf("attempt %d: %d %s", i, a.StatusCode, a.body)
		}
	}
	if a := from("192.0.2.1", "anna@example.com", goodPassword); a.StatusCode != 201 {
		t.Errorf("from elsewhere: %d", a.StatusCode)
	}
	s.pass(time.Minute)
	if a := from("2001:db8::ffff", "anna@example.com", goodPassword); a.StatusCode != 201 {
		t.Errorf("after a minute: %d", a.StatusCode)
	}
	list := s.want(200, "GET", "/api/v1/audit?event_type=user_login_failed&limit=500", "")
	if n := len(list.items()); n != 7+7+1+21 || !strings.Contains(list.body, `"ip_address":"192.0.2.3"`) || strings.Contains(list.body, "10.9.9.9") {
		t.Errorf("%d entries\n%.600s", n, list.body)
	}
	if a := p.ask("POST", "/api/v1/sessions", credentials("anna@example.com", goodPassword), "X-Forwarded-For", "198.51.100.1"); a.StatusCode != http.StatusCreated {
		t.Errorf("%d", a.StatusCode)
	}
	if list := s.want(200, "GET", "/api/v1/audit?event_type=user_login&limit=1", ""); !strings.Contains(list.body, `"ip_address":"127.0.0.1"`) || !strings.Contains(list.body, `"actor":"anna@example.com"`) {
		t.Errorf("a stranger's X-Forwarded-For was believed, or nobody is named: %s", list.body)
	}
}

// TestOwnActivity: people see who tried wrong passwords for their account, and many of those hide
// nothing else.
func TestOwnActivity(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	portal := s.as(sealmq.RoleServer)
	fail := func(email, address string) {
		s.ask(portal, "POST", "/api/v1/sessions", credentials(email, "wrong"), "X-Forwarded-For", address)
	}
	fail("anna@example.com", "192.0.2.9")
	fail("nobody@example.com", "192.0.2.10")
	activity := func() (failed, other int, body string) {
		a := anna.want(200, "GET", "/api/v1/me/activity", "")
		failed = strings.Count(a.body, `"user_login_failed"`)
		return failed, len(a.items()) - failed, a.body
	}
	if failed, _, body := activity(); failed != 1 || !strings.Contains(body, `"address":"192.0.2.9"`) || strings.Contains(body, "192.0.2.10") {
		t.Errorf("after a wrong password: %s", body)
	}
	_, before, _ := activity()
	for range 12 {
		for range 5 {
			fail("anna@example.com", "192.0.2.9")
		}
		s.pass(16 * time.Minute)
		anna.want(200, "GET", "/api/v1/me", "")
	}
	if failed, other, body := activity(); failed != 10 || other != before || strings.Index(body, "user_login_failed") > strings.Index(body, `"user_login"`) {
		t.Errorf("%d and %d of %d after many wrong passwords: %s", failed, other, before, body)
	}
}

// TestLockoutStays: tries at the same time are not more tries, and a restart forgets none, of
// passwords or codes.
func TestLockoutStays(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	portal := s.as(sealmq.RoleServer)
	var refused, locked atomic.Int32
	for _, email := range []string{"anna@example.com", "nobody@example.com"} {
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				switch a := s.ask(portal, "POST", "/api/v1/sessions", credentials(email, "wrong"), "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)); a.StatusCode {
				case 401:
					refused.Add(1)
				case 429:
					locked.Add(1)
				default:
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			})
		}
		wg.Wait()
	}
	if refused.Load() != 10 || locked.Load() != 90 {
		t.Errorf("%d tries of two times 50, and %d locked", refused.Load(), locked.Load())
	}
	restarted := func() *accounts.Service {
		people, err := accounts.New(accounts.Config{Store: s.store, Now: s.now, Cost: bcrypt.MinCost})
		s.must(err)
		return people
	}
	for _, email := range []string{"anna@example.com", "nobody@example.com"} {
		_, err := restarted().Login(t.Context(), accounts.Credentials{Email: email, Password: goodPassword}, accounts.Origin{Address: "192.0.2.77"})
		if e, ok := errors.AsType[*accounts.Error](err); !ok || e.Kind != accounts.ErrLocked.Kind || e.RetryAfter <= 14*time.Minute {
			t.Errorf("%s: %v", email, err)
		}
	}
	if a := anna.want(200, "GET", "/api/v1/me", ""); a.m["locked"] != true {
		t.Errorf("%s", a.body)
	}
	s.want(204, "POST", "/api/v1/users/1/unlock", "")
	anna.confirm()
	secret := anna.want(200, "POST", "/api/v1/me/second-factor", "").str("secret")
	code := func() string {
		code, err := totp.GenerateCode(secret, s.now())
		s.must(err)
		return code
	}
	anna.want(200, "POST", "/api/v1/me/second-factor/confirm", toJSON(map[string]string{"code": code()}))
	s.pass(time.Minute)
	people, wrong := restarted(), []string{"000000", "abcd-efgh-ijkl-mnop", "12345", "", "x", "y", "z"}
	for i, guess := range wrong { // an empty code asks for one, and is no try
		_, err := people.Login(t.Context(), accounts.Credentials{Email: "anna@example.com", Password: goodPassword, Code: guess}, accounts.Origin{})
		want := accounts.ErrSecondFactor
		if i == len(wrong)-1 {
			want = accounts.ErrLocked
		}
		if e, ok := errors.AsType[*accounts.Error](err); !ok || e.Kind != want.Kind {
			t.Errorf("code %q: %v", guess, err)
		}
	}
	if _, err := restarted().Login(t.Context(), accounts.Credentials{Email: "anna@example.com", Password: goodPassword, Code: code()}, accounts.Origin{}); err == nil {
		t.Error("a restart unlocks the second factor")
	}
	s.pass(15 * time.Minute)
	if _, err := restarted().Login(t.Context(), accounts.Credentials{Email: "anna@example.com", Password: goodPassword, Code: code()}, accounts.Origin{}); err != nil {
		t.Error(err)
	}
}
