package client

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
)

// Message is what is published.
type Message struct {
	// Exchange and Key decide which queues get it.
	Exchange, Key string
	// ID is the message_id that Body names. The broker recognises a repeated message by it.
	ID string
	// Body is a JSON object on one line with the member message_id, as package seal
	// makes it. It is copied before the call returns.
	Body []byte
}

const verbPublish = "publish "

// Publish sends a message and waits until the broker has confirmed that it is stored in
// all its queues. If ctx ends first, the message may be stored nevertheless, and the
// client goes on trying; publishing the same bytes again is safe.
//
// Errors that the broker answered are *sealmq.Error.
func (c *Client) Publish(ctx context.Context, m Message) error {
	wait := newCall()
	if err := c.publish(ctx, &m, entry{kind: kindPublish, id: m.ID, limit: c.cfg.ResendFor, call: wait}); err != nil {
		return err
	}
	return wait.wait(ctx)
}

func (l *call) wait(ctx context.Context) error {
	select {
	case <-l.ready:
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PublishAsync sends a message and returns. It waits only while the window is full, at
// most until ctx ends; an error means that the message was not taken and confirmed will not
// be called. Otherwise confirmed, if not nil, is called once, in the order of the
// publishes: with nil when the message is stored, with a *sealmq.Error when the broker
// refused it, with ErrResendTooOld when nobody can know any more, and with an error that
// wraps ErrClosed when the client ended first. It runs on the goroutine that reads from the broker: it must be quick and must not call the client.
func (c *Client) PublishAsync(ctx context.Context, m Message, confirmed func(error)) error {
	return c.publish(ctx, &m, entry{kind: kindPublish, id: m.ID, limit: c.cfg.ResendFor, done: confirmed})
}

func (c *Client) publish(ctx context.Context, m *Message, e entry) error {
	size := publishSize(m)
	if err := c.checkMessage(m, size); err != nil {
		return err
	}
	return c.publishChecked(ctx, m, size, e)
}

// publishSize is the length of a publish's line.
func publishSize(m *Message) int {
	return len(verbPublish) + len(m.Exchange) + len(m.Key) + len(m.Body) + 3
}

// publishChecked publishes what checkMessage has passed.
func (c *Client) publishChecked(ctx context.Context, m *Message, size int, e entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Exchange != c.checkedExchange || m.Key != c.checkedKey {
		if err := sealmq.CheckName("exchange", m.Exchange); err != nil {
			return err
		}
		if err := sealmq.CheckName("routing key", m.Key); err != nil {
			return err
		}
		c.checkedExchange, c.checkedKey = m.Exchange, m.Key
	}
	for !c.windowOpen(size) {
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	if !c.mayLeave(&e, c.cfg.Clock.Now()) {
		return ErrResendTooOld
	}
	line := c.out.reserve(size)
	line = append(line, verbPublish...)
	line = append(append(line, m.Exchange...), ' ')
	line = append(append(line, m.Key...), ' ')
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
	return left(e.since.Add(horizon(e.limit, c.memory.horizon)), now) >= 0
}

// left is the time until then. A machine that sleeps stops its monotonic clock, and one
// whose clock is set shows another time of day: the one that says less counts.
func left(then, now time.Time) time.Duration {
	return min(then.Sub(now), then.Round(0).Sub(now.Round(0)))
}

// windowOpen reports whether one publish more may be under way. The caller holds mu.
func (c *Client) windowOpen(size int) bool {
	return c.out.publishes < c.cfg.Window &&
		(c.out.publishes == 0 || c.out.publishBytes+size <= c.cfg.WindowBytes)
}

func (c *Client) checkMessage(m *Message, size int) error {
	if err := sealmq.CheckName("message id", m.ID); err != nil {
		return err
	}
	switch {
	case len(m.Body) == 0:
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the message has no body"}
	case bytes.IndexByte(m.Body, '\n') >= 0:
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the body is more than one line"}
	case size > c.cfg.MaxLineBytes:
		return &sealmq.Error{Code: sealmq.TooLarge, Message: fmt.Sprintf("the publish is a line of %d bytes, the limit is %d", size, c.cfg.MaxLineBytes)}
	}
	return nil
}
