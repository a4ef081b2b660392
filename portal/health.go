package portal

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// newHealth is the portal's own health.
func (p *Portal) newHealth() *httpkit.Health {
	main := httpkit.Check{Name: "main_server", Late: httpkit.Degraded, Run: func(ctx context.Context) httpkit.Finding {
		if err := p.askMain(ctx); err != nil {
			return httpkit.Finding{Level: httpkit.Degraded, Reason: "the main server cannot be reached"}
		}
		return httpkit.Finding{}
	}}
	h := httpkit.NewHealth(p.cfg.Version, false, append([]httpkit.Check{main}, p.cfg.Checks...)...)
	h.Service = "portal"
	return h
}

// askMain returns an error if the main server does not answer.
func (p *Portal) askMain(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.cfg.Main+"/health/live", nil)
	if err != nil {
		return err
	}
	resp, err := p.caller.http.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// healthLine is the line at the foot of the side bar, which says what the overview says. However
// many pages are shown, the main server is asked once in a while.
type healthLine struct {
	// staff is with the reason, for those who can do something about it.
	staff, others cached.Value[healthView]
}

// healthView is the health in words.
type healthView struct{ Tone, Text string }

const (
	healthAge     = 2 * time.Second
	healthTimeout = 2 * time.Second
)

// view is the health for a reader, with whose session it is asked for.
func (l *healthLine) view(v *visit) healthView {
	last := &l.others
	if v.may(staff) {
		last = &l.staff
	}
	return last.Get(healthAge, func() (healthView, error) {
		// It is for all readers, also if this one leaves.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), healthTimeout)
		defer cancel()
		r, err := v.api.GetStateWithResponse(ctx)
		if err != nil {
			return healthView{"bad", "The main server does not answer"}, nil
		}
		return wordsOf(r.JSON200), nil
	})
}

func wordsOf(s *mainapi.StateSummary) healthView {
	view := healthView{Tone: toneOf(s.State), Text: "Healthy"}
	switch {
	case view.Tone == "good":
	case s.Summary == "":
		view.Text = "Limited: an administrator can see why"
	default:
		view.Text = s.Summary
	}
	return view
}
