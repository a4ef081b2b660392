package proxy

import (
	"context"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// newHealth is the proxy's health (specification 2.2).
func (p *Proxy) newHealth() *httpkit.Health {
	checks := []httpkit.Check{
		{Name: "redis", Late: httpkit.Down, Run: func(ctx context.Context) httpkit.Finding {
			if _, err := p.cfg.Queue.Counts(ctx); err != nil {
				return httpkit.Finding{Level: httpkit.Down, Reason: "the queue cannot be reached"}
			}
			if p.enqueuer.isFull() {
				return httpkit.Finding{Level: httpkit.Degraded, Value: "full", Reason: "the queue has no room: its disk or its memory is full, and messages are refused"}
			}
			return httpkit.Finding{}
		}},
		{Name: "main_server", Late: httpkit.Degraded, Run: func(ctx context.Context) httpkit.Finding {
			if _, err := p.cfg.Main.Keys(ctx); err != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: "the main server cannot be reached"}
			}
			return httpkit.Finding{}
		}},
		{Name: "certificate", Run: func(context.Context) httpkit.Finding {
			return httpkit.CertificateHealth("the proxy", p.cfg.Certificate(), p.cfg.Now(), p.cfg.Revocation, httpkit.Down)
		}},
		{Name: "sealing_key", Run: func(context.Context) httpkit.Finding {
			if p.keys.current.Load() == nil {
				return httpkit.Finding{Level: httpkit.Down, Reason: "there is no key of the main server to seal for"}
			}
			return httpkit.Finding{}
		}},
		{Name: "id_key", Run: func(context.Context) httpkit.Finding {
			if p.keys.idKey.Load() == nil {
				return httpkit.Finding{Level: httpkit.Down, Reason: "there is no key of message ids yet; the main server has it"}
			}
			if why := p.keys.stranger.Load(); why != nil {
				return httpkit.Finding{Level: httpkit.Degraded, Reason: *why}
			}
			return httpkit.Finding{}
		}},
	}
	return httpkit.NewHealth(p.cfg.Version, false, append(checks, p.cfg.Checks...)...)
}
