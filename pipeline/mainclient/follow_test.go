package mainclient_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/trust"
)

// follow fills a list until the test ends.
func (w *world) follow(role sealmq.Role, list *trust.RevocationList) {
	w.Helper()
	c, _ := w.as(string(role)+"-1", role)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.FollowRevocations(ctx, list, slog.New(slog.DiscardHandler)) }()
	w.Cleanup(func() { cancel(); <-done })
}

func (w *world) openFeed(file string) (list *trust.RevocationList, changed <-chan struct{}) {
	w.Helper()
	list, err := trust.OpenRevocations(trust.ListConfig{FeedFile: file, StaleClose: time.Hour})
	w.must(err)
	c := make(chan struct{}, 100)
	list.OnChange(func() { c <- struct{}{} })
	return list, c
}

// eventually waits for a condition that another goroutine brings about.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(until) {
			w.Fatalf("never: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestFollowRevocations: whatever has a role of the pipeline hears of a revocation within a
// second, and the list is there at its next start without the main server.
func TestFollowRevocations(t *testing.T) {
	w := newWorld(t)
	_, stolen := w.as("stolen", sealmq.RoleClient)
	chain := []*x509.Certificate{stolen.Leaf, w.authority.Root()}
	for _, role := range []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer} {
		file := filepath.Join(t.TempDir(), "revocations.json")
		list, changed := w.openFeed(file)
		w.follow(role, list)
		w.eventually("the list was filled", func() bool { return !list.Refreshed().IsZero() })
		name := "gone-" + string(role)
		_, gone := w.as(name, sealmq.RoleClient)
		began := time.Now()
		_, err := w.authority.Revoke(ca.Revocation{Name: name})
		w.must(err)
		w.revoked.Refresh()
		late := time.After(20 * time.Second)
		for list.Check([]*x509.Certificate{gone.Leaf, w.authority.Root()}) == nil {
			select {
			case <-changed: // also when the list is filled with what was revoked before
			case <-late:
				t.Fatalf("%s: it never hears of it", role)
			}
		}
		t.Logf("%s: %v", role, time.Since(began))
		if list.Check(chain) != nil {
			t.Errorf("%s: it revokes something else", role)
		}
		again, _ := w.openFeed(file)
		if again.Check([]*x509.Certificate{gone.Leaf, w.authority.Root()}) == nil {
			t.Errorf("%s: the next start has forgotten it", role)
		}
	}
	other, _ := w.openFeed(filepath.Join(t.TempDir(), "revocations.json"))
	w.follow(sealmq.RoleClient, other)
	c, _ := w.as("client-2", sealmq.RoleClient)
	if _, err := c.Revocations(t.Context(), 0, "", 0); sealmq.CodeOf(err) != sealmq.Denied {
		t.Errorf("a client is told what is revoked: %v", err)
	}
}

// TestFollowerHearsOfItsOwnRevocation: also if the main server refuses it before it could ask.
func TestFollowerHearsOfItsOwnRevocation(t *testing.T) {
	w := newWorld(t)
	list, changed := w.openFeed(filepath.Join(t.TempDir(), "revocations.json"))
	c, own := w.as("proxy-1", sealmq.RoleProxy)
	_, err := w.authority.Revoke(ca.Revocation{Name: "proxy-1"})
	w.must(err)
	w.revoked.Refresh()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.FollowRevocations(ctx, list, slog.New(slog.DiscardHandler)) }()
	defer func() { cancel(); <-done }()
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Fatal("it never hears of it")
	}
	if list.Check([]*x509.Certificate{own.Leaf, w.authority.Root()}) == nil || !list.Refreshed().IsZero() {
		t.Errorf("it goes on; refreshed %v", list.Refreshed())
	}
}

// TestFollowerLetsTheServerStop: a question that waits for a change does not hold up the end
// of the main server.
func TestFollowerLetsTheServerStop(t *testing.T) {
	w := newWorld(t)
	c, _ := w.as("proxy-1", sealmq.RoleProxy)
	feed, err := c.Revocations(t.Context(), 0, "", 0)
	w.must(err)
	answered := make(chan error, 1)
	go func() {
		_, err := c.Revocations(t.Context(), feed.Version, "", 30*time.Second)
		answered <- err
	}()
	w.eventually("the question is asked", func() bool { return w.server.Connections() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-answered
}
