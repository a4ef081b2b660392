// Package mail sends mails in the background, over one mail server.
//
// It promises that a caller never waits for the mail server; that mails which wait are bounded;
// that a mail is tried again for some minutes; that neither password nor mail goes over a
// connection without TLS unless the configuration says so; and that no log line and no error has
// an address, a subject or a text.
//
// Mails that wait are lost when the process ends. It knows nothing of what they say.
package mail

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/textproto"
	"sync/atomic"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// How a connection is encrypted.
const (
	StartTLS = "starttls" // required
	TLS      = "tls"      // from the first byte
	Off      = "off"
)

// Config is what a Sender works with. Host and From must be set.
type Config struct {
	Host string
	Port int // default 587, or 465 for TLS
	// User and Password log in at the mail server; without a user nobody does.
	User, Password string
	// From is the address of the sender.
	From string
	// Security is StartTLS (the default), TLS or Off.
	Security string
	// TLS is for the connections (default: the system's authorities).
	TLS *tls.Config
	// Pauses are the times between attempts (default 10 s, 1 min, 5 min).
	Pauses []time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Mail is one mail.
type Mail struct {
	To      string
	Subject string
	Text    string
	// HTML is the same as Text for those who show it. It may be empty.
	HTML string
}

// ErrFull says that too many mails wait.
var ErrFull = errors.New("too many mails wait for the mail server")

const (
	// maxWaiting bounds the mails that wait.
	maxWaiting = 100
	// timeout bounds one attempt.
	timeout = 30 * time.Second
)

// Sender sends mails. It is safe for concurrent use.
type Sender struct {
	cfg     Config
	waiting chan *letter
	pending atomic.Int64 // letters in waiting, and those that pause
}

// letter is a mail, and how often it was tried.
type letter struct {
	msg      *gomail.Msg
	attempts int
}

// New returns a Sender. Its Run must be running for mails to leave.
func New(cfg Config) (*Sender, error) {
	if cfg.Host == "" || cfg.From == "" {
		return nil, errors.New("mails need a host and a sender's address")
	}
	cfg.Security = cmp.Or(cfg.Security, StartTLS)
	switch cfg.Security {
	case StartTLS, Off:
		cfg.Port = cmp.Or(cfg.Port, 587)
	case TLS:
		cfg.Port = cmp.Or(cfg.Port, 465)
	default:
		return nil, fmt.Errorf("the encryption of mail is %s, %s or %s", StartTLS, TLS, Off)
	}
	if cfg.Security == Off && cfg.User != "" {
		return nil, errors.New("a password is not sent over a connection without TLS")
	}
	if cfg.Pauses == nil {
		cfg.Pauses = []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute}
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Sender{cfg: cfg, waiting: make(chan *letter, maxWaiting)}
	if err := gomail.NewMsg().From(cfg.From); err != nil {
		return nil, errors.New("the sender's address of mails is not valid")
	}
	_, err := s.client()
	return s, err
}

func (s *Sender) client(more ...gomail.Option) (*gomail.Client, error) {
	options := append(more, gomail.WithPort(s.cfg.Port), gomail.WithTimeout(timeout))
	switch s.cfg.Security {
	case TLS:
		options = append(options, gomail.WithSSL())
	case Off:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if s.cfg.TLS != nil {
		conf := s.cfg.TLS.Clone()
		conf.ServerName = cmp.Or(conf.ServerName, s.cfg.Host)
		options = append(options, gomail.WithTLSConfig(conf))
	}
	if s.cfg.User != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.cfg.User), gomail.WithPassword(s.cfg.Password))
	}
	return gomail.NewClient(s.cfg.Host, options...)
}

// Send lets a mail leave in the background. It returns an error if the mail cannot be one, and
// ErrFull if too many wait.
func (s *Sender) Send(m Mail) error {
	msg, err := s.compose(m)
	if err != nil {
		return err
	}
	if s.pending.Add(1) > maxWaiting {
		s.pending.Add(-1)
		return ErrFull
	}
	s.waiting <- &letter{msg: msg} // there is room: no more are pending than it holds
	return nil
}

// Deliver sends a mail at once, and returns when the mail server has it or why it has not. It
// tries once, and needs no Run.
func (s *Sender) Deliver(ctx context.Context, m Mail) error {
	msg, err := s.compose(m)
	if err != nil {
		return err
	}
	if err := s.try(ctx, msg); err != nil && !msg.IsDelivered() {
		return errors.New(reason(err))
	}
	return nil
}

func (s *Sender) compose(m Mail) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if msg.From(s.cfg.From) != nil || msg.To(m.To) != nil { // the errors quote the addresses
		return nil, errors.New("the address of a mail is not valid")
	}
	msg.Subject(m.Subject)
	msg.SetMessageID()
	msg.SetDate()
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// Run sends what waits until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-s.waiting:
			s.deliver(ctx, l)
		}
	}
}

// deliver tries to send a mail once. Others go on while it pauses.
func (s *Sender) deliver(ctx context.Context, l *letter) {
	err := s.try(ctx, l.msg)
	l.attempts++
	switch {
	case err == nil || l.msg.IsDelivered() || ctx.Err() != nil:
	case l.attempts > len(s.cfg.Pauses) || isFinal(err):
		s.cfg.Log.Error("a mail was not sent", "attempts", l.attempts, "reason", reason(err))
	default:
		pause := s.cfg.Pauses[l.attempts-1]
		s.cfg.Log.Warn("a mail could not be sent; trying again", "in", pause, "reason", reason(err))
		time.AfterFunc(pause, func() { s.waiting <- l })
		return
	}
	s.pending.Add(-1)
}

func (s *Sender) try(ctx context.Context, msg *gomail.Msg) error {
	var options []gomail.Option
	if s.cfg.Security != TLS {
		// The library leaves a connection open if TLS or the login fails. With TLS from the
		// beginning it has to dial itself, or it would send no password.
		var conn net.Conn
		defer func() {
			if conn != nil {
				conn.Close()
			}
		}()
		options = append(options, gomail.WithDialContextFunc(func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return conn, err
		}))
	}
	c, err := s.client(options...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.DialAndSendWithContext(ctx, msg)
}

// isFinal reports whether the mail server has refused this mail, so that trying again is in vain.
func isFinal(err error) bool {
	e, ok := errors.AsType[*gomail.SendError](err)
	return ok && !e.IsTemp()
}

// reason is an error without what a mail server quotes in its answer.
func reason(err error) string {
	if e, ok := errors.AsType[*gomail.SendError](err); ok {
		return fmt.Sprintf("%s: %d", e.Reason, e.ErrorCode())
	}
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Sprintf("the mail server answered %d", e.Code)
	}
	return err.Error()
}
