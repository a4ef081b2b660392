package mail_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/mail"
	"github.com/sealmq/sealmq/internal/testing/smtpserver"
	"github.com/sealmq/sealmq/internal/testing/testca"
)

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *log) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// run runs a sender until the test ends.
func run(t *testing.T, cfg mail.Config) (*mail.Sender, *log) {
	t.Helper()
	l := &log{}
	cfg.Log = slog.New(slog.NewTextHandler(l, nil))
	s, err := mail.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, l
}

var hello = mail.Mail{To: "anna@example.com", Subject: "Grüße", Text: "A secret: 4711.\n", HTML: "<p>A secret: 4711.</p>"}

func TestSend(t *testing.T) {
	server := smtpserver.Start(t, nil)
	s, l := run(t, mail.Config{Host: server.Host, Port: server.Port, From: "SealMQ <noreply@example.com>", Security: mail.Off, Pauses: []time.Duration{time.Millisecond, time.Millisecond}})
	server.Refuse("451 4.3.0 later, anna@example.com")
	if err := s.Send(hello); err != nil {
		t.Fatal(err)
	}
	m, err := server.Next(t.Context())
	if err != nil || m.From != "noreply@example.com" || m.To != "anna@example.com" || !strings.Contains(m.Text(), "A secret: 4711.") || !strings.Contains(m.Raw, "text/html") {
		t.Errorf("%+v, %v", m, err)
	}
	// One that is refused for good does not hold up the others.
	server.Refuse("550 5.1.1 no anna@example.com here")
	if err := errors.Join(s.Send(hello), s.Send(mail.Mail{To: "bob@example.com", Subject: "x", Text: "y"})); err != nil {
		t.Fatal(err)
	}
	if m, err = server.Next(t.Context()); err != nil || m.To != "bob@example.com" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "anna", "anna@example.com\r\nBcc: eve@example.com", "anna@example.com, eve@example.com"} {
		if err := s.Send(mail.Mail{To: bad, Subject: "x", Text: "y"}); err == nil || strings.Contains(err.Error(), "example") {
			t.Errorf("to %q: %v", bad, err)
		}
	}
	if err := s.Send(mail.Mail{To: "carl@example.com", Subject: "x\r\nBcc: eve@example.com", Text: "y"}); err == nil {
		if m, err = server.Next(t.Context()); err != nil || m.Header.Get("Bcc") != "" {
			t.Errorf("a header was injected: %v", m.Header)
		}
	}
	server.Refuse("451 4.3.0 later, dora@example.com")
	dora := mail.Mail{To: "dora@example.com", Subject: "x", Text: "y"}
	if err := s.Deliver(t.Context(), dora); err == nil || strings.Contains(err.Error(), "@") {
		t.Errorf("a refusal: %v", err)
	}
	if err := s.Deliver(t.Context(), dora); err != nil {
		t.Error(err)
	}
	if m, err = server.Next(t.Context()); err != nil || m.To != "dora@example.com" {
		t.Errorf("%+v, %v", m, err)
	}
	text := l.String()
	if !strings.Contains(text, "a mail was not sent") || strings.Contains(text, "4711") || strings.Contains(text, "@") {
		t.Errorf("the log: %s", text)
	}
}

func TestTLSIsRequired(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it closes connections that nobody has any more
	authority := testca.New(t)
	cert := authority.ServerLeaf()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	trusted := &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	pauses := []time.Duration{}
	server := smtpserver.Start(t, conf)
	s, _ := run(t, mail.Config{Host: server.Host, Port: server.Port, From: "noreply@example.com", TLS: trusted, Pauses: pauses})
	if err := s.Send(hello); err != nil {
		t.Fatal(err)
	}
	if m, err := server.Next(t.Context()); err != nil || !m.Secure {
		t.Errorf("%+v, %v", m, err)
	}
	plain := smtpserver.Start(t, nil)
	for name, cfg := range map[string]mail.Config{
		"without TLS":   {Host: plain.Host, Port: plain.Port, TLS: trusted},
		"of a stranger": {Host: server.Host, Port: server.Port},
	} {
		cfg.From, cfg.Pauses = "noreply@example.com", pauses
		s, l := run(t, cfg)
		if err := s.Send(hello); err != nil {
			t.Fatal(err)
		}
		for !strings.Contains(l.String(), "a mail was not sent") {
			if runtime.Gosched(); t.Context().Err() != nil {
				t.Fatal(name)
			}
		}
	}
	if n := plain.Waiting() + server.Waiting(); n != 0 {
		t.Errorf("%d mails went out", n)
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for plain.Open()+server.Open() > 0 {
		if runtime.Gosched(); soon.Err() != nil {
			t.Fatal("a connection that could not be used is still open")
		}
	}
}

func TestConfigAndLimit(t *testing.T) {
	for name, cfg := range map[string]mail.Config{
		"no host":             {From: "a@example.com"},
		"no sender":           {Host: "localhost"},
		"bad sender":          {Host: "localhost", From: "nobody"},
		"a password in clear": {Host: "localhost", From: "a@example.com", Security: mail.Off, User: "a"},
		"a strange word":      {Host: "localhost", From: "a@example.com", Security: "ssl"},
	} {
		if _, err := mail.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s, err := mail.New(mail.Config{Host: "localhost", From: "a@example.com"}) // which does not run
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := s.Send(hello); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Send(hello); !errors.Is(err, mail.ErrFull) {
		t.Errorf("one too many: %v", err)
	}
}
