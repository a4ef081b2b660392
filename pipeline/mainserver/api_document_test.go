package mainserver_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline"
)

// TestAnswersAgreeWithTheDocument: every answer of the API is what openapi.yaml says, and
// every operation is asked.
func TestAnswersAgreeWithTheDocument(t *testing.T) {
	var node *testnode.Node
	s := newServer(t, withBrokerAndBackups(&node))
	letter := fillBroker(t, node)
	s.register("acme-01", "m-1", "m-2", "m-3")
	s.fail("acme-01", "failed-1")
	s.fail("acme-01", "failed-2")
	fp := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	token := s.token(`{"client_id":"acme-02","server":"https://localhost:1"}`)
	_, csr := s.newKey("acme-02")
	doc := newDocument(t)
	item := toJSON(s.item("acme-01", "m-4"))
	cert := "/api/v1/certificates/" + fp.str("fingerprint")
	pem := toJSON(map[string]string{"certificate": fp.str("certificate")})
	for _, tc := range []struct {
		role               sealmq.Role
		method, path, body string
		status             int
	}{
		{"", "GET", "/health", "", 200},
		{"", "GET", "/health/live", "", 200},
		{"", "GET", "/api/v1/ca.crt", "", 200},
		{"", "GET", "/api/v1/crl", "", 200},
		{"proxy", "POST", "/api/v1/internal/messages/register", `{"messages":[` + item + `,{}]}`, 200},
		{"proxy", "POST", "/api/v1/internal/messages/register", `{"messages":[]}`, 422},
		{"worker", "POST", "/api/v1/internal/messages/deliver", `{"worker_id":"w","messages":[` + item + `]}`, 200},
		{"worker", "POST", "/api/v1/internal/messages/deliver", `{"messages":[` + item + `]}`, 422},
		{"proxy", "POST", "/api/v1/internal/messages/deliver", `{"worker_id":"w","messages":[` + item + `]}`, 403},
		{"worker", "POST", "/api/v1/internal/messages/status", `{"updates":[{"message_id":"m-3","status":"processing","attempt_count":1},{"message_id":"none","status":"failed"}]}`, 200},
		{"worker", "POST", "/api/v1/internal/messages/status", `[]`, 422},
		{"proxy", "GET", "/api/v1/internal/clients/acme-01/messages/m-4", "", 200},
		{"proxy", "GET", "/api/v1/internal/clients/acme-02/messages/m-4", "", 404},
		{"proxy", "GET", "/api/v1/internal/keys", "", 200},
		{"proxy", "GET", "/api/v1/internal/revocations?since=0", "", 200},
		{"admin", "GET", "/api/v1/messages", "", 200},
		{"admin", "GET", "/api/v1/messages?limit=2&status=queued", "", 200},
		{"admin", "GET", "/api/v1/messages?limit=0", "", 422},
		{"client", "GET", "/api/v1/messages", "", 403},
		{"", "GET", "/api/v1/messages", "", 401},
		{"admin", "POST", "/api/v1/messages/search", `{"sender_number":"` + secretNumber + `"}`, 200},
		{"admin", "POST", "/api/v1/messages/search", `{"sender_number":7}`, 422},
		{"admin", "POST", "/api/v1/messages/retry-jobs", `{"client_id":"nobody"}`, 202},
		{"admin", "POST", "/api/v1/messages/retry-jobs", `{"items":[]}`, 422},
		{"admin", "GET", "/api/v1/messages/retry-jobs", "", 200},
		{"admin", "GET", "/api/v1/messages/retry-jobs/00000000000000000000", "", 404},
		{"admin", "POST", "/api/v1/messages/retry-jobs/00000000000000000000/cancel", "", 404},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/m-1", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/m-1/timeline", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/failed-1/timeline", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/none/timeline", "", 404},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/m-1/content", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01/messages/none/content", "", 404},
		{"admin", "POST", "/api/v1/clients/acme-01/messages/m-1/retry", "", 409},
		{"admin", "POST", "/api/v1/clients/acme-01/messages/failed-1/retry", "", 200},
		{"admin", "GET", "/api/v1/clients", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01", "", 200},
		{"admin", "GET", "/api/v1/clients/nobody", "", 404},
		{"admin", "PATCH", "/api/v1/clients/acme-01", `{"domain":"shop.example"}`, 200},
		{"admin", "PATCH", "/api/v1/clients/acme-01", `{"domain":"-"}`, 422},
		{"admin", "GET", "/api/v1/certificates?limit=1", "", 200},
		{"admin", "GET", "/api/v1/certificates/expiring", "", 200},
		{"admin", "GET", cert, "", 200},
		{"admin", "GET", cert + "/revoke/preview", "", 200},
		{"admin", "GET", "/api/v1/clients/acme-01/revoke/preview", "", 200},
		{"admin", "GET", "/api/v1/clients/nobody/revoke/preview", "", 404},
		{"admin", "GET", "/api/v1/revocations", "", 200},
		{"admin", "POST", tokenPath, `{"client_id":"acme-03"}`, 422},
		{"admin", "POST", tokenPath, `{"client_id":"acme-03","server":"https://localhost:1"}`, 201},
		{"admin", "GET", tokenPath, "", 200},
		{"admin", "DELETE", tokenPath + "/0000000000000000", "", 404},
		{"admin", "DELETE", tokenPath + "/" + token.str("id"), "", 204},
		{"", "POST", "/api/v1/enrolment", toJSON(map[string]string{"token": token.str("token"), "csr": csr}), 403},
		{"client", "POST", "/api/v1/enrolment/renew", toJSON(map[string]string{"csr": csr}), 422},
		{"", "POST", "/api/v1/enrolment/renew-expired", toJSON(map[string]string{"fingerprint": fp.str("fingerprint"), "csr": csr, "proof": csr}), 403},
		{"admin", "POST", cert + "/renewal-consent", "{}", 409},
		{"admin", "GET", "/api/v1/certificates?serial=" + fp.str("serial")[:8] + "&expires_after=2020-01-01T00:00:00Z&expires_before=2200-01-01T00:00:00Z", "", 200},
		{"admin", "POST", "/api/v1/certificates/verify", pem, 200},
		{"admin", "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`, 409},
		{"admin", "POST", cert + "/renew", `{"validity_days":30}`, 201},
		{"admin", "POST", cert + "/revoke", `{"reason":"lost"}`, 200},
		{"admin", "POST", cert + "/revoke", `{}`, 409},
		{"admin", "POST", cert + "/renew", `{}`, 409},
		{"admin", "POST", "/api/v1/clients/acme-01/revoke", `{}`, 200},
		{"admin", "GET", "/api/v1/certificates?status=revoked", "", 200},
		{"admin", "POST", "/api/v1/search", `{"q":"acme-01"}`, 200},
		{"admin", "POST", "/api/v1/search", `{"q":"m-1"}`, 200},
		{"admin", "POST", "/api/v1/search", `{"q":" "}`, 422},
		{"proxy", "POST", "/api/v1/internal/refused", `{"items":[{"component":"proxy","client_id":"acme-01","reason":"Client certificate has expired","attempts":3,"last":"2026-03-01T08:15:30Z"}]}`, 204},
		{"proxy", "POST", "/api/v1/internal/refused", `{"items":[]}`, 422},
		{"admin", "GET", "/api/v1/statistics", "", 200},
		{"admin", "GET", "/api/v1/overview", "", 200},
		{"admin", "GET", "/api/v1/overview/history", "", 200},
		{"admin", "GET", "/api/v1/overview/history?hours=25", "", 422},
		{"admin", "GET", "/api/v1/overview/events?limit=1", "", 200},
		{"admin", "GET", "/api/v1/statistics?period=century", "", 422},
		{"admin", "GET", "/api/v1/audit", "", 200},
		{"admin", "GET", "/api/v1/audit/chain", "", 200},
		{"admin", "GET", "/api/v1/database", "", 200},
		{"admin", "GET", "/api/v1/log-level", "", 200},
		{"admin", "PUT", "/api/v1/log-level", `{"level":"debug"}`, 200},
		{"admin", "PUT", "/api/v1/log-level", `{"level":"loud"}`, 422},
		{"admin", "GET", "/api/v1/queue", "", 200},
		{"admin", "GET", "/api/v1/queue/dead", "", 200},
		{"admin", "POST", "/api/v1/queue/dead/requeue", `{"all":true}`, 200},
		{"admin", "POST", "/api/v1/queue/dead/requeue", `{}`, 422},
		{"admin", "POST", "/api/v1/retention/preview", `{"retention_days":30}`, 200},
		{"admin", "POST", "/api/v1/retention/run", `{"retention_days":180}`, 200},
		{"admin", "POST", "/api/v1/retention/run", `{"retention_days":-1}`, 422},
		{"admin", "POST", "/api/v1/backups", "", 202},
		{"admin", "GET", "/api/v1/backups", "", 200},
		{"admin", "GET", "/api/v1/backups/backup_20000101_000000.zip", "", 404},
		{"admin", "GET", "/api/v1/backups/server.key", "", 422},
		{"admin", "GET", "/api/v1/broker/queues", "", 200},
		{"admin", "GET", "/api/v1/broker/queues?kind=dead&sort=ready&order=asc&limit=1", "", 200},
		{"admin", "GET", "/api/v1/broker/queues?sort=colour", "", 422},
		{"admin", "GET", "/api/v1/broker/queues?cursor=x", "", 422},
		{"admin", "POST", "/api/v1/broker/queues", `{"name":"a/.. é","options":{}}`, 422},
		{"admin", "POST", "/api/v1/broker/queues", `{"name":"a/../é","options":{"ttl":"1h","sealed":["sealmq-x25519"],"private":true}}`, 422},
		{"admin", "POST", "/api/v1/broker/queues", `{"name":"a/../é","options":{"ttl":"1h","max_messages":7}}`, 201},
		{"admin", "POST", "/api/v1/broker/queues", `{"name":"a/../é","options":{"ttl":"2h"}}`, 409},
		{"admin", "GET", "/api/v1/broker/queue?name=a%2F..%2F%C3%A9", "", 200},
		{"admin", "GET", "/api/v1/broker/queue?name=none", "", 404},
		{"admin", "GET", "/api/v1/broker/queue", "", 422},
		{"admin", "POST", "/api/v1/broker/queue/options?name=a%2F..%2F%C3%A9", `{"ttl":"later"}`, 422},
		{"admin", "POST", "/api/v1/broker/queue/options?name=a%2F..%2F%C3%A9", `{"ttl":"3h"}`, 200},
		{"admin", "GET", "/api/v1/broker/queue/messages?name=results&limit=1", "", 200},
		{"admin", "GET", "/api/v1/broker/queue/messages?name=results.dead", "", 200},
		{"admin", "GET", "/api/v1/broker/exchanges?search=X", "", 200},
		{"admin", "GET", "/api/v1/broker/exchange?name=x", "", 200},
		{"admin", "GET", "/api/v1/broker/exchange?name=none", "", 404},
		{"admin", "GET", "/api/v1/broker/connections", "", 200},
		{"admin", "GET", "/api/v1/broker/keys?search=c", "", 200},
		{"admin", "GET", "/api/v1/broker/keys?cursor=x", "", 422},
		{"admin", "POST", "/api/v1/broker/connections/4711/disconnect", `{"reason":"stolen"}`, 404},
		{"admin", "POST", "/api/v1/broker/connections/1/disconnect", `{"reason":"stolen"}`, 204},
		{"admin", "POST", "/api/v1/broker/dead/return", `{"queue":"results.dead"}`, 422},
		{"admin", "POST", "/api/v1/broker/dead/return", `{"queue":"results.dead","items":[` + letter + `]}`, 200},
		{"admin", "POST", "/api/v1/broker/dead/return", `{"queue":"results.dead","all":true}`, 200},
		{"admin", "POST", "/api/v1/broker/queue/pause?name=results", "", 200},
		{"admin", "GET", "/api/v1/broker/queues?kind=paused", "", 200},
		{"admin", "POST", "/api/v1/broker/queue/resume?name=results", "", 200},
		{"admin", "POST", "/api/v1/broker/queue/pause?name=none", "", 404},
		{"admin", "POST", "/api/v1/broker/queue/purge?name=results", `{"name":"result"}`, 422},
		{"admin", "POST", "/api/v1/broker/queue/purge?name=results", `{"name":"results"}`, 200},
		{"admin", "POST", "/api/v1/broker/queue/delete?name=results", `{"name":"results"}`, 200},
		{"admin", "POST", "/api/v1/broker/queue/delete?name=results", `{"name":"results"}`, 404},
	} {
		a := s.ask(s.as(tc.role), tc.method, tc.path, tc.body)
		if a.StatusCode != tc.status {
			t.Errorf("%s %s %s: %d, want %d\n%s", tc.method, tc.path, tc.body, a.StatusCode, tc.status, a.body)
		}
		doc.check(tc.method, tc.path, a)
	}
	s.askAccounts(doc)
	doc.complete()
}

// document is openapi.yaml, and what was compared with it.
type document struct {
	t       *testing.T
	doc     *openapi3.T
	router  routers.Router
	covered map[string]bool
}

func newDocument(t *testing.T) *document {
	t.Helper()
	data, err := api.Document(api.TagMain, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	doc.Servers = nil
	router, err := legacy.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &document{t, doc, router, make(map[string]bool)}
}

func (d *document) check(method, path string, a answer) {
	d.t.Helper()
	req, err := http.NewRequest(method, path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	d.covered[method+" "+route.Path] = true
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader([]byte(a.body))),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: strings.Contains(a.Header.Get("Content-Type"), "pem") || a.Header.Get("Content-Type") == "text/event-stream"},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), in); err != nil {
		d.t.Errorf("%s %s: %v\n%s", method, path, err, a.body)
	}
}

func (d *document) complete() {
	d.t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			if !d.covered[method+" "+path] {
				d.t.Errorf("%s %s was not asked", method, path)
			}
		}
	}
}

// TestMetrics: the metrics are there from the start, and no series is named by a peer.
func TestMetrics(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1")
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	s.ask(s.as(sealmq.RoleWorker), "POST", "/api/v1/internal/messages/deliver", toJSON(map[string]any{"worker_id": "w", "messages": []pipeline.Item{s.item("acme-01", "m-2")}}))
	s.want(404, "GET", "/api/v1/strange-path", "")
	a := s.ask(s.as(""), "GET", "/metrics/", "")
	for _, want := range []string{
		`main_server_requests_total{endpoint="/api/v1/certificates",method="POST",status="201"} 1`, "main_server_request_duration_seconds_bucket",
		`main_server_messages_registered_total{client_id="acme-01"} 1`, `main_server_messages_delivered_total{client_id="acme-01"} 1`,
		"main_server_db_connections", "main_server_certificates_issued_total 1", "main_server_certificates_revoked_total 0",
		`main_server_messages_by_status{status="queued"} 1`, `main_server_db_query_duration_seconds_count{operation="deliver"} 1`,
		`main_server_certificates_expiring{within="30d"} 0`, "main_server_crl_entries 0", "main_server_crl_load_failures_total 0",
		`sealmq_health_check{check="database",component="main_server"} 0`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if a.StatusCode != 200 || strings.Contains(a.body, "strange") {
		t.Errorf("%d", a.StatusCode)
	}
}
