package mainserver

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// expiresSoon is how long before its end a certificate is shown as expiring.
const expiresSoon = 30 * 24 * time.Hour

// newHealth is the main server's health (specification 8.6).
func (h *handler) newHealth() *httpkit.Health {
	checks := []httpkit.Check{
		{Name: "database", Late: httpkit.Down, Run: func(ctx context.Context) httpkit.Finding {
			switch err := h.cfg.Store.Ping(ctx); {
			case sealmq.CodeOf(err) == sealmq.NoStorage:
				return httpkit.Finding{Level: httpkit.Down, Reason: "the database has no room left, so no message is stored"}
			case err != nil:
				return httpkit.Finding{Level: httpkit.Down, Reason: "the database cannot be reached"}
			}
			return httpkit.Finding{}
		}},
		{Name: "encryption", Late: httpkit.Degraded, Run: func(context.Context) httpkit.Finding {
			if _, err := h.cfg.Service.cfg.Keys.Entries(h.now()); err != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "the key that proxies seal for cannot be signed"}
			}
			if h.cfg.Store.Counters().Unreadable > 0 {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "stored texts could not be decrypted with the keys of this server"}
			}
			return httpkit.Finding{}
		}},
		{Name: "items", Run: func(context.Context) httpkit.Finding {
			if why := h.cfg.Service.trouble.current(h.now()); why != "" {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: why}
			}
			return httpkit.Finding{}
		}},
		{Name: "redis", Late: httpkit.Degraded, Run: func(ctx context.Context) httpkit.Finding {
			if _, err := h.cfg.Queue.Counts(ctx); err != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "the queue cannot be reached"}
			}
			return httpkit.Finding{}
		}},
		{Name: "certificate", Run: func(context.Context) httpkit.Finding { return h.certificateHealth(h.now()) }},
		{Name: "revocations", Run: func(context.Context) httpkit.Finding {
			if h.cfg.Revocations.Err() != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "a list of revocations cannot be used; the last good one is in force"}
			}
			return httpkit.Finding{}
		}},
		{Name: "authority", Late: httpkit.Degraded, Run: func(context.Context) httpkit.Finding {
			if !h.cfg.Authority.HasKey() {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "the authority's key is not here, so no certificate can be issued"}
			}
			return httpkit.Finding{}
		}},
	}
	return httpkit.NewHealth(h.cfg.Version, true, append(checks, h.cfg.Checks...)...)
}

func (h *handler) certificateHealth(now time.Time) httpkit.Finding {
	chain := h.cfg.Certificate()
	switch {
	case len(chain) == 0:
		return httpkit.Finding{Level: httpkit.Down, Value: "missing", Reason: "the server has no certificate"}
	case now.After(chain[0].NotAfter):
		return httpkit.Finding{Level: httpkit.Down, Value: "expired", Reason: "the server's certificate has expired"}
	case h.cfg.Revocations.Check(chain) != nil:
		return httpkit.Finding{Level: httpkit.Degraded, Value: "revoked", Reason: "the server's certificate has been revoked"}
	case now.Add(expiresSoon).After(chain[0].NotAfter):
		return httpkit.Finding{Level: httpkit.Degraded, Value: "expiring", Reason: "the server's certificate expires on " + chain[0].NotAfter.UTC().Format(time.DateOnly)}
	}
	return httpkit.Finding{Value: "valid"}
}

// GetHealth implements mainapi.StrictServerInterface.
func (h *handler) GetHealth(ctx context.Context, _ mainapi.GetHealthRequestObject) (mainapi.GetHealthResponseObject, error) {
	return healthAnswer{h, exchangeOf(ctx).r}, nil
}

type healthAnswer struct {
	h *handler
	r *http.Request
}

// VisitGetHealthResponse implements mainapi.GetHealthResponseObject.
func (a healthAnswer) VisitGetHealthResponse(w http.ResponseWriter) error {
	a.h.health.ServeHTTP(w, a.r)
	return nil
}

// GetLive implements mainapi.StrictServerInterface.
func (*handler) GetLive(context.Context, mainapi.GetLiveRequestObject) (mainapi.GetLiveResponseObject, error) {
	return mainapi.GetLive200JSONResponse{Status: mainapi.GetLive200JSONResponseBodyStatusAlive}, nil
}

// now is the time of day.
func (h *handler) now() time.Time { return h.cfg.Service.cfg.Now() }
