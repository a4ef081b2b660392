package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/mail"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

// openAccounts opens the rules for people.
func (n *node) openAccounts() (err error) {
	env, err := readEnvironment()
	if err != nil {
		return err
	}
	secret, err := n.jwtSecret(env["JWT_SECRET"])
	if err != nil {
		return err
	}
	n.pipeline.accounts, err = accounts.New(accounts.Config{Store: n.pipeline.store, Idle: n.cfg.Main.SessionIdle, Lifetime: n.cfg.Main.SessionLifetime,
		MaxFailures: n.cfg.Main.LoginMaxFailures, LockTime: n.cfg.Main.LoginLock, JWTSecret: secret, Now: n.pipeline.store.Now})
	if err != nil {
		return err
	}
	return n.makeFirstAdmin(env["ADMIN_USER"].value, env["ADMIN_PASS"])
}

// shortSecret is the length in bytes below which a secret is not called strong.
const shortSecret = 32

// jwtSecret is what signs JSON Web Tokens: JWT_SECRET, or else a key that is made at the first start.
func (n *node) jwtSecret(given variable) ([]byte, error) {
	if given.value == "" {
		file := filepath.Join(n.pipelineFolder(), "jwt.key")
		key, made, err := mainserver.OpenJWTKey(file)
		if made && err == nil {
			n.logOf("main").Info("made", "file", file)
		}
		return key, err
	}
	const hint = "remove JWT_SECRET: a secret is made then, and kept in the data folder"
	if open := n.openToNetworks(); open != "" && accounts.Published(given.value) {
		return nil, withHint(fmt.Errorf("%s: everybody can know this secret, because it stands in published documents, and %s is not a loopback address", given.from, open), hint)
	}
	if len(given.value) < shortSecret {
		n.logOf("main").Warn("JWT_SECRET is short, so that it can be guessed", "bytes", len(given.value), "least", shortSecret, "hint", hint)
	}
	return []byte(given.value), nil
}

// openToNetworks names a listener that other hosts can reach, or is empty.
func (n *node) openToNetworks() string {
	for _, l := range []struct{ role, key, addr string }{{"broker", "server.addr", n.cfg.Server.Addr}, {"main", "main.addr", n.cfg.Main.Addr},
		{"proxy", "proxy.addr", n.cfg.Proxy.Addr}, {"portal", "portal.addr", n.cfg.Portal.Addr}} {
		host, _, _ := net.SplitHostPort(l.addr) // the configuration was checked
		if ip := net.ParseIP(host); n.has(l.role) && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return l.key
		}
	}
	return ""
}

// makeFirstAdmin makes the first administrator from the environment.
func (n *node) makeFirstAdmin(email string, password variable) error {
	if email == "" || password.value == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	open := n.openToNetworks()
	u, made, err := n.pipeline.accounts.Bootstrap(ctx, email, password.value, open == "")
	refused, _ := errors.AsType[*accounts.Error](err)
	switch {
	case errors.Is(err, accounts.ErrPublished):
		return withHint(fmt.Errorf("%s: everybody can know this password, because it stands in published documents, and %s is not a loopback address", password.from, open),
			"choose another password in ADMIN_PASS; if the account has it already, log in on this host's loopback address and change it")
	case errors.Is(err, accounts.ErrEmailTaken) || err == nil && !made:
		return nil
	case refused != nil && refused.Field != "":
		return withHint(fmt.Errorf("the first administrator of ADMIN_USER and ADMIN_PASS: %s", strings.ToLower(refused.Message[:1])+refused.Message[1:]), "correct the variables, or remove them and use the link that serve prints")
	case err != nil:
		n.logOf("main").Warn("the first administrator was not made; start again when the database is there", "error", err)
		return nil
	}
	details, err := json.Marshal(map[string]any{"user": u.Email, "role": u.Role, "by": "ADMIN_USER"})
	if err == nil {
		err = n.pipeline.store.AddAudit(ctx, []records.AuditEvent{{Type: "user_created", User: u.ID, Data: details, Severity: records.Warning}})
	}
	n.logOf("main").Info("made the first administrator; the password must be changed at the first login", "email", u.Email)
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
	return n.cfg.portalURL(addrOf(n.portal))
}

// sendReset sends a mail with a link to set a password.
func (n *node) sendReset(email, token string) error {
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
