package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// switchboard leads to one of several main servers, as a load balancer does.
type switchboard struct {
	net.Listener
	mu    sync.Mutex
	to    string
	conns []net.Conn
}

func newSwitchboard(t *testing.T) *switchboard {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &switchboard{Listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			server, err := net.Dial("tcp", s.to)
			if err != nil {
				c.Close()
				s.mu.Unlock()
				continue
			}
			s.conns = append(s.conns, c, server)
			s.mu.Unlock()
			one := func(to, from net.Conn) {
				io.Copy(to, from)
				to.Close()
				from.Close()
			}
			all.Go(func() { one(c, server) })
			all.Go(func() { one(server, c) })
		}
	})
	t.Cleanup(func() { l.Close(); s.lead(""); all.Wait() })
	return s
}

// lead ends what is open, and leads to another address from now on.
func (s *switchboard) lead(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.to, s.conns = to, nil
}

// mainServersOfOneDatabase starts a broker and two main servers.
func mainServersOfOneDatabase(t *testing.T) (one, two *rolesWorld) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	database := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { database.Close() })
	address, _, err := database.Database()
	if err != nil {
		t.Fatal(err)
	}
	one = newRolesWorld(t, pipelineproc.Config{Env: []string{"SEALMQ_MAIN_DATABASE=" + address}})
	two = newRolesWorld(t, pipelineproc.Config{Env: []string{"SEALMQ_MAIN_DATABASE=" + address}})
	one.start(pipelineproc.Broker)
	one.start(pipelineproc.Main)
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", one.data, two.data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	two.Set("SEALMQ_PIPELINE_BROKER=" + one.Addr(pipelineproc.Broker))
	two.start(pipelineproc.Main)
	return one, two
}

// TestMainServersChangeUnderAPortal: two main servers share a database, and their clocks differ by
// six minutes. A portal, and a program, may change between them with every request: logins,
// confirmations and tokens of one are good at the other, and both know the same certificates and
// minutes.
func TestMainServersChangeUnderAPortal(t *testing.T) {
	t.Parallel()
	began := time.Now()
	one, two := mainServersOfOneDatabase(t)
	for w, by := range map[*rolesWorld]time.Duration{one: 3 * time.Minute, two: -3 * time.Minute} {
		err := w.MoveClock(pipelineproc.Main, by, 0)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("the clock of a process cannot be set here; it can on Linux with amd64")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	board := newSwitchboard(t)
	_, port, _ := net.SplitHostPort(board.Addr().String())
	one.Set("SEALMQ_PIPELINE_MAIN=https://localhost:" + port)
	board.lead(one.Addr(pipelineproc.Main))
	one.start(pipelineproc.Portal)

	c := one.client("")
	call := func(want int, method, url, token, body string) string {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
			r.AddCookie(&http.Cookie{Name: "__Host-sealmq", Value: token})
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %d, want %d: %s, %v", method, url, resp.StatusCode, want, text, err)
		}
		return string(text)
	}
	word := func(text, name string) string {
		t.Helper()
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		s, _ := m[name].(string)
		return s
	}
	first, second, portal := one.URL(pipelineproc.Main), two.URL(pipelineproc.Main), one.URL(pipelineproc.Portal)
	// The answer of a slow database may be a few seconds old.
	byThreeMinutes := regexp.MustCompile(`differs from that of the database by (3m|2m5\d)`)
	for server, url := range map[string]string{"first": first, "second": second} {
		if text := call(http.StatusOK, "GET", url+"/health", "", ""); !byThreeMinutes.MatchString(text) {
			t.Errorf("the %s main server does not say that its clock is wrong: %s", server, text)
		}
	}
	const password = "correct horse battery"
	link := one.run("user", "setup-link", "--json")
	_, secret, _ := strings.Cut(word(link, "link"), "token=")
	session := word(call(http.StatusCreated, "POST", second+"/api/v1/setup", "", `{"token":"`+secret+`","email":"anna@example.com","name":"Anna","password":"`+password+`"}`), "token")

	events, err := http.NewRequestWithContext(t.Context(), "GET", portal+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	events.AddCookie(&http.Cookie{Name: "__Host-sealmq", Value: session})
	for _, main := range []*rolesWorld{one, two, one} {
		board.lead(main.Addr(pipelineproc.Main))
		one.until("the portal shows its pages with another main server", func() bool {
			r := events.Clone(t.Context())
			r.URL.Path = "/admin/certificates"
			resp, err := c.Do(r)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			return resp.StatusCode == http.StatusOK && resp.Request.URL.Path == "/admin/certificates"
		})
		resp, err := c.Do(events)
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(resp.Body).ReadBytes('\n'); err != nil || bytes.Contains(line, []byte("<html")) || resp.StatusCode != http.StatusOK {
			t.Errorf("the stream of events: %d %s %v", resp.StatusCode, line, err)
		}
		resp.Body.Close()
	}

	// What has happened is shown in the minute in which it has, by the clock of the database.
	for _, server := range []string{first, second} {
		var history mainapi.History
		if err := json.Unmarshal([]byte(call(http.StatusOK, "GET", server+"/api/v1/overview/history?hours=1", session, "")), &history); err != nil {
			t.Fatal(err)
		}
		if len(history.Minutes) == 0 || history.Minutes[0].At.Before(began.Add(-time.Minute)) || history.Minutes[len(history.Minutes)-1].At.Before(time.Now().Add(-2*time.Minute)) {
			t.Errorf("the test began at %v; the minutes are %+v", began.UTC(), history.Minutes)
		}
	}

	// What is confirmed at one main server may be done at the other, and both know of it.
	call(http.StatusNoContent, "POST", first+"/api/v1/sessions/current/confirm", session, `{"password":"`+password+`"}`)
	issued := word(call(http.StatusCreated, "POST", second+"/api/v1/certificates", session, `{"client_id":"proxy-9","role":"proxy"}`), "fingerprint")
	call(http.StatusOK, "GET", first+"/api/v1/certificates/"+issued, session, "")
	call(http.StatusOK, "POST", first+"/api/v1/certificates/"+issued+"/revoke", session, `{}`)
	one.until("it is revoked at the other", func() bool {
		return word(call(http.StatusOK, "GET", second+"/api/v1/certificates/"+issued, session, ""), "status") == "revoked"
	})

	call(http.StatusNoContent, "DELETE", second+"/api/v1/sessions/current", session, "")
	call(http.StatusUnauthorized, "GET", first+"/api/v1/me", session, "")
}
