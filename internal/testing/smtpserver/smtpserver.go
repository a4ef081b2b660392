// Package smtpserver is a mail server that keeps what it gets, for tests.
package smtpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Mail is a mail that has come.
type Mail struct {
	From, To string // of the envelope
	Header   mail.Header
	Raw      string
	// Secure says that the connection was encrypted.
	Secure bool
}

// Server is a mail server.
type Server struct {
	// Host and Port are its address.
	Host string
	Port int

	listener net.Listener
	tls      *tls.Config
	mails    chan Mail
	open     atomic.Int32
	mu       sync.Mutex
	refusals []string // answers to the next mails instead of taking them
}

// Start starts a server, which ends with the test. With a TLS configuration it offers STARTTLS.
func Start(t testing.TB, conf *tls.Config) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, listener: l, tls: conf, mails: make(chan Mail, 1000)}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.open.Add(1)
			conns.Go(func() {
				defer s.open.Add(-1)
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				s.serve(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return s
}

// Refuse gives the next mail an answer such as "451 try again later" instead of taking it.
func (s *Server) Refuse(answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, answer)
}

// Next waits for a mail.
func (s *Server) Next(ctx context.Context) (Mail, error) {
	select {
	case m := <-s.mails:
		return m, nil
	case <-ctx.Done():
		return Mail{}, errors.New("no mail has come")
	}
}

// Waiting is how many mails have come that Next has not returned.
func (s *Server) Waiting() int { return len(s.mails) }

// Open is how many connections there are.
func (s *Server) Open() int { return int(s.open.Load()) }

func (s *Server) serve(c net.Conn) {
	r := bufio.NewReader(c)
	secure := false
	var m Mail
	say := func(line string) { fmt.Fprintf(c, "%s\r\n", line) }
	say("220 test")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			if s.tls != nil && !secure {
				say("250-test")
				say("250 STARTTLS")
			} else {
				say("250 test")
			}
		case "STARTTLS":
			say("220 go on")
			tc := tls.Server(c, s.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r, secure = tc, bufio.NewReader(tc), true
		case "MAIL":
			m = Mail{From: address(rest), Secure: secure}
			say("250 ok")
		case "RCPT":
			m.To = address(rest)
			s.mu.Lock()
			answer := "250 ok"
			if len(s.refusals) > 0 {
				answer, s.refusals = s.refusals[0], s.refusals[1:]
			}
			s.mu.Unlock()
			say(answer)
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			m.Raw = b.String()
			if parsed, err := mail.ReadMessage(strings.NewReader(m.Raw)); err == nil {
				m.Header = parsed.Header
			}
			s.mails <- m
			say("250 ok")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func address(rest string) string {
	_, rest, _ = strings.Cut(rest, "<")
	a, _, _ := strings.Cut(rest, ">")
	return a
}

// Text is the plain text of a mail.
func (m *Mail) Text() string {
	parsed, err := mail.ReadMessage(strings.NewReader(m.Raw))
	if err != nil {
		return ""
	}
	body := io.Reader(parsed.Body)
	encoding := parsed.Header.Get("Content-Transfer-Encoding")
	if kind, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(body, params["boundary"]).NextRawPart()
		if err != nil {
			return ""
		}
		body, encoding = part, part.Header.Get("Content-Transfer-Encoding")
	}
	if strings.EqualFold(encoding, "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, _ := io.ReadAll(body)
	return string(text)
}
