package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

const (
	// maxACMEHosts bounds the certificates of the portal.
	maxACMEHosts = 20
	// acmeRetry is doubled after each failure, up to acmeLook, which is also how often a
	// certificate is looked at. Authorities of ACME refuse a name that fails more often.
	acmeRetry, acmeLook = 2 * time.Minute, time.Hour
	acmeCallTimeout     = 30 * time.Second
)

// acmeHosts are the host names of portal.acme_hosts.
func (c *PortalConfig) acmeHosts() (list []string) {
	return strings.FieldsFunc(strings.ToLower(c.ACMEHosts), func(r rune) bool { return r == ',' || r == ' ' })
}

// checkACME returns what is wrong with the settings of ACME.
func (c *PortalConfig) checkACME() (p problems) {
	hosts := c.acmeHosts()
	if len(hosts) == 0 {
		return nil
	}
	if len(hosts) > maxACMEHosts {
		p.addf("portal.acme_hosts: there are %d names, and %d are the most", len(hosts), maxACMEHosts)
	}
	for _, h := range hosts {
		if net.ParseIP(h) != nil || !strings.Contains(h, ".") || (&x509.Certificate{DNSNames: []string{h}}).VerifyHostname(h) != nil || strings.Contains(h, "*") {
			p.addf("portal.acme_hosts: %q is not a host name such as portal.example.org", h)
		}
	}
	if u, err := url.Parse(c.ACMEDirectory); err != nil || u.Scheme != "https" || u.Host == "" {
		p.addf("portal.acme_directory: %q is not an address such as https://host/path", c.ACMEDirectory)
	}
	if c.ACMEAgree != "yes" {
		p.addf("portal.acme_agree: must be yes: the authority asks for agreement to its terms")
	}
	if c.Cert != "" {
		p.addf("portal.acme_hosts and portal.cert: cannot be combined")
	}
	return p
}

// acmeCerts gets the portal's certificates from an authority that speaks ACME, and renews them.
// Nobody who connects makes it ask: it asks for the configured names by itself. While there is no
// certificate, the portal goes on with its own.
type acmeCerts struct {
	hosts   []string
	manager *autocert.Manager
	log     *slog.Logger

	mu    sync.Mutex
	certs map[string]*tls.Certificate
	errs  map[string]error // of the last attempt
}

// openACME returns nil if no host names are set.
func openACME(c *PortalConfig, data string, log *slog.Logger) (*acmeCerts, error) {
	hosts := c.acmeHosts()
	if len(hosts) == 0 {
		return nil, nil
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: acmeCallTimeout, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if c.ACMECA != "" {
		roots, err := mtls.ReadAuthorities(c.ACMECA)
		if err != nil {
			return nil, fmt.Errorf("portal.acme_ca: %w", err)
		}
		transport.TLSClientConfig.RootCAs = mtls.Pool(roots...)
	}
	return &acmeCerts{hosts: hosts, log: log, certs: make(map[string]*tls.Certificate), errs: make(map[string]error), manager: &autocert.Manager{
		Prompt: autocert.AcceptTOS, Email: c.ACMEEmail, HostPolicy: autocert.HostWhitelist(hosts...), Cache: autocert.DirCache(filepath.Join(data, "acme")),
		Client: &acme.Client{DirectoryURL: c.ACMEDirectory, UserAgent: "sealmq", HTTPClient: &http.Client{Transport: transport, Timeout: acmeCallTimeout}},
	}}, nil
}

// wrap lets a listener answer with these certificates, and answer the authority's challenges.
func (a *acmeCerts) wrap(conf *tls.Config) *tls.Config {
	conf = conf.Clone()
	base := conf.GetConfigForClient
	conf.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		next, err := base(hello)
		if err != nil {
			return nil, err
		}
		cert := a.current(hello.ServerName)
		challenge := slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto})
		if cert == nil && !challenge {
			return next, nil
		}
		next = next.Clone()
		next.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if challenge {
				return a.manager.GetCertificate(hello) // which has it at hand, or refuses
			}
			return cert, nil
		}
		if challenge {
			next.NextProtos = []string{acme.ALPNProto}
		}
		return next, nil
	}
	return conf
}

// current is the certificate of a name, or nil.
func (a *acmeCerts) current(host string) *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.certs[strings.ToLower(host)]; c != nil && time.Now().Before(c.Leaf.NotAfter) {
		return c
	}
	return nil
}

// run gets the certificates until the context ends.
func (a *acmeCerts) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, host := range a.hosts {
		wg.Go(func() { a.keep(ctx, host) })
	}
	wg.Wait()
	return nil
}

// keep gets the certificate of one name, and looks for its successor.
func (a *acmeCerts) keep(ctx context.Context, host string) {
	retry := acmeRetry
	for {
		wait := acmeLook
		done := make(chan error, 1) // an order cannot be interrupted, and must not hold up the end
		go func() { done <- a.get(host) }()
		select {
		case <-ctx.Done():
			return
		case err := <-done:
			if err != nil {
				wait, retry = retry, min(2*retry, acmeLook)
			} else {
				retry = acmeRetry
			}
		}
		if clock.Sleep(ctx, clock.System, wait) != nil {
			return
		}
	}
}

// get takes the certificate from the cache, or orders one. Renewals are ordered in the background.
func (a *acmeCerts) get(host string) error {
	cert, err := a.manager.GetCertificate(&tls.ClientHelloInfo{ServerName: host, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
	if err == nil && cert.Leaf == nil {
		cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0])
	}
	a.mu.Lock()
	old := a.certs[host]
	if a.errs[host] = err; err == nil {
		a.certs[host] = cert
	}
	a.mu.Unlock()
	switch {
	case err != nil:
		a.log.Error("no certificate from the authority of ACME; the portal goes on with the one that it has, and asks again", "host", host, "directory", a.manager.Client.DirectoryURL, "error", err)
	case old == nil || !old.Leaf.Equal(cert.Leaf):
		a.log.Info("the portal has a certificate from the authority of ACME", "host", host, "not_after", cert.Leaf.NotAfter)
	}
	return err
}

// health says which names have no certificate, or one that is not renewed in time.
func (a *acmeCerts) health(context.Context) (f httpkit.Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, host := range a.hosts {
		c, what := a.certs[host], ""
		switch {
		case c == nil || now.After(c.Leaf.NotAfter):
			what = "has no certificate from portal.acme_directory, and shows the node's own"
		case c.Leaf.NotAfter.Sub(now) < c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/6:
			what = "has a certificate that is not renewed, and expires at " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)
		default:
			continue
		}
		f.Level, f.Value = httpkit.Degraded, "no certificate"
		f.Reason = fmt.Sprintf("the portal's name %s %s; the log says why", host, what)
	}
	return f
}

// first is the certificate that expires first; nil while one is missing.
func (a *acmeCerts) first() (list []*x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, host := range a.hosts {
		c := a.certs[host]
		if c == nil {
			return nil
		}
		if list == nil || c.Leaf.NotAfter.Before(list[0].NotAfter) {
			list = []*x509.Certificate{c.Leaf}
		}
	}
	return list
}
