package mainserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// HandlerConfig is what the API works with. Service, Store, Accounts, Queue, Authority,
// Revocations and Certificate must be set.
type HandlerConfig struct {
	Service *Service
	Store   *records.Store
	// Accounts has the rules for people.
	Accounts *accounts.Service
	// SendReset sends a mail with a reset link to a person. It does not wait until it has left. It
	// may be nil.
	SendReset func(email, token string) error
	// Queue is the pipeline's queue, for its administration.
	Queue pipeline.Queue
	// Broker is what operators see of the broker; nil if there is none.
	Broker *brokerview.View
	// Authority issues and revokes. It may be open without its key: then only issuing, and a
	// new CRL, are refused.
	Authority *ca.Authority
	// Revocations must read the authority's list. It decides about each request.
	Revocations *trust.RevocationList
	// Identifier says who a caller is (default: roles below the root of Authority, and the peers
	// that Revocations lets in).
	Identifier *mtls.Identifier
	// Roots are the accepted authorities, as they are at the time. Nil is the one of Authority.
	Roots func() []*x509.Certificate
	// Address is where machines reach this main server, https://host:port, for enrolment tokens
	// that name no other. It may be empty.
	Address string
	// RenewFor is how long after a person's decision a certificate is renewed by its holder
	// (default ca.DefaultRenewFor).
	RenewFor time.Duration
	// Certificate is the server's own certificate, for health.
	Certificate func() []*x509.Certificate
	// Live lists the open connections of a client, at least, so that a revocation can be
	// previewed. complete says that there are no others that it knows of. Nil sees none.
	Live func(ctx context.Context, client string) (list []LiveConnection, complete bool)
	// History is of the messages. Nil is one that nothing stores; another one must be of the
	// same records and queue, and the caller must run it.
	History *History
	// HandshakeFailed is told whom the listener did not let in before there was a request
	// (httpkit.Config). It may be nil.
	HandshakeFailed func(remote net.Addr, cs tls.ConnectionState, err error)
	// Refused takes reports of whom listeners did not let in (default: one with Store and Audit).
	Refused *Refused
	// Backups are those of this node. It may be nil.
	Backups *backup.Manager
	// Sharing brings what other main servers have issued; nil if there are none.
	Sharing *Sharing
	// Disk tells how much of the data folder's disk is free. It may be nil.
	Disk func() (free, total int64, err error)
	// MaxStreams and MaxStreamsPerCaller bound the streams of events (defaults
	// DefaultMaxStreams and DefaultMaxStreamsPerCaller).
	MaxStreams, MaxStreamsPerCaller int
	// Audit takes records of administrative acts, besides the table that pages show. It may
	// be nil.
	Audit audit.Sink
	// AuditChain checks the file that Audit writes. It may be nil.
	AuditChain func() (auditfile.Chain, error)
	// LogLevel is how much is logged; without one it cannot be asked for.
	LogLevel LogLevel
	// Checks are further parts of the health.
	Checks  []httpkit.Check
	Version string
	// Log may be nil.
	Log *slog.Logger
}

func (c *HandlerConfig) check() error {
	switch {
	case c.Service == nil || c.Store == nil || c.Queue == nil || c.Accounts == nil:
		return errors.New("the API of a main server needs a service, records, accounts and a queue")
	case c.Authority == nil || c.Revocations == nil || c.Certificate == nil:
		return errors.New("the API of a main server needs an authority, its list of revocations and the server's certificate")
	}
	c.MaxStreams, c.MaxStreamsPerCaller = cmp.Or(c.MaxStreams, DefaultMaxStreams), cmp.Or(c.MaxStreamsPerCaller, DefaultMaxStreamsPerCaller)
	if c.History == nil {
		c.History = NewHistory(c.Store, c.Queue, c.Service.cfg.Now, c.Log)
	}
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Refused == nil {
		c.Refused = NewRefused(c.Store, c.Audit, c.Service.cfg.Now)
	}
	return nil
}

// maxBatchBody bounds calls with many items.
const maxBatchBody = 16 << 20

// handler is mainapi.StrictServerInterface. The caller is in the context.
type handler struct {
	cfg        HandlerConfig
	operations map[string]api.Operation
	tasks      []string      // those of operations
	forgot     chan struct{} // a place for each reset link that is on its way
	health     *httpkit.Health
	crl        crlCache

	overview overview
	streams  streams

	// admin makes an act of the authority and the look before it one step. It is not held over
	// calls of the database: a revocation must not wait for one that hangs.
	admin     sync.Mutex
	retention sync.Mutex
	denials   denials
	followers followerTable
	retries   retryJobs
	// failedLogins are those in the audit log.
	failedLogins denials
	// failedEnrolments are those in the audit log.
	failedEnrolments denials
	chain            chainCache
}

var _ mainapi.StrictServerInterface = (*handler)(nil)

// NewHandler returns the main server's API.
func NewHandler(cfg HandlerConfig) (*httpkit.Router, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	h := &handler{cfg: cfg}
	h.overview.h = h
	h.streams = streams{get: h.overview.get, max: cfg.MaxStreams, maxOfOne: cfg.MaxStreamsPerCaller}
	h.cfg.History.looked = func(ctx context.Context) { h.overview.get(ctx) }
	var err error
	if h.operations, err = api.Operations(api.TagMain); err != nil {
		return nil, err
	}
	for _, op := range h.operations {
		h.tasks = append(h.tasks, op.Task)
	}
	slices.Sort(h.tasks)
	h.tasks = slices.Compact(h.tasks)
	h.forgot = make(chan struct{}, forgotAtOnce)
	h.health = h.newHealth()
	h.addMetrics()
	identifier := cfg.Identifier
	if identifier == nil {
		identifier = mtls.NewIdentifier(cfg.Authority.Root())
		identifier.Revocation = cfg.Revocations.Peers()
	}
	root := mtls.Issuer(cfg.Authority.Root())
	own := func(issuer string) bool { return issuer == root || cfg.Revocations.OwnIssuer(issuer) }
	rt := httpkit.NewRouter(httpkit.Config{Component: "main_server", Identifier: identifier, OwnIssuer: own, Registry: cfg.Service.metrics.registry, Log: cfg.Log, Now: cfg.Service.cfg.Now, Bearer: h.bearer, Denied: h.denied, Refused: cfg.HandshakeFailed})
	mainapi.HandlerWithOptions(
		mainapi.NewStrictHandlerWithOptions(h, []mainapi.StrictMiddlewareFunc{h.prepare}, mainapi.StrictHTTPServerOptions{
			RequestErrorHandlerFunc: badRequest, ResponseErrorHandlerFunc: writeError,
		}),
		mainapi.StdHTTPServerOptions{BaseRouter: &checkedMux{rt.Mux(h.access), h.operations}, ErrorHandlerFunc: badRequest})
	h.addAliases(rt)
	rt.Handle("GET /api/v1/health", h.access("GET /health"), h.health)
	rt.Handle("GET /metrics", httpkit.Options{Access: httpkit.Optional, Style: httpkit.Plain}, httpkit.Metrics(cfg.Service.metrics.registry))
	public := httpkit.Options{Access: httpkit.Public, Style: httpkit.Plain}
	rt.Describe(public, func() ([]byte, error) { return api.Document(api.TagMain, cfg.Version) }, api.Page)
	return rt, nil
}

// badRequest answers what the generated code could not read. Its text may quote a value.
func badRequest(w http.ResponseWriter, r *http.Request, err error) {
	e := httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"body"}, Msg: "The request does not have the form that /openapi.json describes"})
	e.Err = err
	httpkit.WriteError(w, r, e)
}

var (
	administrators = []sealmq.Role{sealmq.RoleAdmin}
	callers        = []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker}
	workers        = []sealmq.Role{sealmq.RoleWorker}
)

// access says who may call what. openapi.yaml has the roles.
func (h *handler) access(pattern string) httpkit.Options {
	op := h.operations[pattern]
	_, path, _ := strings.Cut(pattern, " ")
	o := httpkit.Options{Success: op.Success}
	switch {
	case path == "/health", path == "/health/live":
		return httpkit.Options{Access: httpkit.Public, Style: httpkit.Plain, Endpoint: "/health"}
	case op.Public && op.Task == taskAccounts:
		o.Access = httpkit.Optional // a certificate says whether X-Forwarded-For is believed
	case op.Public:
		o.Access = httpkit.Public
	case slices.Contains(op.Callers, "account"):
		o.Access = httpkit.Person
	default:
		for _, role := range op.Callers {
			o.Roles = append(o.Roles, sealmq.Role(role))
		}
		if len(o.Roles) == 0 {
			o.Roles = administrators
		}
	}
	if strings.HasPrefix(path, "/api/v1/internal/") {
		o.MaxBody = maxBatchBody
	}
	return o
}

// Tags of operations.
const (
	taskAccounts = "accounts"
	taskBroker   = "broker"
)

type requestKey struct{}

// exchange is the request that an operation answers.
type exchange struct {
	r *http.Request
	w http.ResponseWriter
}

// prepare gives operations what the generated types leave out of a request. Those of the broker
// are refused if there is none.
func (h *handler) prepare(next mainapi.StrictHandlerFunc, _ string) mainapi.StrictHandlerFunc {
	return func(ctx context.Context, w http.ResponseWriter, r *http.Request, request any) (any, error) {
		if h.cfg.Broker == nil && h.operations[r.Pattern].Task == taskBroker {
			return nil, httpkit.Errorf(httpkit.CodeUnavailable, "This main server looks after no broker")
		}
		return next(withRequest(ctx, w, r), w, r, request)
	}
}

func withRequest(ctx context.Context, w http.ResponseWriter, r *http.Request) context.Context {
	return context.WithValue(ctx, requestKey{}, exchange{r, w})
}

func exchangeOf(ctx context.Context) exchange {
	x, _ := ctx.Value(requestKey{}).(exchange)
	return x
}

// caller is the service as the caller of a request sees it.
func (h *handler) caller(ctx context.Context) *view {
	c, _ := httpkit.CallerOf(ctx) // access lets nobody in without one
	return &view{Service: h.cfg.Service, caller: c.Identity}
}

// notFound is the answer for a message, client or certificate that is not there.
func notFound(err error, what string) error {
	if errors.Is(err, records.ErrNotFound) {
		return httpkit.Errorf(httpkit.CodeNotFound, "There is no such %s", what)
	}
	return err
}

// mapped is a list in the API's form. It is never nil.
func mapped[T, U any](list []T, form func(*T) U) []U {
	out := make([]U, len(list))
	for i := range list {
		out[i] = form(&list[i])
	}
	return out
}

// invalid is the answer for a value of a body that breaks a rule.
func invalid(field, msg string) error {
	return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"body", field}, Msg: msg})
}

// together makes one answer of those of invalid, so that a person corrects all values of a form at
// once. Another error is an answer of its own.
func together(errs ...error) error {
	var fields []httpkit.Field
	for _, err := range errs {
		if err == nil {
			continue
		}
		e, ok := errors.AsType[*httpkit.Error](err)
		if !ok || len(e.Fields) == 0 {
			return err
		}
		fields = append(fields, e.Fields...)
	}
	if len(fields) == 0 {
		return nil
	}
	return httpkit.Invalid(fields...)
}
