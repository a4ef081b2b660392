package portal

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// Config is what a Portal works with. API must be set.
type Config struct {
	// API makes the calls to the main server: an InProcess, or a transport with the portal's
	// certificate.
	API http.RoundTripper
	// Main is the main server's address, https://host:port. It may be empty in one process.
	Main string
	// URL is the portal's address as browsers see it, if a reverse proxy changes it.
	URL string
	// TrustedProxies are the networks of reverse proxies, whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Prefix is the path below which the portal is, "/sealmq", or empty.
	Prefix  string
	Version string
	// Registry takes the metrics; nil is one of the portal's own.
	Registry *prometheus.Registry
	// Checks are further parts of the health.
	Checks []httpkit.Check
	// Now is the time of day (default time.Now).
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
}

// Portal answers browsers. It is safe for concurrent use.
type Portal struct {
	cfg       Config
	router    *httpkit.Router
	caller    *caller
	templates *template.Template
	assets    *assets
	table     []page // in the order of the navigation
	origins   *http.CrossOriginProtection
	logins    *prometheus.CounterVec
	health    healthLine
	// statistics are for all who may open their page.
	statistics cached.Value[*statisticsView]
	handouts   handouts
	live       live
}

// New returns a portal.
func New(cfg Config) (*Portal, error) {
	if cfg.API == nil {
		return nil, errors.New("a portal needs a way to the main server")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Registry = cmp.Or(cfg.Registry, prometheus.NewRegistry())
	cfg.Main = cmp.Or(cfg.Main, "https://main-server.invalid") // of an InProcess, which looks at paths only
	if err := CheckPrefix(cfg.Prefix); err != nil {
		return nil, err
	}
	p := &Portal{cfg: cfg, origins: http.NewCrossOriginProtection(), caller: newCaller(cfg.API, cfg.Now)}
	if cfg.URL != "" {
		u, err := url.Parse(cfg.URL)
		if err == nil && (u.Scheme == "" || u.Host == "") {
			err = errors.New("it has no scheme or no host")
		}
		if err == nil {
			err = p.origins.AddTrustedOrigin(u.Scheme + "://" + u.Host)
		}
		if err != nil {
			return nil, fmt.Errorf("the portal's address %q is not like https://host: %w", cfg.URL, err)
		}
	}
	var err error
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if p.templates, err = p.parseTemplates(); err != nil {
		return nil, err
	}
	p.addMetrics()
	p.addRoutes()
	return p, nil
}

// CheckPrefix returns an error unless a text can be Config.Prefix.
func CheckPrefix(prefix string) error {
	if prefix != "" && (path.Clean(prefix) != prefix || prefix[0] != '/' || prefix == "/" || strings.ContainsAny(prefix, "{}?#%;, \"'<>\\")) {
		return fmt.Errorf("the path prefix %q is not like /sealmq", prefix)
	}
	return nil
}

// Router is the portal's http.Handler.
func (p *Portal) Router() *httpkit.Router { return p.router }

func (p *Portal) addMetrics() {
	p.logins = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "portal_logins_total",
		Help: "Attempts to log in, by result: success, refused, locked, second_factor."}, []string{"result"})
	for _, result := range []string{"success", "refused", "locked", "second_factor"} {
		p.logins.WithLabelValues(result)
	}
	p.cfg.Registry.MustRegister(p.logins)
}

func (p *Portal) addRoutes() {
	p.router = httpkit.NewRouter(httpkit.Config{Component: "portal", Registry: p.cfg.Registry, Log: p.cfg.Log, Now: p.cfg.Now, ErrorPage: p.errorPage})
	health := p.newHealth()
	p.cfg.Registry.MustRegister(health.Collector("portal"))
	p.handle("GET /health", health)
	p.handle("GET /health/live", http.HandlerFunc(httpkit.Live))
	p.handle("GET /metrics", httpkit.Metrics(p.cfg.Registry))
	p.handle("GET /static/{version}/{file}", p.assets)
	p.table = slices.Concat(overviewPages, statisticsPages, loginPages, messagePages, queuePages, deadPages, connectionPages, certificatePages,
		enrolmentPages, exchangePages, userPages, clientPages, operationPages, searchPages, accountPages, securityPages, linkPages)
	for i := range p.table {
		pg := &p.table[i]
		if pg.show != nil {
			p.handle("GET "+pg.path, p.handler(pg, pg.show))
		}
		if pg.do != nil {
			p.handle("POST "+pg.path, p.handler(pg, pg.do))
		}
	}
}

// maxForm bounds a form.
const maxForm = 256 << 10

// handle adds a route. With a path prefix it is there with and without it, because a reverse
// proxy may or may not take the prefix away.
func (p *Portal) handle(pattern string, h http.Handler) {
	method, route, _ := strings.Cut(pattern, " ")
	o := httpkit.Options{Access: httpkit.Public, Endpoint: route, AnyType: true, MaxBody: maxForm}
	if route == "/metrics" {
		o.Access = httpkit.Optional
	}
	exact := func(path string) string {
		if path == "/" {
			return "/{$}"
		}
		return path
	}
	p.router.Handle(method+" "+exact(route), o, h)
	if p.cfg.Prefix != "" {
		p.router.Handle(method+" "+strings.TrimSuffix(p.cfg.Prefix+route, "/"), o, h)
	}
}

// url is the address of a page: its localPath behind the prefix.
func (p *Portal) url(path string, segments ...string) string {
	return p.cfg.Prefix + localPath(path, segments...)
}

// localPath is the path of a page within the portal, for redirects. The segments behind path are
// escaped.
func localPath(path string, segments ...string) string {
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	return path
}
