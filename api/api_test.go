package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/trust"
)

func load(t *testing.T, tag string) *openapi3.T {
	t.Helper()
	data, err := api.Document(tag, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentsAreValid(t *testing.T) {
	whole, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	for _, tag := range []string{api.TagProxy, api.TagMain} {
		doc := load(t, tag)
		if err := doc.Validate(context.Background()); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
		if doc.Info.Version != "1.2.3" || doc.Info.Title != "SealMQ "+tag {
			t.Errorf("%s: %+v", tag, doc.Info)
		}
	}
}

// TestEveryOperationHasItsDocument: an operation without a tag would be in no server.
func TestEveryOperationHasItsDocument(t *testing.T) {
	whole, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]*openapi3.T{api.TagProxy: load(t, api.TagProxy), api.TagMain: load(t, api.TagMain)}
	for path, item := range whole.Paths.Map() {
		for method, o := range item.Operations() {
			if len(o.Tags) == 0 {
				t.Errorf("%s %s has no tag", method, path)
			}
			for tag, part := range parts {
				want := strings.Contains(strings.Join(o.Tags, " "), tag)
				item := part.Paths.Value(path)
				if got := item != nil && item.GetOperation(method) != nil; got != want {
					t.Errorf("%s %s in the document of %s: %v, want %v", method, path, tag, got, want)
				}
			}
		}
	}
}

// TestRoutesAgree: the generated routes are those of the document.
func TestRoutesAgree(t *testing.T) {
	for tag, handler := range map[string]http.Handler{
		api.TagProxy: proxyapi.HandlerWithOptions(struct{ proxyapi.ServerInterface }{}, proxyapi.StdHTTPServerOptions{
			Middlewares: []proxyapi.MiddlewareFunc{reached}}),
		api.TagMain: mainapi.HandlerWithOptions(struct{ mainapi.ServerInterface }{}, mainapi.StdHTTPServerOptions{
			Middlewares: []mainapi.MiddlewareFunc{reached}}),
	} {
		for path, item := range load(t, tag).Paths.Map() {
			for method := range item.Operations() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest(method, parameters.ReplaceAllString(path, "1")+"?name=x", nil))
				if w.Code != http.StatusTeapot {
					t.Errorf("%s: %s %s: %d", tag, method, path, w.Code)
				}
			}
		}
	}
}

var parameters = regexp.MustCompile(`\{[^}]*\}`)

func reached(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
}

// TestTypesOfThePipelineAgree: the types that the API borrows from package pipeline are
// in JSON what the document says.
func TestTypesOfThePipelineAgree(t *testing.T) {
	at := time.Date(2026, 3, 1, 8, 15, 30, 789012000, time.UTC)
	schemas := load(t, api.TagMain).Components.Schemas
	for name, v := range map[string]any{
		"Item": pipeline.Item{MessageID: "m", ClientID: "c", ClientKey: "k", Domain: "d", QueuedAt: at, AttemptCount: 1, Enc: pipeline.EncHPKE,
			Sealed: []byte(`{}`), SenderNumber: "+4915200000000", MessageBody: "x", Metadata: []byte(`{}`), Digest: []byte{1}},
		"Update": pipeline.Update{MessageID: "m", ClientID: "c", State: pipeline.Queued, Attempts: -1, Error: "e", Worker: "w", At: at},
		"Result": pipeline.Result{MessageID: "m", Status: pipeline.StatusDelivered, RowID: 1, At: at, State: pipeline.Delivered, Reason: "r"},
		"MessageState": pipeline.MessageState{MessageID: "m", ClientID: "c", ClientKey: "k", State: pipeline.Delivered, Attempts: 1, Domain: "d",
			QueuedAt: at, DeliveredAt: at, Error: "e"},
		"Revocations": trust.Feed{Version: 1, Full: true, Since: 1, Entries: []trust.Entry{}, Origin: "o"},
		"Revocation": trust.Entry{Version: 1, Name: "n", Serial: "1", Fingerprint: "f", Scope: trust.ScopeName, Issuer: "i", IssuedBefore: at, ExpiresAt: at,
			Code: trust.KeyCompromise, Reason: "r", RevokedAt: at},
	} {
		got := generic(t, v)
		schema := schemas[name].Value
		if err := schema.VisitJSON(got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for field := range got {
			if schema.Properties[field] == nil {
				t.Errorf("%s: the document has no field %s", name, field)
			}
		}
		for field := range schema.Properties {
			if _, ok := got[field]; !ok {
				t.Errorf("%s: the type has no field %s", name, field)
			}
		}
	}
}

// generic is a value as a reader of its JSON sees it.
func generic(t *testing.T, v any) (m map[string]any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPageShowsNoMarkdown: descriptions are read as text in the page.
func TestPageShowsNoMarkdown(t *testing.T) {
	for _, tag := range []string{"proxy", "main"} {
		document, err := api.Document(tag, "1")
		if err != nil {
			t.Fatal(err)
		}
		html, _, err := api.Page(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, sign := range []string{"**", "`"} {
			if _, after, found := strings.Cut(string(html), sign); found {
				t.Errorf("the page of %s has %s before %.60q", tag, sign, after)
			}
		}
		for _, want := range []string{"<strong>Errors</strong> are <code>application/problem+json</code>", "</p>\n<p><strong>Lists</strong>"} {
			if !strings.Contains(string(html), want) {
				t.Errorf("the page of %s lacks %s", tag, want)
			}
		}
	}
}
