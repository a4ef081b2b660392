package mainserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

const (
	// DefaultMaxStreams and DefaultMaxStreamsPerCaller bound the streams of events that are
	// open at once.
	DefaultMaxStreams, DefaultMaxStreamsPerCaller = 1000, 20
	// streamEvery is how often there is an event at most.
	streamEvery = time.Second
	// checkEvery is how often it is looked whether the callers may still look, and something is
	// written in any case.
	checkEvery = 5 * time.Second
	// streamWrite bounds each write to a stream.
	streamWrite = 10 * time.Second
)

// streams has one event made for all open streams, and looks for all whether they may go on.
type streams struct {
	get           func(context.Context) mainapi.Overview
	max, maxOfOne int

	mu      sync.Mutex
	open    map[*eventStream]struct{}
	callers map[string]int
	last    []byte // the last event
	shown   []byte // its overview without what changes by itself
	stop    context.CancelFunc
	again   chan struct{} // tells check not to wait
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// add opens a stream: its channel gets events, of which a reader that is too slow gets the
// newest.
func (s *streams) add(e *eventStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.callers[e.caller] >= s.maxOfOne:
		return &httpkit.Error{Code: httpkit.CodeRateLimitExceeded, Message: "This account has too many overviews open; close one", RetryAfter: checkEvery}
	case len(s.open) >= s.max:
		return &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "Too many overviews are open at this server; the page shows the state of when it was loaded", RetryAfter: time.Minute}
	}
	if s.open == nil {
		s.open, s.callers = make(map[*eventStream]struct{}), make(map[string]int)
	}
	e.events = make(chan []byte, 1)
	s.open[e] = struct{}{}
	s.callers[e.caller]++
	if s.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		s.stop, s.again = stop, make(chan struct{}, 1)
		go s.run(ctx)
		go s.check(ctx, s.again)
	} else if s.last != nil {
		e.events <- s.last
	}
	return nil
}

// remove ends a stream. Another call for the same one does nothing.
func (s *streams) remove(e *eventStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, isOpen := s.open[e]; !isOpen {
		return
	}
	delete(s.open, e)
	close(e.events)
	if s.callers[e.caller]--; s.callers[e.caller] <= 0 {
		delete(s.callers, e.caller)
	}
	if len(s.open) == 0 {
		s.stop()
		s.stop, s.last, s.shown = nil, nil, nil
	}
}

// run makes events until ctx ends: while a stream is open.
func (s *streams) run(ctx context.Context) {
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	for {
		s.send(ctx, s.get(ctx))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check ends the streams whose callers may not look any more, until ctx ends. It asks for all in
// one goroutine, because a question to the database needs a large stack, and once for all
// streams of a login: a person has several pages open.
func (s *streams) check(ctx context.Context, again <-chan struct{}) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-again:
		}
		admitted := make(map[string]bool)
		for _, e := range s.all() {
			ok, known := admitted[e.login]
			if !known || e.login == "" {
				ok = e.readmit() == nil
				admitted[e.login] = ok
			}
			if !ok {
				s.remove(e)
			}
		}
		s.offer(keepAlive)
	}
}

// recheck has it looked at once whether the callers may still look. Logins that another main
// server ends are noticed with the next look.
func (s *streams) recheck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return
	}
	select {
	case s.again <- struct{}{}:
	default: // it is told already
	}
}

func (s *streams) all() []*eventStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.open))
}

// offer gives all streams something that need not arrive: not those with an event to write.
func (s *streams) offer(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.open {
		select {
		case e.events <- data:
		default:
		}
	}
}

// send gives all streams an overview, if it differs from the last one.
func (s *streams) send(ctx context.Context, v mainapi.Overview) {
	shown, event := encode(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || bytes.Equal(shown, s.shown) {
		return
	}
	s.last, s.shown = event, shown
	for e := range s.open {
		select {
		case <-e.events: // an older one that was not taken
		default:
		}
		e.events <- event
	}
}

// encode makes an event, and what tells it from others: it is worth one if more has changed
// than the time, and how long the database took.
func encode(v mainapi.Overview) (shown, event []byte) {
	data, err := json.Marshal(v)
	if err != nil { // our own types: a mistake of ours
		panic(err)
	}
	event = append(append([]byte("event: overview\ndata: "), data...), "\n\n"...)
	v.At = time.Time{}
	if v.Database != nil {
		v.Database = &mainapi.DatabaseAnswer{}
	}
	if v.Disk != nil {
		v.Disk = &mainapi.Disk{FreeBytes: v.Disk.FreeBytes >> 26}
	}
	components := make([]Component, len(v.Components))
	for i, c := range v.Components {
		c.LastSeen = time.Time{}
		components[i] = c
	}
	v.Components = components
	shown, _ = json.Marshal(v) // as above
	return shown, event
}

// FollowOverview implements mainapi.StrictServerInterface.
func (h *handler) FollowOverview(ctx context.Context, r mainapi.FollowOverviewRequestObject) (mainapi.FollowOverviewResponseObject, error) {
	c, _ := httpkit.CallerOf(ctx) // access lets nobody in without one
	request := exchangeOf(ctx).r
	e := &eventStream{streams: &h.streams, r: request, caller: string(c.Source) + " " + c.ID, limit: r.Params.Limit, readmit: func() error { return httpkit.Readmit(request) }}
	if c.Account != nil {
		e.login = httpkit.ClientAddress(request) + " " + request.Header.Get("Authorization")
	}
	return e, nil
}

// eventStream answers with events until its caller goes or may not look any more.
type eventStream struct {
	streams *streams
	r       *http.Request
	caller  string
	login   string       // what readmit looks at, if other streams may share its answer
	limit   int          // of events; 0 is none
	readmit func() error // says why the caller may not look any more
	events  chan []byte  // closed when the stream ends
}

var keepAlive = []byte(": \n\n")

// VisitFollowOverviewResponse implements mainapi.FollowOverviewResponseObject.
func (e *eventStream) VisitFollowOverviewResponse(w http.ResponseWriter) error {
	if err := e.streams.add(e); err != nil {
		return err
	}
	remove := func() { e.streams.remove(e) }
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a reverse proxy
	if e.limit == 0 && e.r.Method != http.MethodHead && httpkit.HandOver(w, e.events) {
		context.AfterFunc(e.r.Context(), remove)
		return nil
	}
	defer remove()
	if e.r.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for sent := 0; ; {
		var data []byte
		select {
		case data = <-e.events:
			if data == nil {
				return nil
			}
		case <-httpkit.Stopping(e.r.Context()).Done():
			return nil
		case <-e.r.Context().Done():
			return nil
		}
		if err := rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil
		}
		if _, err := w.Write(data); err != nil {
			return nil
		}
		if data[0] != ':' {
			sent++
		}
		if rc.Flush() != nil || e.limit > 0 && sent == e.limit {
			return nil
		}
	}
}
