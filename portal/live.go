package portal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

const (
	// eventWrite bounds each write to a browser.
	eventWrite = 10 * time.Second
	// maxEvent bounds an event of the main server.
	maxEvent = 1 << 20
)

// liveEvent is what a browser gets: the parts of the page that changed since the last event, and
// the newest points of the chart.
type liveEvent struct {
	Parts  map[string]string `json:"parts"`
	Points []livePoint       `json:"points"`
}

type livePoint struct {
	Time      int64  `json:"time"`
	Accepted  int64  `json:"accepted"`
	Delivered int64  `json:"delivered"`
	Failed    int64  `json:"failed"`
	Waiting   *int64 `json:"waiting"`
}

// live makes the event for all browsers of a role once: the main server sends the same to each.
type live struct {
	mu   sync.Mutex
	from []byte
	to   map[sealmq.Role][]byte
}

// eventFor is the event of an overview for readers of a role, as a line of data.
func (p *Portal) eventFor(overview []byte, role sealmq.Role) ([]byte, error) {
	p.live.mu.Lock()
	defer p.live.mu.Unlock()
	if !bytes.Equal(overview, p.live.from) {
		p.live.from, p.live.to = bytes.Clone(overview), make(map[sealmq.Role][]byte)
	}
	if made := p.live.to[role]; made != nil {
		return made, nil
	}
	var o mainapi.Overview
	if err := json.Unmarshal(overview, &o); err != nil {
		return nil, err
	}
	event := liveEvent{Parts: make(map[string]string)}
	view := p.liveView(&o, role)
	part := func(id, name string, data any) error {
		var b bytes.Buffer
		err := p.templates.ExecuteTemplate(&b, name, data)
		event.Parts[id] = b.String()
		return err
	}
	errs := []error{part("summary", "overview-summary", view), part("steps", "overview-steps", view), part("attention", "overview-attention", view),
		part("parts", "overview-parts", view), part("refusals", "overview-refusals", view)}
	for _, f := range view.Figures {
		errs = append(errs, part("figure-"+f.ID, "overview-figure", f))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, m := range rolling(o.Minutes, o.At) {
		event.Points = append(event.Points, livePoint{m.At.Unix(), m.Accepted, m.Delivered, m.Failed, m.Waiting})
	}
	data, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	made := append(append([]byte("data: "), data...), "\n\n"...)
	p.live.to[role] = made
	return made, nil
}

// showEvents relays the main server's events. It ends with them, or when the browser has gone
// or is too slow.
func showEvents(v *visit) error {
	resp, err := v.api.FollowOverview(v.ctx, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // for a reverse proxy
	if v.r.Method == http.MethodHead {
		return nil
	}
	if err := http.NewResponseController(v.w).SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	var buffer []byte
	if _, ok := resp.Body.(io.WriterTo); !ok { // the main server is in another process
		buffer = make([]byte, 4<<10)
	}
	_, err = io.CopyBuffer(&eventRelay{portal: v.portal, role: v.role(), to: patient(v.w, eventWrite)}, resp.Body, buffer)
	if errors.Is(err, errEvent) {
		v.portal.cfg.Log.Error("an event of the main server cannot be shown", "error", err)
	}
	return nil
}

var errEvent = errors.New("the event is not an overview")

// eventRelay takes what the main server sends, and gives a browser its own event for each.
type eventRelay struct {
	portal *Portal
	role   sealmq.Role // of the reader
	to     patientWriter
	rest   []byte // of a line that has not ended
}

// Write implements io.Writer.
func (e *eventRelay) Write(p []byte) (int, error) {
	data := p
	if len(e.rest) > 0 {
		data = append(e.rest, p...)
	}
	for {
		line, after, ended := bytes.Cut(data, []byte("\n"))
		if !ended {
			break
		}
		if err := e.line(line); err != nil {
			return 0, err
		}
		data = after
	}
	if len(data) > maxEvent {
		return 0, fmt.Errorf("%w: a line of more than %d bytes", errEvent, maxEvent)
	}
	e.rest = append(e.rest[:0], data...)
	return len(p), nil
}

// line relays a line of the main server's events.
func (e *eventRelay) line(line []byte) error {
	out := keepAlive
	switch data, isData := bytes.CutPrefix(line, []byte("data: ")); {
	case isData:
		var err error
		if out, err = e.portal.eventFor(data, e.role); err != nil {
			return fmt.Errorf("%w: %w", errEvent, err)
		}
	case !bytes.HasPrefix(line, []byte(":")):
		return nil
	}
	if _, err := e.to.Write(out); err != nil {
		return err
	}
	return e.to.rc.Flush()
}

var keepAlive = []byte(":\n\n")
