package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
)

// openAccounts opens the rules for people.
func (n *node) openAccounts() (err error) {
	if _, err := setupLink(n.cfg.Main.PortalURL, ""); err != nil {
		return err
	}
	n.pipeline.accounts, err = accounts.New(accounts.Config{Store: n.pipeline.store, Idle: n.cfg.Main.SessionIdle, Lifetime: n.cfg.Main.SessionLifetime})
	return err
}

// offerSetup shows the link for the first administrator on a terminal while there is none.
// Elsewhere, where a log keeps what is printed, it names the command.
func (n *node) offerSetup() {
	if n.pipeline.accounts == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if n.terminal == nil {
		if has, err := n.pipeline.store.HasAdmin(ctx); !has && err == nil {
			n.log.Info("nobody can log in yet; make the first administrator", "with", "sealmq user setup-link --data "+shellWord(n.cfg.Data))
		}
		return
	}
	token, expires, err := n.pipeline.accounts.NewSetupLink(ctx)
	if errors.Is(err, accounts.ErrHasAdmin) {
		return
	}
	link := ""
	if err == nil {
		link, err = setupLink(n.cfg.Main.PortalURL, token)
	}
	if err != nil {
		n.log.Warn("there is no link for the first administrator", "error", err)
		return
	}
	fmt.Fprintf(n.terminal, "\nMake the first administrator here, until %s:\n\n  %s\n\n", expires.Local().Format(time.TimeOnly), link)
}

// setupLink is the address of the portal's page for the first administrator.
func setupLink(portal, token string) (string, error) {
	u, err := url.Parse(portal)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("main.portal_url: %q is not an address such as https://host:port", portal)
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/setup"
	u.RawQuery = url.Values{"token": {token}}.Encode()
	return u.String(), nil
}
