package portal

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// evil is a name that would be an element, an attribute and a path.
const evil = `<script>alert(1)</script>"/../'é`

func brokerWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, Config{Prefix: "/mq"})
	q := mainapi.BrokerQueue{Name: evil, Owner: evil, Ready: 12480, Unacked: 14, Bytes: 3 << 20, Consumers: 2, InPerSecond: 3.25, OutPerSecond: 0.5, Oldest: testNow.Add(-90e9), DeadLetters: evil + ".dead"}
	detail := mainapi.BrokerQueueDetail{Queue: q, Bindings: []mainapi.BrokerBinding{{Queue: evil, Exchange: evil, Key: evil}}, MoreBindings: 2, DeadReady: 3,
		Consumers: []mainapi.BrokerConnection{{ID: 9, Client: evil, Role: "client", Address: "192.0.2.1:1", Since: testNow}}}
	detail.Queue.DeadLettersOf = evil
	w.on("GET /api/v1/broker/queues", http.StatusOK, mainapi.BrokerQueuePage{Items: []mainapi.BrokerQueue{q}, AsOf: testNow, Total: 10000, NextCursor: "abc"})
	w.on("GET /api/v1/broker/queue", http.StatusOK, detail)
	w.on("GET /api/v1/broker/queue/messages", http.StatusOK, mainapi.BrokerMessagePage{Items: []mainapi.BrokerMessage{
		{ID: evil, Seq: 4711, Publisher: evil, Exchange: evil, Key: evil, Published: testNow, Size: 2048, DeathReason: evil, DeathQueue: evil}}})
	w.on("GET /api/v1/broker/exchanges", http.StatusOK, mainapi.BrokerExchangePage{Items: []mainapi.BrokerExchange{{Name: evil, Owner: evil, Kind: "topic", Bindings: 1}}, Total: 1})
	w.on("GET /api/v1/broker/exchange", http.StatusOK, mainapi.BrokerExchangeDetail{Exchange: mainapi.BrokerExchange{Name: evil, Kind: "topic", Bindings: 31}, Bindings: detail.Bindings, MoreBindings: 30})
	w.on("GET /api/v1/broker/connections", http.StatusOK, mainapi.BrokerConnectionPage{Items: detail.Consumers, AsOf: testNow, Total: 1})
	w.on("GET /api/v1/broker/keys", http.StatusOK, mainapi.BrokerKeyPage{Items: []mainapi.BrokerKey{{Client: evil, Fingerprint: "sha256:00", Record: 3}, {Client: "lab", Proven: true, Suite: "s", Entry: 2, Fingerprint: "sha256:11", Record: 4, Since: testNow}}})
	return w
}

var evilQuery = "?" + url.Values{"name": {evil}}.Encode()

// TestBrokerPages: what a name holds is text, an operator sees no button for what he may not, and
// the figures are there.
func TestBrokerPages(t *testing.T) {
	w := brokerWorld(t)
	for _, tc := range []struct {
		path         string
		texts, deeds []string
	}{
		{"/admin/queues", []string{"10,000 queues", "12,480", "3.2", "3.0 MiB", "1 min ago", "cursor=abc", `aria-sort="ascending"`}, []string{"/mq/admin/queues/new"}},
		{"/admin/queues?sort=ready&order=desc&search=x", []string{`aria-sort="descending"`, "order=asc&amp;search=x&amp;sort=ready", ">Clear<"}, nil},
		{"/admin/queues/show" + evilQuery + "&messages=1", []string{"12,480", "2 more bindings", "3 messages", "sealmq queue show &#39;"}, []string{"/pause?name=", "/purge?name=", "/delete?name=", "sealmq queue purge"}},
		{"/admin/dead", []string{"Died in"}, nil},
		{"/admin/exchanges", []string{"topic"}, nil},
		{"/admin/exchanges/show" + evilQuery, []string{"any number of words", "<svg", "30 more bindings"}, nil},
		{"/admin/connections", []string{"192.0.2.1:1"}, []string{"/mq/admin/connections/9/disconnect"}},
		{"/admin/keys", []string{"Unproven", "Signed by its owner", "sha256:11"}, nil},
	} {
		asAdmin, asOperator := w.browse(admin, "/mq"+tc.path, nil), w.browse(operator, "/mq"+tc.path, nil)
		want(t, asAdmin, http.StatusOK, append(tc.texts, tc.deeds...)...)
		want(t, asOperator, http.StatusOK, tc.texts...)
		for _, deed := range tc.deeds {
			if strings.Contains(asOperator.Body.String(), deed) {
				t.Errorf("%s shows an operator %q", tc.path, deed)
			}
		}
		if strings.Contains(asAdmin.Body.String(), "<script>alert") {
			t.Errorf("%s lets a name be a script", tc.path)
		}
		part := w.browse(admin, "/mq"+tc.path, nil, "HX-Request", "true")
		if strings.Contains(part.Body.String(), "<html") {
			t.Errorf("%s: a part has the frame", tc.path)
		}
	}
}

func TestBrokerPagesWithoutData(t *testing.T) {
	w := newWorld(t, Config{})
	for path, page := range map[string]any{"queues": mainapi.BrokerQueuePage{}, "exchanges": mainapi.BrokerExchangePage{}, "connections": mainapi.BrokerConnectionPage{}, "keys": mainapi.BrokerKeyPage{}} {
		w.on("GET /api/v1/broker/"+path, http.StatusOK, page)
	}
	for path, text := range map[string]string{"/admin/queues": "sealmq queue declare", "/admin/queues?search=x": "No queue matches", "/admin/exchanges": "sealmq bind", "/admin/exchanges?search=x": "No exchange matches",
		"/admin/connections": "No client is connected", "/admin/connections?search=x": "No connection matches", "/admin/keys": "sealmq key publish", "/admin/keys?search=x": "No key of such a name", "/admin/dead": "No dead letters"} {
		want(t, w.browse(operator, path, nil), http.StatusOK, text)
	}
	want(t, w.browse(admin, "/admin/queues/show?name=none", nil), http.StatusNotFound, "There is nothing here")
	wantRedirect(t, w.browse(admin, "/admin/queues/purge", nil), "/admin/queues")
	w.refuse("GET /api/v1/broker/queues", 503, "service_unavailable", "the broker cannot be reached; try again")
	want(t, w.browse(admin, "/admin/queues", nil), http.StatusServiceUnavailable, "the broker cannot be reached", `http-equiv="refresh"`)
}

func TestDangerousActsWantTheName(t *testing.T) {
	w := brokerWorld(t)
	want(t, w.browse(admin, "/mq/admin/queues/purge"+evilQuery, nil), http.StatusOK, "Removes 12,480 waiting messages for good", "14 messages in consumers&#39; hands are not touched", `data-match="&lt;script`)
	want(t, w.browse(admin, "/mq/admin/queues/delete"+evilQuery, nil), http.StatusOK, "Removes 12,494 messages (3.0 MiB) and 3 bindings", "2 consumers get nothing more")
	w.on("POST /api/v1/broker/queue/purge", http.StatusUnprocessableEntity, map[string]any{"code": "validation_error", "errors": []any{map[string]any{"type": "value_error", "loc": []any{"body", "name"}, "msg": "The name is not that of the queue"}}})
	want(t, w.browse(admin, "/mq/admin/queues/purge"+evilQuery, url.Values{"name": {"x"}}), http.StatusUnprocessableEntity, "The name is not that of the queue")
	w.on("POST /api/v1/broker/queue/purge", http.StatusOK, map[string]int{"removed": 12480})
	rec := w.browse(admin, "/mq/admin/queues/purge"+evilQuery, url.Values{"name": {evil}})
	wantRedirect(t, rec, "/mq/admin/queues/show"+evilQuery)
}

func TestReturnOfDeadLetters(t *testing.T) {
	w := brokerWorld(t)
	w.on("POST /api/v1/broker/dead/return", http.StatusOK, mainapi.DeadLettersReturned{Returned: 2, Kept: 1, WhyKept: "queue 'q' is full", Queues: []mainapi.ReturnedTo{{Name: "q", Returned: 2}}})
	for _, tc := range []struct {
		form url.Values
		sent string
	}{
		{url.Values{"one": {"7 a b"}, "letter": {"8 c"}}, `"items":[{"id":"a b","seq":7}]`},
		{url.Values{"some": {"1"}, "letter": {"8 c", "9 d"}}, `"items":[{"id":"c","seq":8},{"id":"d","seq":9}]`},
		{url.Values{"all": {"1"}}, `"all":true`},
	} {
		wantRedirect(t, w.browse(admin, "/mq/admin/dead/return?queue=q.dead", tc.form), "/mq/admin/dead?queue=q.dead")
		if last := w.asked[len(w.asked)-1]; !strings.Contains(last, tc.sent) || !strings.Contains(last, `"queue":"q.dead"`) {
			t.Errorf("%v asked for %s", tc.form, last)
		}
	}
	asked := len(w.asked)
	w.browse(admin, "/mq/admin/dead/return?queue=q.dead", url.Values{"some": {"1"}, "letter": {"x"}})
	if strings.Contains(strings.Join(w.asked[asked:], " "), "return") {
		t.Error("nothing was chosen, and the main server was asked to return something")
	}
	if got := returnedToast(&mainapi.DeadLettersReturned{Returned: 1, Kept: 2, WhyKept: "it is full", Queues: []mainapi.ReturnedTo{{Name: "q"}}}, false); got != (toast{"warn", "1 message returned to q. 2 messages stay: it is full."}) {
		t.Errorf("%+v", got)
	}
}

// TestReturnStopsHalfWay: if the broker stops answering, the reader learns what was returned, why
// messages stay, and that the rest was not tried.
func TestReturnStopsHalfWay(t *testing.T) {
	for _, tc := range []struct {
		kept int
		want string
	}{
		{0, "12 messages returned. The broker did not take the rest; return all once more to go on."},
		{3, "12 messages returned. 3 messages stay: the queue is full. The broker did not take the rest; return all once more to go on."},
	} {
		var w *world
		w = newWorld(t, Config{API: InProcess(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.ServeHTTP(rw, r)
			if strings.HasSuffix(r.URL.Path, "/dead/return") {
				w.refuse("POST /api/v1/broker/dead/return", 503, "service_unavailable", "the broker cannot be reached; try again")
			}
		}))})
		w.on("POST /api/v1/broker/dead/return", http.StatusOK, mainapi.DeadLettersReturned{Returned: 12, Kept: tc.kept, WhyKept: map[bool]string{true: "the queue is full"}[tc.kept > 0], NextCursor: "13"})
		sent := w.browse(admin, "/admin/dead/return?queue=q.dead", url.Values{"all": {"1"}})
		flash, _, _ := strings.Cut(cookie(sent, "__Host-sealmq-flash"), ";")
		text, err := base64.RawURLEncoding.DecodeString(flash)
		var got toast
		if err != nil || json.Unmarshal(text, &got) != nil || got != (toast{"warn", tc.want}) {
			t.Errorf("%v %+v, want %q", err, got, tc.want)
		}
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"results": "results", "orders/eu": "orders/eu", "-x": "'-x'", "a'b": `'a'\''b'`, "$(x)": "'$(x)'", "": "''", "é": "'é'"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

// TestOrdinaryQueueAmongDeadLetters: messages that wait in a queue have not died, and cannot be returned.
func TestOrdinaryQueueAmongDeadLetters(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("GET /api/v1/broker/queues", http.StatusOK, mainapi.BrokerQueuePage{})
	w.on("GET /api/v1/broker/queue", http.StatusOK, mainapi.BrokerQueueDetail{Queue: mainapi.BrokerQueue{Name: "bob", Ready: 3}})
	rec := w.browse(admin, "/admin/dead?queue=bob", nil)
	want(t, rec, http.StatusOK, "bob takes no dead letters", `href="/admin/queues/show?name=bob"`)
	if strings.Contains(rec.Body.String(), ">Return") {
		t.Error("the page offers to return what has not died")
	}
}

func TestQueueOptionsTakeUnits(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("POST /api/v1/broker/queues", http.StatusCreated, mainapi.BrokerQueueDetail{})
	wantRedirect(t, w.browse(admin, "/admin/queues/new", url.Values{"name": {"q"}, "max_bytes": {"1 GB"}, "ttl": {"7 days"}}), "/admin/queues/show?name=q")
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `"max_bytes":1000000000`) || !strings.Contains(last, `"ttl":"168h"`) {
		t.Errorf("asked for %s", last)
	}
	want(t, w.browse(admin, "/admin/queues/new", url.Values{"name": {"q"}, "max_bytes": {"much"}, "ttl": {"long"}, "prefetch": {"few"}}), http.StatusUnprocessableEntity, "This is not a size", `value="much"`,
		"This is not a duration", `value="long"`, "This is not a whole number")
}

func TestQueueState(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for want, q := range map[string]mainapi.BrokerQueue{
		"Quiet":               {Consumers: 1},
		"Flows":               {Consumers: 1, InPerSecond: 2, OutPerSecond: 2, ReturnedPerSecond: 0.1},
		"Behind":              {Consumers: 1, InPerSecond: 2, OutPerSecond: 1, Ready: 9, Oldest: old},
		"No consumer":         {Ready: 1, Oldest: old},
		"Stands still":        {Consumers: 1, Ready: 1, Oldest: old},
		"Consumers return it": {Consumers: 1, Ready: 3, OutPerSecond: 2, ReturnedPerSecond: 2, Oldest: old},
		"Full":                {Consumers: 1, Ready: 3, MaxMessages: 3},
	} {
		if got := queueState(&q).Text; got != want {
			t.Errorf("%+v is %q, want %q", q, got, want)
		}
	}
	if got := queueState(&mainapi.BrokerQueue{Consumers: 1, Ready: 3, Delayed: 3}).Text; got != "Consumers return it" {
		t.Errorf("a queue whose messages all wait for another attempt is %q", got)
	}
}
