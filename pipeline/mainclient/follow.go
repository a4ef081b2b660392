package mainclient

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

const (
	// waitForChange is how long the main server keeps a question for revocations that are
	// new. It bounds how late a connection is found dead.
	waitForChange = 10 * time.Second
	// askAgain bounds how often the main server is asked if it answers at once, and tryAgain
	// how late a revocation is noticed after it is back.
	askAgain = 250 * time.Millisecond
	tryAgain = 750 * time.Millisecond
)

// Revocations returns what was revoked after a version of the list with an origin; 0 asks for
// everything. If nothing was, the main server answers after wait.
func (c *Client) Revocations(ctx context.Context, since uint64, origin string, wait time.Duration) (trust.Feed, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+dialTimeout)
	defer cancel()
	return c.revocations(ctx, &mainapi.GetRevocationsParams{Since: int64(since), Origin: origin, Wait: int(wait / time.Second)})
}

func (c *Client) revocations(ctx context.Context, p *mainapi.GetRevocationsParams) (trust.Feed, error) {
	p.Node, p.Roles, p.Version = c.Self.Name, strings.Join(c.Self.Roles, ","), c.Self.Version
	p.Host, p.Started = c.Self.Host, c.Self.Started
	r, err := c.api.GetRevocationsWithResponse(ctx, p)
	if err != nil {
		return trust.Feed{}, failed(err)
	}
	if r.JSON200 == nil {
		return trust.Feed{}, refused(r.HTTPResponse, r.ApplicationProblemJSONDefault)
	}
	return *r.JSON200, nil
}

// FollowRevocations fills a list from the main server until ctx ends. A revocation is in
// force as soon as the main server tells of it, or within a second after it is back. What was
// in force stays when the main server does not answer, or has less than before. Each question
// may be answered by another main server.
func (c *Client) FollowRevocations(ctx context.Context, list *trust.RevocationList, log *slog.Logger) {
	defer c.leave(ctx)
	var since uint64 // the first question is for everything
	var wait time.Duration
	var last, origin string
	differed := false
	for {
		began := time.Now()
		feed, err := c.Revocations(ctx, since, origin, wait)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			_, err = list.Apply(feed)
		}
		if errors.Is(err, mtls.ErrRevoked) {
			err = errors.Join(err, c.revokeOwn(list))
		}
		next := askAgain
		since, origin, wait = feed.Version, feed.Origin, waitForChange
		if err != nil {
			next, since, wait = tryAgain, 0, 0
		}
		last = note(log, err, last)
		differed = noteClock(log, c.time.Ahead(), differed)
		if clock.Sleep(ctx, clock.System, next-time.Since(began)) != nil {
			return
		}
	}
}

// leaveTimeout bounds the goodbye of a process that stops.
const leaveTimeout = time.Second

// leave tells the main server that this process stops, so that nobody misses it. One that
// does not come to it is missed, which is right.
func (c *Client) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	c.revocations(ctx, &mainapi.GetRevocationsParams{Leaving: true}) //nolint:errcheck // see above
}

// revokeOwn puts into the list what an answer has said: the own certificate is revoked. The
// main server tells it no more than that.
func (c *Client) revokeOwn(list *trust.RevocationList) error {
	if c.own == nil {
		return nil
	}
	cert, err := c.own(new(tls.CertificateRequestInfo))
	if err != nil || cert.Leaf == nil {
		return err
	}
	return list.Add(trust.Entry{Scope: trust.ScopeCertificate, Name: cert.Leaf.Subject.CommonName, Serial: mtls.Serial(cert.Leaf),
		Fingerprint: mtls.Fingerprint(cert.Leaf), Reason: "the main server has refused it"})
}

// noteClock logs when the clocks begin to differ, and when they do no more.
func noteClock(log *slog.Logger, ahead time.Duration, differed bool) bool {
	switch now := clock.Differ(ahead); {
	case now && !differed:
		log.Warn("the clock of this machine differs from the main server's; set the one that is wrong", "main_server_ahead", ahead.Round(time.Second).String())
	case !now && differed:
		log.Info("the clock of this machine is that of the main server again")
	}
	return clock.Differ(ahead)
}

// note logs when something else is wrong than before, and when nothing is any more.
func note(log *slog.Logger, err error, last string) string {
	switch {
	case err == nil && last != "":
		log.Info("the main server tells again what is revoked")
	case err != nil && err.Error() != last:
		attrs := []any{"err", err}
		var gap *trust.GapError
		if errors.As(err, &gap) {
			for _, e := range gap.Missing {
				attrs = append(attrs, "missing", e.Name+" "+e.Serial)
			}
			log.Error("the main server has forgotten revocations; they stay in force here", attrs...)
		} else {
			log.Warn("the main server does not tell what is revoked; the last list stays in force", attrs...)
		}
	}
	if err == nil {
		return ""
	}
	return err.Error()
}
