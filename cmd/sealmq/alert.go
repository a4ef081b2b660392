package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/alert"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/mail"
)

// staleRevocations is how old the list of revocations may be before it is an alert.
const staleRevocations = time.Hour

// Sizes of the secret that signs the calls of a webhook.
const minWebhookKey, maxWebhookKey = 16, 4096

// maxMailTo bounds the addresses that get mails.
const maxMailTo = 20

// recipients are the addresses that get mails.
func (a *AlertsConfig) recipients() (list []string) {
	for word := range strings.SplitSeq(a.MailTo, ",") {
		if word = strings.TrimSpace(word); word != "" {
			list = append(list, word)
		}
	}
	return list
}

// check says what is wrong with the section.
func (a *AlertsConfig) check(mails bool) (p problems) {
	list := a.recipients()
	for _, to := range list {
		if _, err := netmail.ParseAddress(to); err != nil {
			p.addf("alerts.mail_to: %q is not an address", to)
		}
	}
	switch {
	case len(list) > maxMailTo:
		p.addf("alerts.mail_to: at most %d addresses", maxMailTo)
	case len(list) > 0 && !mails:
		p.addf("alerts.mail_to: needs a mail server, mail.host")
	}
	if a.Webhook != "" {
		if err := alert.CheckWebhook(a.Webhook); err != nil {
			p.addf("alerts.webhook: %w", err)
		}
	} else if a.WebhookKeyFile != "" {
		p.addf("alerts.webhook_key_file: means nothing without alerts.webhook")
	}
	return p
}

// channels are those that the configuration names.
func (c *Config) channels() (list []alert.Channel, err error) {
	a := c.Alerts
	if to := a.recipients(); len(to) > 0 {
		sender, err := c.Mail.sender(nil)
		if err != nil {
			return nil, err
		}
		for _, address := range to {
			list = append(list, alert.Channel{Name: "mail", To: address, Send: func(ctx context.Context, m alert.Message) error {
				return sender.Deliver(ctx, mail.Mail{To: address, Subject: m.Subject(), Text: m.Text()})
			}})
		}
	}
	if a.Webhook != "" {
		var key []byte
		if a.WebhookKeyFile != "" {
			if key, err = durable.ReadPrivate(durable.OS(), a.WebhookKeyFile, maxWebhookKey); err != nil {
				return nil, fmt.Errorf("alerts.webhook_key_file: %w", err)
			}
			if key = bytes.TrimSpace(key); len(key) < minWebhookKey {
				return nil, fmt.Errorf("alerts.webhook_key_file: %s has %d bytes; a secret has at least %d", a.WebhookKeyFile, len(key), minWebhookKey)
			}
		}
		webhook, err := alert.Webhook(a.Webhook, key)
		if err != nil {
			return nil, fmt.Errorf("alerts.webhook: %w", err)
		}
		list = append(list, webhook)
	}
	return list, nil
}

// nodeName is how a node calls itself in alerts.
func nodeName() string {
	name, _ := os.Hostname()
	return cmp.Or(name, "this node")
}

// openAlerts prepares to tell people what is wrong. All roles have their metrics by then.
func (n *node) openAlerts() error {
	channels, err := n.cfg.channels()
	if err != nil || len(channels) == 0 {
		return err
	}
	var all prometheus.Gatherers
	for _, role := range roles {
		if reg := n.registries[role]; reg != nil {
			all = append(all, reg)
		}
	}
	a := n.cfg.Alerts
	n.alerts, err = alert.New(alert.Config{Node: nodeName(), File: filepath.Join(n.cfg.Data, "alerts.json"), Channels: channels, Metrics: all, Repeat: a.Repeat, Log: n.log,
		Limits: alert.Limits{OldestMessage: a.OldestMessage, Certificate: a.Certificate, Revocations: staleRevocations, Refusals: a.Refusals}})
	return err
}

func (n *node) runAlerts(ctx context.Context) error {
	if n.alerts == nil {
		return nil
	}
	return n.alerts.Run(ctx)
}

func newAlertCmd() *cobra.Command {
	return group("alert", "Try how a node tells people what is wrong", newAlertTestCmd())
}

func newAlertTestCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Send a test to everybody whom alerts reach",
		Long: `Send a test by each way that the section alerts of the configuration names. It works whether the
node runs or not.`,
		Example: "  sealmq alert test",
	}
	return standalone(cmd, func(a call) error {
		cfg, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		channels, err := cfg.channels()
		if err != nil {
			return err
		}
		if len(channels) == 0 {
			return withHint(errors.New("nobody is told of alerts"), "set alerts.mail_to or alerts.webhook")
		}
		for _, c := range channels {
			if err := c.Send(cmd.Context(), alert.Message{Node: nodeName(), At: time.Now(), Test: true}); err != nil {
				return fmt.Errorf("%s: %w", strings.TrimSpace(c.Name+" "+c.To), err)
			}
			if err := a.facts(nil, result{"sent": c.Name, "to": c.To}, "sent", strings.TrimSpace(c.Name+" "+c.To)); err != nil {
				return err
			}
		}
		return nil
	})
}
