package proxy

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
)

const (
	// batchBytes bounds a batch, unless longer texts are configured.
	batchBytes = 4 << 20
	// bytesOfCharacter is what one character takes in JSON at most: a surrogate pair in
	// escapes.
	bytesOfCharacter = 12
	findTimeout      = 5 * time.Second
)

// Names of endpoints in metrics; aliases share one.
const (
	endpointSubmit = "/api/v1/messages"
	endpointBatch  = "/api/v1/messages/batch"
	endpointHealth = "/health"
)

func (p *Proxy) routes() *httpkit.Router {
	rt := httpkit.NewRouter(httpkit.Config{
		Component:       "proxy",
		Identifier:      p.cfg.Identifier,
		Authenticate:    p.authenticate,
		CertificateSeen: p.metrics.certificateSeen,
		Denied:          p.cfg.Denied,
		Refused:         p.cfg.Refused,
		Registry:        p.cfg.Registry,
		Log:             p.cfg.Log,
		Now:             p.cfg.Now,
	})
	proxyapi.HandlerWithOptions(&operations{p}, proxyapi.StdHTTPServerOptions{
		BaseRouter: rt.Mux(p.options),
		ErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, err error) {
			httpkit.WriteError(w, r, httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"path"}, Msg: "A parameter is not valid"}))
		},
	})
	submit, batch := p.options("POST "+endpointSubmit), p.options("POST "+endpointBatch)
	submit.Style, batch.Style = httpkit.Plain, httpkit.Plain
	for _, path := range []string{"/submit", "/messages"} {
		rt.Handle("POST "+path, submit, http.HandlerFunc(p.submit))
		rt.Handle("POST "+path+"/batch", batch, http.HandlerFunc(p.submitBatch))
	}
	health := p.options("GET " + endpointHealth)
	rt.Handle("GET /api/v1/health", health, p.health)
	rt.Handle("GET /metrics", httpkit.Options{Access: httpkit.Optional, Style: httpkit.Plain}, httpkit.Metrics(p.cfg.Registry))
	public := httpkit.Options{Access: httpkit.Optional, Style: httpkit.Plain}
	rt.Describe(public, func() ([]byte, error) { return api.Document(api.TagProxy, p.cfg.Version) }, api.Page)
	return rt
}

// options are those of the routes that are generated.
func (p *Proxy) options(pattern string) httpkit.Options {
	single := int64(httpkit.DefaultMaxBody)
	if p.cfg.MaxBody > pipeline.DefaultMaxBody {
		single += int64(bytesOfCharacter * (p.cfg.MaxBody - pipeline.DefaultMaxBody))
	}
	switch pattern {
	case "POST " + endpointSubmit:
		return httpkit.Options{Endpoint: endpointSubmit, Success: http.StatusAccepted, MaxBody: single, OnError: p.metrics.refused}
	case "POST " + endpointBatch:
		return httpkit.Options{Endpoint: endpointBatch, MaxBody: max(batchBytes, 64*single), OnError: p.metrics.refused}
	case "GET " + endpointHealth, "GET /health/live":
		return httpkit.Options{Access: httpkit.Public, Style: httpkit.Plain, Endpoint: endpointHealth}
	}
	return httpkit.Options{}
}

// operations are those of openapi.yaml.
type operations struct {
	*Proxy
}

var _ proxyapi.ServerInterface = (*operations)(nil)

// SubmitMessage implements proxyapi.ServerInterface.
func (o *operations) SubmitMessage(w http.ResponseWriter, r *http.Request, _ proxyapi.SubmitMessageParams) {
	o.submit(w, r)
}

// SubmitBatch implements proxyapi.ServerInterface.
func (o *operations) SubmitBatch(w http.ResponseWriter, r *http.Request) { o.submitBatch(w, r) }

// GetHealth implements proxyapi.ServerInterface.
func (o *operations) GetHealth(w http.ResponseWriter, r *http.Request) { o.health.ServeHTTP(w, r) }

// GetLive implements proxyapi.ServerInterface.
func (o *operations) GetLive(w http.ResponseWriter, r *http.Request) { httpkit.Live(w, r) }

// GetOwnMessage implements proxyapi.ServerInterface.
func (o *operations) GetOwnMessage(w http.ResponseWriter, r *http.Request, id proxyapi.MessageID) {
	m, err := o.find(w, r, id)
	if err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	httpkit.WriteJSON(w, http.StatusOK, m)
}

func (p *Proxy) find(w http.ResponseWriter, r *http.Request, id string) (m pipeline.MessageState, err error) {
	c, _, err := p.admit(w, r)
	if err != nil {
		return m, err
	}
	if err := pipeline.CheckMessageID(id); err != nil {
		return m, httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"path", "message_id"}, Msg: err.Error()})
	}
	ctx, cancel := context.WithTimeout(r.Context(), findTimeout)
	defer cancel()
	m, found, err := p.cfg.Main.Find(ctx, c.ID, id)
	if err == nil && !found {
		err = httpkit.Errorf(httpkit.CodeNotFound, "There is no such message of this client; a new one is found within a second")
	}
	return m, err
}
