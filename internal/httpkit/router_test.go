package httpkit_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
)

func TestPaths(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		basic(rt)
		rt.Handle("GET /clients/{id}", httpkit.Options{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("id")) }))
		rt.Handle("PUT /who", httpkit.Options{}, http.HandlerFunc(whoami))
	})
	c := w.client(w.ca.ClientTLS("alice"), true)
	for _, tc := range []struct {
		method, path string
		status       int
		body, allow  string
	}{
		{"GET", "/who", 200, "alice certificate true", ""},
		{"GET", "/who/", 200, "alice certificate true", ""},
		{"GET", "/who?key=secret", 200, "alice certificate true", ""},
		{"HEAD", "/who", 200, "", ""},
		{"PUT", "/who/", 200, "alice certificate true", ""},
		{"POST", "/who", 405, "", "GET, HEAD, PUT"},
		{"OPTIONS", "/who", 405, "", "GET, HEAD, PUT"},
		{"BREW", "/echo/", 405, "", "POST"},
		{"GET", "/nowhere", 404, "", ""},
		{"GET", "//who", 404, "", ""},
		{"GET", "/a/../who", 404, "", ""},
		{"GET", "/", 404, "", ""},
		{"GET", "/clients/a%2Fb", 200, "a/b", ""},
		{"GET", "/clients/a%20b/", 200, "a b", ""},
	} {
		a := w.ask(c, tc.method, tc.path, "")
		if a.StatusCode != tc.status || tc.status == 200 && a.body != tc.body || a.Header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: %d %q %q", tc.method, tc.path, a.StatusCode, a.body, a.Header.Get("Allow"))
		}
		if a.Header.Get("X-Request-ID") == "" || a.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s %s: %v", tc.method, tc.path, a.Header)
		}
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	for _, http2 := range []bool{false, true} {
		c := w.client(w.ca.ClientTLS("alice"), http2)
		for _, tc := range []struct {
			name, body, contentType string
			status                  int
		}{
			{"JSON", `{}`, "application/json; charset=utf-8", 200},
			{"no type", `{}`, "", 200},
			{"problem", `{}`, "application/problem+json", 200},
			{"a form", `a=b`, "application/x-www-form-urlencoded", 415},
			{"nonsense", `{}`, "///", 415},
			{"too large", strings.Repeat("x", 101), "application/json", 413},
			{"just right", strings.Repeat("x", 100), "application/json", 200},
		} {
			var header []string
			if tc.contentType != "" {
				header = []string{"Content-Type", tc.contentType}
			}
			a := w.ask(c, "POST", "/echo", tc.body, header...)
			if a.StatusCode != tc.status || tc.status == 200 && a.body != tc.body {
				t.Errorf("%s: %d %q", tc.name, a.StatusCode, a.body)
			}
		}
		// Without a length the limit holds too.
		resp, err := c.Post(w.url+"/echo", "application/json", io.MultiReader(strings.NewReader(strings.Repeat("x", 60)), strings.NewReader(strings.Repeat("x", 60))))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("in pieces: %d", resp.StatusCode)
		}
	}
}

// TestRoomForBodies: bodies of many requests together have a limit, which is free again
// when they end.
func TestRoomForBodies(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("POST /large", httpkit.Options{MaxBody: 600 << 10}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := httpkit.ReadBody(r, nil); err != nil {
				httpkit.WriteError(w, r, err)
				return
			}
			if r.Header.Get("Wait") != "" {
				arrived <- struct{}{}
				<-release
			}
		}))
	})
	c := w.client(w.ca.ClientTLS("alice"), false)
	large := strings.Repeat("x", 600<<10)
	done := make(chan answer)
	go func() { a, _ := w.try(c, "POST", "/large", large, "Wait", "yes"); done <- a }()
	<-arrived
	if a := w.ask(c, "POST", "/large", large); a.StatusCode != 503 || a.Header.Get("Retry-After") != "1" {
		t.Errorf("no room: %d %v", a.StatusCode, a.Header)
	}
	close(release)
	if a := <-done; a.StatusCode != 200 {
		t.Errorf("first: %d", a.StatusCode)
	}
	if a := w.ask(c, "POST", "/large", large); a.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}

// TestAnnouncedBodiesTakeNoRoom: only what a client has sent counts, so that many requests
// whose bodies never come keep nobody out.
func TestAnnouncedBodiesTakeNoRoom(t *testing.T) {
	arrived := make(chan struct{})
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("POST /large", httpkit.Options{MaxBody: 600 << 10}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Wait") != "" {
				arrived <- struct{}{}
			}
			if _, err := httpkit.ReadBody(r, nil); err != nil {
				httpkit.WriteError(w, r, err)
			}
		}))
	})
	c := w.client(w.ca.ClientTLS("alice"), false)
	for _, length := range []int64{-1, 600 << 10} {
		for range 4 {
			r, body := io.Pipe()
			defer body.Close()
			req, err := http.NewRequest("POST", w.url+"/large", r)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			req.Header.Set("Wait", "yes")
			go func() {
				if resp, err := c.Do(req); err == nil {
					resp.Body.Close()
				}
			}()
			<-arrived
		}
	}
	if a := w.ask(c, "POST", "/large", strings.Repeat("x", 600<<10)); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

func TestErrorsHaveTwoForms(t *testing.T) {
	invalid := httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"body", "sender_number"}, Msg: "Invalid phone number"},
		httpkit.Field{Type: "missing", Loc: []any{"body", "message_body"}, Msg: "Field required"})
	limited := &httpkit.Error{Code: httpkit.CodeRateLimitExceeded, Message: "Slower", RetryAfter: 1500 * time.Millisecond}
	fail := func(err error) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { httpkit.WriteError(w, r, err) })
	}
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		for path, err := range map[string]error{"invalid": invalid, "limited": limited, "sql": errors.New("SELECT secret"),
			"down": &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue cannot be reached", Err: errors.New("10.0.0.1")}} {
			rt.Handle("GET /api/v1/"+path, httpkit.Options{Access: httpkit.Public}, fail(err))
			rt.Handle("GET /"+path, httpkit.Options{Access: httpkit.Public, Style: httpkit.Plain}, fail(err))
		}
	})
	c := w.client(w.ca.WithoutCertificate(), false)

	a := w.ask(c, "GET", "/api/v1/invalid", "")
	m := a.json(t)
	if a.StatusCode != 422 || a.Header.Get("Content-Type") != "application/problem+json" || m["code"] != "validation_error" || m["type"] != "urn:sealmq:error:validation_error" ||
		m["detail"] != "Invalid phone number" || m["request_id"] != a.Header.Get("X-Request-ID") || m["status"] != 422.0 || m["title"] != "Unprocessable Entity" {
		t.Errorf("problem: %s", a.body)
	}
	if list, _ := m["errors"].([]any); len(list) != 2 || list[0].(map[string]any)["msg"] != "Invalid phone number" {
		t.Errorf("problem: %s", a.body)
	}

	a = w.ask(c, "GET", "/invalid", "")
	m = a.json(t)
	list, _ := m["detail"].([]any)
	if a.StatusCode != 422 || a.Header.Get("Content-Type") != "application/json" || m["error"] != "validation_error" || m["message"] != "Invalid phone number" ||
		len(list) != 2 || list[0].(map[string]any)["msg"] != "Value error, Invalid phone number" || list[1].(map[string]any)["msg"] != "Field required" ||
		m["details"].(map[string]any)["field"] != "sender_number" || m["status_code"] != 422.0 {
		t.Errorf("plain: %s", a.body)
	}
	if at, err := httpkit.ParseTime(m["timestamp"].(string)); err != nil || !strings.HasSuffix(m["timestamp"].(string), "Z") || time.Since(at) > time.Minute {
		t.Errorf("timestamp %v, %v", m["timestamp"], err)
	}

	a = w.ask(c, "GET", "/limited", "")
	m = a.json(t)
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "2" || m["retry_after"] != 2.0 || m["detail"] != "Slower" || m["details"] != nil {
		t.Errorf("limited: %d %v %s", a.StatusCode, a.Header, a.body)
	}
	if a = w.ask(c, "GET", "/sql", ""); a.StatusCode != 500 || strings.Contains(a.body, "secret") || a.json(t)["message"] != "Internal server error" {
		t.Errorf("internal: %d %s", a.StatusCode, a.body)
	}
	if a = w.ask(c, "GET", "/down", ""); a.StatusCode != 503 || a.json(t)["message"] != "the queue cannot be reached" {
		t.Errorf("down: %d %s", a.StatusCode, a.body)
	}
	if a = w.ask(c, "GET", "/nowhere", ""); a.json(t)["error"] != "not_found" {
		t.Errorf("%s", a.body)
	}
	if a = w.ask(c, "GET", "/api/nowhere", ""); a.json(t)["code"] != "not_found" {
		t.Errorf("%s", a.body)
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("GET /early", httpkit.Options{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("+4915200000000") }))
		rt.Handle("GET /late", httpkit.Options{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			panic("+4915200000000")
		}))
	})
	c := w.client(w.ca.ClientTLS("alice"), false)
	if a := w.ask(c, "GET", "/early", ""); a.StatusCode != 500 || strings.Contains(a.body, "goroutine") || a.json(t)["code"] != "internal_error" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a, err := w.try(c, "GET", "/late", ""); err == nil {
		t.Errorf("an answer that was cut off looks whole: %q", a.body)
	}
	if log := w.log.String(); strings.Count(log, "a handler has panicked") != 2 || strings.Contains(log, "+49152") {
		t.Errorf("log: %s", log)
	}
}

func TestRequestIDs(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.ClientTLS("alice"), false)
	if a := w.ask(c, "GET", "/who", "", "X-Request-ID", "order-66.b_1"); a.Header.Get("X-Request-ID") != "order-66.b_1" {
		t.Error(a.Header)
	}
	for _, bad := range []string{"", "a b", "a\"b", strings.Repeat("x", 65), "é"} {
		id := w.ask(c, "GET", "/who", "", "X-Request-ID", bad).Header.Get("X-Request-ID")
		if len(id) != 12 || !strings.HasPrefix(id, "req_") {
			t.Errorf("%q became %q", bad, id)
		}
	}
}

// TestLogSaysWhoAndWhatAndNoSecrets: the log names the request by its route.
func TestLogSaysWhoAndWhatAndNoSecrets(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.ClientTLS("alice"), false)
	w.ask(c, "POST", "/echo?token=hidden-1", `{"number":"hidden-2"}`, "Authorization", "Bearer hidden-3", "X-API-Key", "hidden-4", "X-Request-ID", "seen-1")
	w.ask(c, "GET", "/nowhere/hidden-5", "")
	log := w.log.String()
	if strings.Contains(log, "hidden") {
		t.Error(log)
	}
	for _, want := range []string{`"request_id":"seen-1"`, `"endpoint":"/api/v1/echo"`, `"client":"alice"`, `"status":200`, `"endpoint":"other","status":404`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
}

func TestMetricsHaveClosedLabels(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
		rt.Handle("POST /submit", httpkit.Options{Endpoint: "/api/v1/messages", Success: 202}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }))
		rt.Handle("POST /messages", httpkit.Options{Endpoint: "/api/v1/messages", Success: 202}, http.HandlerFunc(whoami))
	})
	if got := w.counters(t); got[`POST /api/v1/messages 202`] != 0 || len(got) != 1 {
		t.Errorf("at the start: %v", got)
	}
	c := w.client(w.ca.ClientTLS("alice"), false)
	w.ask(c, "POST", "/submit", "")
	w.ask(c, "POST", "/messages", "")
	w.ask(c, "BREW", "/coffee", "")
	w.ask(c, "GET", "/a/b/c", "")
	got := w.counters(t)
	for series, want := range map[string]float64{`POST /api/v1/messages 202`: 1, `POST /api/v1/messages 200`: 1, `other other 404`: 1, `GET other 404`: 1} {
		if got[series] != want {
			t.Errorf("%s: %v, want %v in %v", series, got[series], want, got)
		}
	}
}

func (w *world) counters(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		if f.GetName() == "proxy_requests_total" {
			for _, m := range f.GetMetric() {
				labels := make(map[string]string)
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				got[labels["method"]+" "+labels["endpoint"]+" "+labels["status"]] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

// TestSlowAndSilentPeers: who says nothing, or stops within a request, is closed.
func TestSlowAndSilentPeers(t *testing.T) {
	short := 3 * time.Second // handshakes have no longer
	w := newWorld(t, httpkit.Limits{HeaderTimeout: short, ReadTimeout: short, IdleTimeout: short, MaxConnections: 8}, basic)
	conns := make(map[string]net.Conn)
	for name, send := range map[string]string{
		"nothing":        "",
		"half a header":  "GET /who HTTP/1.1\r\nHost: x\r\nX-A: ",
		"half a body":    "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
		"idle afterward": "GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn := w.dial(t)
		defer conn.Close()
		if _, err := io.WriteString(conn, send); err != nil {
			t.Fatal(err)
		}
		conns[name] = conn
	}
	for name, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: the connection stays open", name)
			}
		}
	}
}
