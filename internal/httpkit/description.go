package httpkit

import (
	"net/http"
	"sync"
)

// Describe serves the description of an API: as JSON under /openapi.json, and as a page under /docs
// and /redoc. They are made when somebody first asks for them, because a start need not wait for
// what most processes never show. page is called with the JSON, and returns a content security
// policy too.
func (rt *Router) Describe(o Options, description func() ([]byte, error), page func(description []byte) (html []byte, policy string, err error)) {
	description = sync.OnceValues(description)
	rt.Handle("GET /openapi.json", o, fixed(func() (document, error) {
		body, err := description()
		return document{"application/json", "", body}, err
	}))
	html := fixed(func() (document, error) {
		body, err := description()
		if err != nil {
			return document{}, err
		}
		html, policy, err := page(body)
		return document{"text/html; charset=utf-8", policy, html}, err
	})
	o.Endpoint = "/docs"
	rt.Handle("GET /docs", o, html)
	rt.Handle("GET /redoc", o, html)
}

// A document is public and does not change while the process runs.
type document struct {
	contentType, policy string
	body                []byte
}

func fixed(read func() (document, error)) http.Handler {
	read = sync.OnceValues(read)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := read()
		if err != nil {
			WriteError(w, r, err)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("X-Content-Type-Options", "nosniff")
		if d.policy != "" {
			h.Set("Content-Security-Policy", d.policy)
			h.Set("Referrer-Policy", "no-referrer")
		}
		WriteBytes(w, d.contentType, http.StatusOK, d.body)
	})
}
