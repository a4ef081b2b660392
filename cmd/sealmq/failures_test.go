//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/pipeline"
)

// failing is a pipeline of which parts fail.
type failing struct {
	*rolesWorld
	http, admin *http.Client
}

func newFailing(t *testing.T, env ...string) *failing {
	f := prepareFailing(t, env...)
	f.begin()
	return f
}

// prepareFailing starts nothing yet.
func prepareFailing(t *testing.T, env ...string) *failing {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	return &failing{rolesWorld: newRolesWorld(t, pipelineproc.Config{Env: append([]string{"SEALMQ_WORKER_RETRY_INTERVAL=1s"}, env...)})}
}

// begin starts all roles.
func (f *failing) begin() {
	f.Helper()
	if err := f.StartAll(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.http, f.admin = f.client("acme-01"), f.client(ca.AdminName)
	f.until("the proxy is healthy", func() bool { return f.health(pipelineproc.Proxy) == "healthy" })
}

// in is the same pipeline for a part of the test.
func (f *failing) in(t *testing.T) *failing {
	sub, world := *f, *f.rolesWorld
	world.T, sub.rolesWorld = t, &world
	return &sub
}

// submitText submits a message under a key, and returns the status. The proxy answers by itself
// long before the client gives up.
func (f *failing) submitText(key, text string) (status int) {
	f.Helper()
	body := fmt.Sprintf(`{"sender_number":"+4915200000000","message_body":%q,"message_id":%q}`, text, key)
	resp, err := f.http.Post(f.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 {
		f.Logf("%s: %.300s", key, answer)
	}
	if resp.StatusCode >= 500 && !bytes.HasPrefix(bytes.TrimSpace(answer), []byte("{")) {
		f.Errorf("an error without a form: %s", answer)
	}
	return resp.StatusCode
}

// repeatText is submitText until the answer is not 503, which it also is if the queue is slow.
func (f *failing) repeatText(key, text string) (status int) {
	f.Helper()
	f.until(key+" is taken or refused", func() bool {
		status = f.submitText(key, text)
		return status != http.StatusServiceUnavailable
	})
	return status
}

func textOf(key string) string { return "text of " + key }

// accept submits messages, each of which must be accepted.
func (f *failing) accept(keys ...string) {
	f.Helper()
	for _, key := range keys {
		if status := f.repeatText(key, textOf(key)); status != http.StatusAccepted {
			f.Errorf("%s: answered %d", key, status)
		}
	}
}

// get asks the main server as administrator.
func (f *failing) get(path string) (status int, body []byte) {
	f.Helper()
	resp, err := f.admin.Get(f.URL(pipelineproc.Main) + path)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, _ = io.ReadAll(resp.Body)
	return resp.StatusCode, body
}

// delivered waits until each message is one row that says delivered.
func (f *failing) delivered(keys ...string) {
	f.Helper()
	for _, key := range keys {
		f.until(key+" is delivered once", func() bool {
			_, body := f.get("/api/v1/messages?client_key=" + key)
			return bytes.Count(body, []byte(`"status":"delivered"`)) == 1 && bytes.Count(body, []byte(`"message_id"`)) == 1
		})
	}
}

// health is what a role says of itself, or "" if it does not answer.
func (f *failing) health(role string) string {
	f.Helper()
	url, c := f.URL(role)+"/health", f.admin
	if role == pipelineproc.Worker {
		url = "http://" + f.Addr(role) + "/health/ready"
	}
	resp, err := c.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var h struct{ Status string }
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		f.Errorf("health of the %s: %v", role, err)
	}
	return h.Status
}

// queue is how much the pipeline's queue has.
func (f *failing) queue() (c pipeline.Counts) {
	f.Helper()
	f.until("the main server shows the queue", func() bool {
		status, body := f.get("/api/v1/queue")
		return status == http.StatusOK && json.Unmarshal(body, &c) == nil
	})
	return c
}

// logged is how many lines of a role's log have a text.
func (f *failing) logged(role, text string) int {
	return bytes.Count(f.logs[role].Bytes(), []byte(text))
}

// TestRolesFail takes parts of a pipeline away while it works. Nothing that was answered with
// 202 is lost or stored twice, and all goes on by itself when the part is back.
func TestRolesFail(t *testing.T) {
	t.Parallel() // it mostly waits
	f := newFailing(t)
	for _, tt := range []struct {
		name string
		run  func(f *failing)
	}{
		{"broker away", (*failing).brokerAway},
		{"main server away", (*failing).mainAway},
		{"main server slow", (*failing).mainSlow},
		{"worker stopped", (*failing).workerStopped},
		{"malformed item", (*failing).malformed},
		{"attempts used up", (*failing).attemptsUsedUp},
		{"repeated with another content", (*failing).otherContent},
		{"strangers", (*failing).strangers},
		{"authority's key away", (*failing).authorityKeyAway},
		{"encryption key away", (*failing).encryptionKeyAway},
		{"encryption key of another", (*failing).otherEncryptionKey},
		{"list of revocations damaged", (*failing).listDamaged},
		{"store full", (*failing).storeFull},
		{"hostile input", (*failing).hostileInput},
		{"names that differ in case", (*failing).namesInCase},
	} {
		if !t.Run(tt.name, func(t *testing.T) {
			tt.run(f.in(t))
		}) {
			break // the next would only fail for the same reason
		}
	}
}

func (f *failing) brokerAway() {
	f.accept("before-broker")
	waits := f.logged(pipelineproc.Worker, "waiting for the queue")
	f.Kill(pipelineproc.Broker)
	if status := f.submitText("no-broker", textOf("no-broker")); status != http.StatusServiceUnavailable {
		f.Errorf("without a broker: answered %d", status)
	}
	f.until("the proxy is unhealthy", func() bool { return f.health(pipelineproc.Proxy) == "unhealthy" })
	f.until("the worker says so", func() bool { return f.health(pipelineproc.Worker) == "degraded" })
	f.until("the worker logs it", func() bool { return f.logged(pipelineproc.Worker, "waiting for the queue") > waits })
	if n := f.logged(pipelineproc.Worker, "waiting for the queue") - waits; n != 1 {
		f.Errorf("the worker logged %d lines about it", n)
	}
	f.start(pipelineproc.Broker)
	f.until("the proxy is healthy again", func() bool { return f.health(pipelineproc.Proxy) == "healthy" })
	f.accept("no-broker", "after-broker")
	f.delivered("before-broker", "no-broker", "after-broker")
	f.until("the worker is healthy again", func() bool { return f.health(pipelineproc.Worker) == "ok" })
}

func (f *failing) mainAway() {
	f.Kill(pipelineproc.Main)
	keys := []string{"no-main-1", "no-main-2", "no-main-3", "no-main-4", "no-main-5"}
	f.accept(keys...)
	f.until("the proxy is degraded", func() bool { return f.health(pipelineproc.Proxy) == "degraded" })
	f.until("the worker says so", func() bool { return f.health(pipelineproc.Worker) == "degraded" })
	f.start(pipelineproc.Main)
	f.delivered(keys...)
}

// rows are all messages of a client.
func (f *failing) rows(client string) (list []mainapi.Message) {
	f.Helper()
	main, err := mainapi.NewClientWithResponses(f.URL(pipelineproc.Main), mainapi.WithHTTPClient(f.admin))
	if err != nil {
		f.Fatal(err)
	}
	for search := (mainapi.MessageSearch{ClientID: client, Limit: 500}); ; {
		page, err := searchMessages(f.Context(), main, search)
		if err != nil {
			f.Fatal(err)
		}
		list = append(list, page.Items...)
		if search.Cursor = page.NextCursor; search.Cursor == "" {
			return list
		}
	}
}

// workerStopped stops a worker with an interrupt while it delivers. It finishes what it has in
// hand and gives the rest back, so that each message has one attempt.
func (f *failing) workerStopped() {
	const rounds = 20
	f.Kill(pipelineproc.Worker)
	f.Set("SEALMQ_WORKER_BATCH=5", "SEALMQ_WORKER_CONCURRENCY=2") // it is to be busy for a while
	c, submitted := f.client("stop-01"), 0
	for f.queue().Ready == 0 { // the worker may be done before the stop
		if submitted >= rounds*batches*batchSize {
			f.Fatal("the stopped worker never leaves anything")
		}
		for range batches {
			f.submitBatch(c, fmt.Sprint("stop-", submitted))
			submitted += batchSize
		}
		f.start(pipelineproc.Worker)
		f.until("it delivers", func() bool { return f.workerMetric("worker_messages_delivered_total") > 0 })
		if err := f.Stop(f.Context(), pipelineproc.Worker); err != nil {
			f.Error("the stop: ", err)
		}
		f.until("nobody holds a message", func() bool { return f.queue().Processing == 0 })
	}
	f.Set("SEALMQ_WORKER_BATCH=100", "SEALMQ_WORKER_CONCURRENCY=4")
	f.start(pipelineproc.Worker)
	f.until("the queue is empty", func() bool { c := f.queue(); return c.Ready+c.Processing+c.Retry == 0 })
	rows := f.rows("stop-01")
	for _, m := range rows {
		if m.Status != pipeline.Delivered || m.AttemptCount != 1 {
			f.Errorf("%s is %s after %d attempts", m.ClientKey, m.Status, m.AttemptCount)
		}
	}
	if len(rows) != submitted {
		f.Errorf("there are %d rows, want %d", len(rows), submitted)
	}
}

// batches is how many batches the worker is stopped in, and batchSize how many messages each has.
const batches, batchSize = 3, 500

// submitBatch submits messages until all are accepted.
func (f *failing) submitBatch(c *http.Client, keys string) {
	f.Helper()
	var list []string
	for i := range batchSize {
		list = append(list, fmt.Sprintf(`{"sender_number":"+4915200000000","message_body":"x","message_id":"%s-%d"}`, keys, i))
	}
	body := `{"messages":[` + strings.Join(list, ",") + `]}`
	f.until("a batch is accepted", func() bool {
		resp, err := c.Post(f.URL(pipelineproc.Proxy)+"/submit/batch", "application/json", strings.NewReader(body))
		if err != nil {
			f.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return bytes.Contains(answer, fmt.Appendf(nil, `"accepted":%d,`, batchSize))
	})
}

// otherContent submits another content under an id: while the queue remembers the first one,
// and when only its row does.
func (f *failing) otherContent() {
	f.accept("twice")
	f.delivered("twice")
	if status := f.repeatText("twice", "another text"); status != http.StatusConflict {
		f.Errorf("another content is answered %d", status)
	}
	f.Set("SEALMQ_DEDUP_MAX_IDS=1")
	f.restart(pipelineproc.Broker)
	f.accept("forget-1", "forget-2", "forget-3")
	f.delivered("forget-1", "forget-2", "forget-3")
	dead := f.queue().Dead
	f.accept("twice") // the same content is the same message
	if status := f.repeatText("twice", "another text"); status != http.StatusConflict && status != http.StatusAccepted {
		f.Errorf("another content is answered %d", status)
	}
	f.accept("forget-4", "forget-5")
	f.delivered("forget-4", "forget-5")
	if status := f.repeatText("twice", "another text"); status != http.StatusAccepted {
		f.Errorf("another content that only the row knows of is answered %d", status)
	}
	f.until("it is dead", func() bool { return f.queue().Dead > dead })
	f.deadWith("conflict")
	f.delivered("twice")
	f.Set("SEALMQ_DEDUP_MAX_IDS=2000000")
	f.restart(pipelineproc.Broker)
}

// publish puts bytes into the queue as an administrator.
func (f *failing) publish(id, body string) {
	f.Helper()
	conf, err := f.TLS(ca.AdminName)
	if err != nil {
		f.Fatal(err)
	}
	c, err := client.Dial(f.Context(), client.Config{Addr: f.Addr(pipelineproc.Broker), TLS: conf})
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	if err := c.Publish(f.Context(), sealmq.Message{Exchange: pipeline.QueueName, Key: pipeline.QueueName, ID: id, Body: []byte(body)}); err != nil {
		f.Fatal(err)
	}
}

func (f *failing) malformed() {
	dead := f.queue().Dead
	f.publish("junk-1", `{"message_id":"junk-1","neither":"number nor text"}`)
	f.publish("junk-2", `{"message_id":"junk-2","client_id":"acme-01","sealed":{"v":1},"enc":"hpke-v1","queued_at":"2026-01-01T00:00:00Z"}`)
	f.until("both are dead", func() bool { return f.queue().Dead == dead+2 })
	f.deadWith("malformed")
	f.accept("behind-junk")
	f.delivered("behind-junk")
}

// deadWith waits for a dead item with a reason. It is counted a moment before it can be listed.
func (f *failing) deadWith(reason string) {
	f.Helper()
	f.until("a dead item has the reason "+reason, func() bool {
		_, body := f.get("/api/v1/queue/dead")
		return bytes.Contains(body, []byte(reason))
	})
}

// hangingUp listens in the main server's place, with its certificate, and hangs up when a
// request begins. A call that was sent is an attempt; one that could not be is none.
func (f *failing) hangingUp() (stop func()) {
	f.Helper()
	p := ca.In(f.data)
	cert, err := tls.LoadX509KeyPair(p.Cert(ca.ServerName), p.Key(ca.ServerName))
	if err != nil {
		f.Fatal(err)
	}
	l, err := tls.Listen("tcp", f.Addr(pipelineproc.Main), &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Read(make([]byte, 1))
				c.Close()
			}()
		}
	}()
	return func() { l.Close() }
}

func (f *failing) attemptsUsedUp() {
	dead := f.queue().Dead
	f.Kill(pipelineproc.Worker)
	f.accept("tried")
	f.until("it is queued", func() bool {
		_, body := f.get("/api/v1/messages?client_key=tried")
		return bytes.Contains(body, []byte(`"status":"queued"`))
	})
	f.Kill(pipelineproc.Main)
	hangUp := f.hangingUp()
	f.Set("SEALMQ_WORKER_MAX_ATTEMPTS=2")
	f.start(pipelineproc.Worker)
	// It is not given up before its row can say so.
	f.until("its attempts are used up", func() bool { return f.logged(pipelineproc.Worker, "their state could not be reported") > 0 })
	hangUp()
	f.start(pipelineproc.Main)
	f.until("it is dead", func() bool { return f.queue().Dead == dead+1 })
	if _, body := f.get("/api/v1/messages?client_key=tried"); !bytes.Contains(body, []byte(`"status":"failed"`)) {
		f.Errorf("its row does not say so: %s", body)
	}
	f.deadWith("max_attempts_exceeded")
	resp, err := f.admin.Post(f.URL(pipelineproc.Main)+"/api/v1/queue/dead/requeue", "application/json", strings.NewReader(`{"all":true}`))
	if err != nil {
		f.Fatal(err)
	}
	resp.Body.Close()
	f.delivered("tried")
	f.Set("SEALMQ_WORKER_MAX_ATTEMPTS=10000")
	f.restart(pipelineproc.Worker)
}

// restart stops a role and starts it again.
func (f *failing) restart(role string) {
	f.Helper()
	if err := f.Stop(f.Context(), role); err != nil {
		f.Fatal(err)
	}
	f.start(role)
	f.until("the proxy is healthy", func() bool { return f.health(pipelineproc.Proxy) == "healthy" })
}

// storeFull lets the broker reach its limit of messages.
func (f *failing) storeFull() {
	restart := func(limit string) {
		f.Helper()
		f.Set("SEALMQ_LIMITS_MESSAGES=" + limit)
		f.restart(pipelineproc.Broker)
	}
	f.Kill(pipelineproc.Worker)
	f.accept("before-full")
	restart("1")
	for range 3 {
		if status := f.submitText("full", textOf("full")); status != http.StatusServiceUnavailable {
			f.Errorf("a full store: answered %d", status)
		}
	}
	restart("1000000")
	f.start(pipelineproc.Worker)
	f.accept("full")
	f.delivered("before-full", "full")
}

// hostileInput submits what tries to be something else than a text.
func (f *failing) hostileInput() {
	post := func(body string, header ...string) int {
		f.Helper()
		req, err := http.NewRequestWithContext(f.Context(), http.MethodPost, f.URL(pipelineproc.Proxy)+"/submit", strings.NewReader(body))
		if err != nil {
			f.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := f.http.Do(req)
		if err != nil {
			f.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	texts := []string{`'; DROP TABLE messages; --`, `" OR 1=1 --`, `<script>alert(1)</script>`, `{{.}} ${7*7} %s %n`, "\u202eright to left", `../../etc/passwd`}
	for i, text := range texts {
		body, err := json.Marshal(map[string]any{"sender_number": "+4915200000000", "message_body": text, "message_id": fmt.Sprint("hostile-", i),
			"metadata": map[string]string{text: text}})
		if err != nil {
			f.Fatal(err)
		}
		f.until(fmt.Sprintf("%q is accepted", text), func() bool {
			return post(string(body), "X-Client-Cert-CN", "somebody-else", "X-Client-ID", "somebody-else", "X-Forwarded-For", text) == http.StatusAccepted
		})
	}
	main, err := mainapi.NewClientWithResponses(f.URL(pipelineproc.Main), mainapi.WithHTTPClient(f.admin))
	if err != nil {
		f.Fatal(err)
	}
	for i, text := range texts {
		key := fmt.Sprint("hostile-", i)
		f.delivered(key)
		page, err := main.SearchMessagesWithResponse(f.Context(), mainapi.MessageSearch{ClientKey: key})
		if err != nil || page.JSON200 == nil || len(page.JSON200.Items) != 1 {
			f.Fatalf("%s: %v %s", key, err, page.Body)
		}
		m := page.JSON200.Items[0]
		r, err := main.GetMessageContentWithResponse(f.Context(), m.ClientID, m.MessageID)
		if err != nil || r.JSON200 == nil || r.JSON200.MessageBody != text || m.ClientID != "acme-01" {
			f.Errorf("%q of acme-01 came back as %+v, %v", text, r.JSON200, err)
		}
	}
	for body, want := range map[string]int{
		`{"sender_number":"+4915200000000","message_body":"` + strings.Repeat("x", 8<<20) + `"}`: http.StatusRequestEntityTooLarge,
		"{\"sender_number\":\"+4915200000000\",\"message_body\":\"\xff\xfe\"}":                   0,
		`{"sender_number":1,"message_body":true}`:                                                0,
		strings.Repeat("[", 100_000):                                                             0,
		"":                                                                                       0,
	} {
		if got := post(body); got != want && (want != 0 || got < 400 || got >= 500) {
			f.Errorf("%.60q is answered %d", body, got)
		}
	}
}

// namesInCase submits with two certificates whose names differ in case only.
func (f *failing) namesInCase() {
	upper := *f
	upper.http = f.client("Acme-01")
	f.accept("case")
	upper.accept("case")
	for _, client := range []string{"acme-01", "Acme-01"} {
		f.until(client+" has one message", func() bool {
			_, body := f.get("/api/v1/messages?client_key=case&client_id=" + client)
			return bytes.Count(body, []byte(`"status":"delivered"`)) == 1 && bytes.Contains(body, []byte(`"client_id":"`+client+`"`))
		})
	}
}

// TestDatabaseFails takes the database away and brings it back. No role is started again.
func TestDatabaseFails(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("it starts many processes and a database")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	url, _, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	f := newFailing(t, "SEALMQ_MAIN_DATABASE="+url)
	f.accept("before-outage")
	f.delivered("before-outage")
	server.Kill()
	f.accept("outage-1", "outage-2", "outage-3")
	f.until("the main server is unhealthy", func() bool { return f.health(pipelineproc.Main) == "unhealthy" })
	status, body := f.get("/api/v1/messages")
	if status != http.StatusServiceUnavailable {
		t.Errorf("without a database a list is answered %d", status)
	}
	for _, secret := range []string{"mysql", "SELECT", "127.0.0.1", "test@user", f.data} {
		if bytes.Contains(body, []byte(secret)) {
			t.Errorf("the answer shows %q: %s", secret, body)
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	f.delivered("outage-1", "outage-2", "outage-3")
	f.until("the main server is healthy again", func() bool { return f.health(pipelineproc.Main) == "healthy" })

	// A database that syncs later than it answers may lose what has left the queue.
	for _, tt := range []struct{ flush, health string }{{"2", "degraded"}, {"1", "healthy"}} {
		if err := server.Exec("", "SET GLOBAL innodb_flush_log_at_trx_commit = "+tt.flush, []any(nil)); err != nil {
			t.Fatal(err)
		}
		f.until("the main server is "+tt.health, func() bool { return f.health(pipelineproc.Main) == tt.health })
	}
}
