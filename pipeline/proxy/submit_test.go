package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/proxy"
)

func TestSubmit(t *testing.T) {
	w := newWorld(t, nil).ready()
	for i, path := range []string{"/submit", "/submit/", "/messages", "/api/v1/messages"} {
		a := w.ask(w.as("acme-01"), "POST", path, good)
		if a.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %d %s", path, a.StatusCode, a.body)
		}
		id, _ := a.m["message_id"].(string)
		at, err := time.Parse("2006-01-02T15:04:05.999999Z", fmt.Sprint(a.m["queued_at"]))
		if a.m["status"] != "queued" || a.m["client_id"] != "acme-01" || a.m["duplicate"] != nil || err != nil || time.Since(at) > time.Minute ||
			!regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			t.Errorf("%s: %s", path, a.body)
		}
		if p, ok := a.m["position"].(float64); !ok || p < 1 {
			t.Errorf("%s: position %v", path, a.m["position"])
		}
		if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("X-RateLimit-Limit") != "1000" || a.Header.Get("X-RateLimit-Remaining") == "" || a.Header.Get("X-RateLimit-Reset") == "" {
			t.Errorf("%s: %v", path, a.Header)
		}
		items := w.queue.stored()
		if len(items) != i+1 {
			t.Fatalf("%d items", len(items))
		}
		it := items[i]
		if it.MessageID != id || it.ClientID != "acme-01" || it.Domain != "default" || it.Enc != pipeline.EncHPKE || !it.QueuedAt.Equal(at) {
			t.Errorf("item %+v", it)
		}
		if c := w.open(it); c.SenderNumber != "+4915200000000" || c.MessageBody != "Test message" || c.Metadata != nil {
			t.Errorf("content %+v", c)
		}
		if b, _ := json.Marshal(it); strings.Contains(string(b), "Test message") || strings.Contains(string(b), "49152") {
			t.Errorf("readable: %s", b)
		}
	}
	w.eventually("the messages are not registered", func() bool { return len(w.main.rows()) == 4 })
	if log := w.log.String(); strings.Contains(log, "49152") || strings.Contains(log, "Test message") {
		t.Error(log)
	}
	if n := w.count("proxy_messages_enqueued_total", ""); n != 4 {
		t.Errorf("%v enqueued", n)
	}
	if n := w.count("proxy_certificate_validations_total", "valid"); n != 4 {
		t.Errorf("%v valid", n)
	}
	w.eventually("no registrations are counted", func() bool {
		return w.count("proxy_registrations_total", "ok") == 4 && w.count("proxy_registration_backlog", "") == 0
	})
}

// TestShortestNumber: the limit can be configured, and a number is E.164 all the same.
func TestShortestNumber(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) { c.MinNumber = 4 }).ready()
	c := w.as("acme-01")
	for number, want := range map[string]int{"+123": 202, "+12": 422, "1234": 422, "+0123": 422} {
		a := w.ask(c, "POST", "/submit", `{"sender_number":"`+number+`","message_body":"x"}`)
		if a.StatusCode != want || want == 422 && !strings.Contains(a.body, "4 to 16 characters") {
			t.Errorf("%s: %d %s", number, a.StatusCode, a.body)
		}
	}
}

func TestNumbersAndTexts(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	submit := func(number, text string) int {
		b, err := json.Marshal(map[string]string{"sender_number": number, "message_body": text})
		if err != nil {
			t.Fatal(err)
		}
		return w.ask(c, "POST", "/submit", string(b)).StatusCode
	}
	for _, n := range []string{"+4915200000000", "+4915211111111", "+1234567890", "+1234567890123", "+44123456789", "+19876543210", "+442012345678", "+123456789012345"} {
		if s := submit(n, "x"); s != 202 {
			t.Errorf("%s: %d", n, s)
		}
	}
	for _, n := range []string{"1234567890", "123456789", "+abc123", "+123", "+0123456789", "+1-234-567-890", "+1 234 567 890", "+1234567890123456", "", "+12",
		"+4915200000000\n", "+491520000٠٠٠٠", " +4915200000000"} {
		if s := submit(n, "x"); s != 422 {
			t.Errorf("%q: %d", n, s)
		}
	}
	for text, want := range map[string]int{strings.Repeat("Test ", 195): 202, strings.Repeat("é", 1000): 202, strings.Repeat("😀", 1000): 202, strings.Repeat("x", 1001): 422,
		"": 422, " \t\n": 422, "\u2003\u00a0": 422} {
		if s := submit("+4915200000000", text); s != want {
			t.Errorf("%d bytes: %d, want %d", len(text), s, want)
		}
	}
	if n := w.count("proxy_messages_failed_total", "validation_error"); n != 17 {
		t.Errorf("%v counted", n)
	}
}

// TestBadRequests: what is wrong is named by its place, and nothing of it is repeated.
func TestBadRequests(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	with := func(member string) string {
		return `{"sender_number":"+4915200000000","message_body":"hidden",` + member + `}`
	}
	for _, tc := range []struct{ name, body, kind, loc string }{
		{"nothing", " ", "json_invalid", `["body",`},
		{"no JSON", "hidden", "json_invalid", `["body",0]`},
		{"cut off", `{"sender_number":"+49`, "json_invalid", `["body",`},
		{"a list", `["hidden"]`, "dict_type", `["body"]`},
		{"a string", `"hidden"`, "dict_type", `["body"]`},
		{"garbage behind", good + "hidden", "json_invalid", `["body",`},
		{"a second value", good + good, "json_invalid", `["body",`},
		{"no number", `{"message_body":"hidden"}`, "missing", `["body","sender_number"]`},
		{"no text", `{"sender_number":"+4915200000000"}`, "missing", `["body","message_body"]`},
		{"a number as a number", `{"sender_number":4915200000000,"message_body":"hidden"}`, "string_type", `["body","sender_number"]`},
		{"null", `{"sender_number":null,"message_body":"hidden"}`, "string_type", `["body","sender_number"]`},
		{"text as an object", `{"sender_number":"+4915200000000","message_body":{"hidden":1}}`, "string_type", `["body","message_body"]`},
		{"twice", with(`"sender_number":"+4915200000001"`), "json_invalid", `["body",`},
		{"twice, escaped", with(`"\u0073ender_number":"+4915200000001"`), "json_invalid", `["body",`},
		{"not UTF-8", with("\"x\":\"\xff\""), "json_invalid", `["body",`},
		{"half a surrogate", with(`"x":"\ud800"`), "json_invalid", `["body",`},
		{"a huge number", with(`"metadata":{"n":1e999}`), "value_error", `["body","metadata","n"]`},
		{"a huge number elsewhere", with(`"x":-1e999`), "value_error", `["body","x"]`},
		{"deep", with(`"metadata":{"n":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`), "value_error", `["body","metadata","n"]`},
		{"deeper than a parser goes", with(`"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), "json_invalid", `["body",`},
		{"metadata as a list", with(`"metadata":["hidden"]`), "dict_type", `["body","metadata"]`},
		{"a domain that is none", with(`"metadata":{"domain":"-hidden-"}`), "value_error", `["body","metadata","domain"]`},
		{"a domain of another type", with(`"metadata":{"domain":7}`), "string_type", `["body","metadata","domain"]`},
		{"a time of another type", with(`"metadata":{"timestamp":7}`), "string_type", `["body","metadata","timestamp"]`},
		{"large metadata", with(`"metadata":{"x":"` + strings.Repeat("h", 4096) + `"}`), "too_long", `["body","metadata"]`},
		{"metadata that escapes make large", with(`"metadata":{"` + strings.Repeat(`\u0001`, 3000) + `":1}`), "too_long", `["body","metadata"]`},
		{"much metadata", with(`"metadata":{` + manyKeys(33) + `}`), "too_long", `["body","metadata"]`},
		{"a key of another type", with(`"message_id":7`), "string_type", `["body","message_id"]`},
		{"an empty key", with(`"message_id":""`), "value_error", `["body","message_id"]`},
		{"a long key", with(`"message_id":"` + strings.Repeat("x", 129) + `"`), "value_error", `["body","message_id"]`},
		{"a key that ends in a blank", with(`"message_id":"a "`), "value_error", `["body","message_id"]`},
		{"a key beyond ASCII", with(`"message_id":"é"`), "value_error", `["body","message_id"]`},
	} {
		for _, path := range []string{"/submit", "/api/v1/messages"} {
			a := w.ask(c, "POST", path, tc.body)
			list, _ := a.m["errors"].([]any)
			if path == "/submit" {
				list, _ = a.m["detail"].([]any)
			}
			if a.StatusCode != 422 || len(list) == 0 {
				t.Errorf("%s: %d %s", tc.name, a.StatusCode, a.body)
				continue
			}
			first := list[0].(map[string]any)
			loc, _ := json.Marshal(first["loc"])
			if first["type"] != tc.kind || !strings.HasPrefix(string(loc), tc.loc) || strings.Contains(a.body, "hidden") || strings.Contains(a.body, "49152") {
				t.Errorf("%s: %s", tc.name, a.body)
			}
		}
	}
	if a := w.ask(c, "POST", "/submit", `{"sender_number":"x"}`); len(a.m["detail"].([]any)) != 2 || a.m["details"].(map[string]any)["field"] != "sender_number" ||
		!strings.HasPrefix(fmt.Sprint(a.m["message"]), "Invalid phone number format. Must match E.164 format: ^") {
		t.Errorf("two mistakes: %s", a.body)
	}
	if a := w.ask(c, "POST", "/submit", with(`"x":"`+strings.Repeat("x", 70000)+`"`)); a.StatusCode != 413 {
		t.Errorf("large: %d", a.StatusCode)
	}
	if a := w.ask(c, "POST", "/submit", "a=b", "Content-Type", "application/x-www-form-urlencoded"); a.StatusCode != 415 {
		t.Errorf("form: %d", a.StatusCode)
	}
	if a := w.ask(c, "PUT", "/submit", good); a.StatusCode != 405 || a.Header.Get("Allow") != "POST" {
		t.Errorf("PUT: %d", a.StatusCode)
	}
	if n := len(w.queue.stored()); n != 0 {
		t.Errorf("%d messages were queued", n)
	}
}

func manyKeys(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"k%d":%d`, i, i)
	}
	return strings.Join(list, ",")
}

func TestMetadata(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as(`acme "01"`)
	for i, tc := range []struct{ in, domain, want string }{
		{`null`, "default", ``},
		{`{}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default"}`},
		{`{"client_id":"somebody","test": true, "n" : [1, 2]}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default","test":true,"n":[1,2]}`},
		{`{"domain":"shop.example"}`, "shop.example", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"shop.example"}`},
		{`{"domain":null,"timestamp":"2026-03-01T08:15:30+01:00"}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default","client_timestamp":"2026-03-01T07:15:30Z"}`},
		{`{"timestamp":"yesterday"}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default"}`},
		{`{"<&>":"<&> "}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default","<&>":"<&> "}`},
		{`{"timestamp":"2026-03-01 08:15:30","client_timestamp":"mine"}`, "default", `{"timestamp":AT,"client_id":"acme \"01\"","domain":"default","client_timestamp":"mine"}`},
	} {
		a := w.ask(c, "POST", "/submit", `{"sender_number":"+4915200000000","message_body":"x","metadata":`+tc.in+`}`)
		if a.StatusCode != 202 {
			t.Fatalf("%s: %d %s", tc.in, a.StatusCode, a.body)
		}
		it := w.queue.stored()[i]
		at, _ := json.Marshal(a.m["queued_at"])
		if got, want := string(w.open(it).Metadata), strings.Replace(tc.want, "AT", string(at), 1); got != want || it.Domain != tc.domain {
			t.Errorf("%s:\n got %s\nwant %s\ndomain %s", tc.in, got, want, it.Domain)
		}
	}
	if a := w.ask(c, "POST", "/submit", `{"sender_number":"+4915200000000","message_body":"x","metadata":{`+manyKeys(32)+`}}`); a.StatusCode != 202 {
		t.Errorf("32 keys: %s", a.body)
	}
}

// TestDomainOfTheCertificate: a client that our authority registered for a domain has that.
func TestDomainOfTheCertificate(t *testing.T) {
	w := newWorld(t, nil).ready()
	template := w.ca.Template("acme-02", sealmq.RoleClient)
	template.Subject.OrganizationalUnit = []string{"shop.example"}
	c := w.client(w.ca.ClientWith(w.ca.Issue(template)), true)
	for metadata, status := range map[string]int{`{}`: 202, `{"domain":"shop.example"}`: 202, `{"domain":"other"}`: 403, `{"domain":"default"}`: 403} {
		if a := w.ask(c, "POST", "/submit", `{"sender_number":"+4915200000000","message_body":"x","metadata":`+metadata+`}`); a.StatusCode != status {
			t.Errorf("%s: %d %s", metadata, a.StatusCode, a.body)
		}
	}
	for _, it := range w.queue.stored() {
		if it.Domain != "shop.example" {
			t.Errorf("domain %s", it.Domain)
		}
	}
}

func TestRepeats(t *testing.T) {
	w := newWorld(t, nil).ready()
	c, other := w.as("acme-01"), w.as("acme-02")
	body := func(text, more string) string {
		return `{"sender_number":"+4915200000000","message_body":"` + text + `"` + more + `}`
	}
	first := w.ask(c, "POST", "/submit", body("x", ""), "Idempotency-Key", "order 1")
	id := first.m["message_id"]
	if first.StatusCode != 202 || first.m["client_key"] != "order 1" || !regexp.MustCompile(`-8[0-9a-f]{3}-`).MatchString(fmt.Sprint(id)) {
		t.Fatalf("%d %s", first.StatusCode, first.body)
	}
	for name, a := range map[string]answer{
		"the same":            w.ask(c, "POST", "/api/v1/messages", body("x", ""), "Idempotency-Key", "order 1"),
		"the key in the body": w.ask(c, "POST", "/submit", body("x", `,"message_id":"order 1"`)),
		"both":                w.ask(c, "POST", "/submit", body("x", `,"message_id":"order 1"`), "Idempotency-Key", "order 1"),
		"another spelling":    w.ask(c, "POST", "/submit", body(`\u0078`, `,"metadata":null`), "Idempotency-Key", "order 1"),
		"another time":        w.ask(c, "POST", "/submit", body("x", `,"metadata":{"timestamp":"2026-03-01T08:15:30Z"}`), "Idempotency-Key", "order 1"),
	} {
		if a.StatusCode != 202 || a.m["message_id"] != id || a.m["duplicate"] != true {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	for name, a := range map[string]answer{
		"another text":     w.ask(c, "POST", "/submit", body("y", ""), "Idempotency-Key", "order 1"),
		"another metadata": w.ask(c, "POST", "/submit", body("x", `,"metadata":{"a":1}`), "Idempotency-Key", "order 1"),
		"another domain":   w.ask(c, "POST", "/submit", body("x", `,"metadata":{"domain":"d"}`), "Idempotency-Key", "order 1"),
	} {
		if a.StatusCode != 409 || a.m["error"] != "conflict" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if a := w.ask(other, "POST", "/submit", body("z", ""), "Idempotency-Key", "order 1"); a.StatusCode != 202 || a.m["message_id"] == id || a.m["duplicate"] != nil {
		t.Errorf("another client: %d %s", a.StatusCode, a.body)
	}
	for _, key := range []string{"", "é", strings.Repeat("x", 129)} {
		if a := w.ask(c, "POST", "/submit", body("x", ""), "Idempotency-Key", key); a.StatusCode != 422 {
			t.Errorf("%q: %d", key, a.StatusCode)
		}
	}
	if a := w.ask(c, "POST", "/submit", body("x", `,"message_id":"order 2"`), "Idempotency-Key", "order 1"); a.StatusCode != 422 {
		t.Errorf("two keys: %d", a.StatusCode)
	}
	if n := len(w.queue.stored()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	if n := w.count("proxy_messages_failed_total", "conflict"); n != 3 {
		t.Errorf("%v conflicts", n)
	}
}

// TestRepeatsAtAnotherProxy: all proxies make the same id of a client's key, because the main server
// gives them one key for that. A proxy with a key of its own says that it is one.
func TestRepeatsAtAnotherProxy(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(_ *world, c *proxy.Config) { c.IDKeyFile = filepath.Join(dir, "first") }).ready()
	c := w.as("acme-01")
	first := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k")
	if first.StatusCode != 202 {
		t.Fatalf("%d %s", first.StatusCode, first.body)
	}
	second := func(file string, key []byte) {
		t.Helper()
		cfg := minimal(w)
		cfg.IDKeyFile = filepath.Join(dir, file)
		if key != nil {
			testca.WriteFile(t, cfg.IDKeyFile, key)
		}
		var err error
		if w.proxy, err = proxy.New(cfg); err != nil {
			t.Fatal(err)
		}
		w.listenWith(nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); w.proxy.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		w.eventually("the second proxy has no keys", func() bool { return w.ask(c, "POST", "/submit", good).StatusCode == 202 })
	}
	second("second", nil)
	if a := w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k"); a.StatusCode != 202 || a.m["message_id"] != first.m["message_id"] || a.m["duplicate"] != true {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := w.ask(c, "GET", "/health", ""); a.m["checks"].(map[string]any)["id_key"] != "healthy" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	second("stranger", bytes.Repeat([]byte{8}, pipeline.IDKeyBytes))
	if a := w.ask(c, "GET", "/health", ""); a.m["status"] != "degraded" || !strings.Contains(a.body, "this proxy's key of message ids (") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "stranger")); err != nil || kept[0] != 8 {
		t.Errorf("its key was replaced: %v", err)
	}
}

func TestBatch(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	batch := `{"messages":[` + good + `,{"sender_number":"x","message_body":"x"},7,
		{"sender_number":"+4915200000000","message_body":"a","message_id":"k"},{"sender_number":"+4915200000000","message_body":"a","message_id":"k"},
		{"sender_number":"+4915200000000","message_body":"b","message_id":"k"}],"more":null}`
	for _, path := range []string{"/api/v1/messages/batch", "/submit/batch"} {
		w.queue.set(func() { w.queue.items = nil })
		a := w.ask(c, "POST", path, batch)
		list, _ := a.m["results"].([]any)
		if a.StatusCode != 200 || len(list) != 6 || a.m["accepted"] != 3.0 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		want := []string{"queued", "invalid", "invalid", "queued", "queued", "conflict"}
		for i, e := range list {
			if e := e.(map[string]any); e["status"] != want[i] {
				t.Errorf("%d: %v", i, e)
			}
		}
		errs := list[1].(map[string]any)["errors"].([]any)
		if loc, _ := json.Marshal(errs[0].(map[string]any)["loc"]); string(loc) != `["body","messages",1,"sender_number"]` {
			t.Errorf("loc %s", loc)
		}
		if list[4].(map[string]any)["duplicate"] != true || list[4].(map[string]any)["message_id"] != list[3].(map[string]any)["message_id"] || list[3].(map[string]any)["client_key"] != "k" {
			t.Errorf("%v", list)
		}
	}
	for name, body := range map[string]string{"none": `{"messages":[]}`, "too many": `{"messages":[` + strings.Repeat(`{},`, 500) + `{}]}`, "no list": `{"messages":{}}`, "missing": `{}`,
		"a list alone": `[` + good + `]`, "cut off": `{"messages":[` + good, "twice": `{"messages":[` + good + `],"messages":[]}`, "garbage": `{"messages":[` + good + `]}x`} {
		if a := w.ask(c, "POST", "/api/v1/messages/batch", body); a.StatusCode != 422 || a.m["code"] != "validation_error" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	if a := w.ask(c, "POST", "/api/v1/messages/batch", `{"messages":[`+strings.Repeat(good+",", 499)+good+`]}`); a.m["accepted"] != 500.0 {
		t.Errorf("500: %d %.200s", a.StatusCode, a.body)
	}
	w.queue.set(func() { w.queue.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue cannot be reached"} })
	if a := w.ask(c, "POST", "/api/v1/messages/batch", `{"messages":[`+good+`]}`); a.StatusCode != 503 {
		t.Errorf("without the queue: %d %s", a.StatusCode, a.body)
	}
}

// TestSubmissionsAreGrouped: what arrives while the queue is busy is one call.
func TestSubmissionsAreGrouped(t *testing.T) {
	w := newWorld(t, nil).ready()
	hold := make(chan struct{})
	w.queue.set(func() { w.queue.hold, w.queue.deaf = hold, true })
	c := w.as("acme-01")
	var wg sync.WaitGroup
	ids := make(chan string, 64)
	submit := func() {
		wg.Go(func() {
			a, err := w.try(c, "POST", "/submit", good)
			if err != nil || a.StatusCode != 202 {
				t.Errorf("%v %v", a.body, err)
				return
			}
			ids <- fmt.Sprint(a.m["message_id"])
		})
	}
	submit()
	w.eventually("the first call does not come", func() bool { w.queue.mu.Lock(); defer w.queue.mu.Unlock(); return len(w.queue.calls) == 1 })
	for range 40 {
		submit()
	}
	w.eventually("the requests do not come", func() bool { return w.proxy.Pending() == 40 })
	close(hold)
	wg.Wait()
	close(ids)
	var all []string
	for id := range ids {
		all = append(all, id)
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 41 {
		t.Errorf("%d ids", len(all))
	}
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	if len(w.queue.calls) != 2 {
		t.Errorf("%d calls for 41 messages", len(w.queue.calls))
	}
}

// TestCallsAreBoundedInBytes: long texts that arrive together are not one call that takes too
// long.
func TestCallsAreBoundedInBytes(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) { c.MaxBody = pipeline.MaxBody }).ready()
	hold := make(chan struct{}, 1)
	w.queue.set(func() { w.queue.hold = hold })
	c := w.as("acme-01")
	long := strings.Replace(good, "Test message", strings.Repeat("€", pipeline.MaxBody), 1)
	var wg sync.WaitGroup
	for range 48 {
		wg.Go(func() { w.try(c, "POST", "/submit", long) })
	}
	w.eventually("the requests do not come", func() bool {
		w.queue.mu.Lock()
		defer w.queue.mu.Unlock()
		return w.proxy.Pending() == 47 || len(w.queue.calls) > 1 // a slow machine
	})
	close(hold)
	wg.Wait()
	w.queue.mu.Lock()
	defer w.queue.mu.Unlock()
	for _, items := range w.queue.calls {
		bytes := 0
		for _, it := range items {
			bytes += len(it.Sealed)
		}
		if bytes > 8<<20 {
			t.Errorf("a call has %d messages of %d bytes", len(items), bytes)
		}
	}
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(_ *world, c *proxy.Config) {
		c.Rate = &httpkit.Rate{PerSecond: 1, Burst: 3}
		now := time.Now() // it stands still
		c.Now = func() time.Time { return now }
	}).ready()
	c := w.as("acme-01")
	for range 2 {
		w.ask(c, "POST", "/submit", good)
	}
	if a := w.ask(c, "POST", "/submit", "nonsense"); a.StatusCode != 422 { // it counts too
		t.Errorf("%d", a.StatusCode)
	}
	a := w.ask(c, "POST", "/submit", "nonsense") // the rate comes before the body
	if a.StatusCode != 429 || a.Header.Get("Retry-After") == "" || a.m["error"] != "rate_limit_exceeded" || a.m["retry_after"] == nil ||
		a.m["message"] != "Rate limit exceeded: 1 messages per second" || a.Header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a := w.ask(w.as("acme-02"), "POST", "/api/v1/messages/batch", `{"messages":[`+strings.Repeat(good+",", 3)+good+`]}`); a.StatusCode != 429 {
		t.Errorf("a batch of four: %d %s", a.StatusCode, a.body)
	}
	w.proxy.SetRate(httpkit.Rate{})
	if a := w.ask(w.as("acme-03"), "POST", "/submit", good); a.StatusCode != 429 {
		t.Errorf("blocked: %d", a.StatusCode)
	}
	w.proxy.SetRate(httpkit.Rate{PerSecond: -1})
	for range 10 {
		if a := w.ask(c, "POST", "/submit", good); a.StatusCode != 202 {
			t.Errorf("free: %d", a.StatusCode)
		}
	}
	if a := w.ask(w.client(w.ca.WithoutCertificate(), true), "POST", "/submit", "nonsense"); a.StatusCode != 401 { // who comes first
		t.Errorf("nobody: %d", a.StatusCode)
	}
	if n := w.count("proxy_rate_limited_total", ""); n != 3 {
		t.Errorf("%v limited", n)
	}
}

func TestStateOfAnOwnMessage(t *testing.T) {
	w := newWorld(t, nil).ready()
	c := w.as("acme-01")
	id := fmt.Sprint(w.ask(c, "POST", "/submit", good, "Idempotency-Key", "k").m["message_id"])
	w.eventually("the message is not registered", func() bool { return len(w.main.rows()) == 1 })
	a := w.ask(c, "GET", "/api/v1/messages/"+id, "")
	if a.StatusCode != 200 || a.m["status"] != "queued" || a.m["client_id"] != "acme-01" || a.m["client_key"] != "k" || a.m["attempt_count"] != 0.0 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a := w.ask(w.as("acme-02"), "GET", "/api/v1/messages/"+id, ""); a.StatusCode != 404 || a.m["code"] != "not_found" {
		t.Errorf("another's: %d %s", a.StatusCode, a.body)
	}
	if a := w.ask(c, "GET", "/api/v1/messages/a%20b", ""); a.StatusCode != 422 {
		t.Errorf("no id: %d", a.StatusCode)
	}
	w.main.set(func() {
		w.main.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the main server cannot be reached"}
	})
	if a := w.ask(c, "GET", "/api/v1/messages/"+id, ""); a.StatusCode != 503 {
		t.Errorf("without the main server: %d", a.StatusCode)
	}
}
