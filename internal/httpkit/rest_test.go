package httpkit_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func (w *world) dial(t *testing.T) net.Conn {
	t.Helper()
	conf := w.ca.ClientTLS("alice")
	conn, err := tls.Dial("tcp", w.server.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, httpkit.Limits{MaxConnections: 2}, basic)
	a := w.dial(t)
	defer a.Close()
	w.waitFor(1) // its handshake has ended
	defer w.dial(t).Close()
	w.waitFor(2)
	defer w.dial(t).Close()
	// The third one has the place of the first.
	_, _ = io.ReadAll(a) // it ends
	w.waitFor(2)
}

func TestShutdownFinishesRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("GET /slow", httpkit.Options{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(arrived)
			<-release
			io.WriteString(w, "done")
		}))
	})
	got := make(chan string, 1)
	c := w.client(w.ca.ClientTLS("alice"), false)
	go func() { a, err := w.try(c, "GET", "/slow", ""); got <- fmt.Sprint(a.body, err) }()
	<-arrived
	stopped := make(chan error, 1)
	go func() { stopped <- w.server.Shutdown(context.Background()) }()
	if eventually(func() bool { _, err := net.Dial("tcp", w.server.Addr().String()); return err != nil }) != nil {
		t.Error("it still accepts connections")
	}
	close(release)
	if s := <-got; s != "done<nil>" {
		t.Error(s)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestRateLimiter(t *testing.T) {
	l := httpkit.NewRateLimiter(httpkit.Rate{PerSecond: 10}, 2)
	now := time.Unix(1_000_000, 0)
	for i := range 20 {
		if q := l.Take("a", 1, now); !q.OK || q.Remaining != 19-i || q.Limit != 10 {
			t.Fatalf("%d: %+v", i, q)
		}
	}
	q := l.Take("a", 1, now)
	if q.OK || q.Remaining != 0 || q.RetryAfter != time.Second || !q.Reset.Equal(now.Add(2*time.Second)) {
		t.Errorf("over: %+v", q)
	}
	if err := q.Err("messages"); err == nil || err.Error() != "Rate limit exceeded: 10 messages per second" {
		t.Error(err)
	}
	h := make(http.Header)
	q.SetHeaders(h)
	if h.Get("X-RateLimit-Limit") != "10" || h.Get("X-RateLimit-Remaining") != "0" || h.Get("X-RateLimit-Reset") != "1000003" {
		t.Error(h)
	}
	if q := l.Take("a", 5, now.Add(500*time.Millisecond)); !q.OK {
		t.Errorf("half a second later: %+v", q)
	}
	if q := l.Take("a", 1, now.Add(500*time.Millisecond)); q.OK {
		t.Errorf("taken twice: %+v", q)
	}
	if q := l.Take("b", 21, now); q.OK || q.Remaining != 20 {
		t.Errorf("more than the burst: %+v", q)
	}
	if q := l.Take("c", 1, now); !q.OK {
		t.Errorf("a third: %+v", q)
	}
	// a was used least recently of three, so it was forgotten.
	if q := l.Take("a", 1, now.Add(500*time.Millisecond)); !q.OK || q.Remaining != 19 {
		t.Errorf("forgotten: %+v", q)
	}
	l.SetRate(httpkit.Rate{PerSecond: -1})
	if q := l.Take("a", 1_000_000, now); !q.OK || q.Err("") != nil {
		t.Errorf("free: %+v", q)
	}
	l.SetRate(httpkit.Rate{})
	if q := l.Take("a", 1, now); q.OK || q.RetryAfter == 0 {
		t.Errorf("blocked: %+v", q)
	}
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, level, hang := 0, httpkit.OK, false
		h := httpkit.NewHealth("1.2.3", true,
			httpkit.Check{Name: "database", Late: httpkit.Down, Run: func(ctx context.Context) httpkit.Finding {
				calls++
				if hang {
					<-ctx.Done()
					time.Sleep(time.Millisecond) // so that the check's own answer comes second
				}
				if level == httpkit.OK {
					return httpkit.Finding{}
				}
				return httpkit.Finding{Level: level, Reason: "the database is away"}
			}},
			httpkit.Check{Name: "certificate", Run: func(context.Context) httpkit.Finding { return httpkit.Finding{Value: "valid"} }})
		get := func() (int, map[string]any) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
			var m map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
				t.Fatal(err)
			}
			return w.Code, m
		}
		status, m := get()
		if status != 200 || m["status"] != "healthy" || m["version"] != "1.2.3" || m["uptime_seconds"] != 0.0 || len(m["errors"].([]any)) != 0 ||
			m["checks"].(map[string]any)["database"] != "healthy" || m["components"].(map[string]any)["certificate"] != "valid" {
			t.Errorf("%d %v", status, m)
		}
		level = httpkit.Down
		if status, m = get(); status != 200 || calls != 1 {
			t.Errorf("within two seconds: %d %v, %d calls", status, m, calls)
		}
		time.Sleep(2 * time.Second)
		if status, m = get(); status != 503 || m["status"] != "unhealthy" || m["checks"].(map[string]any)["database"] != "unhealthy" || m["errors"].([]any)[0] != "the database is away" {
			t.Errorf("%d %v", status, m)
		}
		level = httpkit.Degraded
		time.Sleep(2 * time.Second)
		if status, m = get(); status != 200 || m["status"] != "degraded" {
			t.Errorf("%d %v", status, m)
		}
		hang = true
		time.Sleep(2 * time.Second)
		start := time.Now()
		if status, _ = get(); status != 503 || time.Since(start) != time.Second {
			t.Errorf("a check that hangs: %d after %v", status, time.Since(start))
		}
		synctest.Wait()
		time.Sleep(time.Second)
	})
}

func TestCheckJSON(t *testing.T) {
	deep := strings.Repeat("[", 33) + strings.Repeat("]", 33)
	for _, tc := range []struct{ name, body, msg string }{
		{"an object", `{"a":[1,2,{"b":null}],"c":"\u00e9\ud83d\ude00"}`, ""},
		{"space around", " {} \n", ""},
		{"nothing", "", "The body is empty"},
		{"blanks", "  ", "The body is empty"},
		{"cut off", `{"a":`, "The JSON ends too early"},
		{"two values", `{} {}`, "Something follows the JSON value"},
		{"garbage behind", `{}x`, "Something follows the JSON value"},
		{"a name twice", `{"a":1,"a":2}`, "A name is twice in one object"},
		{"a name twice, escaped", `{"a":1,"\u0061":2}`, "A name is twice in one object"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "The body is not valid JSON in UTF-8"},
		{"half a surrogate", `{"a":"\ud800"}`, "The body is not valid JSON in UTF-8"},
		{"too deep", deep, "The JSON is nested too deep"},
		{"a number like none", `{"a":01}`, "The body is not valid JSON in UTF-8"},
		{"a comment", `{/**/}`, "The body is not valid JSON in UTF-8"},
	} {
		err := httpkit.CheckJSON([]byte(tc.body))
		if (err != nil) != (tc.msg != "") || err != nil && err.Error() != tc.msg {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil {
			if e := httpkit.ErrorOf(err); e.Code != httpkit.CodeValidation || len(e.Fields) != 1 || e.Fields[0].Type != "json_invalid" || e.Fields[0].Loc[0] != "body" {
				t.Errorf("%s: %+v", tc.name, e)
			}
		}
	}
}

func TestStrictJSONHandsTheBodyOn(t *testing.T) {
	h := httpkit.StrictJSON(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for body, status := range map[string]int{`{"a":1}`: 200, `{"a":1,"a":1}`: 422} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body)))
		if w.Code != status || status == 200 && w.Body.String() != body {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

func TestMetricsAreForMonitors(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("GET /metrics", httpkit.Options{Access: httpkit.Optional, Style: httpkit.Plain}, httpkit.Metrics(reg))
		rt.Handle("GET /far", httpkit.Options{Access: httpkit.Optional}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = "192.0.2.1:1234"
			httpkit.Metrics(reg).ServeHTTP(w, r)
		}))
	})
	for _, tc := range []struct {
		conf   *tls.Config
		path   string
		status int
	}{
		{w.ca.WithoutCertificate(), "/metrics", 200},
		{w.ca.WithoutCertificate(), "/metrics X-Forwarded-For 192.0.2.1", 401},
		{w.ca.WithoutCertificate(), "/metrics Forwarded for=192.0.2.1", 401},
		{w.ca.RoleTLS("prometheus", sealmq.RoleMonitor), "/metrics X-Forwarded-For 192.0.2.1", 200},
		{w.ca.WithoutCertificate(), "/far", 401},
		{w.ca.ClientTLS("alice"), "/far", 403},
		{w.ca.RoleTLS("prometheus", sealmq.RoleMonitor), "/far", 200},
	} {
		words := strings.Fields(tc.path)
		if a := w.ask(w.client(tc.conf, true), "GET", words[0], "", words[1:]...); a.StatusCode != tc.status {
			t.Errorf("%s: %d, want %d", tc.path, a.StatusCode, tc.status)
		}
	}
}

// TestErrorsWaitForSmallBodies: over HTTP/2 an answer that overtakes its request's body is
// lost on some clients, so the rest is read first, for a second at most.
func TestErrorsWaitForSmallBodies(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.WithoutCertificate(), true)
	short := httpkit.SetDrainTimeout(time.Minute)
	defer httpkit.SetDrainTimeout(short)
	for _, sent := range []bool{true, false} {
		if !sent {
			httpkit.SetDrainTimeout(short)
		}
		r, body := io.Pipe()
		read := make(chan error, 1)
		go func() {
			_, err := io.WriteString(body, `{"a":`)
			if err == nil && sent {
				_, err = io.WriteString(body, `1}`)
				body.Close()
			}
			read <- err
		}()
		req, err := http.NewRequest("POST", w.url+"/echo", r)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 7
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 || resp.ProtoMajor != 2 {
			t.Errorf("%d %s", resp.StatusCode, resp.Proto)
		}
		r.Close() // so that a writer that nobody reads from ends
		if err := <-read; err != nil {
			t.Errorf("the body was not read: %v", err)
		}
	}
}

// TestTooLargeWaitsForItsBody: so it is with an answer to a body that is too large, unless it
// is very large.
func TestTooLargeWaitsForItsBody(t *testing.T) {
	defer httpkit.SetDrainTimeout(httpkit.SetDrainTimeout(time.Minute))
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.ClientTLS("alice"), true)
	r, body := io.Pipe()
	read := make(chan error, 1)
	text := strings.Repeat("x", 300<<10)
	go func() {
		_, err := io.WriteString(body, text)
		body.Close()
		read <- err
	}()
	req, err := http.NewRequest("POST", w.url+"/echo", r)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(text))
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.ProtoMajor != 2 {
		t.Errorf("%d %s", resp.StatusCode, resp.Proto)
	}
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the body was not read")
		r.Close()
	}
}

// TestReadmit: a handler whose answer takes long learns that its caller has lost the permission.
func TestReadmit(t *testing.T) {
	key := "good"
	var before, after error
	rt := httpkit.NewRouter(httpkit.Config{Component: "proxy", Identifier: mtls.NewIdentifier(), Authenticate: func(*http.Request) (httpkit.Caller, error) {
		if key == "" {
			return httpkit.Caller{}, httpkit.ErrNoIdentity
		}
		return httpkit.Caller{Identity: sealmq.Identity{ID: key, Role: sealmq.RoleAdmin}, Source: httpkit.ByToken}, nil
	}})
	next := ""
	rt.Handle("GET /stream", httpkit.Options{Roles: []sealmq.Role{sealmq.RoleAdmin}}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		before = httpkit.Readmit(r)
		key = next
		after = httpkit.Readmit(r)
	}))
	for _, now := range []string{"", "another"} {
		key, next = "good", now
		rt.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/stream", nil))
		if before != nil || after == nil {
			t.Errorf("before %v, after it became %q %v", before, now, after)
		}
	}
}

// TestOtherSitesActForNobody: a browser shows a certificate for whatever page asks.
func TestOtherSitesActForNobody(t *testing.T) {
	for _, certificates := range []bool{true, false} {
		cfg := httpkit.Config{Component: "main_server"}
		if certificates {
			cfg.Identifier = mtls.NewIdentifier()
		}
		rt := httpkit.NewRouter(cfg)
		for _, pattern := range []string{"GET /queue", "POST /queue"} {
			rt.Handle(pattern, httpkit.Options{Access: httpkit.Optional}, http.HandlerFunc(whoami))
		}
		for _, tc := range []struct {
			method, header, value string
			refused               bool
		}{
			{"POST", "Sec-Fetch-Site", "cross-site", true},
			{"POST", "Sec-Fetch-Site", "same-site", true},
			{"POST", "Origin", "https://evil.example", true},
			{"POST", "Origin", "null", true},
			{"POST", "Sec-Fetch-Site", "same-origin", false},
			{"POST", "Origin", "https://example.com", false}, // the host of the request
			{"POST", "User-Agent", "a program", false},
			{"GET", "Sec-Fetch-Site", "cross-site", false},
		} {
			r := httptest.NewRequest(tc.method, "https://example.com/queue", nil)
			r.Header.Set(tc.header, tc.value)
			rec := httptest.NewRecorder()
			rt.ServeHTTP(rec, r)
			want := http.StatusOK
			if tc.refused && certificates {
				want = http.StatusForbidden
			}
			if rec.Code != want {
				t.Errorf("%s with %s: %s, certificates %v: %d %s", tc.method, tc.header, tc.value, certificates, rec.Code, rec.Body)
			}
		}
	}
}

// TestWhoIsBelieved: a name that an imported authority gives makes nobody a relay.
func TestWhoIsBelieved(t *testing.T) {
	own, imported := testca.New(t), testca.New(t)
	rt := httpkit.NewRouter(httpkit.Config{Component: "main_server", Identifier: mtls.NewIdentifier(own.Root()),
		OwnIssuer: func(issuer string) bool { return issuer == mtls.Issuer(own.Root()) }})
	rt.Handle("GET /address", httpkit.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpkit.WriteBytes(w, "text/plain", http.StatusOK, fmt.Appendf(nil, "%s %t", httpkit.ClientAddress(r), httpkit.Unattended(r)))
	}))
	for _, tc := range []struct {
		ca   *testca.CA
		role sealmq.Role
		want string
	}{{own, sealmq.RoleServer, "203.0.113.9 true"}, {own, sealmq.RoleProxy, "192.0.2.1 false"}, {imported, sealmq.RoleServer, "192.0.2.1 false"}} {
		leaf := tc.ca.Leaf("server", tc.role).Leaf
		r := httptest.NewRequest(http.MethodGet, "/address", nil)
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, tc.ca.Root()}}}
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		r.Header.Set(httpkit.UnattendedHeader, "1")
		rec := httptest.NewRecorder()
		rt.ServeHTTP(rec, r)
		if got := rec.Body.String(); got != tc.want {
			t.Errorf("for a %s of %s the address and what is unattended are %s, want %s", tc.role, tc.ca.Root().Subject, got, tc.want)
		}
	}
}
