package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/portal"
)

// portalParts are the parts of the role portal.
func (n *node) portalParts() []part {
	return []part{{name: "portal", start: n.openPortal,
		run:  func(context.Context) error { return n.portal.Serve() },
		stop: func(ctx context.Context) error { return n.portal.Shutdown(ctx) }},
		background("certificate of the portal", func() error { return nil }, func(ctx context.Context) error {
			if n.acme != nil {
				return n.acme.run(ctx)
			}
			return nil
		})}
}

// openPortal opens the portal and its listener.
func (n *node) openPortal() error {
	c := n.cfg.Portal
	api, err := n.portalAPI()
	if err != nil {
		return err
	}
	networks, err := parseNetworks(c.TrustedNetworks)
	if err != nil {
		return fmt.Errorf("portal.trusted_networks: %w", err)
	}
	checks := []httpkit.Check{{Name: "renewal", Run: n.renewalHealth}, healthOf("clock", n.clockTrouble)}
	if n.acme, err = openACME(&c, n.cfg.Data, n.logOf("portal")); err != nil {
		return err
	}
	if n.acme != nil {
		checks = append(checks, httpkit.Check{Name: "acme", Run: n.acme.health})
	}
	p, err := portal.New(portal.Config{API: api, TrustedProxies: networks, Main: n.cfg.Pipeline.mainURL(), URL: c.URL, Prefix: c.Prefix, Version: buildVersion().Version, Registry: n.registryOf("portal"), Checks: checks, Log: n.logOf("portal")})
	if err != nil {
		return err
	}
	files := n.roleFiles(sealmq.RoleServer)
	if c.Cert != "" {
		files.Cert, files.Key = c.Cert, c.Key
	}
	conf, err := mtls.BrowserConfig(files, mtls.Options{MinVersion: n.cfg.TLS.version(), Log: n.logOf("portal")})
	if err != nil {
		return err
	}
	if n.acme != nil {
		conf = n.acme.wrap(conf)
	}
	n.portal, err = httpkit.Listen(c.Addr, conf, p.Router(), httpkit.Limits{MaxConnections: httpsConnections()})
	return cannotListen("portal", "portal.addr", err)
}

// portalAPI is how the portal reaches the main server.
func (n *node) portalAPI() (http.RoundTripper, error) {
	if n.has("main") {
		return portal.InProcess(n.pipeline.mainRouter), nil
	}
	if n.cfg.Pipeline.Main == "" {
		return nil, withHint(errors.New("the role portal knows no main server"), "set pipeline.main, or run the role main in this process")
	}
	conf, err := mtls.ClientConfig(n.roleFiles(sealmq.RoleServer), mtls.ClientOptions{Options: mtls.Options{Revocation: n.revoked, Log: n.logOf("portal")}})
	if err != nil {
		return nil, err
	}
	return portal.Remote(conf), nil
}

// checkAddresses returns what is wrong with the portal's address and prefix.
func (c *PortalConfig) checkAddresses() (p problems) {
	if err := c.checkURL(); err != nil {
		p = append(p, err)
	}
	if err := portal.CheckPrefix(c.Prefix); err != nil {
		p.addf("portal.prefix: %w", err)
	}
	return p
}

func (c *PortalConfig) checkURL() error {
	u, err := url.Parse(c.URL)
	if c.URL == "" || err == nil && u.Scheme == "https" && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil {
		return nil
	}
	return fmt.Errorf("portal.url: %q is not an address such as https://host:port", c.URL)
}

// portalURL is the portal's address for people. listens is where it listens, and empty if that
// is another process.
func (c *Config) portalURL(listens string) (string, error) {
	if c.Portal.URL != "" {
		return strings.TrimSuffix(c.Portal.URL, "/"), c.Portal.checkURL() // commands of clients do not check the rest
	}
	addr, err := dialAddr("portal.addr", cmp.Or(listens, c.Portal.Addr))
	return "https://" + addr + c.Portal.Prefix, err
}

// setupLink is the address of the portal's page for the first administrator.
func setupLink(portal, token string) string {
	return portal + "/setup?" + url.Values{"token": {token}}.Encode()
}
