//go:build unix

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	f := &failing{rolesWorld: newRolesWorld(t, pipelineproc.Config{Env: append([]string{"SEALMQ_WORKER_RETRY_INTERVAL=1s", "SEALMQ_WORKER_MAX_ATTEMPTS=2"}, env...)})}
	if err := f.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.http, f.admin = f.client("acme-01"), f.client(ca.AdminName)
	f.until("the proxy is healthy", func() bool { return f.health(pipelineproc.Proxy) == "healthy" })
	return f
}

// submit submits a message under a key, and returns the status and how long it took.
func (f *failing) submit(key string) (status int, took time.Duration) {
	f.Helper()
	body := fmt.Sprintf(`{"sender_number":"+4915200000000","message_body":"text of %s","message_id":%q}`, key, key)
	began := time.Now()
	resp, err := f.http.Post(f.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 && !bytes.HasPrefix(bytes.TrimSpace(answer), []byte("{")) {
		f.Errorf("an error without a form: %s", answer)
	}
	return resp.StatusCode, time.Since(began)
}

// accept submits messages, each of which must be answered with 202 soon.
func (f *failing) accept(keys ...string) {
	f.Helper()
	for _, key := range keys {
		if status, took := f.submit(key); status != http.StatusAccepted || took > 2*time.Second {
			f.Errorf("%s: answered %d after %v", key, status, took)
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
	status, body := f.get("/api/v1/queue")
	if err := json.Unmarshal(body, &c); err != nil || status != http.StatusOK {
		f.Logf("the queue: %d %s", status, body)
	}
	return c
}

// logged is how many lines of a role's log have a text.
func (f *failing) logged(role, text string) int {
	return bytes.Count(f.logs[role].Bytes(), []byte(text))
}

// TestRolesFail takes parts of a pipeline away while it works. Nothing that was answered with
// 202 is lost or stored twice, and all goes on by itself when the part is back.
func TestRolesFail(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	f := newFailing(t)
	for _, tt := range []struct {
		name string
		run  func(f *failing)
	}{
		{"broker away", (*failing).brokerAway},
		{"main server away", (*failing).mainAway},
		{"main server slow", (*failing).mainSlow},
		{"malformed item", (*failing).malformed},
		{"attempts used up", (*failing).attemptsUsedUp},
		{"strangers", (*failing).strangers},
		{"authority's key away", (*failing).authorityKeyAway},
		{"encryption key away", (*failing).encryptionKeyAway},
		{"list of revocations damaged", (*failing).listDamaged},
		{"store full", (*failing).storeFull},
		{"hostile input", (*failing).hostileInput},
		{"names that differ in case", (*failing).namesInCase},
	} {
		if !t.Run(tt.name, func(t *testing.T) {
			sub := *f
			world := *f.rolesWorld
			world.T = t
			sub.rolesWorld = &world
			tt.run(&sub)
		}) {
			break // the next would only fail for the same reason
		}
	}
}

func (f *failing) brokerAway() {
	f.accept("before-broker")
	waits := f.logged(pipelineproc.Worker, "waiting for the queue")
	f.Kill(pipelineproc.Broker)
	if status, took := f.submit("no-broker"); status != http.StatusServiceUnavailable || took > 2*time.Second {
		f.Errorf("without a broker: answered %d after %v", status, took)
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

// mainSlow stops the main server's process, which then answers nothing and keeps its
// connections.
func (f *failing) mainSlow() {
	pid := f.Process(pipelineproc.Main).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		f.Fatal(err)
	}
	f.accept("slow-1", "slow-2", "slow-3")
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		f.Fatal(err)
	}
	f.delivered("slow-1", "slow-2", "slow-3")
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
}

// strangers have a certificate of another authority, or one that has expired.
func (f *failing) strangers() {
	set, err := ca.Setup(filepath.Join(f.dir, "other"), nil, ca.Options{})
	if err != nil {
		f.Fatal(err)
	}
	other, err := set.Authority.IssueFiles(ca.Request{Name: "stranger"}, "", false)
	if err != nil {
		f.Fatal(err)
	}
	foreign, err := tls.LoadX509KeyPair(other.CertFile, other.KeyFile)
	if err != nil {
		f.Fatal(err)
	}
	trusted, err := f.TLS("acme-01")
	if err != nil {
		f.Fatal(err)
	}
	for name, cert := range map[string]tls.Certificate{"another authority's": foreign, "an expired": f.expired()} {
		conf := trusted.Clone()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		c := f.httpClient(conf)
		for _, role := range []string{pipelineproc.Proxy, pipelineproc.Main} {
			if resp, err := c.Get(f.URL(role) + "/health"); err == nil {
				resp.Body.Close()
				f.Errorf("with %s certificate the %s answered %s", name, role, resp.Status)
			}
		}
	}
}

// expired is a certificate of the authority that was good until an hour ago.
func (f *failing) expired() tls.Certificate {
	f.Helper()
	p := ca.In(f.data)
	issuer, err := tls.LoadX509KeyPair(p.Intermediate, p.IntermediateKey)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "acme-01"},
		NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}, issuer.Leaf, key.Public(), issuer.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf, issuer.Leaf.Raw}, PrivateKey: key}
}

// restartMain starts the main server again.
func (f *failing) restartMain() {
	f.Helper()
	if err := f.Stop(f.Context(), pipelineproc.Main); err != nil {
		f.Fatal(err)
	}
	f.start(pipelineproc.Main)
}

// move moves a file away and returns a function that brings it back.
func (f *failing) move(path string) (back func()) {
	f.Helper()
	if err := os.Rename(path, path+".away"); err != nil {
		f.Fatal(err)
	}
	return func() {
		f.Helper()
		if err := os.Rename(path+".away", path); err != nil {
			f.Fatal(err)
		}
	}
}

func (f *failing) authorityKeyAway() {
	back := []func(){f.move(ca.In(f.data).RootKey), f.move(ca.In(f.data).IntermediateKey)}
	f.restartMain()
	resp, err := f.admin.Post(f.URL(pipelineproc.Main)+"/api/v1/certificates", "application/json", strings.NewReader(`{"client_id":"nobody"}`))
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		f.Errorf("issuing without a key is answered %s", resp.Status)
	}
	f.accept("no-ca-key")
	f.delivered("no-ca-key")
	for _, b := range back {
		b()
	}
	f.restartMain()
}

func (f *failing) encryptionKeyAway() {
	key := filepath.Join(f.data, "pipeline", "records.key")
	if err := f.Stop(f.Context(), pipelineproc.Main); err != nil {
		f.Fatal(err)
	}
	back := f.move(key)
	if err := f.Start(f.Context(), pipelineproc.Main); err == nil || !strings.Contains(err.Error(), "records.key") {
		f.Errorf("without its key the main server starts, or does not say why not: %v", err)
	}
	back()
	if err := os.Chmod(key, 0o644); err != nil {
		f.Fatal(err)
	}
	if err := f.Start(f.Context(), pipelineproc.Main); err == nil || !strings.Contains(err.Error(), "records.key") {
		f.Errorf("with a key that others can read the main server starts, or does not say why not: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		f.Fatal(err)
	}
	f.start(pipelineproc.Main)
	f.accept("key-is-back")
	f.delivered("key-is-back")
}

func (f *failing) listDamaged() {
	list := filepath.Join(f.data, "revoked.txt")
	write := func(text string) {
		f.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	thief := f.client("thief")
	refused := func() bool {
		resp, err := thief.Post(f.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader("{}"))
		if err != nil {
			return true
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusForbidden
	}
	write("thief\n")
	f.until("the thief is refused", refused)
	write("thief\n-----BEGIN X509 CRL-----\n")
	f.until("the main server is degraded", func() bool { return f.health(pipelineproc.Main) == "degraded" })
	if !refused() {
		f.Error("a damaged list let a thief in")
	}
	f.accept("damaged-list")
	f.delivered("damaged-list")
	write("thief\n")
	f.until("the main server is healthy again", func() bool { return f.health(pipelineproc.Main) == "healthy" })
}

// storeFull lets the broker reach its limit of messages.
func (f *failing) storeFull() {
	restart := func(limit string) {
		f.Helper()
		f.Set("SEALMQ_LIMITS_MESSAGES=" + limit)
		if err := f.Stop(f.Context(), pipelineproc.Broker); err != nil {
			f.Fatal(err)
		}
		f.start(pipelineproc.Broker)
		f.until("the proxy sees the broker", func() bool { return f.health(pipelineproc.Proxy) == "healthy" })
	}
	f.Kill(pipelineproc.Worker)
	f.accept("before-full")
	restart("1")
	for range 3 {
		if status, took := f.submit("full"); status != http.StatusServiceUnavailable || took > 2*time.Second {
			f.Errorf("a full store: answered %d after %v", status, took)
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
		if got := post(string(body), "X-Client-Cert-CN", "somebody-else", "X-Client-ID", "somebody-else", "X-Forwarded-For", text); got != http.StatusAccepted {
			f.Errorf("%q is answered %d", text, got)
		}
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
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	url, _, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	f := newFailing(t, "SEALMQ_MAIN_DATABASE="+url, "SEALMQ_WORKER_MAX_ATTEMPTS=1000")
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
}
