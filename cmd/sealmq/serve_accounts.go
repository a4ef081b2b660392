package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/url"
	"time"

	"github.com/sealmq/sealmq/internal/mail"
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
	address := ""
	if err == nil {
		address, err = n.portalAddress()
	}
	if err != nil {
		n.log.Warn("there is no link for the first administrator", "error", err)
		return
	}
	fmt.Fprintf(n.terminal, "\nMake the first administrator here, until %s:\n\n  %s\n\n", expires.Local().Format(time.TimeOnly), setupLink(address, token))
}

// portalAddress is where people reach the portal.
func (n *node) portalAddress() (string, error) {
	listens := ""
	if n.portal != nil {
		listens = n.portal.Addr().String()
	}
	return n.cfg.portalURL(listens)
}

// sendReset sends a mail with a link to set a password.
func (n *node) sendReset(email, token string) error {
	if n.pipeline.mail == nil {
		return errors.New("no mail server is configured; set mail.host")
	}
	address, err := n.portalAddress()
	if err != nil {
		return err
	}
	link := address + "/reset-password?" + url.Values{"token": {token}}.Encode()
	return n.pipeline.mail.Send(mail.Mail{To: email, Subject: "Password Reset Request - Message Broker",
		Text: "Somebody asked for a new password for your account at\n" + address + ".\n\nChoose it here within an hour:\n\n" + link +
			"\n\nIf it was not you, ignore this mail: your password stays as it is.\n",
		HTML: "<p>Somebody asked for a new password for your account at " + html.EscapeString(address) + ".</p><p><a href=\"" + html.EscapeString(link) +
			"\">Choose it within an hour</a></p><p>If it was not you, ignore this mail: your password stays as it is.</p>"})
}
