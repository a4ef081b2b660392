package mainserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// member makes an account of a role and a client, who is logged in.
func (s *server) member(role sealmq.Role, client string) *person {
	s.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(goodPassword), bcrypt.MinCost)
	s.must(err)
	email := fmt.Sprintf("%s-%s@example.com", role, client)
	if client != strings.ToLower(client) { // addresses do not differ by case
		email = "capital-" + strings.ToLower(email)
	}
	_, err = s.store.AddUser(s.Context(), accounts.User{Email: email, Name: string(role), Role: role, ClientID: client, Active: true, PasswordHash: string(hash), CreatedAt: s.now(), UpdatedAt: s.now()})
	s.must(err)
	return s.logIn(email, goodPassword)
}

// TestWhoSeesWhichMessages is specification 7.6, row by row: which messages a role finds, and
// whether with the text.
func TestWhoSeesWhichMessages(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1", "m-2")
	s.register("other", "m-3")
	const own, foreign = "/api/v1/clients/acme-01/messages/m-1", "/api/v1/clients/other/messages/m-3"
	for _, tc := range []struct {
		role              sealmq.Role
		client            string
		listed            int
		own, foreign      int // statuses of a message without its text
		ownText, foreText int
		portal            int // of the alias's detail of its own message
	}{
		{accounts.Admin, "", 3, 200, 200, 200, 200, 200},
		{accounts.Operator, "", 3, 200, 200, 403, 403, 200},
		{accounts.UserManager, "acme-01", 2, 200, 404, 200, 404, 200},
		{accounts.UserManager, "", 0, 404, 404, 404, 404, 404},
		{accounts.Plain, "acme-01", 2, 200, 404, 200, 404, 200},
		{accounts.Plain, "ACME-01", 0, 404, 404, 404, 404, 404},
		{accounts.Plain, "", 0, 404, 404, 404, 404, 404},
	} {
		who := fmt.Sprintf("%s of %q", tc.role, tc.client)
		p := s.member(tc.role, tc.client)
		for _, list := range []answer{
			p.want(200, "GET", "/api/v1/messages", ""), p.want(200, "POST", "/api/v1/messages/search", `{"sender_number":"+4915200000000"}`),
		} {
			total, _ := list.m["total"].(map[string]any)
			if len(list.items()) != tc.listed || total["count"] != float64(tc.listed) || strings.Contains(list.body, secretText) {
				t.Errorf("%s: %s", who, list.body)
			}
		}
		if a := p.want(200, "GET", "/api/v1/messages?client_id=other", ""); (len(a.items()) > 0) != (tc.foreign == 200) {
			t.Errorf("%s: another's list: %s", who, a.body)
		}
		for path, status := range map[string]int{own: tc.own, own + "/timeline": tc.own, own + "/content": tc.ownText,
			foreign: tc.foreign, foreign + "/timeline": tc.foreign, foreign + "/content": tc.foreText, "/portal/messages/m-1": tc.portal} {
			a := p.want(status, "GET", path, "")
			text := status == 200 && (strings.HasSuffix(path, "/content") || path == "/portal/messages/m-1" && tc.role != accounts.Operator)
			if strings.Contains(a.body, secretText) != text {
				t.Errorf("%s: %s: %s", who, path, a.body)
			}
		}
		for path, body := range map[string]string{own + "/retry": "", retryJobs: "{}"} {
			if a := p.ask("POST", path, body); (a.StatusCode == http.StatusForbidden) == (tc.role == accounts.Admin) {
				t.Errorf("%s: %s: %d", who, path, a.StatusCode)
			}
		}
		old := p.want(200, "GET", "/portal/messages", "")
		if n := strings.Count(old.body, `"message_id"`); n != tc.listed || old.Header.Get("X-Total-Count") != fmt.Sprint(tc.listed) || strings.Contains(old.body, secretText) != (tc.role == accounts.Admin) {
			t.Errorf("%s: %s", who, old.body)
		}
	}
	// Each look at a text is on record, with the account that looked.
	list := s.want(200, "GET", "/api/v1/audit?event_type=message_viewed&limit=500", "")
	seen := map[string]int{}
	for _, e := range list.items() {
		seen[fmt.Sprint(e["actor"])]++
	}
	if seen["admin-@example.com"] != 6 || seen["user-acme-01@example.com"] != 2 || seen["operator-@example.com"] != 0 {
		t.Errorf("%v", seen)
	}
}

// TestAliasOfMessages: the list of the design documents.
func TestAliasOfMessages(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-10001", "m-10002", "m-10003")
	s.fail("other", "m-20001")
	p := s.member(accounts.Operator, "")
	for query, ids := range map[string]string{
		"": "m-20001 m-10003 m-10002 m-10001", "?skip=1&limit=2": "m-10003 m-10002", "?status_filter=failed": "m-20001", "?status=all&client_id=acme-01": "m-10003 m-10002 m-10001",
		"?search=%2B49+1520-0000000": "m-20001 m-10003 m-10002 m-10001", "?search=4915200000009": "", "?message_id=m-1000": "m-10003 m-10002 m-10001", "?domain=other": "",
		"?from_date=2001-01-01&to_date=2002-01-01": "", "?skip=10": "",
	} {
		a := p.want(200, "GET", "/portal/messages"+query, "")
		at := -1
		for id := range strings.FieldsSeq(ids) {
			next := strings.Index(a.body, id)
			if next <= at {
				t.Errorf("%s: %s", query, a.body)
			}
			at = next
		}
		if n := strings.Count(a.body, `"message_id"`); n != len(strings.Fields(ids)) || !strings.HasPrefix(a.body, "[") {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	a := p.want(200, "GET", "/portal/messages?page=2&per_page=3", "")
	pages, _ := a.m["pagination"].(map[string]any)
	if fmt.Sprint(pages) != "map[page:2 pages:2 per_page:3 total:4]" || strings.Count(a.body, `"message_id"`) != 1 {
		t.Errorf("%s", a.body)
	}
	for _, query := range []string{"?status=lost", "?limit=0", "?limit=501", "?search=x", "?message_id=abc", "?from_date=yesterday", "?skip=10001", "?page=10000"} {
		p.want(422, "GET", "/portal/messages"+query, "")
	}
}
