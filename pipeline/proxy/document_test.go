package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// TestAnswersAgreeWithTheDocument: every answer of the API is what openapi.yaml says.
func TestAnswersAgreeWithTheDocument(t *testing.T) {
	w := newWorld(t, nil).ready()
	data, err := api.Document(api.TagProxy, "1.2.3")
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
	id := w.ask(w.as("acme-01"), "POST", "/submit", good, "Idempotency-Key", "k").m["message_id"].(string)
	w.eventually("the message is not registered", func() bool { return len(w.main.rows()) == 1 })
	covered := make(map[string]bool)
	for _, tc := range []struct {
		client, method, path, body string
		status                     int
	}{
		{"acme-01", "POST", "/api/v1/messages", good, 202},
		{"acme-01", "POST", "/api/v1/messages", `{"sender_number":"+4915200000000","message_body":"Test message","message_id":"k"}`, 202},
		{"acme-01", "POST", "/api/v1/messages", `{"sender_number":"+4915200000000","message_body":"other","message_id":"k"}`, 409},
		{"acme-01", "POST", "/api/v1/messages", `{"sender_number":7}`, 422},
		{"acme-01", "POST", "/api/v1/messages", `{`, 422},
		{"acme-01", "POST", "/api/v1/messages", strings.Repeat(" ", 70000), 413},
		{"", "POST", "/api/v1/messages", good, 401},
		{"acme-01", "POST", "/api/v1/messages", good, 429},
		{"acme-01", "POST", "/api/v1/messages/batch", `{"messages":[` + good + `,{},{"sender_number":"+4915200000000","message_body":"other","message_id":"k"}]}`, 200},
		{"acme-01", "POST", "/api/v1/messages/batch", `{}`, 422},
		{"acme-01", "GET", "/api/v1/messages/" + id, "", 200},
		{"acme-02", "GET", "/api/v1/messages/" + id, "", 404},
		{"", "GET", "/health", "", 200},
		{"", "GET", "/health/live", "", 200},
	} {
		conf := w.ca.WithoutCertificate()
		if tc.client != "" {
			conf = w.ca.RoleTLS(tc.client, sealmq.RoleClient)
		}
		rate := httpkit.Rate{PerSecond: httpkit.DefaultRate}
		if tc.status == 429 {
			rate = httpkit.Rate{}
		}
		w.proxy.SetRate(rate)
		a := w.ask(w.client(conf, true), tc.method, tc.path, tc.body)
		if a.StatusCode != tc.status {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, a.StatusCode, a.body)
		}
		req, err := http.NewRequest(tc.method, tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		route, params, err := router.FindRoute(req)
		if err != nil {
			t.Fatalf("%s %s: %v", tc.method, tc.path, err)
		}
		covered[tc.method+" "+route.Path] = true
		in := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
			Status:                 a.StatusCode, Header: a.Header, Body: io.NopCloser(bytes.NewReader([]byte(a.body))),
			Options: &openapi3filter.Options{IncludeResponseStatus: true},
		}
		if err := openapi3filter.ValidateResponse(context.Background(), in); err != nil {
			t.Errorf("%s %s: %v\n%s", tc.method, tc.path, err, a.body)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !covered[method+" "+path] {
				t.Errorf("%s %s was not asked", method, path)
			}
		}
	}
}

func TestDocumentsAreServed(t *testing.T) {
	w := newWorld(t, nil)
	c := w.client(w.ca.WithoutCertificate(), true)
	a := w.ask(c, "GET", "/openapi.json", "")
	info, _ := a.m["info"].(map[string]any)
	paths, _ := a.m["paths"].(map[string]any)
	if a.StatusCode != 200 || info["title"] == "" || info["version"] != "1.2.3" || paths["/api/v1/messages"] == nil || paths["/api/v1/audit"] != nil {
		t.Errorf("%d %.300s", a.StatusCode, a.body)
	}
	for _, path := range []string{"/docs", "/redoc", "/docs/"} {
		a := w.ask(c, "GET", path, "")
		policy := a.Header.Get("Content-Security-Policy")
		if a.StatusCode != 200 || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") ||
			!strings.Contains(a.body, "Submit a message") || strings.Contains(a.body, "<script") || strings.Contains(a.body, "http:") || strings.Contains(a.body, "https:") {
			t.Errorf("%s: %d %q", path, a.StatusCode, policy)
		}
	}
	a = w.ask(c, "GET", "/metrics/", "")
	for _, want := range []string{"redis_queue_size", `proxy_requests_total{endpoint="/api/v1/messages",method="POST",status="202"} 0`, "proxy_request_duration_seconds_bucket",
		"proxy_messages_enqueued_total 0", `proxy_messages_failed_total{reason="redis_error"} 0`, `proxy_certificate_validations_total{result="unverified"} 0`,
		"proxy_rate_limited_total 0", `proxy_registrations_total{result="dropped"} 0`, "proxy_registration_backlog 0",
		`sealmq_health_check{check="redis",component="proxy"} 0`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if strings.Contains(a.body, `status="404"`) {
		t.Errorf("a path became a series")
	}
}
