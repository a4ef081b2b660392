package httpkit_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
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
