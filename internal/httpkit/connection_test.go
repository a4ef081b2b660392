package httpkit_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

// waitFor waits until that many connections are open.
func (w *world) waitFor(open int) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); w.server.Connections() != open; <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d connections are open, want %d", w.server.Connections(), open)
		}
	}
}

// TestRevocationEndsConnections: idle ones at once, others after their request, and nobody
// else's. A revoked client that comes again gets 403.
func TestRevocationEndsConnections(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		running, goOn := make(chan bool), make(chan bool)
		w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
			basic(rt)
			rt.Handle("GET /slow", httpkit.Options{}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				running <- true
				<-goOn
				whoami(rw, r)
			}))
		})
		alice, other, bob := w.client(w.ca.ClientTLS("alice"), http2), w.client(w.ca.ClientTLS("alice"), http2), w.client(w.ca.ClientTLS("bob"), http2)
		w.ask(alice, "GET", "/who", "")
		w.ask(bob, "GET", "/who", "")
		slow := make(chan answer, 1)
		go func() {
			a, err := w.try(other, "GET", "/slow", "")
			if err != nil {
				t.Error(err)
			}
			slow <- a
		}()
		<-running
		w.router.Recheck()
		w.waitFor(3)

		w.list.add(w.ca.Leaf("alice", sealmq.RoleClient).Leaf)
		begin := time.Now()
		w.router.Recheck()
		w.waitFor(2)
		t.Logf("HTTP/2 %v: the idle connection ended after %v", http2, time.Since(begin))
		goOn <- true
		if a := <-slow; a.Response == nil || a.body != "alice certificate true" {
			t.Errorf("the running request: %+v", a)
		}
		w.waitFor(1)
		if a := w.ask(alice, "GET", "/who", ""); a.StatusCode != http.StatusForbidden {
			t.Errorf("alice comes again: %d", a.StatusCode)
		}
		if a := w.ask(bob, "GET", "/who", ""); a.StatusCode != http.StatusOK {
			t.Errorf("bob: %d", a.StatusCode)
		}
		w.waitFor(1)
	}
}

// TestStaleListLetsNobodyIn: open connections end. While it is not known what is revoked,
// clients are told so, and health still answers.
func TestStaleListLetsNobodyIn(t *testing.T) {
	w := newWorld(t, httpkit.Limits{}, basic)
	c := w.client(w.ca.ClientTLS("alice"), true)
	if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	// An authority that is not accepted any more is no reason to answer.
	w.list.fail(errors.New("its authority is not accepted any more"))
	w.router.Recheck()
	w.waitFor(0)

	w.list.fail(mtls.ErrStale)
	for _, name := range []string{"alice", "bob"} {
		c := w.client(w.ca.ClientTLS(name), true)
		if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 503 || !strings.Contains(a.body, httpkit.TextStale) {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
		if a := w.ask(c, "GET", "/health", ""); a.StatusCode != 200 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
}

// TestConnectionEndsWithItsCertificate: also one with public requests only, and one whose request
// does not end.
func TestConnectionEndsWithItsCertificate(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, path := range []string{"/health", "/who", "/forever"} {
			t.Run(fmt.Sprintf("HTTP2 %v %s", http2, path), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, httpkit.Limits{}, func(rt *httpkit.Router) {
					basic(rt)
					rt.Handle("GET /forever", httpkit.Options{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
				})
				template := w.ca.Template("alice", sealmq.RoleClient)
				for life := 2 * time.Second; ; life *= 2 { // it may end before a slow machine has connected
					template.NotAfter = time.Now().Add(life)
					c := w.client(w.ca.ClientWith(w.ca.Issue(template)), http2)
					if _, err := w.try(c, "GET", "/health", ""); err == nil {
						go func() { _, _ = w.try(c, "GET", path, "") }()
						break
					} else if life > time.Minute {
						t.Fatal(err)
					}
				}
				if eventually(func() bool { return w.server.Connections() == 0 }) != nil {
					t.Error("the connection outlives its certificate")
				}
			})
		}
	}
}
