package mainserver_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

func clearMessage(id string) string {
	return fmt.Sprintf(`{"message_id":%q,"client_id":"acme-01","sender_number":%q,"message_body":%q,"queued_at":"2026-03-01T08:15:30","domain":"default","metadata":{"test":true}}`,
		id, secretNumber, secretText)
}

// as asks as a role and expects a status.
func (s *server) asRole(role sealmq.Role, status int, method, path, body string) answer {
	s.Helper()
	a := s.ask(s.as(role), method, path, body)
	if a.StatusCode != status {
		s.Errorf("%s %s %s as %s: %d, want %d\n%s", method, path, body, role, a.StatusCode, status, a.body)
	}
	return a
}

// TestAliasesOfMessages: register, change and deliver in the design documents' form.
func TestAliasesOfMessages(t *testing.T) {
	s := startServer(t, true, nil)
	a := s.asRole("proxy", 200, "POST", "/register", clearMessage("test_1764309547"))
	if a.str("status") != "success" || a.m["id"] == nil || a.str("registered_at") == "" || a.m["duplicate"] != nil {
		t.Errorf("%s", a.body)
	}
	if a = s.asRole("proxy", 200, "POST", "/internal/messages/register", clearMessage("test_1764309547")); a.m["duplicate"] != true {
		t.Errorf("%s", a.body)
	}
	other := strings.Replace(clearMessage("test_1764309547"), secretText, "another text", 1)
	if a = s.asRole("worker", 409, "POST", "/register", other); a.str("error") != "conflict" {
		t.Errorf("%s", a.body)
	}
	r, err := s.store.Get(t.Context(), "acme-01", "test_1764309547")
	if err != nil || r.Sealed || r.Body != secretText || string(r.Metadata) != `{"test":true}` {
		t.Errorf("%+v, error %v", r, err)
	}
	if a = s.asRole("worker", 200, "POST", "/status_update", `{"message_id":"test_1764309547","status":"processing"}`); a.m["applied"] != true {
		t.Errorf("%s", a.body)
	}
	s.asRole("worker", 200, "PUT", "/internal/messages/test_1764309547/status", `{"status":"queued","attempt_count":1,"error_message":"no answer"}`)
	a = s.asRole("worker", 200, "POST", "/internal/messages/deliver", `{"message_id":"test_1764309547","worker_id":"w-1"}`)
	first := a.str("delivered_at")
	if first == "" || a.m["already"] != nil {
		t.Errorf("%s", a.body)
	}
	if a = s.asRole("worker", 200, "POST", "/internal/messages/deliver", `{"message_id":"test_1764309547","worker_id":"w-1"}`); a.m["already"] != true || a.str("delivered_at") != first {
		t.Errorf("%s", a.body)
	}
	if a = s.asRole("worker", 200, "POST", "/status_update", `{"message_id":"test_1764309547","status":"queued"}`); a.m["applied"] != false || a.str("current_status") != "delivered" {
		t.Errorf("%s", a.body)
	}
	// A row that is missing is made from the payload.
	whole := strings.TrimSuffix(clearMessage("healed"), "}") + `,"worker_id":"w-1","attempt_count":2}`
	s.asRole("worker", 200, "POST", "/internal/messages/deliver", whole)
	if r, err = s.store.Get(t.Context(), "acme-01", "healed"); err != nil || r.State != "delivered" || r.Attempts != 2 {
		t.Errorf("%+v, error %v", r, err)
	}
	if a = s.asRole("worker", 404, "POST", "/internal/messages/deliver", `{"message_id":"none","worker_id":"w-1"}`); a.str("message") != "Message not found: none" {
		t.Errorf("%s", a.body)
	}
	s.asRole("worker", 404, "POST", "/status_update", `{"message_id":"none","status":"failed"}`)
	batch := `{"messages":[` + clearMessage("b-1") + `,` + clearMessage("healed") + `,{"message_id":"b-2"},7,` + toJSON(s.item("acme-01", "sealed-1")) + `]}`
	a = s.asRole("proxy", 200, "POST", "/internal/messages/register/batch", batch)
	s.outcomes(a, "registered", "duplicate", "invalid", "invalid", "registered")
	a = s.asRole("worker", 200, "POST", "/internal/messages/deliver/batch", `{"worker_id":"w-1","messages":[{"message_id":"b-1"},{"message_id":"healed"},{"message_id":"none"},`+clearMessage("b-3")+`]}`)
	s.outcomes(a, "delivered", "already", "not_found", "delivered")
}

// TestAliasesTakeNothingInClear: a proxy that does not seal is refused, whatever it shows,
// unless the setting lets it in.
func TestAliasesTakeNothingInClear(t *testing.T) {
	s := newServer(t, nil)
	whole := strings.TrimSuffix(clearMessage("c-2"), "}") + `,"worker_id":"w-1"}`
	for _, a := range []answer{s.asRole("proxy", 422, "POST", "/register", clearMessage("c-1")), s.asRole("worker", 422, "POST", "/internal/messages/deliver", whole)} {
		if a.str("error") != "validation_error" || !strings.Contains(a.body, "main.unsealed") {
			t.Errorf("%s", a.body)
		}
	}
	s.outcomes(s.asRole("proxy", 200, "POST", "/internal/messages/register/batch", `{"messages":[`+clearMessage("c-3")+`,`+toJSON(s.item("acme-01", "sealed-1"))+`]}`), "invalid", "registered")
	s.outcomes(s.asRole("worker", 200, "POST", "/internal/messages/deliver/batch", `{"worker_id":"w-1","messages":[`+clearMessage("c-4")+`]}`), "invalid")
}

func (s *server) outcomes(a answer, want ...string) {
	s.Helper()
	list, _ := a.m["results"].([]any)
	if len(list) != len(want) {
		s.Fatalf("%s", a.body)
	}
	for i, v := range list {
		if m, _ := v.(map[string]any); m["status"] != want[i] {
			s.Errorf("entry %d: %v, want %s", i, m, want[i])
		}
	}
}

// TestAliasesRefuse: bad values have the documents' form of errors, and are not repeated.
func TestAliasesRefuse(t *testing.T) {
	s := newServer(t, nil)
	const script = `<script>alert(1)</script>'; DROP TABLE messages;--`
	for _, tc := range []struct {
		method, path, body string
		status             int
		field              string
	}{
		{"POST", "/register", `{}`, 422, "message_id"},
		{"POST", "/register", strings.Replace(clearMessage("m"), secretNumber, "+123", 1), 422, "sender_number"},
		{"POST", "/register", strings.Replace(clearMessage("m"), `"`+secretNumber+`"`, "4915200000000", 1), 422, "sender_number"},
		{"POST", "/register", strings.Replace(clearMessage("m"), secretNumber, script, 1), 422, "sender_number"},
		{"POST", "/register", clearMessage(script), 422, "message_id"},
		{"POST", "/register", strings.Replace(clearMessage("m"), secretText, "  ", 1), 422, "message_body"},
		{"POST", "/register", strings.Replace(clearMessage("m"), secretText, strings.Repeat("x", 1001), 1), 422, "message_body"},
		{"POST", "/register", strings.Replace(clearMessage("m"), "acme-01", "acme-01 ", 1), 422, ""},
		{"POST", "/register", strings.Replace(clearMessage("m"), "2026-03-01T08:15:30", "yesterday", 1), 422, "queued_at"},
		{"POST", "/register", strings.Replace(clearMessage("m"), `{"test":true}`, `[]`, 1), 422, "metadata"},
		{"POST", "/register", strings.Replace(clearMessage("m"), secretText, "\xff", 1), 422, ""},
		{"POST", "/register", `[1,2`, 422, ""},
		{"POST", "/register", `[]`, 422, ""},
		{"POST", "/status_update", `{"message_id":"m","status":"lost"}`, 422, "status"},
		{"POST", "/status_update", `{"message_id":"m","status":"queued","attempt_count":-1}`, 422, "attempt_count"},
		{"PUT", "/internal/messages/m/status", `{"status":"queued"}`, 422, "attempt_count"},
		{"POST", "/internal/messages/deliver", `{"message_id":"m"}`, 422, "worker_id"},
		{"POST", "/internal/messages/deliver/batch", `{"worker_id":"w","messages":[]}`, 422, "messages"},
		{"GET", "/internal/revocations?since=-1", "", 422, "since"},
	} {
		a := s.ask(s.as(sealmq.RoleWorker), tc.method, tc.path, tc.body)
		details, _ := a.m["details"].(map[string]any)
		if a.StatusCode != tc.status || a.str("error") != "validation_error" || tc.field != "" && details["field"] != tc.field {
			t.Errorf("%s %s: %d %s", tc.path, tc.body, a.StatusCode, a.body)
		}
		for _, leak := range []string{"DROP", "script", secretText, "4915200", "SELECT", "/tmp/"} {
			if strings.Contains(a.body, leak) {
				t.Errorf("%s %s: the answer shows %s: %s", tc.path, tc.body, leak, a.body)
			}
		}
	}
}

func TestAliasesOfCertificates(t *testing.T) {
	s := newServer(t, nil)
	a := s.want(200, "POST", "/generate_cert", `{"client_name":"worker-7","role":"worker","domain":"shop","validity_days":5}`)
	if a.str("status") != "success" || !strings.HasPrefix(a.str("fingerprint"), "SHA256:") || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s", a.body)
	}
	cert, err := tls.X509KeyPair([]byte(a.str("certificate")), []byte(a.str("private_key")))
	s.must(err)
	worker := s.with(&cert)
	if r := s.ask(worker, "GET", "/internal/revocations?since=0", ""); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if a := s.want(409, "POST", "/admin/certificates/generate", `{"cn":"worker-7","role":"worker"}`); a.str("error") != "conflict" {
		t.Errorf("%s", a.body)
	}
	s.want(422, "POST", "/generate_cert", `{"CN":"admin-9"}`)
	s.want(422, "POST", "/generate_cert", `{"CN":"a","validity_days":"7"}`)
	s.want(200, "POST", "/admin/certificates/renew", `{"client_id":"worker-7"}`)
	s.want(404, "POST", "/admin/certificates/renew", `{"client_id":"nobody"}`)
	var list []map[string]any
	s.must(json.Unmarshal([]byte(s.want(200, "GET", "/admin/certificates/list", "").body), &list))
	if len(list) < 4 {
		t.Errorf("%v", list)
	}
	s.must(json.Unmarshal([]byte(s.want(200, "GET", "/admin/certificates/expiring?days=10", "").body), &list))
	if len(list) != 0 { // it has a successor
		t.Errorf("%v", list)
	}
	if a := s.want(200, "GET", "/admin/certificates?status=all&page=1&per_page=2", ""); !strings.Contains(a.body, `"per_page":2`) {
		t.Errorf("%s", a.body)
	}
	s.want(422, "GET", "/admin/certificates?status=lost", "")
	s.want(200, "GET", "/admin/certificates/worker-7", "")
	s.want(404, "GET", "/admin/certificates/WORKER-7", "")
	if a := s.want(200, "POST", "/admin/certificates/verify", toJSON(map[string]string{"certificate": a.str("certificate")})); a.m["valid"] != true {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "POST", "/revoke_cert", `{"client_id":"worker-7"}`); a.str("certificate_status") != "revoked" || a.str("message") != "Certificate revoked for worker-7" {
		t.Errorf("%s", a.body)
	}
	if r := s.ask(worker, "GET", "/internal/revocations?since=0", ""); r.StatusCode != 403 || r.str("message") != "Client certificate has been revoked" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if a := s.want(400, "POST", "/admin/certificates/revoke", `{"cn":"worker-7"}`); a.str("message") != "Certificate already revoked for worker-7" {
		t.Errorf("%s", a.body)
	}
	s.want(404, "POST", "/revoke_cert", `{"cn":"nobody"}`)
	for _, path := range []string{"/ca.crt", "/crl", "/crl/revoked.crl"} {
		if block, _ := pem.Decode([]byte(s.ask(s.as(""), "GET", path, "").body)); block == nil {
			t.Errorf("%s is no PEM", path)
		}
	}
}

func TestAliasesOfOperations(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1")
	s.fail("acme-01", "f-1")
	s.fail("acme-01", "f-2")
	s.fail("acme-01", "f-3")
	a := s.want(200, "GET", "/admin/stats", "")
	if a.m["total_messages"] != float64(4) || a.m["messages_last_24h"] != float64(4) || a.m["total_clients"] != float64(1) {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/admin/queue", ""); a.m["dead"] != float64(3) || a.m["workers"] == nil {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/admin/db/status", ""); a.str("database_name") != "records.db" || a.m["size_mb"] == 0.0 || a.m["connection_pool"] == nil || !strings.Contains(a.body, `"messages":`) {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/admin/db/config", ""); a.str("database") != "records.db" || a.m["pool_size"] == 0.0 {
		t.Errorf("%s", a.body)
	}
	s.ask(s.as(sealmq.RoleProxy), "GET", "/api/v1/internal/revocations?since=0&node=proxy-1&roles=proxy", "")
	if a := s.want(200, "GET", "/admin/proxies/status", ""); !strings.Contains(a.body, `"url":"proxy-1","status":"online"`) {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/admin/tls/status", ""); a.m["is_valid"] != true || a.m["days_left"] == 0.0 || a.str("issuer") == "" {
		t.Errorf("%s", a.body)
	}
	s.want(200, "POST", "/admin/messages/f-1/retry", "")
	if a := s.want(200, "POST", "/admin/queue/dead/requeue", `{"message_ids":["f-2"]}`); a.m["requeued"] != float64(1) {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "POST", "/admin/queue/dead/requeue", `{"message_ids":"all"}`); a.m["requeued"] != float64(1) {
		t.Errorf("%s", a.body)
	}
	// Rows of items that were named follow at once, the others with their delivery. No item is
	// read for it: there may be millions.
	for id, state := range map[string]pipeline.State{"f-1": pipeline.Queued, "f-2": pipeline.Queued, "f-3": pipeline.Failed} {
		if r, err := s.store.Get(t.Context(), "acme-01", id); err != nil || r.State != state {
			t.Errorf("%+v, error %v", r, err)
		}
	}
	if s.queue.listed > 0 {
		t.Errorf("dead items were listed %d times", s.queue.listed)
	}
	s.want(422, "POST", "/admin/queue/dead/requeue", `{"message_ids":[]}`)
	if a := s.want(200, "POST", "/admin/data-retention/cleanup?retention_days=180", ""); a.m["deleted_count"] != float64(0) || a.str("status") != "success" {
		t.Errorf("%s", a.body)
	}
	s.want(200, "POST", "/admin/data-retention/cleanup", `{"retention_days":30}`)
	for _, bad := range []string{"?retention_days=-1", "?retention_days=29", "?retention_days=x", ""} {
		s.want(422, "POST", "/admin/data-retention/cleanup"+bad, "")
	}
	if a := s.want(200, "GET", "/admin/audit?event_type=data_cleanup", ""); !strings.Contains(a.body, `"total":2`) {
		t.Errorf("%s", a.body)
	}
	if a := s.want(200, "GET", "/", ""); a.str("service") != "Message Broker Main Server" {
		t.Errorf("%s", a.body)
	}
}

// TestAliasesAreForTheirRoles asks every alias as every role.
func TestAliasesAreForTheirRoles(t *testing.T) {
	s := newServer(t, nil)
	for _, r := range []struct{ who, routes string }{
		{"proxy worker", "POST /register, POST /internal/messages/register, POST /internal/messages/register/batch, GET /internal/revocations"},
		{"worker", "POST /status_update, PUT /status_update, PUT /internal/messages/m/status, POST /internal/messages/deliver, POST /internal/messages/deliver/batch"},
		{"admin", "POST /generate_cert, POST /admin/certificates/generate, POST /revoke_cert, POST /admin/certificates/revoke, GET /admin/certificates, " +
			"GET /admin/users, POST /admin/users, PUT /admin/users/1/role, PUT /admin/users/1/status, PUT /admin/users/1/password, PUT /admin/users/1/client, DELETE /admin/users/1, " +
			"GET /admin/certificates/list, GET /admin/certificates/expiring, GET /admin/certificates/x, POST /admin/certificates/renew, POST /admin/certificates/verify, " +
			"GET /admin/stats, GET /admin/audit, GET /admin/queue, GET /admin/db/status, GET /admin/db/config, GET /admin/tls/status, GET /admin/proxies/status, POST /admin/queue/dead/requeue, POST /admin/messages/m/retry, POST /admin/data-retention/cleanup"},
		{"nobody", "GET /portal/profile, GET /portal/activity, POST /portal/auth/logout, POST /portal/auth/change-password, POST /auth/jwt/logout"},
		{"everybody", "GET /, GET /ca.crt, GET /crl, GET /crl/revoked.crl, GET /health, GET /docs"},
	} {
		for route := range strings.SplitSeq(r.routes, ", ") {
			method, path, _ := strings.Cut(route, " ")
			for _, role := range []sealmq.Role{"", "client", "proxy", "worker", "server", "monitor", "admin"} {
				body := ""
				if method != "GET" {
					body = "{}"
				}
				a := s.ask(s.as(role), method, path, body)
				allowed := r.who == "everybody" || role != "" && strings.Contains(r.who, string(role))
				if refused := a.StatusCode == 401 || a.StatusCode == 403; refused == allowed || a.StatusCode >= 500 || refused && a.str("error") == "" {
					t.Errorf("%s as %q: %d %s", route, role, a.StatusCode, a.body)
				}
			}
		}
	}
}

// TestDeliveriesWithoutPayloadAreCounted: a delivery that names a registered message counts like
// one with the message.
func TestDeliveriesWithoutPayloadAreCounted(t *testing.T) {
	s := startServer(t, true, nil)
	for i, client := range []string{`"client_id":"acme-01",`, ""} {
		id := fmt.Sprintf("m-%d", i)
		s.asRole("proxy", 200, "POST", "/internal/messages/register", clearMessage(id))
		for range 2 { // the second changes nothing
			s.asRole("worker", 200, "POST", "/internal/messages/deliver", `{"message_id":"`+id+`",`+client+`"worker_id":"w-1"}`)
		}
	}
	metrics := s.ask(s.as(""), "GET", "/metrics", "").body
	for _, want := range []string{`main_server_messages_delivered_total{client_id="acme-01"} 1`, `main_server_messages_delivered_total{client_id="other"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}
