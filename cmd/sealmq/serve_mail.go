package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/mail"
	"github.com/sealmq/sealmq/mtls"
)

// openMail opens what sends mails in the background, if a mail server is configured.
func (n *node) openMail() (err error) {
	if n.cfg.Mail.Host != "" {
		n.pipeline.mail, err = n.cfg.Mail.sender(n.logOf("main"))
	}
	return err
}

// check returns what is wrong with the section apart from its files.
func (c *MailConfig) check() (p problems) {
	if c.Host != "" {
		if _, err := mail.New(c.config()); err != nil {
			p.addf("mail: %w", err)
		}
	}
	return p
}

// config is the section without what stands in files.
func (c *MailConfig) config() mail.Config {
	return mail.Config{Host: c.Host, Port: c.Port, Security: c.Security, User: c.User, From: c.From}
}

// sender returns what sends mails.
func (c *MailConfig) sender(log *slog.Logger) (*mail.Sender, error) {
	cfg := c.config()
	cfg.Log = log
	if c.User != "" {
		password, err := readPassword(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("mail.password_file: %w", err)
		}
		cfg.Password = password
	}
	if c.CA != "" {
		roots, err := mtls.ReadAuthorities(c.CA)
		if err != nil {
			return nil, fmt.Errorf("mail.ca: %w", err)
		}
		cfg.TLS = &tls.Config{RootCAs: mtls.Pool(roots...), MinVersion: tls.VersionTLS12}
	}
	s, err := mail.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return s, nil
}

func (n *node) sendMails(ctx context.Context) error {
	if n.pipeline.mail == nil {
		return nil
	}
	return n.pipeline.mail.Run(ctx)
}

// readPassword returns the first line of a file that only its owner can read.
func readPassword(file string) (string, error) {
	text, err := durable.ReadPrivate(durable.OS(), file, maxSetting)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(bytes.TrimSuffix(line, []byte("\r"))), err
}
