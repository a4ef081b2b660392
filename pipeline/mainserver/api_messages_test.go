package mainserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/seal"
)

// TestItemsThatWait: an item for another key stays in the queue, and health says that something is
// to be repaired.
func TestItemsThatWait(t *testing.T) {
	s := newServer(t, nil)
	other, err := seal.Generate(seal.DefaultSuite, 0)
	s.must(err)
	s.must(s.sealer.SetReceivers([]seal.Receiver{{Name: ca.ServerName, Key: other.Public()}}))
	a := s.ask(s.as(sealmq.RoleWorker), "POST", "/api/v1/internal/messages/deliver", toJSON(map[string]any{"worker_id": "w", "messages": []pipeline.Item{s.item("acme-01", "m-1")}}))
	if a.StatusCode != 200 || !strings.Contains(a.body, `"status":"unavailable"`) {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := s.ask(s.as(""), "GET", "/health", ""); a.StatusCode != 200 || a.str("status") != "degraded" || !strings.Contains(a.body, "messages wait in the queue until something is repaired: the envelope was not sealed for this key") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestMessagesAreListedAndSearched(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1", "m-2", "m-3")
	s.register("Acme-01", "m-1")
	first := s.want(200, "GET", "/api/v1/messages?limit=3", "")
	if len(first.items()) != 3 || first.str("next_cursor") == "" || !strings.Contains(first.body, `"total":{"count":4,"exact":true}`) {
		t.Errorf("%s", first.body)
	}
	rest := s.want(200, "GET", "/api/v1/messages?limit=3&cursor="+first.str("next_cursor"), "")
	if len(rest.items()) != 1 || rest.str("next_cursor") != "" {
		t.Errorf("%s", rest.body)
	}
	for _, a := range []answer{first, rest, s.want(200, "GET", "/api/v1/clients/acme-01/messages/m-1", "")} {
		if strings.Contains(a.body, secretText) || strings.Contains(a.body, secretNumber) || strings.Contains(a.body, "message_body") {
			t.Errorf("number or text is shown: %s", a.body)
		}
	}
	for _, tc := range []struct {
		body string
		n    int
	}{
		{`{"sender_number":"+4915200000000"}`, 4},
		{`{"sender_number":" 49152-0000 0000"}`, 4},
		{`{"sender_number":"+4915200000001"}`, 0},
		{`{"sender_number":"+4915200000000","client_id":"Acme-01"}`, 1},
		{`{"client_id":"ACME-01"}`, 0},
		{`{"client_id":"acme-01 "}`, 0},
		{`{"client_id":"' OR '1'='1"}`, 0},
		{`{"message_id":"m-1' OR 1=1"}`, 0},
		{`{"status":"delivered"}`, 0},
		{`{}`, 4},
	} {
		if a := s.want(200, "POST", "/api/v1/messages/search", tc.body); len(a.items()) != tc.n {
			t.Errorf("%s: %d messages, want %d", tc.body, len(a.items()), tc.n)
		}
	}
	// What a search hands out stands for the number in addresses, with any other filter.
	searched := s.want(200, "POST", "/api/v1/messages/search", `{"sender_number":"+4915200000000","limit":1}`)
	token := searched.str("number_token")
	for query, n := range map[string]int{"": 4, "&client_id=Acme-01": 1, "&status=failed": 0, "&limit=2": 2} {
		if a := s.want(200, "GET", "/api/v1/messages?number_token="+token+query, ""); len(a.items()) != n || a.str("number_token") != "" {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	s.want(422, "GET", "/api/v1/messages?number_token="+token+"A", "")
	if log := s.log.String(); strings.Contains(log, "49152") || strings.Contains(log, token) {
		t.Error("the log shows a number or its token")
	}
	if a := s.want(200, "GET", "/api/v1/clients/acme-01", ""); a.m["messages"] != float64(3) || a.str("last_message_at") == "" {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/api/v1/clients?limit=1", ""); len(a.items()) != 1 || a.str("next_cursor") != "Acme-01" {
		t.Errorf("%s", a.body)
	}
}

// TestReadingIsOnRecord: who reads a text is in the audit before the text is shown.
func TestReadingIsOnRecord(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1")
	a := s.want(200, "GET", "/api/v1/clients/acme-01/messages/m-1/content", "", "X-Request-ID", "my-request")
	if a.str("message_body") != secretText || a.Header.Get("Cache-Control") != "no-store" || fmt.Sprint(a.m["metadata"]) != "map[k:v]" {
		t.Errorf("%s", a.body)
	}
	s.want(404, "GET", "/api/v1/clients/ACME-01/messages/m-1/content", "")
	s.want(404, "GET", "/api/v1/clients/acme-01%20/messages/m-1/content", "")
	s.want(422, "GET", "/api/v1/clients/%ff/messages/m-1", "")
	s.want(422, "GET", "/api/v1/clients/acme-01/messages/a%20b", "")
	list := s.want(200, "GET", "/api/v1/audit?event_type=message_viewed&actor=admin-test&client_id=acme-01", "")
	entries := list.items()
	if len(entries) != 1 || entries[0]["request_id"] != "my-request" || entries[0]["ip_address"] != "127.0.0.1" || entries[0]["actor"] != "admin-test" {
		t.Errorf("%s", list.body)
	}
	if other := s.want(200, "GET", "/api/v1/audit?actor=somebody", ""); len(other.items()) != 0 {
		t.Errorf("%s", other.body)
	}
	s.audit.mu.Lock()
	defer s.audit.mu.Unlock()
	if len(s.audit.list) != 1 || s.audit.list[0].Command != "message_viewed" || s.audit.list[0].Identity.ID != "admin-test" || s.audit.list[0].Object != "acme-01/m-1" {
		t.Errorf("%+v", s.audit.list)
	}
	if log := s.log.String(); strings.Contains(log, secretText) || strings.Contains(log, secretNumber) {
		t.Error("the log shows a text or a number")
	}
}

// TestActsAreOnRecord: every administrative act is in the audit.
func TestActsAreOnRecord(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	s.fail("acme-01", "f-2")
	c := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.want(201, "POST", "/api/v1/certificates/"+c.str("fingerprint")+"/renew", `{}`)
	s.want(200, "POST", "/api/v1/certificates/"+c.str("fingerprint")+"/revoke", `{}`)
	s.want(200, "PATCH", "/api/v1/clients/acme-01", `{"domain":"shop"}`)
	s.want(200, "POST", "/api/v1/clients/acme-01/messages/f-1/retry", "")
	s.want(200, "POST", "/api/v1/queue/dead/requeue", `{"items":[{"message_id":"f-2","client_id":"acme-01"}]}`)
	s.want(200, "POST", "/api/v1/retention/run", `{"retention_days":30}`)
	list := s.want(200, "GET", "/api/v1/audit", "")
	var events []string
	for _, e := range list.items() {
		if e["event_type"] != "client_auto_registered" {
			events = append(events, fmt.Sprint(e["event_type"]))
		}
	}
	want := "data_cleanup queue_requeued message_retried client_updated certificate_revoked certificate_renewed certificate_generated"
	if got := strings.Join(events, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if strings.Contains(list.body, "PRIVATE") {
		t.Error("the audit has a key")
	}
	page := s.want(200, "GET", "/api/v1/audit?limit=2", "")
	if next := s.want(200, "GET", "/api/v1/audit?limit=2&cursor="+page.str("next_cursor"), ""); len(next.items()) != 2 || strings.Contains(next.body, "data_cleanup") {
		t.Errorf("%s", next.body)
	}
}

// TestRetryNeedsItsItem: a row is queued again only together with an item of the queue.
func TestRetryNeedsItsItem(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	s.queue.set(func() { s.queue.dead = nil })
	s.want(409, "POST", "/api/v1/clients/acme-01/messages/f-1/retry", "")
	s.queue.set(func() { s.queue.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue does not answer"} })
	s.want(503, "POST", "/api/v1/clients/acme-01/messages/f-1/retry", "")
	s.want(503, "GET", "/api/v1/queue", "")
	s.want(200, "GET", "/api/v1/statistics", "")
	if r, err := s.store.Get(t.Context(), "acme-01", "f-1"); err != nil || r.State != pipeline.Failed {
		t.Errorf("%+v, error %v", r, err)
	}
	if a := s.want(200, "GET", "/health", ""); a.str("status") != "degraded" {
		t.Errorf("%s", a.body)
	}
}

// TestRequeueNeedsItsItems: no row is queued again whose item may be missing.
func TestRequeueNeedsItsItems(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	s.fail("acme-01", "f-2")
	s.queue.set(func() { s.queue.dead = s.queue.dead[1:] })
	a := s.want(200, "POST", "/api/v1/queue/dead/requeue", `{"items":[{"message_id":"f-1","client_id":"acme-01"},{"message_id":"f-2","client_id":"acme-01"}]}`)
	if a.m["requeued"] != 1.0 {
		t.Errorf("%s", a.body)
	}
	if r, err := s.store.Get(t.Context(), "acme-01", "f-1"); err != nil || r.State != pipeline.Failed {
		t.Errorf("%s, error %v", r.State, err)
	}
}

// TestDatabaseAway: what needs the database is answered with 503, and nothing says why in
// its words.
func TestDatabaseAway(t *testing.T) {
	t.Run("service", testServiceDatabaseAway)
	s := startServer(t, true, nil)
	for _, role := range []sealmq.Role{"proxy", "worker", "admin"} {
		s.as(role)
	}
	item := toJSON(s.item("acme-01", "m-1"))
	s.must(s.store.Close())
	before, err := s.authority.History()
	s.must(err)
	for _, tc := range []struct {
		role               sealmq.Role
		method, path, body string
	}{
		{"proxy", "POST", "/api/v1/internal/messages/register", `{"messages":[` + item + `]}`},
		{"worker", "POST", "/api/v1/internal/messages/deliver", `{"worker_id":"w","messages":[` + item + `]}`},
		{"worker", "POST", "/api/v1/internal/messages/status", `{"updates":[{"message_id":"m","status":"failed"}]}`},
		{"proxy", "GET", "/api/v1/internal/clients/acme-01/messages/m", ""},
		{"admin", "GET", "/api/v1/messages", ""},
		{"admin", "POST", "/api/v1/messages/search", `{"sender_number":"+4915200000000"}`},
		{"admin", "GET", "/api/v1/clients", ""},
		{"admin", "GET", "/api/v1/clients/acme-01", ""},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/m/content", ""},
		{"admin", "POST", "/api/v1/certificates", `{"client_id":"acme-09"}`},
		{"admin", "GET", "/api/v1/audit", ""},
		{"admin", "GET", "/api/v1/statistics", ""},
		{"admin", "POST", "/api/v1/retention/run", `{"retention_days":30}`},
		{"proxy", "POST", "/register", clearMessage("m-9")},
		{"admin", "GET", "/admin/stats", ""},
		{"", "GET", "/health", ""},
	} {
		a := s.ask(s.as(tc.role), tc.method, tc.path, tc.body)
		if a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.StatusCode, a.body)
		}
		for _, leak := range []string{"sql", "SELECT", "INSERT", s.dir, ".db", secretText, "4915200"} {
			if strings.Contains(a.body, leak) {
				t.Errorf("%s %s shows %s: %s", tc.method, tc.path, leak, a.body)
			}
		}
	}
	if after, err := s.authority.History(); err != nil || len(after) != len(before) {
		t.Errorf("a certificate was issued although the database is away; error %v", err)
	}
	s.want(200, "GET", "/api/v1/certificates", "")
}

// TestBadRequests: whatever is sent, the answer is an error of the caller's and repeats
// nothing.
func TestBadRequests(t *testing.T) {
	s := newServer(t, nil)
	const attack = `<script>'; DROP TABLE messages;--`
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/api/v1/messages?limit=abc" + "%3Cscript%3E", "", 422},
		{"GET", "/api/v1/messages?limit=501", "", 422},
		{"GET", "/api/v1/messages?status=%3Cscript%3E", "", 422},
		{"GET", "/api/v1/messages?from=yesterday%3Cscript%3E", "", 422},
		{"GET", "/api/v1/messages?cursor=DROP", "", 422},
		{"GET", "/api/v1/messages?message_id=ab", "", 422},
		{"GET", "/api/v1/messages?client_id=%ff", "", 422},
		{"GET", "/api/v1/messages?client_id=" + strings.Repeat("x", 256), "", 422},
		{"GET", "/api/v1/messages?client_id=%27%3B+DROP+TABLE", "", 200},
		{"GET", "/api/v1/messages?from=0545-11-01T21:22:02Z&to=9999-12-31T23:59:59Z", "", 200},
		{"GET", "/api/v1/audit?from=0545-11-01T21:22:02Z&to=9999-12-31T23:59:59Z", "", 200},
		{"POST", "/api/v1/messages/search", `{"client_id":["` + attack + `"]}`, 422},
		{"POST", "/api/v1/messages/search", `{"sender_number":"` + attack + `"}`, 422},
		{"POST", "/api/v1/messages/search", "{\"client_id\":\"\xff\"}", 422},
		{"POST", "/api/v1/messages/search", `{"from":"` + attack + `"}`, 422},
		{"POST", "/api/v1/messages/search", `{"limit":1e99}`, 422},
		{"POST", "/api/v1/messages/search", `"` + attack + `"`, 422},
		{"POST", "/api/v1/messages/search", strings.Repeat("[", 100), 422},
		{"POST", "/api/v1/messages/search", strings.Repeat(" ", 70_000), 413},
		{"POST", "/api/v1/certificates", `{"client_id":"` + attack + `"}`, 422},
		{"POST", "/api/v1/certificates", `{"client_id":7}`, 422},
		{"GET", "/api/v1/certificates/DROP", "", 422},
		{"GET", "/api/v1/certificates?role=DROP", "", 422},
		{"GET", "/api/v1/audit?severity=DROP", "", 422},
		{"GET", "/api/v1/audit?cursor=DROP", "", 422},
		{"GET", "/api/v1/statistics?domain=%3Cscript%3E", "", 422},
		{"GET", "/api/v1/clients/" + "%3Cscript%3E", "", 404},
		{"PATCH", "/api/v1/clients/acme", `{"domain":"` + attack + `"}`, 422},
		{"POST", "/api/v1/clients/acme/revoke", `{"reason":7}`, 422},
		{"POST", "/api/v1/queue/dead/requeue", `{"items":[{"message_id":""}]}`, 422},
		{"POST", "/api/v1/retention/run", `{"retention_days":"30"}`, 422},
		{"POST", "/api/v1/retention/run", `{"retention_days":29.5}`, 422},
		{"POST", "/api/v1/retention/run", ``, 422},
		{"DELETE", "/api/v1/retention/run", ``, 405},
		{"GET", "/api/v1/nothing", ``, 404},
	} {
		a := s.want(tc.status, tc.method, tc.path, tc.body)
		for _, leak := range []string{"script", "DROP", s.dir} {
			if strings.Contains(a.body, leak) {
				t.Errorf("%s %s: the answer shows %s: %s", tc.method, tc.path, leak, a.body)
			}
		}
	}
	form := s.want(415, "POST", "/api/v1/messages/search", `{}`, "Content-Type", "text/plain")
	if form.str("code") != "unsupported_media_type" {
		t.Errorf("%s", form.body)
	}
}

// TestClientLabelsAreBounded: a proxy with many clients makes no metric without end.
func TestClientLabelsAreBounded(t *testing.T) {
	s := newServer(t, nil)
	var items []pipeline.Item
	for i := range 230 {
		items = append(items, s.item(fmt.Sprintf("client-%d", i), "m-1"))
	}
	if a := s.ask(s.as("proxy"), "POST", "/api/v1/internal/messages/register", toJSON(map[string]any{"messages": items})); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	body := s.ask(s.as(""), "GET", "/metrics", "").body
	if n := strings.Count(body, "main_server_messages_registered_total{"); n != 201 || !strings.Contains(body, `main_server_messages_registered_total{client_id="other"} 30`) {
		t.Errorf("%d series", n)
	}
}
