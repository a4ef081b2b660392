package listener

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/connlimit"
	"github.com/sealmq/sealmq/internal/vanished"
	"github.com/sealmq/sealmq/mtls"
)

// The longest and the shortest pause after a failed accept.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// vanishedAfter is after how long a peer that acknowledges nothing is taken to be gone. Its
// messages come back then. There is no idle timeout: a consumer of the line protocol may be silent
// for ever (specification R11).
const vanishedAfter = 2 * time.Minute

// accept hands each connection to a goroutine of its own, where the handshake runs. After a
// failure it tries again: too many open files, for example, pass by themselves.
func (s *Server) accept() error {
	pause := time.Duration(0)
	for {
		raw, err := s.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(raw)
			continue
		case s.stopping.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		}
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		s.metrics.acceptErrors.Inc()
		s.log.Warn("connection not accepted", "err", err, "retry_in", pause)
		select {
		case <-time.After(pause):
		case <-s.stopping.Done():
			return nil
		}
	}
}

// admit adds a connection to the table or closes it without a byte.
func (s *Server) admit(raw net.Conn) {
	c := newConn(s, raw)
	c.raw.Place = s.unidentified.Add(raw.RemoteAddr(), func() { c.abort(closedByServer) })
	if c.raw.Place == nil {
		s.metrics.refused[refusedDisplaced].Inc()
	}
	if c.raw.Place == nil || !s.add(c) {
		_ = raw.Close()
		return
	}
	vanished.After(raw, vanishedAfter)
	go c.begin()
}

// add puts a connection into the table and counts its goroutine.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Err() != nil {
		c.raw.Place.Leave()
		return false
	}
	s.lastID++
	c.id = s.lastID
	s.conns[c.id] = c
	s.metrics.accepted.Inc()
	s.running.Add(1)
	return true
}

// begin runs the handshake. What follows runs on a goroutine with a fresh stack,
// because a handshake leaves a large one behind.
func (c *conn) begin() {
	defer c.contain(c.finishPanicked)
	if why, err := c.handshake(); err != nil {
		if c.raw.Place.Displaced() {
			why = refusedDisplaced
		}
		c.server.metrics.refused[why].Inc()
		c.logRefusal(why, err)
		if tell := c.server.cfg.Refused; tell != nil && (why == refusedCertificate || why == refusedRevoked || why == refusedIdentity) {
			tell(c.raw.RemoteAddr(), c.tls.ConnectionState(), err)
		}
		if why == refusedCrowd || why == refusedLimit || why == refusedBanned {
			c.raw.timeout = c.server.limits.HandshakeTimeout
			c.sayWhy(err)
			_ = c.tls.Close()
		}
		c.abort(closedByServer)
		c.finish()
		return
	}
	c.log().Info("connection opened", "addr", c.raw.RemoteAddr().String(), "serial", c.serial, "issuer", c.identity.Issuer)
	go c.serve()
}

func (c *conn) logRefusal(why refusal, err error) {
	attrs := []any{"addr", c.raw.RemoteAddr().String(), "reason", why.String(), "err", err}
	level, passedOver := slog.LevelDebug, 0 // what any port scanner causes stays out of the log
	switch why {
	case refusedCertificate, refusedRevoked, refusedIdentity:
		level = slog.LevelInfo
	case refusedPlain, refusedNoCertificate, refusedCrowd, refusedLimit, refusedDisplaced:
		level, passedOver = c.server.seldom[why].level(time.Now())
	}
	if passedOver > 0 {
		attrs = append(attrs, "passed_over", passedOver)
	}
	c.log().Log(context.Background(), level, "connection refused", attrs...)
}

// sayWhy tells a peer whose identity is known why it is refused, or why the connection ends.
func (c *conn) sayWhy(err error) {
	for _, p := range c.server.cfg.Protocols {
		if len(p.Prefix) == 0 && p.Refusal != nil {
			_, _ = c.tls.Write(p.Refusal(err))
		}
	}
	_ = c.tls.CloseWrite()
}

// handshake ends with the peer's identity known, or with an error and the reason to
// count.
func (c *conn) handshake() (why refusal, err error) {
	s := c.server
	why = refusedOther
	err = c.raw.Handshake(s.handshakes, time.Now().Add(s.limits.HandshakeTimeout), s.stopping.Done(), func() (err error) {
		why, err = c.identify()
		return err
	})
	if err != nil && why == refusedOther {
		why = reasonOf(err)
	}
	return why, err
}

// identify is what a handshake has its turn for.
func (c *conn) identify() (refusal, error) {
	s := c.server
	if err := c.tls.Handshake(); err != nil {
		return reasonOf(err), err
	}
	rechecks := s.rechecks.Load()
	state := c.tls.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return refusedCertificate, errors.New("the certificate was not verified")
	}
	id, err := s.cfg.Identify(state)
	if errors.Is(err, mtls.ErrRevoked) {
		return refusedRevoked, err
	}
	if err != nil {
		return refusedIdentity, err
	}
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		return refusedOther, err
	}
	c.raw.timeout, c.raw.stalled = s.limits.WriteTimeout, c.stall
	why, err := c.identified(id, state.PeerCertificates[0])
	if err == nil {
		c.endWhenExpired(state)
	}
	if err == nil && s.rechecks.Load() != rechecks {
		c.recheck() // Recheck may have missed it
	}
	return why, err
}

// noCertificate is how crypto/tls ends its error about a peer without a certificate, which has
// no type.
const noCertificate = "client didn't provide a certificate"

// reasonOf sorts the errors of a handshake.
func reasonOf(err error) refusal {
	var (
		plain  tls.RecordHeaderError
		cert   *tls.CertificateVerificationError
		author x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, connlimit.ErrNoTurn):
		return refusedHandshakes
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusedTimeout
	case errors.As(err, &plain):
		return refusedPlain
	case errors.Is(err, mtls.ErrRevoked):
		return refusedRevoked
	case errors.As(err, &cert), errors.As(err, &author):
		return refusedCertificate
	case strings.HasSuffix(err.Error(), noCertificate):
		return refusedNoCertificate
	}
	return refusedOther
}
