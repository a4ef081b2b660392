package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/changes"
	"github.com/sealmq/sealmq/internal/clock"
)

const (
	verbPublish       = "publish "
	verbPublishDigest = "publish_digest "
)

// Publish sends a message and waits for its result; see sealmq.Publisher. If ctx ends first,
// the client goes on trying.
func (c *Client) Publish(ctx context.Context, m sealmq.Message) error {
	return c.PublishBatch(ctx, []sealmq.Message{m})[0].Err
}

// PublishBatch sends messages and waits for their results; see sealmq.Publisher. If ctx ends
// first, the client goes on trying.
func (c *Client) PublishBatch(ctx context.Context, batch []sealmq.Message) []sealmq.PublishResult {
	results, calls := make([]sealmq.PublishResult, len(batch)), make([]*call, len(batch))
	for i := range batch {
		calls[i] = newCall()
		results[i].Err = c.publish(ctx, &batch[i], entry{kind: kindPublish, id: batch[i].ID, limit: c.cfg.ResendFor, call: calls[i]})
	}
	for i, wait := range calls {
		if results[i].Err != nil {
			continue
		}
		if err := wait.wait(ctx); err != nil {
			results[i].Err = err
			continue
		}
		results[i].Repeated = wait.repeated
	}
	return results
}

// wait returns what the reply says. A reply that has arrived counts, even if ctx has ended by the
// time the caller gets to look.
func (l *call) wait(ctx context.Context) error {
	if _, err := changes.Receive(ctx, l.ready); err != nil {
		return err
	}
	return l.err
}

// arrived reports whether the reply is there, and takes it.
func (l *call) arrived() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// PublishOptions say more about a publish. The zero value is for a message that nobody has
// published before.
type PublishOptions struct {
	// Since is when the message may have been published first, by an earlier process say; zero
	// is never. It is sent again only as long as the broker surely recognises it, and else
	// fails with ErrResendTooOld. A time that is yet to come never gets too old.
	Since time.Time
	// ResendFor takes the place of Config.ResendFor for this publish (0: it does not).
	ResendFor time.Duration
}

// PublishAsync sends a message, of which it copies what it needs, and returns. It waits only while the window is full, at
// most until ctx ends; an error means that the message was not taken and confirmed will not
// be called. Otherwise confirmed, if not nil, is called once, in the order of the
// publishes: with nil when the message is stored, with a *sealmq.Error when the broker
// refused it, with ErrResendTooOld when nobody can know any more, and with an error that
// wraps ErrClosed when the client ended first. It runs on the goroutine that reads from the broker: it must be quick and must not call the client.
func (c *Client) PublishAsync(ctx context.Context, m sealmq.Message, confirmed func(error)) error {
	return c.PublishWith(ctx, m, PublishOptions{}, confirmed)
}

// PublishWith is PublishAsync with options.
func (c *Client) PublishWith(ctx context.Context, m sealmq.Message, o PublishOptions, confirmed func(error)) error {
	e := entry{kind: kindPublish, id: m.ID, limit: cmp.Or(o.ResendFor, c.cfg.ResendFor), done: confirmed}
	if !o.Since.IsZero() {
		e.sent, e.since = true, o.Since
		c.refreshHorizon()
	}
	return c.publish(ctx, &m, e)
}

// publishSize is the length of a publish's line.
func publishSize(m *sealmq.Message) int {
	n := len(verbPublish) + len(m.Exchange) + len(m.Key) + len(m.Body) + 3
	if len(m.Digest) > 0 {
		n += len(verbPublishDigest) - len(verbPublish) + hex.EncodedLen(len(m.Digest)) + 1
	}
	return n
}

func (c *Client) publish(ctx context.Context, m *sealmq.Message, e entry) error {
	if err := c.Check(m); err != nil {
		return err
	}
	size := publishSize(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.windowOpen(size) {
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	if !c.mayLeave(&e, c.cfg.Now()) {
		return ErrResendTooOld
	}
	line := c.out.reserve(size)
	if len(m.Digest) == 0 {
		line = append(line, verbPublish...)
	} else {
		line = append(line, verbPublishDigest...)
	}
	line = append(append(line, m.Exchange...), ' ')
	line = append(append(line, m.Key...), ' ')
	if len(m.Digest) > 0 {
		line = append(hex.AppendEncode(line, m.Digest), ' ')
	}
	line = append(append(line, m.Body...), '\n')
	c.out.push(line, e)
	c.issued++
	c.stats.Published++
	c.kick()
	return nil
}

// mayLeave reports whether a publish may be sent on a connection now. One that was never
// sent may, and from now on its time runs. The caller holds mu.
func (c *Client) mayLeave(e *entry, now time.Time) bool {
	if !e.sent {
		e.since = now
	}
	return clock.Until(e.since.Add(horizon(e.limit, c.dedup.horizon)), now) >= 0
}

// windowOpen reports whether one publish more may be under way. The caller holds mu.
func (c *Client) windowOpen(size int) bool {
	return c.out.publishes < c.cfg.Window &&
		(c.out.publishes == 0 || c.out.publishBytes+size <= c.cfg.WindowBytes)
}

// Check returns the error with which a publish fails before the broker is asked, or nil.
func (c *Client) Check(m *sealmq.Message) error {
	size := publishSize(m)
	refuse := func(code sealmq.Code, message string) error { return &sealmq.Error{Code: code, Message: message} }
	switch {
	case len(m.Properties) > 0:
		return refuse(sealmq.Unsupported, "the line protocol carries no properties of messages")
	case len(m.Digest) > sealmq.MaxDigestBytes:
		return refuse(sealmq.BadArgument, fmt.Sprintf("the digest is longer than %d bytes", sealmq.MaxDigestBytes))
	case len(m.Body) == 0:
		return refuse(sealmq.BadArgument, "the message has no body")
	case bytes.IndexByte(m.Body, '\n') >= 0:
		return refuse(sealmq.BadArgument, "the body is more than one line")
	case size > c.cfg.MaxLineBytes:
		return refuse(sealmq.TooLarge, fmt.Sprintf("the publish is a line of %d bytes, the limit is %d", size, c.cfg.MaxLineBytes))
	}
	return cmp.Or(sealmq.CheckName("exchange", m.Exchange), sealmq.CheckName("routing key", m.Key), sealmq.CheckName("message id", m.ID))
}
