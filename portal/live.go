package portal

import (
	"bufio"
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

// live makes the event for all browsers once: the main server sends the same to each.
type live struct {
	mu       sync.Mutex
	from, to []byte
}

// eventFor is the event of an overview, as a line of data.
func (p *Portal) eventFor(overview []byte) ([]byte, error) {
	p.live.mu.Lock()
	defer p.live.mu.Unlock()
	if bytes.Equal(overview, p.live.from) {
		return p.live.to, nil
	}
	var o mainapi.Overview
	if err := json.Unmarshal(overview, &o); err != nil {
		return nil, err
	}
	event := liveEvent{Parts: make(map[string]string)}
	view := p.liveView(&o)
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
	p.live.from, p.live.to = bytes.Clone(overview), append(append([]byte("data: "), data...), "\n\n"...)
	return p.live.to, nil
}

// showEvents relays the main server's events. It ends with them, or when the browser has gone
// or is too slow.
func showEvents(v *visit) error {
	ctx, cancel := context.WithCancel(v.ctx)
	defer cancel()
	go func() { // a server that stops waits for its answers
		select {
		case <-httpkit.Stopping(v.r.Context()):
			cancel()
		case <-ctx.Done():
		}
	}()
	resp, err := v.api.FollowOverview(ctx, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.Header().Set("X-Accel-Buffering", "no") // for a reverse proxy
	if v.r.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(v.w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		out := keepAlive
		switch data, isData := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); {
		case isData:
			if out, err = v.portal.eventFor(data); err != nil {
				v.portal.cfg.Log.Error("an event of the main server cannot be shown", "error", err)
				return nil
			}
		case !bytes.HasPrefix(lines.Bytes(), []byte(":")):
			continue
		}
		if err := rc.SetWriteDeadline(time.Now().Add(eventWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil
		}
		if _, err := v.w.Write(out); err != nil {
			return nil
		}
		if rc.Flush() != nil {
			return nil
		}
	}
	return nil
}

var keepAlive = []byte(":\n\n")
