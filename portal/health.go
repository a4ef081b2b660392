package portal

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// newHealth is the portal's own health.
func (p *Portal) newHealth() *httpkit.Health {
	main := httpkit.Check{Name: "main_server", Late: httpkit.Degraded, Run: func(ctx context.Context) httpkit.Finding {
		if _, err := p.mainHealth(ctx); err != nil {
			return httpkit.Finding{Level: httpkit.Degraded, Reason: "the main server cannot be reached"}
		}
		return httpkit.Finding{}
	}}
	h := httpkit.NewHealth(p.cfg.Version, false, append([]httpkit.Check{main}, p.cfg.Checks...)...)
	h.Service = "portal"
	return h
}

// mainHealth is what the main server says of itself.
type mainHealth struct {
	Status string   `json:"status"`
	Errors []string `json:"errors"`
}

// maxHealth bounds the answer.
const maxHealth = 64 << 10

func (p *Portal) mainHealth(ctx context.Context) (h mainHealth, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.cfg.Main+"/api/v1/health", nil)
	if err != nil {
		return h, err
	}
	resp, err := p.caller.http.Do(r)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxHealth)).Decode(&h)
	return h, err
}

// healthLine is the line at the foot of the side bar. However many pages are shown, the main
// server is asked once in a while.
type healthLine struct {
	mu   sync.Mutex
	at   time.Time
	last healthView
}

// healthView is the health in words.
type healthView struct{ Tone, Text string }

const (
	healthAge     = 2 * time.Second
	healthTimeout = 2 * time.Second
)

// view is the health for a reader. Reasons are for those who can do something about them.
func (l *healthLine) view(v *visit) healthView {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := v.portal.cfg.Now(); now.Sub(l.at) >= healthAge {
		// It is for all readers, also if this one leaves.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), healthTimeout)
		defer cancel()
		h, err := v.portal.mainHealth(ctx)
		l.at, l.last = v.portal.cfg.Now(), wordsOf(h, err) // those who waited have it too
	}
	view := l.last
	if !v.may(staff) && view.Tone != "good" {
		view.Text = "Limited: an administrator can see why"
	}
	return view
}

func wordsOf(h mainHealth, err error) healthView {
	if err != nil {
		return healthView{"bad", "The main server does not answer"}
	}
	reason := ""
	if len(h.Errors) > 0 {
		reason = ": " + h.Errors[0]
	}
	if n := len(h.Errors) - 1; n > 0 {
		reason += ", and " + plural(n, "more thing", "more things")
	}
	switch h.Status {
	case httpkit.OK.String():
		return healthView{"good", "Healthy"}
	case httpkit.Degraded.String():
		return healthView{"warn", "Degraded" + reason}
	}
	return healthView{"bad", "Unhealthy" + reason}
}
