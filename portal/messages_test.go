package portal

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// nasty is what somebody else may have written into any field.
const nasty = `<script>alert("1")</script> 🦭 שלום ` + "\u202e"

func testMessage(id string, s mainapi.State) mainapi.Message {
	m := mainapi.Message{ID: 1, ClientID: "acme-01", MessageID: id, Status: s, SenderNumberMasked: "+491****0000", Domain: "default", AttemptCount: 1, QueuedAt: testNow.Add(-time.Minute), CreatedAt: testNow.Add(-time.Minute), Sealed: true}
	if s == delivered {
		m.DeliveredAt = testNow.Add(-59 * time.Second)
	}
	return m
}

const list = "GET /api/v1/messages"

func TestMessagesList(t *testing.T) {
	w := newWorld(t, Config{Prefix: "/mq"})
	bad := testMessage("m-2", failed)
	bad.ClientID, bad.ErrorMessage, bad.ClientKey, bad.Domain = nasty, nasty+strings.Repeat("x", 500), nasty, nasty
	page := mainapi.MessagePage{Items: []mainapi.Message{testMessage("m-1", delivered), bad}, NextCursor: "next", Total: mainapi.Total{Count: 12_480, Exact: true}}
	w.on(list, http.StatusOK, page)
	rec := w.browse(admin, "/mq/messages?status=failed&domain=shop", nil)
	want(t, rec, http.StatusOK, "12,480 found", "491****0000", "1.0 s", "Retry the 12,480 that match", `value="failed" selected`, "cursor=next", "&lt;script&gt;", `href="/mq/messages/acme-01/m-1"`)
	if strings.Contains(rec.Body.String(), "<script>alert") {
		t.Error("a text of somebody else is a script")
	}
	rec = w.browse(user, "/mq/messages?cursor=next&trail=-.a", nil)
	want(t, rec, http.StatusOK, "trail=-", "‹ Newer")
	if body := rec.Body.String(); strings.Contains(body, "Retry") || strings.Contains(body, `name="client_id"`) || strings.Contains(body, "<th>Client</th>") {
		t.Errorf("a user is shown what is not for him:\n%s", body)
	}
	for query, text := range map[string]string{"from=yesterday": "This is not a day or a time.", "message_id=ab": "Give at least 4 characters."} {
		want(t, w.browse(admin, "/mq/messages?"+query, nil), http.StatusOK, text)
	}
	// Nothing among the rows that were looked at is not the end.
	w.on(list, http.StatusOK, mainapi.MessagePage{Items: []mainapi.Message{}, NextCursor: "further"})
	want(t, w.browse(admin, "/mq/messages?client_key=x", nil), http.StatusOK, "Nothing in the newest messages", "cursor=further")
	w.on(list, http.StatusOK, mainapi.MessagePage{Items: []mainapi.Message{}})
	want(t, w.browse(admin, "/mq/messages?client_key=x", nil), http.StatusOK, "No message matches")
	want(t, w.browse(admin, "/mq/messages", nil), http.StatusOK, "No message has arrived yet", "sealmq submit")
	want(t, w.browse(user, "/mq/messages", nil), http.StatusOK, "Your account has no client yet")
	w.refuse(list, http.StatusUnprocessableEntity, "validation_error", "the search for a number has expired")
	wantRedirect(t, w.browse(admin, "/mq/messages?number_token=old&status=failed&cursor=x", nil), "/mq/messages?status=failed")
}

// TestNumbersStandInNoAddress: what was typed goes to the main server in a body, and a token
// comes back.
func TestNumbersStandInNoAddress(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("POST /api/v1/messages/search", http.StatusOK, mainapi.MessagePage{Items: []mainapi.Message{}, NumberToken: "t0ken"})
	wantRedirect(t, w.browse(user, "/messages/find", url.Values{"q": {"+49 (152) 000-00000"}, "status": {"failed"}, "number_token": {"old"}}), "/messages?number_token=t0ken&status=failed")
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `"sender_number":"+4915200000000"`) {
		t.Errorf("the main server was asked %s", last)
	}
	w.browse(user, "/messages/find", url.Values{"q": {"0049 152 00000000"}})
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `"sender_number":"+4915200000000"`) {
		t.Errorf("the main server was asked %s", last)
	}
	wantRedirect(t, w.browse(user, "/messages/find", url.Values{"q": {"0195-83a2"}, "from": {"2026-11-01"}}), "/messages?from=2026-11-01&message_id=0195-83a2")
	wantRedirect(t, w.browse(user, "/messages/find", url.Values{"q": {"abc"}}), "/messages?")
}

func TestNumbersAsPeopleTypeThem(t *testing.T) {
	for text, want := range map[string]string{"+49 (0)152 000-00000": "+4915200000000", "0049 152 00000000": "+4915200000000", "4915200000000": "+4915200000000", "+44.20.79460000": "+442079460000",
		"0152 00000000": "lacks its country code", "0000": "4 digits", "(0152) 0000": "lacks its country code", "+4": "1 digit. "} {
		number, advice := internationalNumber(text)
		if number != want && (advice == "" || !strings.Contains(advice, want)) {
			t.Errorf("%s is %q %q, want %q", text, number, advice, want)
		}
	}
	w := newWorld(t, Config{})
	for text, to := range map[string]string{"0152 00000000": "/messages?", "0195": "/messages?message_id=0195"} {
		rec := w.browse(user, "/messages/find", url.Values{"q": {text}})
		wantRedirect(t, rec, to)
		if !strings.HasPrefix(cookie(rec, "__Host-sealmq-flash"), "ey") {
			t.Errorf("%s: the reader is not told what to type", text)
		}
	}
	w.on("POST /api/v1/search", http.StatusOK, mainapi.Found{})
	for text, says := range map[string]string{"0152 00000000": "lacks its country code", "+49 152 00000000": "with its country code, as an id", "0000 1": "This has 5 digits"} {
		want(t, w.browse(user, "/search", url.Values{"q": {text}}), http.StatusOK, says, "&#43;49 1")
	}
}

var updateStory = flag.Bool("update-story", false, "write testdata/message.html")

// TestMessageIsAStory compares the page of a message that failed, was queued again and waits.
func TestMessageIsAStory(t *testing.T) {
	w := newWorld(t, Config{})
	m := testMessage("m-1", queued)
	m.ClientID, m.ErrorMessage = nasty, nasty
	base := "/api/v1/clients/" + nasty + "/messages/m-1"
	at := func(s int) time.Time { return testNow.Add(time.Duration(s-60) * time.Second) }
	w.on("GET "+base, http.StatusOK, m)
	story := mainapi.Timeline{Workers: 1, Events: []mainapi.TimelineEvent{
		{Event: "accepted", At: at(0), ProxyID: nasty}, {Event: "failed", At: at(1), Attempt: 1, WorkerID: nasty, ErrorMessage: nasty}, {Event: "failed", At: at(31), Attempt: 9, Omitted: 7, WorkerID: "worker-2", ErrorMessage: "503"},
		{Event: "given_up", At: at(40), Attempt: 10, WorkerID: "worker-2", ErrorMessage: "gone"}, {Event: "requeued", At: at(50)}}}
	w.on("GET "+base+"/timeline", http.StatusOK, story)
	w.on("GET "+base+"/content", http.StatusOK, mainapi.MessageContent{MessageID: "m-1", ClientID: m.ClientID, Status: queued, MessageBody: nasty, Metadata: map[string]any{"k": nasty}})
	page := "/messages/" + url.PathEscape(nasty) + "/m-1"
	rec := w.browse(operator, page, nil)
	want(t, rec, http.StatusOK, "7 further attempts failed", "Given up after 10 attempts", "Waits to be delivered", "Your role does not read texts")
	alone := story
	alone.Workers = 0
	w.on("GET "+base+"/timeline", http.StatusOK, alone)
	want(t, w.browse(operator, page, nil), http.StatusOK, "Waits: no worker is connected", `href="/admin/proxies"`)
	if rec := w.browse(user, page, nil); strings.Contains(rec.Body.String(), "/admin/proxies") {
		t.Error("a user is sent to a page that is not for users")
	}
	w.on("GET "+base+"/timeline", http.StatusOK, story)
	m.SenderNumberMasked = "hash:a0900ec0" // of the earlier system
	w.on("GET "+base, http.StatusOK, m)
	want(t, w.browse(user, page, nil), http.StatusOK, "hash:a0900ec0", "Only a hash of the number is stored")
	m.SenderNumberMasked = "+491****0000"
	w.on("GET "+base, http.StatusOK, m)
	rec = w.browse(user, page, nil, "HX-Request", "true")
	want(t, rec, http.StatusOK, "Show the text", "will be recorded")
	golden := filepath.Join("testdata", "message.html")
	if *updateStory {
		if err := os.WriteFile(golden, rec.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(golden); err != nil || string(data) != rec.Body.String() {
		t.Errorf("the page differs from %s, %v; if that is meant, run go test ./portal -run TestMessageIsAStory -update-story\n%s", golden, err, rec.Body)
	}
	rec = w.browse(user, page+"/text", url.Values{})
	want(t, rec, http.StatusOK, "is recorded in the audit log", `dir="auto">&lt;script&gt;`)
	if strings.Contains(rec.Body.String(), "<script>alert") {
		t.Error("a text is a script")
	}
}

func TestRetries(t *testing.T) {
	w := newWorld(t, Config{})
	w.on(list, http.StatusOK, mainapi.MessagePage{Items: []mainapi.Message{testMessage("m", failed)}, Total: mainapi.Total{Count: 3, Exact: true}})
	want(t, w.browse(admin, "/messages/retry?client_id=acme-01&status=failed", nil), http.StatusOK, "3 failed messages will be queued again", `name="client_id" value="acme-01"`)
	job := mainapi.RetryJob{ID: "0195839e7a4000c0ffee", State: mainapi.RetryJobStateRunning, Total: mainapi.Total{Count: 4, Exact: true}, Looked: 2, Requeued: 1, Missing: 1, StartedAt: testNow, UpdatedAt: testNow, StartedBy: nasty}
	w.on("POST /api/v1/messages/retry-jobs", http.StatusAccepted, job)
	there := "/admin/retries/" + job.ID
	wantRedirect(t, w.browse(admin, "/messages/retry", url.Values{"all": {"true"}, "client_id": {"acme-01"}}), there)
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `"client_id":"acme-01"`) || strings.Contains(last, "items") {
		t.Errorf("the main server was asked %s", last)
	}
	wantRedirect(t, w.browse(admin, "/messages/retry", url.Values{"m": {"a/b/m-1", "acme-01/m-2"}}), there)
	if last := w.asked[len(w.asked)-1]; !strings.Contains(last, `{"client_id":"a/b","message_id":"m-1"},{"client_id":"acme-01","message_id":"m-2"}`) {
		t.Errorf("the main server was asked %s", last)
	}
	wantRedirect(t, w.browse(admin, "/messages/retry", url.Values{}, "Referer", "https://portal.example/messages?status=failed"), "/messages?status=failed")
	get := "GET /api/v1/messages/retry-jobs/" + job.ID
	for state, text := range map[mainapi.RetryJobState]string{"running": `hx-trigger="every 2s"`, "done": "Done", "cancelled": "Cancelled", "interrupted": "Interrupted by a restart", "failed": "Failed"} {
		job.State = state
		w.on(get, http.StatusOK, job)
		rec := w.browse(operator, there, nil)
		want(t, rec, http.StatusOK, text, "1 message had no dead letter any more")
		if running := state == "running"; strings.Contains(rec.Body.String(), "hx-get") != running || strings.Contains(rec.Body.String(), "/cancel") {
			t.Errorf("%s:\n%s", state, rec.Body)
		}
	}
}

func TestOperations(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("POST /api/v1/retention/preview", http.StatusOK, mainapi.RetentionResult{RetentionDays: 90, Cutoff: testNow.AddDate(0, 0, -90), Messages: 4711})
	w.on("POST /api/v1/retention/run", http.StatusOK, mainapi.RetentionResult{RetentionDays: 90, Messages: 4712})
	want(t, w.browse(admin, "/admin/data-retention?days=90", nil), http.StatusOK, "4,711", `data-match="4711"`, "Delete 4,711 messages")
	want(t, w.browse(admin, "/admin/data-retention?days=7", nil), http.StatusUnprocessableEntity, "between 30 and 3,650")
	form := url.Values{"retention_days": {"90"}, "expected": {"4711"}, "confirm": {"4711"}}
	rec := w.browse(admin, "/admin/data-retention/cleanup", form)
	wantRedirect(t, rec, "/admin/data-retention?days=90")
	if last := w.asked[len(w.asked)-1]; !strings.HasPrefix(last, "POST /api/v1/retention/run") {
		t.Errorf("the main server was asked %s", last)
	}
	form.Set("confirm", "4710")
	before := fmt.Sprint(w.asked)
	w.browse(admin, "/admin/data-retention/cleanup", form)
	if after := strings.TrimPrefix(fmt.Sprint(w.asked), before[:len(before)-1]); strings.Contains(after, "retention/run") {
		t.Error("messages are deleted without the right number")
	}
	w.on("GET /api/v1/audit", http.StatusOK, mainapi.AuditPage{NextCursor: "7", Items: []mainapi.AuditEntry{{ID: 8, At: testNow, EventType: "auth_denied", Severity: "warning", Actor: nasty, ClientID: nasty, Details: map[string]any{"reason": nasty, "n": 3}}}})
	w.on("GET /api/v1/audit/chain", http.StatusOK, mainapi.AuditChain{Records: 12, Until: testNow, LastHash: "abc", Broken: "it was changed", CheckedAt: testNow})
	want(t, w.browse(operator, "/admin/audit?actor=anna", nil), http.StatusOK, "broken at line 13: it was changed", "Was refused", "&lt;script&gt;", "n: 3", "cursor=7")
	w.on("GET /api/v1/database", http.StatusOK, mainapi.Database{Kind: "mysql", Name: "message_system", Version: "11", Host: "db", Port: "3306", Bytes: 5 << 30, Rows: map[string]int64{"messages": 5_000_000}})
	want(t, w.browse(operator, "/admin/database", nil), http.StatusOK, "5.0 GiB", "5,000,000", "db:3306")
	w.on("GET /api/v1/clients", http.StatusOK, map[string]any{"items": []mainapi.ClientInfo{{ClientID: nasty, Domain: nasty, Status: "revoked", CreatedAt: testNow, MessagesLastDay: 1234}}})
	want(t, w.browse(operator, "/admin/clients", nil), http.StatusOK, "Revoked", "1,234", "&lt;script&gt;")
	w.on("GET /api/v1/clients/acme-01", http.StatusOK, mainapi.ClientInfo{ClientID: "acme-01", Domain: "shop", Status: "active", CreatedAt: testNow, Messages: 12})
	want(t, w.browse(operator, "/admin/clients/acme-01", nil), http.StatusOK, "client_id=acme-01&amp;status=failed", "/admin/certificates?client=acme-01&amp;status=all")
	w.refuse("GET /api/v1/clients/lab-9", http.StatusNotFound, "not_found", "There is no such client")
	w.on("GET /api/v1/certificates", http.StatusOK, mainapi.CertificatePage{Items: []mainapi.Certificate{}})
	want(t, w.browse(operator, "/admin/clients/lab-9", nil), http.StatusNotFound, "There is no such client")
	w.on("GET /api/v1/certificates", http.StatusOK, mainapi.CertificatePage{Items: []mainapi.Certificate{certificateOf("acme-01", 90)}})
	wantRedirect(t, w.browse(operator, "/admin/clients/lab-9", nil), "/admin/certificates?client=lab-9&status=all")
	want(t, w.browse(admin, "/admin/clients/acme-01", nil), http.StatusOK, "/admin/certificates/"+testFingerprint+"/revoke", "Cut it off")
	if strings.Contains(w.browse(operator, "/admin/clients/acme-01", nil).Body.String(), "/revoke") {
		t.Error("an operator is offered to revoke")
	}
	w.refuse("PATCH /api/v1/clients/acme-01", 422, "validation_error", "The domain is not valid")
	want(t, w.browse(admin, "/admin/clients/acme-01/domain", url.Values{"domain": {"-"}}), http.StatusUnprocessableEntity, "The domain is not valid")
	w.on("GET /api/v1/database", http.StatusOK, mainapi.Database{Kind: "sqlite", Name: "records.db", Path: "/data/records.db"})
	w.on("GET /api/v1/overview", http.StatusOK, mainapi.Overview{Disk: &mainapi.Disk{FreeBytes: 81 << 30, TotalBytes: 100 << 30}})
	want(t, w.browse(operator, "/admin/database", nil), http.StatusOK, "Free on its disk", "81 GiB", "100 GiB")
	w.on("GET /api/v1/overview", http.StatusOK, mainapi.Overview{Components: []mainapi.Component{{Role: "worker", Name: nasty, State: "away", Since: testNow, LastSeen: testNow}, {Role: "proxy", Name: "proxy-1", State: "online", Since: testNow, LastSeen: testNow}}})
	want(t, w.browse(operator, "/admin/proxies", nil), http.StatusOK, "Away", "proxy-1", "&lt;script&gt;")
	w.on("GET /api/v1/log-level", http.StatusOK, mainapi.LogLevel{Level: "debug"})
	w.on("PUT /api/v1/log-level", http.StatusOK, mainapi.LogLevel{Level: "warn"})
	want(t, w.browse(admin, "/admin/proxies", nil), http.StatusOK, "Level of the log", `<option value="debug" selected>`)
	w.browse(admin, "/admin/log-level", url.Values{"level": {"warn"}})
	if !strings.Contains(fmt.Sprint(w.asked), "PUT /api/v1/log-level") {
		t.Error("the level is not changed")
	}
}
