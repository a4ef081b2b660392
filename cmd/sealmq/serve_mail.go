package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/mail"
	"github.com/sealmq/sealmq/mtls"
)

// openMail opens what sends mails, if a mail server is configured.
func (n *node) openMail() error {
	c := n.cfg.Mail
	if c.Host == "" {
		return nil
	}
	cfg := mail.Config{Host: c.Host, Port: c.Port, Security: c.Security, User: c.User, From: c.From, Log: n.logOf("main")}
	if c.User != "" {
		text, err := durable.ReadPrivate(durable.OS(), c.PasswordFile, maxSetting)
		if err != nil {
			return fmt.Errorf("mail.password_file: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		cfg.Password = string(bytes.TrimSuffix(line, []byte("\r")))
	}
	if c.CA != "" {
		roots, err := mtls.ReadAuthorities(c.CA)
		if err != nil {
			return fmt.Errorf("mail.ca: %w", err)
		}
		pool := x509.NewCertPool()
		for _, root := range roots {
			pool.AddCert(root)
		}
		cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	sender, err := mail.New(cfg)
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	n.pipeline.mail = sender
	return nil
}

func (n *node) sendMails(ctx context.Context) error {
	if n.pipeline.mail == nil {
		<-ctx.Done()
		return nil
	}
	return n.pipeline.mail.Run(ctx)
}
