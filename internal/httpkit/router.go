package httpkit

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
)

// Bounds of bodies.
const (
	// DefaultMaxBody bounds the body of a request.
	DefaultMaxBody = 64 << 10
	// DefaultMaxBodies bounds the bodies of all requests that run at a time.
	DefaultMaxBodies = 256 << 20
)

// Config is what a Router works with. Component must be set.
type Config struct {
	// Component is the prefix of the metrics: proxy, main_server, portal.
	Component string
	// Identifier says who a verified connection is. It is asked about each request, so
	// that its Revocation acts on open connections. It may be nil if the listener asks for
	// no certificates.
	Identifier *mtls.Identifier
	// Authenticate is asked about requests without a certificate. It returns
	// ErrNoIdentity, or an Error that is the answer. It may be nil.
	Authenticate func(*http.Request) (Caller, error)
	// Bearer says whose account a token in the header Authorization belongs to. A certificate
	// that the same connection shows must be good all the same. It returns an Error for a token
	// that is not good. If it is nil, the header has no meaning.
	Bearer func(r *http.Request, token string) (Caller, error)
	// OwnIssuer reports whether an Identity's Issuer is our own authority. The role server may say
	// for whom it asks only if it is: imported authorities give that role to mere names. If it is
	// nil, nobody over the network may.
	OwnIssuer func(issuer string) bool
	// Challenge is the WWW-Authenticate header of answers 401, or empty.
	Challenge string
	// CertificateSeen is called with the result of looking at who makes a request: missing,
	// valid, revoked, expired, untrusted, or the Source that Authenticate gave. It may be nil.
	CertificateSeen func(result string)
	// Denied is called for each request whose caller is not let in, before its answer.
	// The caller is empty if it is not known, or what Authenticate returned beside its error.
	// It may be nil.
	Denied func(r *http.Request, endpoint string, c Caller, e *Error)
	// Refused is called for each connection whose handshake has failed, with what is known of
	// its peer. It may be nil.
	Refused func(remote net.Addr, cs tls.ConnectionState, err error)
	// ErrorPage answers with an error where people look, in place of JSON. It may be nil.
	ErrorPage func(w http.ResponseWriter, r *http.Request, status int, e *Error)
	// Registry takes the metrics; nil keeps none.
	Registry prometheus.Registerer
	// Log gets a line for each request: 5xx as warnings, other errors as information, the
	// rest for debugging. Nil discards.
	Log *slog.Logger
	// MaxBodies bounds the bodies of all requests that run at a time (default
	// DefaultMaxBodies). Requests beyond it are answered with 503.
	MaxBodies int64
	// Now is the time of day (default time.Now).
	Now func() time.Time
}

// Access says for whom a route is.
type Access uint8

// The kinds of access.
const (
	// Required routes are for identified callers. It is the default.
	Required Access = iota
	// Optional routes are for everybody; a certificate that is shown must be good.
	Optional
	// Public routes are for everybody, whatever certificate is shown.
	Public
	// Person routes are for callers with an account.
	Person
)

// Options are those of a route.
type Options struct {
	Access Access
	// Roles are those that the caller may have; none lets every role in.
	Roles []sealmq.Role
	// Style is the form of errors.
	Style Style
	// Endpoint is the route's name in metrics and logs (default: the path of its pattern).
	// Aliases share one.
	Endpoint string
	// MaxBody bounds the request's body (default DefaultMaxBody).
	MaxBody int64
	// AnyType lets bodies in that are not JSON.
	AnyType bool
	// OnError is called for each error that the route answers with, those of its admission
	// included. It may be nil.
	OnError func(*Error)
	// Success is the usual status, whose counter is there from the start (default 200).
	Success int
}

type route struct {
	router  *Router
	options Options
	handler http.Handler
	metrics *routeMetrics
}

// Router is the http.Handler of a listener: it finds the route of a request, and does
// before and after it what all routes need. Routes are added before it serves.
type Router struct {
	cfg     Config
	mux     http.ServeMux
	metrics *metrics
	live    *mtls.Live
	missing *route
	bodies  atomic.Int64 // bytes of bodies that requests have read
	origins http.CrossOriginProtection
}

// NewRouter makes a Router without routes. It panics if the registry has its metrics
// already.
func NewRouter(cfg Config) *Router {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.MaxBodies = cmp.Or(cfg.MaxBodies, DefaultMaxBodies)
	rt := &Router{cfg: cfg, metrics: newMetrics(cfg.Component, cfg.Registry), live: mtls.NewLive(cfg.Identifier)}
	rt.missing = rt.newRoute("other", Options{Access: Optional, AnyType: true}, http.HandlerFunc(rt.notFound))
	rt.mux.Handle("/", rt.missing)
	return rt
}

func (rt *Router) newRoute(endpoint string, o Options, h http.Handler) *route {
	o.Endpoint = cmp.Or(o.Endpoint, endpoint)
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.Success = cmp.Or(o.Success, http.StatusOK)
	return &route{router: rt, options: o, handler: h, metrics: rt.metrics.route(o.Endpoint)}
}

// Handle adds a route for a pattern of http.ServeMux with a method: "GET /health". A GET
// route answers HEAD too.
func (rt *Router) Handle(pattern string, o Options, h http.Handler) {
	method, endpoint, _ := strings.Cut(pattern, " ")
	r := rt.newRoute(endpoint, o, h)
	r.metrics.prepare(method, r.options.Success)
	rt.mux.Handle(pattern, r)
}

// Mux adds routes with the options that choose gives for their patterns. It is the
// BaseRouter of generated code.
func (rt *Router) Mux(choose func(pattern string) Options) *Mux { return &Mux{rt, choose} }

// Mux is the part of http.ServeMux that generated code uses.
type Mux struct {
	router *Router
	choose func(pattern string) Options
}

// HandleFunc adds a route.
func (m *Mux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.router.Handle(pattern, m.choose(pattern), http.HandlerFunc(h))
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.router.ServeHTTP(w, r) }

// ServeHTTP implements http.Handler: the mux calls it when it has found the route and its
// parameters.
func (ro *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := requestOf(r.Context())
	q.route, q.style = ro, ro.options.Style
	err := ro.router.admit(r, q)
	if err == nil {
		err = ro.router.checkOrigin(r)
	}
	if err == nil {
		err = ro.checkBody(w, r, q)
	} else if e := ErrorOf(err); ro.router.cfg.Denied != nil && (e.Code == CodeAuthentication || e.Code == CodeAuthorization) {
		ro.router.cfg.Denied(r, ro.options.Endpoint, q.caller, e)
	}
	if err != nil {
		WriteError(w, r, err)
		return
	}
	ro.handler.ServeHTTP(w, r)
}

// ServeHTTP implements http.Handler.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{recorder{ResponseWriter: w}, request{started: rt.cfg.Now(), clock: rt.cfg.Now, route: rt.missing}, [1]string{requestIDOf(r)}}
	q, rec := &x.request, &x.recorder
	q.id = x.id[0]
	h := w.Header()
	h[requestIDHeader] = x.id[:]
	h["Cache-Control"] = noStore
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
	defer rt.finish(rec, r, q)
	trimSlash(r)
	if isClean(r) {
		rt.mux.ServeHTTP(rec, r)
	} else {
		rt.missing.ServeHTTP(rec, r)
	}
}

// exchange is one request and its answer, in one piece of memory.
type exchange struct {
	recorder
	request
	id [1]string
}

var noStore = []string{"no-store"}

// checkOrigin refuses what another site makes a browser do: a browser shows its certificate for
// every site. A listener without certificates has nothing that a browser adds by itself here.
func (rt *Router) checkOrigin(r *http.Request) error {
	if rt.cfg.Identifier == nil {
		return nil
	}
	if err := rt.origins.Check(r); err != nil {
		return &Error{Code: CodeAuthorization, Message: "A page of another site may not do this with a browser's certificate; use a program, or the portal", Err: err}
	}
	return nil
}

// checkBody refuses bodies that are too large or no JSON, and bounds the others.
func (ro *route) checkBody(w http.ResponseWriter, r *http.Request, q *request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	limit := ro.options.MaxBody
	if r.ContentLength > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	if types := r.Header["Content-Type"]; len(types) > 0 && !ro.options.AnyType && !isJSON(types[0]) {
		return Errorf(CodeUnsupportedMediaType, "The body must be JSON, with the header Content-Type: application/json")
	}
	q.body = body{ReadCloser: http.MaxBytesReader(w, r.Body, limit), router: ro.router}
	r.Body = &q.body
	return nil
}

// body takes the room of what is read of a request's body from that of all bodies, until the
// request ends. What a client only announces takes none.
type body struct {
	io.ReadCloser
	router *Router
	read   int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	if b.router.bodies.Add(int64(n)) > b.router.cfg.MaxBodies {
		return 0, &Error{Code: CodeUnavailable, Message: "Too many requests with large bodies are running; try again", RetryAfter: time.Second, Close: true}
	}
	return n, err
}

func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// trimSlash makes a path with a slash at its end the same path without it.
func trimSlash(r *http.Request) {
	if p := r.URL.Path; len(p) > 1 && p[len(p)-1] == '/' {
		r.URL.Path = p[:len(p)-1]
		r.URL.RawPath = strings.TrimSuffix(r.URL.RawPath, "/")
	}
}

// isClean reports whether the mux takes the path as it is. It would redirect others.
func isClean(r *http.Request) bool {
	p := r.URL.EscapedPath()
	return r.Method != http.MethodConnect && strings.HasPrefix(p, "/") && path.Clean(p) == p
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// notFound answers 405 if another method has a route, and 404 otherwise.
func (rt *Router) notFound(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		requestOf(r.Context()).style = Plain
	}
	var allowed []string
	if isClean(r) {
		probe := *r
		for _, m := range methods {
			probe.Method = m
			if _, pattern := rt.mux.Handler(&probe); pattern != "/" {
				allowed = append(allowed, m)
			}
		}
	}
	if len(allowed) == 0 || slices.Contains(allowed, r.Method) {
		WriteError(w, r, Errorf(CodeNotFound, "Not Found"))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	WriteError(w, r, Errorf(CodeMethodNotAllowed, "Method Not Allowed"))
}

// finish recovers from a panic, counts the request and logs it.
func (rt *Router) finish(w *recorder, r *http.Request, q *request) {
	p := recover()
	rt.bodies.Add(-q.body.read)
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // the value itself is meant
		// A panic's value may hold a stranger's text, so the log gets its type only.
		rt.cfg.Log.Error("a handler has panicked", "request_id", q.id, "endpoint", q.route.options.Endpoint,
			"panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		if w.status == 0 {
			WriteError(w, r, &Error{Code: CodeInternal, Message: "Internal server error", Close: true})
			p = nil
		} else {
			p = http.ErrAbortHandler
		}
	}
	w.status = cmp.Or(w.status, http.StatusOK)
	took := rt.cfg.Now().Sub(q.started)
	q.route.metrics.observe(r.Method, w.status, took)
	rt.logRequest(w, r, q, took)
	if p != nil {
		panic(p)
	}
}

func (rt *Router) logRequest(w *recorder, r *http.Request, q *request, took time.Duration) {
	level := slog.LevelDebug
	switch {
	case w.status >= 500:
		level = slog.LevelWarn
	case w.status >= 400:
		level = slog.LevelInfo
	}
	if !rt.cfg.Log.Enabled(r.Context(), level) {
		return
	}
	attrs := []any{"request_id", q.id, "method", methodLabel(r.Method), "endpoint", q.route.options.Endpoint, "status", w.status,
		"duration", took, "remote", r.RemoteAddr}
	if q.known {
		attrs = append(attrs, "client", q.caller.ID)
	}
	if q.failed != nil {
		e := ErrorOf(q.failed)
		attrs = append(attrs, "code", string(e.Code))
		if cause := errors.Unwrap(e); cause != nil && w.status >= 500 {
			attrs = append(attrs, "error", cause.Error())
		}
	}
	rt.cfg.Log.Log(r.Context(), level, "request", attrs...)
}

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.status = cmp.Or(w.status, http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
