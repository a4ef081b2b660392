package mainserver_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sealmq/sealmq/api/mainapi"
)

// addUser makes an account that may log in at once, and returns its id.
func (p *person) addUser(email, role string) string {
	p.Helper()
	body := toJSON(map[string]any{"email": email, "password": goodPassword, "role": role, "keep_password": true})
	if role != "user" {
		p.confirm()
	}
	a := p.want(201, "POST", "/api/v1/users", body)
	return fmt.Sprint(a.m["id"])
}

// TestRolesOfAccounts asks what each role may do with accounts of each role.
func TestRolesOfAccounts(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	people := map[string]*person{"admin": anna}
	targets := make(map[string]string)
	for _, role := range []string{"user", "user_manager", "operator", "admin"} {
		targets[role] = anna.addUser("target-"+role+"@example.com", role)
		if role != "admin" {
			anna.addUser(role+"@example.com", role)
			people[role] = s.logIn(role+"@example.com", goodPassword)
		}
	}
	for _, p := range people {
		p.confirm()
	}
	for _, tc := range []struct{ what, method, path, body, who, target string }{
		// who may, and for a user manager with accounts of which role
		{"list", "GET", "/api/v1/users", "", "user_manager admin", "every"},
		{"show", "GET", "/api/v1/users/ID", "", "user_manager admin", "every"},
		{"create", "POST", "/api/v1/users", `{"email":"EMAIL","password":"long enough","role":"ROLE"}`, "user_manager admin", "user"},
		{"rename", "PATCH", "/api/v1/users/ID", `{"name":"x"}`, "user_manager admin", "user"},
		{"deactivate", "PATCH", "/api/v1/users/ID", `{"active":false}`, "user_manager admin", "user"},
		{"activate", "PATCH", "/api/v1/users/ID", `{"active":true}`, "user_manager admin", "user"},
		{"set the password", "POST", "/api/v1/users/ID/password", `{"new_password":"long enough"}`, "user_manager admin", "user"},
		{"unlock", "POST", "/api/v1/users/ID/unlock", "", "user_manager admin", "user"},
		{"sign out", "POST", "/api/v1/users/ID/sign-out", "", "user_manager admin", "user"},
		{"remove the second factor", "POST", "/api/v1/users/ID/second-factor/remove", "", "user_manager admin", "user"},
		{"change the role", "PATCH", "/api/v1/users/ID", `{"role":"OTHER"}`, "admin", ""},
		{"set the client", "PATCH", "/api/v1/users/ID", `{"client_id":"CLIENT"}`, "admin", ""},
		{"delete", "DELETE", "/api/v1/users/ID", "", "admin", ""},
	} {
		for who, p := range people {
			for role, id := range targets {
				if tc.what == "delete" && who == "admin" && role != "user" {
					continue // the others are still needed
				}
				body := strings.NewReplacer("EMAIL", fmt.Sprintf("new-%s-%s@example.com", strings.ReplaceAll(who, "_", "-"), role), "ROLE", role, "OTHER", role, "CLIENT", "").Replace(tc.body)
				if tc.what == "change the role" && who != "admin" {
					body = `{"role":"operator"}`
				}
				a := p.ask(tc.method, strings.ReplaceAll(tc.path, "ID", id), body)
				may := strings.Contains(" "+tc.who+" ", " "+who+" ") && (who == "admin" || tc.target == "every" || tc.target == role)
				if tc.what == "set the client" && who == "user_manager" && role == "user" {
					may = true // nothing changes
				}
				if ok := a.StatusCode < 300; ok != may || !may && a.StatusCode != http.StatusForbidden {
					t.Errorf("%s may %s an account with the role %s: %d %s", who, tc.what, role, a.StatusCode, a.body)
				}
			}
		}
	}
	people["user_manager"].want(403, "POST", "/api/v1/users", `{"email":"x@example.com","password":"long enough","client_id":"acme-01"}`)
	// Who sets the password of a client's account could see the client's messages.
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	id := anna.addUser("of-acme@example.com", "user")
	s.want(200, "PATCH", "/api/v1/users/"+id, `{"client_id":"acme-01"}`)
	for path, body := range map[string]string{"/password": `{"new_password":"long enough"}`, "/second-factor/remove": ""} {
		if a := people["user_manager"].want(403, "POST", "/api/v1/users/"+id+path, body); !strings.Contains(a.body, "only an administrator") {
			t.Errorf("%s", a.body)
		}
		s.want(204, "POST", "/api/v1/users/"+id+path, body)
	}
	people["user_manager"].want(204, "POST", "/api/v1/users/"+id+"/unlock", "")
	people["operator"].want(200, "GET", "/api/v1/statistics", "")
	people["operator"].want(403, "POST", "/api/v1/retention/run", `{"retention_days":30}`)
	people["user"].want(403, "GET", "/api/v1/clients", "")
	anna.want(204, "POST", "/api/v1/users/1/unlock", "")
	// All learn whether all is well, and some why.
	o := anna.want(200, "GET", "/api/v1/overview", "")
	for role, p := range people {
		summary := o.str("summary")
		if role == "user" || role == "user_manager" {
			summary = ""
		}
		if a := p.want(200, "GET", "/api/v1/state", ""); a.str("state") != o.str("state") || a.str("summary") != summary {
			t.Errorf("as %s: %s, and the overview says %s", role, a.body, o.body)
		}
	}
}

// TestAllThatIsWrong: one answer names each wrong field of a new account.
func TestAllThatIsWrong(t *testing.T) {
	s := newServer(t, nil)
	a := s.want(422, "POST", "/api/v1/users", `{"email":"bob","name":"a\u0007b","password":"short"}`)
	var p mainapi.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range p.Errors {
		fields = append(fields, fmt.Sprint(f.Loc...))
	}
	if got := strings.Join(fields, " "); got != "bodyemail bodyname bodypassword" {
		t.Errorf("%s\n%s", got, a.body)
	}
}

// TestManagerKeepsNoAccount: a user manager who made an account, and logged in as it, does not see
// the messages of a client that it gets later.
func TestManagerKeepsNoAccount(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	anna.addUser("manager@example.com", "user_manager")
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	manager := s.logIn("manager@example.com", goodPassword)
	user := "/api/v1/users/" + fmt.Sprint(manager.want(201, "POST", "/api/v1/users", toJSON(map[string]any{"email": "mallory@example.com", "password": goodPassword})).m["id"])
	mallory := s.logIn("mallory@example.com", goodPassword)
	mallory.want(204, "POST", "/api/v1/me/password", toJSON(map[string]any{"current_password": goodPassword, "new_password": "another good one"}))
	for _, change := range []string{`{"client_id":"acme-01"}`, `{"role":"operator"}`} {
		if a := s.want(409, "PATCH", user, change); !strings.Contains(a.body, "set a new password") {
			t.Errorf("%s", a.body)
		}
	}
	mallory.want(200, "GET", "/api/v1/me", "")
	s.want(204, "POST", user+"/password", `{"new_password":"a third good one"}`)
	s.want(200, "PATCH", user, `{"client_id":"acme-01"}`)
	mallory.want(401, "GET", "/api/v1/me", "")
	manager.want(403, "POST", user+"/password", `{"new_password":"a fourth good one"}`)
}

// TestAccountsWantAConfirmation: a stolen session makes no second administrator, and opens no
// account but those of users. A certificate of an administrator needs no confirmation.
func TestAccountsWantAConfirmation(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	plain, other := anna.addUser("plain@example.com", "user"), anna.addUser("other@example.com", "operator")
	anna = s.logIn("anna@example.com", goodPassword)
	for _, tc := range []struct {
		method, path, body string
		status             int // once it is confirmed
	}{
		{"POST", "", `{"email":"new@example.com","password":"long enough","role":"admin"}`, 201},
		{"PATCH", "/" + plain, `{"role":"admin"}`, 200},
		{"POST", "/" + other + "/password", `{"new_password":"long enough"}`, 204},
		{"POST", "/" + plain + "/second-factor/remove", "", 204},
	} {
		if a := anna.want(403, tc.method, "/api/v1/users"+tc.path, tc.body); a.str("code") != "confirmation_required" {
			t.Errorf("%s", a.body)
		}
		sure := s.logIn("anna@example.com", goodPassword)
		sure.confirm()
		sure.want(tc.status, tc.method, "/api/v1/users"+tc.path, tc.body)
	}
	s.want(200, "PATCH", "/api/v1/users/"+plain, `{"role":"user"}`)
	anna.want(204, "POST", "/api/v1/users/"+plain+"/password", `{"new_password":"long enough"}`)
	anna.want(422, "PATCH", "/api/v1/users/"+plain, `{"role":"emperor"}`)
}

// TestChangesActAtOnce: what an administrator changes counts for the next request.
func TestChangesActAtOnce(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	id := anna.addUser("bob@example.com", "admin")
	bob := s.logIn("bob@example.com", goodPassword)
	bob.confirm()
	token := &person{server: s, token: bob.want(201, "POST", "/api/v1/me/tokens", `{"name":"t"}`).str("token")}
	token.want(200, "GET", "/api/v1/clients", "")
	anna.want(200, "PATCH", "/api/v1/users/"+id, `{"role":"user"}`)
	bob.want(403, "GET", "/api/v1/clients", "")
	token.want(403, "GET", "/api/v1/clients", "")
	anna.want(200, "PATCH", "/api/v1/users/"+id, `{"active":false}`)
	bob.want(401, "GET", "/api/v1/me", "")
	token.want(401, "GET", "/api/v1/me", "")
	nobody := &person{server: s}
	if a := nobody.want(403, "POST", "/api/v1/sessions", credentials("bob@example.com", goodPassword)); a.str("code") != "account_inactive" {
		t.Errorf("%s", a.body)
	}
	nobody.want(401, "POST", "/api/v1/sessions", credentials("bob@example.com", "wrong"))
	anna.want(200, "PATCH", "/api/v1/users/"+id, `{"active":true}`)
	bob.want(401, "GET", "/api/v1/me", "") // the old login stays ended
	// A password that an administrator chose must be changed before anything else.
	bob = s.logIn("bob@example.com", goodPassword)
	anna.want(204, "POST", "/api/v1/users/"+id+"/password", `{"new_password":"chosen by anna"}`)
	bob.want(401, "GET", "/api/v1/me", "")
	bob = s.logIn("bob@example.com", "chosen by anna")
	bob.want(200, "GET", "/api/v1/me", "")
	if a := bob.want(403, "GET", "/api/v1/sessions", ""); a.str("code") != "password_change_required" {
		t.Errorf("%s", a.body)
	}
	bob.want(422, "POST", "/api/v1/me/password", `{"current_password":"chosen by anna","new_password":"chosen by anna"}`)
	bob.want(204, "POST", "/api/v1/me/password", `{"current_password":"chosen by anna","new_password":"chosen by bob"}`)
	bob.want(200, "GET", "/api/v1/sessions", "")
	// The last active administrator stays, also for a certificate.
	anna.want(409, "DELETE", "/api/v1/users/1", "")
	s.want(409, "PATCH", "/api/v1/users/1", `{"role":"user"}`)
	s.want(409, "DELETE", "/api/v1/users/1", "")
	anna.want(204, "DELETE", "/api/v1/users/"+id, "")
	bob.want(401, "GET", "/api/v1/me", "")
	list := s.want(200, "GET", "/api/v1/audit?limit=500", "")
	for _, event := range []string{"user_created", "user_role_updated", "user_status_updated", "user_password_changed", "user_deleted", "api_token_created"} {
		if !strings.Contains(list.body, `"event_type":"`+event+`"`) {
			t.Errorf("the audit log has no %s", event)
		}
	}
}

func TestSecondFactor(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	if a := anna.want(403, "POST", "/api/v1/me/second-factor", ""); a.str("code") != "confirmation_required" {
		t.Errorf("%s", a.body)
	}
	anna.confirm()
	secret := anna.want(200, "POST", "/api/v1/me/second-factor", "").str("secret")
	code := func() string {
		c, err := totp.GenerateCode(secret, s.now())
		s.must(err)
		return c
	}
	s.logIn("anna@example.com", goodPassword) // it is not in force yet
	first := code()
	confirmed := anna.want(200, "POST", "/api/v1/me/second-factor/confirm", toJSON(map[string]string{"code": first}))
	codes, _ := confirmed.m["recovery_codes"].([]any)
	if len(codes) != 10 {
		t.Fatalf("%s", confirmed.body)
	}
	anna.want(409, "POST", "/api/v1/me/second-factor", "")
	try := func(status int, code string) {
		t.Helper()
		a := anna.want(status, "POST", "/api/v1/sessions", toJSON(map[string]string{"email": "anna@example.com", "password": goodPassword, "code": code}))
		if status == 401 && a.str("code") != "second_factor_required" {
			t.Errorf("%s", a.body)
		}
	}
	try(401, "")
	if n := len(s.want(200, "GET", "/api/v1/audit?event_type=user_login_failed", "").items()); n != 0 {
		t.Errorf("%d failed logins are on record, and only the code is missing", n)
	}
	try(401, first) // it was used to confirm
	s.pass(30 * time.Second)
	used := code()
	try(201, used)
	try(401, used)
	s.pass(30 * time.Second)
	try(201, code()) // a right one makes up for the failures before it
	s.pass(-30 * time.Second)
	try(401, code()) // earlier than the last one
	s.pass(10 * time.Minute)
	try(201, fmt.Sprint(codes[0]))
	try(401, fmt.Sprint(codes[0]))
	try(201, strings.ToUpper(strings.ReplaceAll(fmt.Sprint(codes[1]), "-", " ")))
	for range 5 {
		try(401, "000000")
	}
	try(429, code())
	s.pass(15 * time.Minute)

	// The password may be given first, and the code later.
	begin := func() string {
		return anna.want(401, "POST", "/api/v1/sessions", credentials("anna@example.com", goodPassword)).str("second_factor_token")
	}
	goOn := func(status int, token, code, answer string) {
		t.Helper()
		a := anna.want(status, "POST", "/api/v1/second-factor", toJSON(map[string]string{"token": token, "code": code}))
		if a.str("code") != answer {
			t.Errorf("%s, want %q", a.body, answer)
		}
	}
	half := begin()
	(&person{server: s, token: half}).want(401, "GET", "/api/v1/me", "")
	goOn(401, half, "000000", "second_factor_required")
	goOn(401, half+"x", code(), "authentication_error")
	used = code()
	goOn(201, half, used, "")
	goOn(401, half, used, "second_factor_required")
	s.pass(6 * time.Minute)
	goOn(401, half, code(), "authentication_error")
	half = begin()
	for range 4 { // one was counted before
		goOn(401, half, "000000", "second_factor_required")
	}
	goOn(429, half, code(), "account_locked")
	s.pass(15 * time.Minute)
	anna = &person{server: s, token: anna.want(201, "POST", "/api/v1/sessions", toJSON(map[string]string{"email": "anna@example.com", "password": goodPassword, "code": code()})).str("token")}
	s.pass(time.Minute)
	anna.want(401, "POST", "/api/v1/sessions/current/confirm", `{"password":"`+goodPassword+`"}`)
	anna.want(204, "POST", "/api/v1/sessions/current/confirm", toJSON(map[string]string{"password": goodPassword, "code": code()}))
	anna.want(401, "POST", "/api/v1/me/second-factor/remove", `{"password":"wrong"}`)
	anna.want(401, "POST", "/api/v1/me/second-factor/remove", `{"password":"`+goodPassword+`"}`)
	s.pass(time.Minute)
	anna.want(204, "POST", "/api/v1/me/second-factor/remove", toJSON(map[string]string{"password": goodPassword, "code": code()}))
	try(201, "")
	if strings.Contains(s.log.String(), secret) {
		t.Error("the log has the secret")
	}
	// A wrong guess is on record wherever it is made, and what is no guess is not.
	failures := func() int {
		return len(s.want(200, "GET", "/api/v1/audit?event_type=user_login_failed&limit=500", "").items())
	}
	anna.want(200, "POST", "/api/v1/me/second-factor", "")
	before := failures()
	anna.want(422, "POST", "/api/v1/me/second-factor/confirm", `{"code":"abcdef"}`)
	anna.want(422, "POST", "/api/v1/me/password", `{"current_password":"wrong","new_password":"long enough"}`)
	anna.want(410, "POST", "/api/v1/passwords/reset", `{"token":"wrong","new_password":"long enough"}`)
	anna.want(410, "POST", "/api/v1/setup", `{"token":"wrong","email":"eve@example.com","password":"long enough"}`)
	anna.want(422, "POST", "/api/v1/me/password", `{"current_password":"`+goodPassword+`","new_password":"short"}`)
	if n := failures() - before; n != 4 {
		t.Errorf("%d wrong guesses are on record, want 4", n)
	}
}

func TestAPITokens(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	with := func(body string) *person {
		t.Helper()
		anna.confirm()
		return &person{server: s, token: anna.want(201, "POST", "/api/v1/me/tokens", body).str("token")}
	}
	reader, writer, all := with(`{"name":"r","scopes":["retention:read","clients:read"]}`), with(`{"name":"w","scopes":["retention:write"]}`), with(`{"name":"a"}`)
	for _, tc := range []struct {
		p                  *person
		method, path, body string
		status             int
	}{
		{reader, "GET", "/api/v1/clients", "", 200},
		{reader, "GET", "/api/v1/me", "", 200},
		{reader, "GET", "/api/v1/audit", "", 403},
		{reader, "POST", "/api/v1/retention/preview", `{"retention_days":30}`, 200},
		{reader, "POST", "/api/v1/retention/run", `{"retention_days":30}`, 403},
		{reader, "GET", "/admin/stats", "", 403}, // the design documents' paths have no tasks
		{writer, "POST", "/api/v1/retention/run", `{"retention_days":30}`, 200},
		{writer, "GET", "/api/v1/clients", "", 403},
		{all, "GET", "/api/v1/audit", "", 200},
		{all, "GET", "/admin/stats", "", 200},
		{all, "GET", "/api/v1/users", "", 200},
		// What needs a person.
		{all, "POST", "/api/v1/me/tokens", `{"name":"more"}`, 403},
		{all, "POST", "/api/v1/me/password", `{"current_password":"` + goodPassword + `","new_password":"long enough"}`, 403},
		{all, "GET", "/api/v1/sessions", "", 403},
		{all, "POST", "/api/v1/me/second-factor", "", 403},
	} {
		tc.p.want(tc.status, tc.method, tc.path, tc.body)
	}
	list := anna.want(200, "GET", "/api/v1/me/tokens", "")
	if n := strings.Count(list.body, `"last_used"`); n != 3 || strings.Contains(list.body, all.token) {
		t.Errorf("%s", list.body)
	}
	short := with(toJSON(map[string]any{"name": "short", "expires_at": s.now().Add(time.Hour)}))
	short.want(200, "GET", "/api/v1/me", "")
	s.pass(time.Hour)
	short.want(401, "GET", "/api/v1/me", "")
	anna = s.logIn("anna@example.com", goodPassword)
	anna.confirm()
	anna.want(422, "POST", "/api/v1/me/tokens", toJSON(map[string]any{"name": "late", "expires_at": s.now()}))
	id := anna.addUser("bob@example.com", "admin")
	bob := s.logIn("bob@example.com", goodPassword)
	bob.want(404, "DELETE", "/api/v1/me/tokens/1", "") // somebody else's
	anna.want(204, "DELETE", "/api/v1/me/tokens/1", "")
	reader.want(401, "GET", "/api/v1/me", "")
	for range 17 {
		with(`{"name":"x"}`)
	}
	anna.want(409, "POST", "/api/v1/me/tokens", `{"name":"one too many"}`)
	anna.want(204, "DELETE", "/api/v1/users/"+id, "")
}

func TestPasswordReset(t *testing.T) {
	s := newServer(t, nil)
	anna := s.firstAdmin()
	nobody := &person{server: s}
	forgot := func(email string) {
		nobody.want(202, "POST", "/api/v1/passwords/forgot", toJSON(map[string]string{"email": email}))
	}
	link := func() string {
		t.Helper()
		select {
		case sent := <-s.resets:
			if sent[0] != "anna@example.com" {
				t.Errorf("sent to %s", sent[0])
			}
			return sent[1]
		case <-time.After(20 * time.Second):
			t.Fatal("no mail")
			return ""
		}
	}
	set := func(status int, token, password string) {
		t.Helper()
		nobody.want(status, "POST", "/api/v1/passwords/reset", toJSON(map[string]string{"token": token, "new_password": password}))
	}
	forgot("nobody@example.com")
	forgot("ANNA@example.com")
	first := link()
	forgot("anna@example.com")
	second := link()
	check := func(status int, token string) {
		t.Helper()
		nobody.want(status, "POST", "/api/v1/passwords/reset/check", toJSON(map[string]string{"token": token}))
	}
	check(204, first)
	check(410, second+"x")
	check(204, second)
	set(422, second, "short")
	set(422, second, "AdminPass123!") // everybody can know it
	set(410, second+"x", "long enough 1")
	set(410, "", "long enough 1")
	set(204, second, "long enough 1")
	anna.want(401, "GET", "/api/v1/me", "")
	set(410, second, "long enough 2") // once only
	set(410, first, "long enough 2")  // and the others go with it
	check(410, first)
	check(410, second)
	nobody.want(401, "POST", "/api/v1/sessions", credentials("anna@example.com", goodPassword))
	s.logIn("anna@example.com", "long enough 1")
	forgot("anna@example.com")
	third := link()
	s.pass(61 * time.Minute)
	check(410, third)
	set(410, third, "long enough 2")
	forgot("anna@example.com")
	fourth := link()
	set(204, fourth, "long enough 2")
	nobody.want(422, "POST", "/api/v1/passwords/forgot", `{"email":"anna"}`)
	list := s.want(200, "GET", "/api/v1/audit?limit=500", "")
	if n := strings.Count(list.body, `"password_reset_request"`); n != 4 || strings.Count(list.body, `"password_reset_confirm"`) != 2 || strings.Contains(list.body+s.log.String(), first) {
		t.Errorf("%d requests on record\n%.300s", n, list.body)
	}
	// An inactive account gets none.
	id := s.logIn("anna@example.com", "long enough 2").addUser("bob@example.com", "user")
	s.want(200, "PATCH", "/api/v1/users/"+id, `{"active":false}`)
	forgot("bob@example.com")
	for range 2 {
		forgot("anna@example.com")
		link()
	}
	forgot("anna@example.com") // the fourth within an hour is not sent
	select {
	case sent := <-s.resets:
		t.Errorf("%v", sent)
	default:
	}
}
