package mainserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

// streamWorld has streams of an overview whose summary a test changes.
type streamWorld struct {
	*testing.T
	mu      sync.Mutex
	summary string
	looks   int
	streams streams
}

func newStreamWorld(t *testing.T) *streamWorld {
	w := &streamWorld{T: t, summary: "first"}
	w.streams = streams{max: 3, maxOfOne: 2, get: func(context.Context) mainapi.Overview {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.looks++
		return mainapi.Overview{At: time.Now(), Summary: w.summary, Database: &mainapi.DatabaseAnswer{AnswerSeconds: float64(w.looks)}}
	}}
	return w
}

// looked is how often somebody looked.
func (w *streamWorld) looked() int { w.mu.Lock(); defer w.mu.Unlock(); return w.looks }

func (w *streamWorld) set(summary string) { w.mu.Lock(); defer w.mu.Unlock(); w.summary = summary }

// reader is the other end of a stream.
type reader struct {
	header   http.Header
	deadline time.Time
	slow     atomic.Bool // takes nothing
	mu       sync.Mutex
	got      []string
	ended    chan error
	cancel   context.CancelFunc
}

func (r *reader) Header() http.Header                { return r.header }
func (r *reader) WriteHeader(int)                    {}
func (r *reader) Flush()                             {}
func (r *reader) SetReadDeadline(time.Time) error    { return nil }
func (r *reader) SetWriteDeadline(t time.Time) error { r.deadline = t; return nil }
func (r *reader) Write(p []byte) (int, error) {
	if r.slow.Load() {
		time.Sleep(time.Until(r.deadline))
		return 0, os.ErrDeadlineExceeded
	}
	text := "-"
	if _, after, ok := strings.Cut(string(p), `"summary":"`); ok {
		text, _, _ = strings.Cut(after, `"`)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, text)
	return len(p), nil
}

func (w *streamWorld) open(caller string, readmit func() error) *reader {
	return w.openAs(caller, "", readmit)
}

func (w *streamWorld) openAs(caller, login string, readmit func() error) *reader {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		w.Fatal(err)
	}
	r := &reader{header: make(http.Header), ended: make(chan error, 1), cancel: cancel}
	if readmit == nil {
		readmit = func() error { return nil }
	}
	e := &eventStream{streams: &w.streams, r: req, caller: caller, login: login, readmit: readmit}
	go func() { r.ended <- e.VisitFollowOverviewResponse(r) }()
	return r
}

func (r *reader) take() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.got, " ")
	r.got = nil
	return s
}

// TestStream: one look a second for all, an event only if something has changed, and a sign of
// life in between.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStreamWorld(t)
		a := w.open("a", nil)
		if got := a.take(); got != "first" {
			t.Errorf("at once: %q", got)
		}
		time.Sleep(1500 * time.Millisecond)
		b := w.open("b", nil)
		if got := b.take() + "/" + a.take(); got != "first/" {
			t.Errorf("a second stream: %q", got)
		}
		w.set("second")
		time.Sleep(time.Second)
		if got := a.take() + "/" + b.take(); got != "second/second" {
			t.Errorf("after a change: %q", got)
		}
		time.Sleep(8 * time.Second)
		if got := a.take() + "/" + b.take(); got != "- -/- -" {
			t.Errorf("while nothing changes: %q", got)
		}
		if n := w.looked(); n > 11 {
			t.Errorf("%d looks in 10 seconds", n)
		}
		a.cancel()
		b.cancel()
		synctest.Wait()
		looks := w.looked()
		time.Sleep(time.Minute)
		if w.looked() != looks || w.streams.count() != 0 {
			t.Errorf("%d looks after the last stream has ended, and %d streams", w.looked()-looks, w.streams.count())
		}
		c := w.open("a", nil)
		if got := c.take(); got != "second" {
			t.Errorf("a stream after all had ended: %q", got)
		}
		c.cancel()
	})
}

// TestStreamEnds: with the caller's session within five seconds, and with a reader who takes
// nothing.
func TestStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStreamWorld(t)
		var gone atomic.Bool
		a := w.open("a", func() error {
			if gone.Load() {
				return errors.New("the session was revoked")
			}
			return nil
		})
		slow := w.open("slow", nil)
		slow.slow.Store(true)
		time.Sleep(checkEvery + streamWrite + time.Second) // it may have taken the first event
		synctest.Wait()
		select {
		case <-slow.ended:
		default:
			t.Error("a reader who takes nothing keeps its stream")
		}
		gone.Store(true)
		time.Sleep(checkEvery)
		synctest.Wait()
		select {
		case err := <-a.ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the stream goes on without a session")
		}
		if n := w.streams.count(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// TestStreamsOfOneLogin: several pages of a login cost one question, and end together, at once if the
// login ends here.
func TestStreamsOfOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStreamWorld(t)
		var asked atomic.Int64
		var gone atomic.Bool
		open := func(caller, login string) *reader {
			return w.openAs(caller, login, func() error {
				asked.Add(1)
				if login == "revoked" && gone.Load() {
					return errors.New("the session was revoked")
				}
				return nil
			})
		}
		a, b, other := open("a", "revoked"), open("a", "revoked"), open("b", "kept")
		time.Sleep(checkEvery + time.Millisecond)
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("%d questions about two logins", n)
		}
		gone.Store(true)
		time.Sleep(checkEvery)
		<-a.ended
		<-b.ended
		if n := w.streams.count(); n != 1 {
			t.Errorf("%d streams are left, not that of the other login", n)
		}
		third := open("a", "revoked")
		synctest.Wait()
		began := time.Now()
		w.streams.recheck()
		<-third.ended
		if took := time.Since(began); took != 0 {
			t.Errorf("a stream went on for %v", took)
		}
		other.cancel()
		<-other.ended
		w.streams.recheck() // without a stream
	})
}

// inProcess is a caller that takes an answer over.
type inProcess struct {
	*reader
	parts <-chan []byte
}

func (p *inProcess) TakeOver(parts <-chan []byte) { p.parts = parts }

// TestStreamIsHandedOver: a caller in this process gets the events without a goroutine here, until
// its request or its login ends.
func TestStreamIsHandedOver(t *testing.T) {
	for _, how := range []string{"request", "login"} {
		synctest.Test(t, func(t *testing.T) {
			w := newStreamWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
			p := &inProcess{reader: &reader{header: make(http.Header)}}
			var gone atomic.Bool
			e := &eventStream{streams: &w.streams, r: r, caller: "a", readmit: func() error {
				if gone.Load() {
					return errors.New("the session was revoked")
				}
				return nil
			}}
			if err := e.VisitFollowOverviewResponse(p); err != nil || p.parts == nil || p.header.Get("Content-Type") != "text/event-stream" {
				t.Fatalf("%v, %v", err, p.header)
			}
			if event := string(<-p.parts); !strings.Contains(event, "first") {
				t.Errorf("%s", event)
			}
			if how == "request" {
				cancel()
			} else {
				gone.Store(true)
				w.streams.recheck()
			}
			for range p.parts { // until it ends
			}
			if n := w.streams.count(); n != 0 {
				t.Errorf("%d streams after the end of the %s", n, how)
			}
		})
	}
}

// TestStreamsAreLimited: for a caller, and in all.
func TestStreamsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStreamWorld(t)
		open := []*reader{w.open("a", nil), w.open("a", nil)}
		synctest.Wait()
		refused := func(caller, want string) {
			t.Helper()
			if err := <-w.open(caller, nil).ended; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", caller, err)
			}
		}
		refused("a", "This account has too many overviews open")
		open = append(open, w.open("b", nil))
		synctest.Wait()
		refused("c", "Too many overviews are open at this server")
		for _, r := range open {
			r.cancel()
		}
		synctest.Wait()
		last := w.open("c", nil)
		if got := last.take(); got != "first" {
			t.Errorf("after the others have ended: %q", got)
		}
		last.cancel()
	})
}
