package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
)

// openAccounts opens the rules for people.
func (n *node) openAccounts() (err error) {
	if n.cfg.Portal.URL != "" {
		if _, err := n.cfg.portalURL(""); err != nil {
			return err
		}
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
	listens := ""
	if n.portal != nil {
		listens = n.portal.Addr().String()
	}
	address := ""
	if err == nil {
		address, err = n.cfg.portalURL(listens)
	}
	if err != nil {
		n.log.Warn("there is no link for the first administrator", "error", err)
		return
	}
	fmt.Fprintf(n.terminal, "\nMake the first administrator here, until %s:\n\n  %s\n\n", expires.Local().Format(time.TimeOnly), setupLink(address, token))
}
