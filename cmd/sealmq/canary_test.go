package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

// canaries are the marks of one run: what must appear nowhere, by what it is.
type canaries struct {
	*testing.T
	node *brokerproc.Process
	data string
	log  *lockedBuffer
	seen map[string][]byte // everything that was printed or answered, by its source

	secrets map[string]string
}

// TestPipelineCanaries marks every text, number and key of a run with good and bad requests,
// and searches for the marks in everything that is printed, answered, logged, measured and
// stored.
func TestPipelineCanaries(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("it builds the program and starts a node")
	}
	t.Run("SQLite", func(t *testing.T) { newCanaries(t, nil).run(nil) })
	t.Run("MariaDB", func(t *testing.T) {
		server := mariadb.Require(t, mariadb.Start)
		t.Cleanup(func() { server.Close() })
		address, _, err := server.Database()
		if err != nil {
			t.Fatal(err)
		}
		c := newCanaries(t, []string{"SEALMQ_MAIN_DATABASE=" + address})
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		password, _ := u.User.Password()
		c.secrets["password of the database"] = password
		c.secrets["password of the database, encoded"] = url.QueryEscape(password)
		c.run(server.Kill)
	})
}

func newCanaries(t *testing.T, env []string) *canaries {
	c := &canaries{T: t, data: filepath.Join(t.TempDir(), "data"), log: new(lockedBuffer), seen: make(map[string][]byte),
		secrets: map[string]string{
			"text": "canary-text-", "number": "4915277665544", "number of a conflict": "4915277665545", "metadata": "canary-metadata-",
			"text of a bad request": "canary-bad-", "number of a bad request": "4915277665546x",
		}}
	for _, args := range [][]string{{"init"}, {"cert", "issue", "canary-client"}, {"cert", "issue", "canary-stolen"}} {
		if !c.sealmq(args...) {
			t.Fatalf("sealmq %q failed", args)
		}
	}
	var err error
	c.node, err = brokerproc.Start(t.Context(), brokerproc.Config{Exe: program.Path(t), Data: c.data, Roles: roles, Log: c.log,
		Env: append(env, "SEALMQ_LOG_LEVEL=debug")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.node.Kill)
	return c
}

// sealmq runs a command, whose output is searched too.
func (c *canaries) sealmq(args ...string) (ok bool) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), program.Path(c), append(args, "--data", c.data)...)
	out, err := cmd.CombinedOutput()
	c.seen[fmt.Sprintf("output %d of sealmq %s", len(c.seen), strings.Join(args, " "))] = out
	return err == nil
}

// client makes calls with a certificate of the data folder.
func (c *canaries) client(name string) *http.Client {
	p := ca.In(c.data)
	conf, err := mtls.ClientConfig(mtls.Files{Cert: p.Cert(name), Key: p.Key(name), CA: p.CA}, mtls.ClientOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return c.httpClient(conf)
}

func (c *canaries) httpClient(conf *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf}
	c.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// call makes a request, whose answer is searched too, and returns its status.
func (c *canaries) call(h *http.Client, method, url, body string, header ...string) int {
	c.Helper()
	req, err := http.NewRequestWithContext(c.Context(), method, url, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Do(req)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	c.seen[fmt.Sprintf("answer %d to %s %s", len(c.seen), method, req.URL.Path)] = fmt.Appendf(nil, "%s %v %s", resp.Status, resp.Header, answer)
	return resp.StatusCode
}

// want makes a call and checks its status. A call that is answered 503, as one is if the queue is
// slow, is repeated.
func (c *canaries) want(status int, h *http.Client, method, url, body string, header ...string) {
	c.Helper()
	got := c.call(h, method, url, body, header...)
	for began := time.Now(); got == http.StatusServiceUnavailable && time.Since(began) < time.Minute; {
		<-time.After(lookEvery)
		got = c.call(h, method, url, body, header...)
	}
	if got != status {
		c.Errorf("%s %s %.80s: answered %d, not %d", method, url, body, got, status)
	}
}

func (c *canaries) run(killDatabase func()) {
	client, admin := c.client("canary-client"), c.client(ca.AdminName)
	proxy, main := "https://"+c.node.ProxyAddr, "https://"+c.node.MainAddr
	message := func(n int, number string) string {
		return fmt.Sprintf(`{"sender_number":"+%s","message_body":"canary-text-%d","message_id":"key-%d","metadata":{"note":"canary-metadata-%d"}}`, number, n, n, n)
	}
	for n := range 20 {
		c.want(http.StatusAccepted, client, "POST", proxy+"/submit", message(n, "4915277665544"))
	}
	c.want(http.StatusOK, client, "POST", proxy+"/submit/batch", `{"messages":[`+message(20, "4915277665544")+","+message(21, "bad")+`]}`)
	c.want(http.StatusAccepted, client, "POST", proxy+"/submit", message(3, "4915277665544"))
	c.want(http.StatusConflict, client, "POST", proxy+"/submit", message(3, "4915277665545"))
	for _, bad := range []string{
		`{"sender_number":"4915277665546x","message_body":"canary-bad-1"}`, `{"sender_number":"+4915277665544","message_body":"canary-bad-2"`,
		`canary-bad-3`, `{"sender_number":{"canary-bad-4":1},"message_body":["canary-bad-5"]}`, `{"sender_number":"+4915277665544","message_body":"canary-bad-` + strings.Repeat("6", 2000) + `"}`,
		`{"message_body":"canary-bad-7","sender_number":"4915277665546x","metadata":{"domain":"canary-bad-8\u0000"}}`,
		"{\"sender_number\":\"+4915277665544\",\"message_body\":\"canary-bad-9\xff\"}",
	} {
		if got := c.call(client, "POST", proxy+"/submit", bad); got < 400 || got >= 500 {
			c.Errorf("%.60s: answered %d", bad, got)
		}
	}
	c.want(http.StatusUnauthorized, c.httpClient(c.anonymous()), "POST", proxy+"/submit", message(50, "4915277665544"), "X-API-Key", "canary-bad-api-key", "Authorization", "Bearer canary-bad-token")
	c.want(http.StatusForbidden, client, "POST", main+"/api/v1/messages/search", `{"sender_number":"+4915277665544"}`)

	c.waitDelivered(admin, main, 21)
	c.want(http.StatusOK, admin, "GET", main+"/api/v1/messages", "")
	c.want(http.StatusOK, admin, "POST", main+"/api/v1/messages/search", `{"sender_number":"+4915277665544"}`)
	c.call(admin, "POST", main+"/api/v1/messages/search", `{"sender_number":"4915277665546x"}`)
	c.want(http.StatusOK, admin, "GET", main+"/api/v1/statistics", "")
	c.want(http.StatusOK, admin, "GET", main+"/api/v1/audit", "")
	c.want(http.StatusOK, admin, "GET", main+"/api/v1/queue", "")
	c.want(http.StatusOK, admin, "POST", main+"/api/v1/clients/canary-stolen/revoke", `{"reason":"keyCompromise"}`)
	for _, u := range []string{proxy + "/metrics", main + "/metrics", "http://" + c.node.MetricsAddr + "/metrics", "http://" + c.node.WorkerAddr + "/metrics",
		proxy + "/health", main + "/health", "http://" + c.node.WorkerAddr + "/health/ready", proxy + "/openapi.json"} {
		c.want(http.StatusOK, admin, "GET", u, "")
	}
	for _, args := range [][]string{{"queue", "list"}, {"queue", "peek", "message_queue"}, {"connection", "list"}, {"cert", "list"}, {"config", "check"}} {
		if args[0] != "cert" && args[0] != "config" {
			args = append(args, "--addr", c.node.Addr)
		}
		if !c.sealmq(args...) {
			c.Errorf("sealmq %q failed", args)
		}
	}
	c.sealmq("message", "list", "--main-url", main)
	if killDatabase != nil {
		killDatabase()
		c.call(admin, "GET", main+"/api/v1/messages", "")
		c.call(admin, "GET", main+"/health", "")
		c.want(http.StatusAccepted, client, "POST", proxy+"/submit", message(30, "4915277665544"))
	}
	if err := c.node.Stop(c.Context()); err != nil && killDatabase == nil {
		c.Error(err)
	}
	c.seen["the log"] = c.log.Bytes()
	c.collectKeys()
	c.search(killDatabase == nil)
}

func (c *canaries) anonymous() *tls.Config {
	conf, err := mtls.ClientConfig(mtls.Files{Cert: ca.In(c.data).Cert(ca.AdminName), Key: ca.In(c.data).Key(ca.AdminName), CA: ca.In(c.data).CA}, mtls.ClientOptions{})
	if err != nil {
		c.Fatal(err)
	}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	return conf
}

func (c *canaries) waitDelivered(admin *http.Client, main string, n int) {
	c.Helper()
	want := fmt.Appendf(nil, `"count":%d`, n)
	for began := time.Now(); time.Since(began) < time.Minute; {
		c.call(admin, "GET", main+"/api/v1/messages?client_id=canary-client&status=delivered&limit=1", "")
		last := fmt.Sprintf("answer %d to GET /api/v1/messages", len(c.seen)-1)
		if bytes.Contains(c.seen[last], want) {
			return
		}
		delete(c.seen, last)
		<-time.After(lookEvery)
	}
	c.Fatalf("%d messages were not delivered", n)
}

// collectKeys adds the content of all key files of the data folder.
func (c *canaries) collectKeys() {
	err := filepath.WalkDir(c.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".key" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(c.data, path)
		if block, _ := pem.Decode(content); block != nil {
			c.secrets[name] = string(block.Bytes)
			// The second line of the file: the first is the same in all keys of a kind.
			if lines := strings.Split(string(content), "\n"); len(lines) > 3 {
				c.secrets[name+", a line"] = lines[2]
			}
		} else {
			c.secrets[name] = strings.TrimSpace(string(content))
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	if len(c.secrets) < 12 {
		c.Errorf("only %d secrets are known", len(c.secrets))
	}
}

// search looks for every mark in everything that was seen and in all files.
func (c *canaries) search(sqlite bool) {
	err := filepath.WalkDir(c.data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(c.data, path)
		c.seen["file "+filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	// The clients' own keys are no secret, and show that the search works.
	found := map[string]bool{"answer": false, "file store/": false, "file pipeline/": !sqlite}
	for place, content := range c.seen {
		for kind := range found {
			if strings.HasPrefix(place, kind) && bytes.Contains(content, []byte("key-17")) {
				found[kind] = true
			}
		}
		for what, secret := range c.secrets {
			if place == "file "+strings.TrimSuffix(what, ", a line") {
				continue // its own file
			}
			raw := []byte(secret)
			for form, text := range map[string][]byte{"as it is": raw, "in hexadecimal": []byte(hex.EncodeToString(raw)), "in base64": []byte(base64.StdEncoding.EncodeToString(raw)),
				"in base64 for URLs": []byte(base64.RawURLEncoding.EncodeToString(raw))} {
				if bytes.Contains(content, text) {
					c.Errorf("%s: %s is there %s", place, what, form)
				}
			}
		}
	}
	for kind, ok := range found {
		if !ok {
			c.Errorf("the search finds nothing in the places %q", kind)
		}
	}
	if !bytes.Contains(c.seen["the log"], []byte("canary-client")) {
		c.Error("the log does not name the client; is it the node's?")
	}
}
