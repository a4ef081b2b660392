package mainserver_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

const jwtSecret = "a secret that a test signs with too"

// jwtServer has an administrator, Anna, and a person without tokens.
func jwtServer(t *testing.T) (*server, *person) {
	t.Helper()
	s := newServer(t, nil)
	s.firstAdmin()
	return s, &person{server: s}
}

// pair logs in in the design documents' form.
func (p *person) pair(email, password string) answer {
	p.server.Helper()
	return p.want(200, "POST", "/portal/auth/login", credentials(email, password))
}

func (p *person) holding(token string) *person { return &person{server: p.server, token: token} }

// TestAliasesOfAccounts: log in, look, refresh, change the password and log out in the design documents' form.
func TestAliasesOfAccounts(t *testing.T) {
	s, nobody := jwtServer(t)
	a := nobody.pair("Anna@example.com", goodPassword)
	u, _ := a.m["user"].(map[string]any)
	if a.str("token_type") != "bearer" || a.m["expires_in"] != 900.0 || u["email"] != "anna@example.com" || u["role"] != "admin" || u["id"] != u["user_id"] || u["client_id"] != nil ||
		u["is_active"] != true || u["must_change_password"] != false || u["last_login"] == nil || u["created_at"] == nil {
		t.Errorf("%s", a.body)
	}
	anna := nobody.holding(a.str("access_token"))
	for _, path := range []string{"/portal/profile", "/portal/messages", "/portal/activity", "/admin/stats", "/admin/users", "/admin/users?page=1&role=ADMIN", "/api/v1/me", "/api/v1/clients"} {
		anna.want(200, "GET", path, "")
	}
	if a := anna.want(200, "GET", "/portal/activity", ""); !strings.Contains(a.body, `"user_login"`) {
		t.Errorf("%s", a.body)
	}
	// The portal's list of logins shows it.
	if a := anna.want(200, "GET", "/api/v1/sessions", ""); !strings.Contains(a.body, `"kind":"jwt"`) || !strings.Contains(a.body, `"current":true`) {
		t.Errorf("%s", a.body)
	}
	fresh := nobody.want(200, "POST", "/portal/auth/refresh", toJSON(map[string]string{"refresh_token": a.str("refresh_token")}))
	fresh = nobody.want(200, "POST", "/portal/auth/refresh", "", "Authorization", "Bearer "+fresh.str("refresh_token"))
	anna = nobody.holding(fresh.str("access_token"))
	anna.want(422, "POST", "/portal/auth/change-password", `{"current_password":"wrong","new_password":"staple horse correct"}`)
	anna.want(422, "POST", "/portal/auth/change-password", `{"current_password":"`+goodPassword+`"}`)
	other := nobody.holding(nobody.want(200, "POST", "/auth/login", credentials("anna@example.com", goodPassword)).str("access_token"))
	anna.want(200, "POST", "/portal/auth/change-password", `{"current_password":"`+goodPassword+`","new_password":"staple horse correct"}`)
	other.want(401, "GET", "/portal/profile", "")
	anna.want(200, "GET", "/portal/profile", "")
	anna.want(200, "POST", "/portal/auth/logout", "")
	anna.want(401, "GET", "/portal/profile", "")
	nobody.want(401, "POST", "/portal/auth/refresh", toJSON(map[string]string{"refresh_token": fresh.str("refresh_token")}))

	// FastAPI-Users.
	form := func(status int, email, password string) answer {
		return nobody.want(status, "POST", "/auth/jwt/login", url.Values{"username": {email}, "password": {password}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	}
	if a := form(400, "anna@example.com", "wrong"); a.str("detail") != "LOGIN_BAD_CREDENTIALS" {
		t.Errorf("%s", a.body)
	}
	a = form(200, "anna@example.com", "staple horse correct")
	if len(a.m) != 2 || a.str("token_type") != "bearer" {
		t.Errorf("%s", a.body)
	}
	nobody.want(415, "POST", "/auth/jwt/login", credentials("anna@example.com", "x"))
	nobody.want(422, "POST", "/auth/jwt/login?username=anna@example.com&password=x", "username=anna@example.com", "Content-Type", "application/x-www-form-urlencoded")
	anna = nobody.holding(a.str("access_token"))
	if a := anna.want(204, "POST", "/auth/jwt/logout", ""); a.body != "" {
		t.Errorf("%s", a.body)
	}
	anna.want(401, "GET", "/portal/profile", "")

	// A forgotten password.
	nobody.want(422, "POST", "/portal/auth/forgot-password", `{"email":"anna"}`)
	for _, email := range []string{"nobody@example.com", "anna@example.com"} {
		nobody.want(200, "POST", "/portal/auth/forgot-password", `{"email":"`+email+`"}`)
	}
	link := <-s.resets
	reset := func(token string) string {
		return toJSON(map[string]string{"token": token, "new_password": goodPassword})
	}
	nobody.want(400, "POST", "/portal/auth/reset-password", reset("x"))
	nobody.want(200, "POST", "/portal/auth/reset-password", reset(link[1]))
	if a := nobody.want(400, "POST", "/portal/auth/reset-password", reset(link[1])); a.str("detail") != "Invalid or expired reset token" {
		t.Errorf("%s", a.body)
	}
	if a := nobody.want(401, "POST", "/portal/auth/login", credentials("anna@example.com", "staple horse correct")); a.str("detail") != "Incorrect email or password" {
		t.Errorf("%s", a.body)
	}
	nobody.pair("anna@example.com", goodPassword)
}

// TestAliasesOfUsers: accounts are looked after in the design documents' form.
func TestAliasesOfUsers(t *testing.T) {
	_, nobody := jwtServer(t)
	anna := nobody.holding(nobody.pair("anna@example.com", goodPassword).str("access_token"))
	a := anna.want(200, "POST", "/admin/users", `{"email":"Bob@example.com","password":"chosen by anna","role":"USER_MANAGER","metadata":{}}`)
	if a.str("email") != "bob@example.com" || a.str("role") != "user_manager" || a.m["must_change_password"] != false {
		t.Errorf("%s", a.body)
	}
	bob := nobody.holding(nobody.pair("bob@example.com", "chosen by anna").str("access_token"))
	for _, tc := range []struct {
		p                  *person
		method, path, body string
		status             int
	}{
		{anna, "POST", "", `{"email":"bob@example.com","password":"chosen by anna"}`, 409},
		{anna, "POST", "", `{"email":"bob","password":"chosen by anna"}`, 422},
		{anna, "POST", "", `{"email":"c@example.com","password":"short"}`, 422},
		{anna, "POST", "", `{"email":"c@example.com","password":"chosen by anna","role":"root"}`, 422},
		{anna, "POST", "", `{"email":"c@example.com","password":"chosen by anna","client_id":"nobody-1"}`, 422},
		{bob, "POST", "", `{"email":"c@example.com","password":"chosen by bob","role":"admin"}`, 403},
		{bob, "POST", "", `{"email":"carl@example.com","password":"chosen by bob"}`, 200},
		{bob, "GET", "", "", 200},
		{bob, "GET", "?skip=1&limit=1", "", 200},
		{bob, "GET", "?limit=501", "", 422},
		{bob, "GET", "?role=root", "", 422},
		{anna, "GET", "?page=2&per_page=2", "", 200},
		{bob, "PUT", "/3/role", `{"role":"admin"}`, 403},
		{anna, "PUT", "/3/role", `{"role":"root"}`, 422},
		{anna, "PUT", "/3/role", `{}`, 422},
		{anna, "PUT", "/3/role", `{"role":"Operator"}`, 409}, // bob knows the password
		{anna, "PUT", "/3/password", `{"new_password":"chosen by anna"}`, 200},
		{anna, "PUT", "/3/role", `{"role":"Operator"}`, 200},
		{bob, "PUT", "/3/status", `{"is_active":false}`, 403},
		{anna, "PUT", "/3/role", `{"role":"user"}`, 200},
		{anna, "PUT", "/99/role", `{"role":"user"}`, 404},
		{anna, "PUT", "/x/role", `{"role":"user"}`, 422},
		{bob, "PUT", "/3/status", `{"is_active":"no"}`, 422},
		{bob, "PUT", "/3/status", `{"is_active":false}`, 200},
		{anna, "PUT", "/1/status", `{"is_active":false}`, 400},
		{bob, "PUT", "/1/password", `{"new_password":"chosen by bob"}`, 403},
		{bob, "PUT", "/3/password", `{"new_password":"short"}`, 422},
		{bob, "PUT", "/3/password", `{"new_password":"chosen by bob 2"}`, 200},
		{bob, "PUT", "/3/client", `{"client_id":null}`, 403},
		{anna, "PUT", "/3/client", `{"client_id":null}`, 200},
		{anna, "PUT", "/3/client", `{}`, 422},
		{bob, "DELETE", "/3", "", 403},
		{anna, "DELETE", "/1", "", 409},
		{anna, "DELETE", "/3", "", 204},
		{anna, "DELETE", "/3", "", 404},
	} {
		tc.p.want(tc.status, tc.method, "/admin/users"+tc.path, tc.body)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(anna.want(200, "GET", "/admin/users?skip=1", "").body), &list); err != nil || len(list) != 1 || list[0]["email"] != "bob@example.com" {
		t.Errorf("%v, %v", list, err)
	}
	if a := anna.want(200, "GET", "/admin/users?page=1&per_page=1", ""); !strings.Contains(a.body, `"total":2`) || !strings.Contains(a.body, `"pages":2`) {
		t.Errorf("%s", a.body)
	}
	// A manager makes accounts whose owners must choose a password.
	bob.want(403, "POST", "/api/v1/users", `{"email":"dan@example.com","password":"chosen by bob","keep_password":true}`)
	if a := bob.want(200, "POST", "/admin/users", `{"email":"dan@example.com","password":"chosen by somebody"}`); a.m["must_change_password"] != true {
		t.Errorf("%s", a.body)
	}
	dan := nobody.holding(nobody.pair("dan@example.com", "chosen by somebody").str("access_token"))
	dan.want(403, "GET", "/portal/messages", "")
	dan.want(200, "POST", "/portal/auth/change-password", `{"current_password":"chosen by somebody","new_password":"a word of his own"}`)
	dan.want(200, "GET", "/portal/messages", "")
	bob.want(200, "PUT", "/admin/users/4/password", `{"new_password":"chosen by somebody"}`)
	dan = nobody.holding(nobody.pair("dan@example.com", "chosen by somebody").str("access_token"))
	dan.want(403, "GET", "/portal/messages", "")
	// What changes of an account counts for its next request.
	anna.want(200, "PUT", "/admin/users/2/role", `{"role":"user"}`)
	bob.want(403, "GET", "/admin/users", "")
	anna.want(200, "PUT", "/admin/users/2/status", `{"is_active":false}`)
	bob.want(401, "GET", "/portal/profile", "")
	if a := nobody.want(403, "POST", "/portal/auth/login", credentials("bob@example.com", "chosen by anna")); a.str("detail") != "Account is inactive" {
		t.Errorf("%s", a.body)
	}
	anna.want(200, "PUT", "/admin/users/2/status", `{"is_active":true}`)
	bob.want(401, "GET", "/portal/profile", "")
}

// TestRulesOfLoginsWithJWT: what holds in the portal holds for programs too.
func TestRulesOfLoginsWithJWT(t *testing.T) {
	s, nobody := jwtServer(t)
	anna := s.logIn("anna@example.com", goodPassword)
	t.Run("a password that must be changed", func(t *testing.T) {
		anna.want(201, "POST", "/api/v1/users", credentials("bob@example.com", "chosen by anna"))
		bob := nobody.holding(nobody.pair("bob@example.com", "chosen by anna").str("access_token"))
		for _, path := range []string{"/portal/messages", "/portal/activity", "/api/v1/messages"} {
			if a := bob.want(403, "GET", path, ""); !strings.Contains(a.body, "password_change_required") {
				t.Errorf("%s", a.body)
			}
		}
		bob.want(200, "GET", "/portal/profile", "")
		bob.want(200, "POST", "/portal/auth/change-password", `{"current_password":"chosen by anna","new_password":"a word of his own"}`)
		bob.want(200, "GET", "/portal/messages", "")
	})
	t.Run("a second factor", func(t *testing.T) {
		anna.confirm()
		secret := anna.want(200, "POST", "/api/v1/me/second-factor", "").str("secret")
		code := func(back int) string {
			c, err := totp.GenerateCode(secret, s.now().Add(time.Duration(back)*30*time.Second))
			s.must(err)
			return c
		}
		first := code(0)
		anna.want(200, "POST", "/api/v1/me/second-factor/confirm", `{"code":"`+first+`"}`)
		for _, path := range []string{"/portal/auth/login", "/auth/login"} {
			if a := nobody.want(401, "POST", path, credentials("anna@example.com", goodPassword)); a.str("error") != "second_factor_required" || !strings.Contains(a.str("detail"), `"code"`) {
				t.Errorf("%s", a.body)
			}
		}
		with := func(code string) string {
			return toJSON(map[string]string{"email": "anna@example.com", "password": goodPassword, "code": code})
		}
		nobody.want(401, "POST", "/auth/login", with("000000"))
		nobody.want(401, "POST", "/auth/login", with(first)) // it was used
		nobody.want(200, "POST", "/auth/login", with(code(1)))
		if a := nobody.want(401, "POST", "/auth/jwt/login", url.Values{"username": {"anna@example.com"}, "password": {goodPassword}}.Encode(), "Content-Type", "application/x-www-form-urlencoded"); a.str("error") != "second_factor_required" {
			t.Errorf("%s", a.body)
		}
	})
	t.Run("lockout", func(t *testing.T) {
		for _, email := range []string{"bob@example.com", "unknown@example.com"} {
			for range 5 {
				nobody.want(401, "POST", "/portal/auth/login", credentials(email, "wrong"))
			}
			if a := nobody.want(429, "POST", "/portal/auth/login", credentials(email, "a word of his own")); a.str("error") != "account_locked" || a.m["retry_after"] == nil {
				t.Errorf("%s", a.body)
			}
		}
	})
	t.Run("an API token does not change its account", func(t *testing.T) {
		s.pass(15 * time.Minute)
		bob := s.logIn("bob@example.com", "a word of his own")
		bob.want(204, "POST", "/api/v1/sessions/current/confirm", `{"password":"a word of his own"}`)
		token := nobody.holding(bob.want(201, "POST", "/api/v1/me/tokens", `{"name":"x"}`).str("token"))
		token.want(200, "GET", "/portal/profile", "")
		token.want(200, "GET", "/portal/messages", "")
		token.want(403, "POST", "/portal/auth/change-password", `{"current_password":"a word of his own","new_password":"chosen by eve"}`)
		token.want(403, "POST", "/portal/auth/logout", "")
		token.want(403, "GET", "/portal/activity", "")
	})
}

// TestForgottenWithoutMail: nobody is told of a mail that cannot be sent, and nobody learns of accounts.
func TestForgottenWithoutMail(t *testing.T) {
	s := newServer(t, func(_ *server, cfg *mainserver.HandlerConfig) { cfg.SendReset = nil })
	s.firstAdmin()
	nobody := &person{server: s}
	for _, email := range []string{"anna@example.com", "nobody@example.com"} {
		body := `{"email":"` + email + `"}`
		if a := nobody.want(200, "POST", "/portal/auth/forgot-password", body); !strings.Contains(a.str("message"), "administrator") {
			t.Errorf("%s", a.body)
		}
		if a := nobody.want(409, "POST", "/api/v1/passwords/forgot", body); !strings.Contains(a.str("detail"), "administrator") {
			t.Errorf("%s", a.body)
		}
	}
}

// TestRefreshTokens: one refresh token is good once, and its second use ends the login, unless it is
// a race.
func TestRefreshTokens(t *testing.T) {
	s, nobody := jwtServer(t)
	refresh := func(token string) answer {
		return nobody.ask("POST", "/portal/auth/refresh", toJSON(map[string]string{"refresh_token": token}))
	}
	first := nobody.pair("anna@example.com", goodPassword)
	second := refresh(first.str("refresh_token"))
	anna := nobody.holding(second.str("access_token"))
	anna.want(200, "GET", "/portal/profile", "")
	s.pass(10 * time.Second)
	if a := refresh(first.str("refresh_token")); a.StatusCode != 401 || a.str("detail") != "Invalid refresh token" {
		t.Errorf("used again: %d %s", a.StatusCode, a.body)
	}
	anna.want(401, "GET", "/portal/profile", "")
	if a := refresh(second.str("refresh_token")); a.StatusCode != 401 {
		t.Errorf("of a login that has ended: %d", a.StatusCode)
	}
	if list := s.want(200, "GET", "/api/v1/audit?event_type=refresh_token_reused", ""); len(list.items()) != 1 || !strings.Contains(list.body, "anna@example.com") {
		t.Errorf("%s", list.body)
	}
	token := nobody.pair("anna@example.com", goodPassword).str("refresh_token")
	answers := make(chan answer, 8)
	var wg sync.WaitGroup
	for range cap(answers) {
		wg.Go(func() { answers <- refresh(token) })
	}
	wg.Wait()
	close(answers)
	got := make(map[int]int)
	for a := range answers {
		if got[a.StatusCode]++; a.StatusCode == 200 {
			second = a
		}
	}
	if got[200] != 1 || got[409] != cap(answers)-1 {
		t.Errorf("at the same time: %v", got)
	}
	anna = nobody.holding(second.str("access_token"))
	anna.want(200, "GET", "/portal/profile", "")
	s.pass(9 * time.Second)
	if a := refresh(token); a.StatusCode != 409 || !strings.Contains(a.str("detail"), "a moment ago") {
		t.Errorf("a late one of them: %d %s", a.StatusCode, a.body)
	}
	third := refresh(second.str("refresh_token"))
	if third.StatusCode != 200 {
		t.Errorf("the winner: %d %s", third.StatusCode, third.body)
	}
	elsewhere, err := accounts.New(accounts.Config{Store: s.store, Now: s.now, JWTSecret: []byte(jwtSecret)})
	s.must(err)
	if _, err := elsewhere.Refresh(t.Context(), second.str("refresh_token"), accounts.Origin{Address: "192.0.2.9"}); !errors.Is(err, accounts.ErrReused) {
		t.Errorf("from another address: %v", err)
	}
	if a := refresh(third.str("refresh_token")); a.StatusCode != 401 {
		t.Errorf("of a stolen login: %d", a.StatusCode)
	}
	// A login ends thirty days after it began.
	token = nobody.pair("anna@example.com", goodPassword).str("refresh_token")
	s.pass(29 * 24 * time.Hour)
	a := refresh(token)
	if a.StatusCode != 200 {
		t.Errorf("after 29 days: %d", a.StatusCode)
	}
	s.pass(24 * time.Hour)
	if a := refresh(a.str("refresh_token")); a.StatusCode != 401 {
		t.Errorf("after 30 days: %d", a.StatusCode)
	}
}

// TestHostileJWT: only what the main server has signed as an access token is one, and only in its header.
func TestHostileJWT(t *testing.T) {
	s, nobody := jwtServer(t)
	a := nobody.pair("anna@example.com", goodPassword)
	access, refresh := a.str("access_token"), a.str("refresh_token")
	parts := strings.Split(access, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	s.must(err)
	var good map[string]any
	s.must(json.Unmarshal(payload, &good))
	sign := func(header string, change func(map[string]any)) string {
		c := make(map[string]any)
		for k, v := range good {
			c[k] = v
		}
		if change != nil {
			change(c)
		}
		text := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(toJSON(c)))
		mac := hmac.New(sha256.New, []byte(jwtSecret))
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	const header = `{"alg":"HS256","typ":"JWT"}`
	nobody.holding(sign(header, nil)).want(200, "GET", "/api/v1/me", "")
	set := func(name string, v any) func(map[string]any) {
		return func(c map[string]any) {
			if c[name] = v; v == nil {
				delete(c, name)
			}
		}
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	now := float64(s.now().Unix())
	for name, token := range map[string]string{
		"a refresh token":         refresh,
		"none":                    unsigned,
		"none with a signature":   unsigned + parts[2],
		"None":                    sign(`{"alg":"None"}`, nil),
		"another algorithm":       sign(`{"alg":"HS512"}`, nil),
		"RS256, signed as HS256":  sign(`{"alg":"RS256"}`, nil),
		"no algorithm":            sign(`{}`, nil),
		"another signature":       parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])),
		"no signature":            parts[0] + "." + parts[1] + ".",
		"two parts":               parts[0] + "." + parts[1],
		"four parts":              access + ".x",
		"expired":                 sign(header, set("exp", now-31)),
		"no end":                  sign(header, set("exp", nil)),
		"from the future":         sign(header, set("iat", now+120)),
		"another type":            sign(header, set("type", "refresh")),
		"no type":                 sign(header, set("type", nil)),
		"another account":         sign(header, set("sub", "2")),
		"no account":              sign(header, set("sub", nil)),
		"another login":           sign(header, set("sid", 99)),
		"a login of the portal":   sign(header, set("sid", 1)),
		"a number that is a text": sign(header, set("sid", "2")),
		"huge":                    sign(header, set("email", strings.Repeat("x", 4000))),
		"dots":                    strings.Repeat(".", 4000),
		"no JSON":                 "e30.eA.eA",
		"a portal's prefix":       "smqs_" + access,
	} {
		if got := nobody.holding(token).ask("GET", "/api/v1/me", ""); got.StatusCode != 401 {
			t.Errorf("%s: %d %s", name, got.StatusCode, got.body)
		}
	}
	for _, path := range []string{"/portal/profile?token=", "/portal/profile?access_token="} {
		nobody.want(401, "GET", path+access, "")
	}
	nobody.want(401, "GET", "/portal/profile", "", "Cookie", "access_token="+access)
	nobody.want(401, "GET", "/portal/profile", "", "Authorization", "Basic "+access)
	for _, token := range []string{access, unsigned, "", strings.Repeat("x", 5000)} {
		if got := nobody.ask("POST", "/portal/auth/refresh", toJSON(map[string]string{"refresh_token": token})); got.StatusCode != 401 && got.StatusCode != 422 {
			t.Errorf("refreshed: %d %s", got.StatusCode, got.body)
		}
	}
	for _, email := range []string{"anna@example.com\r\nBcc: eve@example.com", "anna@example.com\x00", "<script>@example.com", strings.Repeat("a", 5000) + "@example.com"} {
		if got := nobody.ask("POST", "/portal/auth/forgot-password", toJSON(map[string]string{"email": email})); got.StatusCode != 422 {
			t.Errorf("%.40q: %d", email, got.StatusCode)
		}
		if got := nobody.ask("POST", "/portal/auth/login", credentials(email, "x")); got.StatusCode != 401 && got.StatusCode != 422 {
			t.Errorf("%.40q: %d", email, got.StatusCode)
		}
	}
	nobody.holding(access).want(200, "GET", "/api/v1/me", "")
	s.pass(15*time.Minute + 31*time.Second)
	nobody.holding(access).want(401, "GET", "/api/v1/me", "")
	for i, secret := range []string{access, refresh, parts[2], goodPassword} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has secret %d", i)
		}
	}
}
