package mainserver

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// TextNoCopy is the reason of a health that is degraded because of ca.Authority.CopyErr.
const TextNoCopy = "revocations have no copy beside the data folder, so restoring a backup could take some back; let the node's user write to the folder above the data folder"

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
			if why, err := h.cfg.Store.Risk(ctx); err == nil && why != "" {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: why}
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
		{Name: "certificate", Run: func(context.Context) httpkit.Finding {
			return httpkit.CertificateHealth("the server", h.cfg.Certificate(), h.now(), h.cfg.Revocations, httpkit.Degraded)
		}},
		{Name: "revocations", Run: func(context.Context) httpkit.Finding {
			if h.cfg.Revocations.Err() != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "a list of revocations cannot be used; the last good one is in force"}
			}
			if h.cfg.Authority.CopyErr() != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: TextNoCopy}
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
