package mainserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
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
	// checkEvery is how often it is looked whether the caller may still look, and something is
	// written in any case.
	checkEvery = 5 * time.Second
	// streamWrite bounds each write to a stream.
	streamWrite = 10 * time.Second
)

// streams has one event made for all open streams.
type streams struct {
	get           func(context.Context) mainapi.Overview
	max, maxOfOne int

	mu      sync.Mutex
	open    map[chan []byte]string // the name of the caller
	callers map[string]int
	last    []byte // the last event
	shown   []byte // its overview without what changes by itself
	stop    context.CancelFunc
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// add opens a stream for a caller: what comes out of it are events, of which a reader that is
// too slow gets the newest.
func (s *streams) add(caller string) (chan []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.callers[caller] >= s.maxOfOne:
		return nil, &httpkit.Error{Code: httpkit.CodeRateLimitExceeded, Message: "This account has too many overviews open; close one", RetryAfter: checkEvery}
	case len(s.open) >= s.max:
		return nil, &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "Too many overviews are open at this server; the page shows the state of when it was loaded", RetryAfter: time.Minute}
	}
	if s.open == nil {
		s.open, s.callers = make(map[chan []byte]string), make(map[string]int)
	}
	events := make(chan []byte, 1)
	s.open[events] = caller
	s.callers[caller]++
	if s.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		s.stop = stop
		go s.run(ctx)
	} else if s.last != nil {
		events <- s.last
	}
	return events, nil
}

func (s *streams) remove(events chan []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	caller := s.open[events]
	delete(s.open, events)
	if s.callers[caller]--; s.callers[caller] <= 0 {
		delete(s.callers, caller)
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

// send gives all streams an overview, if it differs from the last one.
func (s *streams) send(ctx context.Context, v mainapi.Overview) {
	shown, event := encode(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil || bytes.Equal(shown, s.shown) {
		return
	}
	s.last, s.shown = event, shown
	for events := range s.open {
		select {
		case <-events: // an older one that was not taken
		default:
		}
		events <- event
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
	return &eventStream{streams: &h.streams, r: request, caller: string(c.Source) + " " + c.ID, limit: r.Params.Limit, readmit: func() error { return httpkit.Readmit(request) }}, nil
}

// eventStream answers with events until its caller goes or may not look any more.
type eventStream struct {
	streams *streams
	r       *http.Request
	caller  string
	limit   int          // of events; 0 is none
	readmit func() error // says why the caller may not look any more
}

var keepAlive = []byte(": \n\n")

// VisitFollowOverviewResponse implements mainapi.FollowOverviewResponseObject.
func (e *eventStream) VisitFollowOverviewResponse(w http.ResponseWriter) error {
	events, err := e.streams.add(e.caller)
	if err != nil {
		return err
	}
	defer e.streams.remove(events)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a reverse proxy
	if e.r.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w)
	// A caller in this process has no connection, and no deadlines.
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for sent := 0; ; {
		data := keepAlive
		select {
		case data = <-events:
			sent++
		case <-ticker.C:
			if e.readmit() != nil {
				return nil
			}
		case <-httpkit.Stopping(e.r.Context()):
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
		if rc.Flush() != nil || e.limit > 0 && sent == e.limit {
			return nil
		}
	}
}
