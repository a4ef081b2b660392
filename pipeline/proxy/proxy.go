package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/seal"
)

// Revocations are the certificates and names that were withdrawn; trust.RevocationList is
// one.
type Revocations interface {
	mtls.Revocation
	// RevokesName reports whether every certificate of a name is revoked.
	RevokesName(name string) bool
	// RevokesFingerprint reports whether the certificate with this SHA-256, in lower-case
	// hexadecimal, is revoked.
	RevokesFingerprint(fingerprint string) bool
}

// Config is what a Proxy works with. The first group must be set.
type Config struct {
	Queue pipeline.Queue
	Main  pipeline.Main
	// Signer is who seals: a certificate of the role proxy. It is asked for each epoch.
	Signer func() (*seal.Signer, error)
	// Certificate is the proxy's own certificate with its chain, leaf first, root last, as
	// it is in use now.
	Certificate func() []*x509.Certificate
	// Revocation is what is revoked.
	Revocation Revocations
	// Verifier decides whose key counts as the main server's.
	Verifier seal.Verifier
	// Identifier says who a client is, and whether it is let in.
	Identifier *mtls.Identifier
	// OwnIssuer reports whether an Identity's Issuer is our own authority, whose clients have
	// their plain names.
	OwnIssuer func(issuer string) bool

	// Stale says why it is not known who is let in; it may be nil.
	Stale func() error
	// Denied and Refused are told whom the listener did not let in (httpkit.Config); they may be
	// nil.
	Denied  func(r *http.Request, endpoint string, c httpkit.Caller, e *httpkit.Error)
	Refused func(remote net.Addr, cs tls.ConnectionState, err error)
	// KeyCache is the file that keeps the main server's key for a start without it; empty
	// keeps it in memory only.
	KeyCache string
	// IDKeyFile keeps the key that all proxies make message ids with, which the main server
	// gives them; empty keeps it in memory only.
	IDKeyFile string
	// FS holds KeyCache and IDKeyFile (default the system's).
	FS durable.FS
	// MaxBody is the longest text in code points (default pipeline.DefaultMaxBody, at most
	// pipeline.MaxBody).
	MaxBody int
	// MinNumber is the length of the shortest number, its plus sign included (default
	// pipeline.DefaultMinNumber).
	MinNumber int
	// Rate limits each client (default httpkit.DefaultRate a second).
	Rate *httpkit.Rate
	// TrustedProxies are the networks of reverse proxies whose X-Client-Cert-CN and
	// X-Client-Cert-Fingerprint are believed.
	TrustedProxies []netip.Prefix
	// APIKeyFile has the keys of clients without a certificate (ChangeAPIKeys). It is read
	// again when it changes, and need not exist.
	APIKeyFile string
	// MaxBacklog is how many messages wait for their registration in memory (default
	// DefaultBacklog). Registration only makes their rows earlier.
	MaxBacklog int
	// Checks are shown in the proxy's health beside its own.
	Checks   []httpkit.Check
	Version  string
	Registry *prometheus.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// Defaults of Config.
const (
	DefaultBacklog = 10_000
	// enqueueTimeout and submitTimeout bound how long a submission waits for the queue.
	enqueueTimeout = 1200 * time.Millisecond
	submitTimeout  = 2 * time.Second
)

// Proxy answers clients. Run does what goes on beside the requests.
type Proxy struct {
	cfg      Config
	router   *httpkit.Router
	metrics  *metrics
	limiter  *httpkit.RateLimiter
	enqueuer *enqueuer
	counts   *counts
	register *registrar
	keys     *keys
	apiKeys  *apiKeys
	own      ownCertificate
	health   *httpkit.Health
	buffers  sync.Pool // of *buffer
}

// New makes a Proxy. Without usable keys of the main server in its files it answers
// submissions with 503 until Run has fetched them.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Queue == nil || cfg.Main == nil || cfg.Signer == nil || cfg.Certificate == nil:
		return nil, errors.New("a proxy needs a queue, a main server and a certificate")
	case cfg.Revocation == nil || cfg.Verifier == nil || cfg.Identifier == nil || cfg.OwnIssuer == nil:
		return nil, errors.New("a proxy needs Revocation, Verifier, Identifier and OwnIssuer")
	case cfg.MaxBody < 0 || cfg.MaxBody > pipeline.MaxBody:
		return nil, fmt.Errorf("the limit of a text is 1 to %d characters", pipeline.MaxBody)
	}
	cfg.MaxBody = cmp.Or(cfg.MaxBody, pipeline.DefaultMaxBody)
	cfg.MinNumber = cmp.Or(cfg.MinNumber, pipeline.DefaultMinNumber)
	cfg.MaxBacklog = cmp.Or(cfg.MaxBacklog, DefaultBacklog)
	cfg.Version = cmp.Or(cfg.Version, "dev")
	cfg.FS = cmp.Or(cfg.FS, durable.OS())
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Registry = cmp.Or(cfg.Registry, prometheus.NewRegistry())
	cfg.Rate = cmp.Or(cfg.Rate, &httpkit.Rate{PerSecond: httpkit.DefaultRate})
	p := &Proxy{cfg: cfg}
	p.metrics = newMetrics(p)
	p.limiter = httpkit.NewRateLimiter(*cfg.Rate, 0)
	p.enqueuer = &enqueuer{queue: cfg.Queue}
	p.counts = &counts{queue: cfg.Queue, now: cfg.Now}
	p.register = newRegistrar(cfg.Main, cfg.MaxBacklog, p.metrics, cfg.Log)
	p.buffers.New = func() any { return new(buffer) }
	var err error
	if p.keys, err = newKeys(&p.cfg); err != nil {
		return nil, err
	}
	if p.apiKeys, err = openAPIKeys(cfg.FS, cfg.APIKeyFile, cfg.Log); err != nil {
		return nil, err
	}
	p.health = p.newHealth()
	cfg.Registry.MustRegister(p.health.Collector("proxy"))
	p.router = p.routes()
	return p, nil
}

// Router has the proxy's routes, for httpkit.Listen.
func (p *Proxy) Router() *httpkit.Router { return p.router }

// SetRate changes the rate of each client.
func (p *Proxy) SetRate(r httpkit.Rate) { p.limiter.SetRate(r) }

// Run fetches keys and registers messages until ctx ends, and then for a few seconds what
// waits to be registered.
func (p *Proxy) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.keys.run(ctx) })
	wg.Go(func() { p.register.run(ctx) })
	wg.Go(func() { p.apiKeys.writeUses(ctx) })
	wg.Wait()
	return nil
}
