package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// How publishers behave.
const (
	window = 64 // publishes that wait for their confirm
	// backlog is how many confirmed copies may wait for their first delivery: enough to
	// fill several segments, and few enough for a small disk.
	backlog   = 4000
	repeatOne = 50   // one in 50 messages is published again after its confirm
	hangUpOne = 3000 // after one in 3000 confirms the connection is closed
)

// sent is a publish that waits for its reply.
type sent struct {
	n        int
	repeated bool // it was confirmed before
}

// publisher publishes messages until it is told to finish, and then waits until all are
// confirmed.
type publisher struct {
	*load
	pub     int
	rng     *rand.Rand
	waiting []int // not confirmed, in order
}

func (p *publisher) run(ctx context.Context) {
	for ctx.Err() == nil && (len(p.waiting) > 0 || !p.finishing()) {
		s, err := connect(ctx, p.host)
		if err != nil {
			continue
		}
		err = p.session(ctx, s)
		s.close()
		p.complain(ctx, fmt.Sprintf("publisher %d", p.pub), err)
	}
}

// session publishes on one connection. It first publishes again what the last connection
// left unconfirmed, with the same bytes and in the same order.
func (p *publisher) session(ctx context.Context, s *session) error {
	var out []sent
	for _, n := range p.waiting {
		p.write(s, n)
		out = append(out, sent{n: n})
	}
	for {
		for len(out) < window && !p.finishing() && p.ledger.Waiting() < backlog {
			n := p.ledger.Next(p.pub)
			p.waiting = append(p.waiting, n)
			p.write(s, n)
			out = append(out, sent{n: n})
			if old := n - window - p.rng.IntN(2000); old >= 0 && p.rng.IntN(repeatOne) == 0 {
				p.write(s, old)
				out = append(out, sent{n: old, repeated: true})
			}
		}
		if len(out) == 0 {
			if p.finishing() {
				return nil
			}
			pause(ctx, time.Millisecond)
			// Without a write or a read it would not notice that the broker died.
			if err := s.expect("ping", "Pong"); err != nil {
				return err
			}
			continue
		}
		reply, err := s.read()
		if err != nil {
			return err
		}
		if want := "ACK " + messageID(p.pub, out[0].n); reply != want {
			return unexpected(fmt.Sprintf("%s, not %s", reply, want))
		}
		if !out[0].repeated {
			p.ledger.Confirm(p.pub, out[0].n)
			p.waiting = p.waiting[1:]
		}
		out = out[1:]
		if p.rng.IntN(hangUpOne) == 0 {
			return nil
		}
	}
}

func (p *publisher) write(s *session, n int) {
	exchange, _ := route(n)
	fmt.Fprintf(s.w, "publish %s %s %s\n", exchange, routingKey, p.ledger.Body(p.pub, n))
}

// runClient does the same with package client, which publishes unconfirmed messages again
// by itself.
func (p *publisher) runClient(ctx context.Context) {
	c, err := p.client(ctx)
	for err != nil { // the client does not repeat its first attempt
		p.complain(ctx, "client", err)
		if !pause(ctx, time.Millisecond) {
			return
		}
		c, err = p.client(ctx)
	}
	defer c.Close()
	for ctx.Err() == nil && !p.finishing() {
		if p.ledger.Waiting() >= backlog {
			pause(ctx, time.Millisecond)
			continue
		}
		n := p.ledger.Next(p.pub)
		exchange, _ := route(n)
		m := sealmq.Message{Exchange: exchange, Key: routingKey, ID: messageID(p.pub, n), Body: p.ledger.Body(p.pub, n)}
		err := c.PublishAsync(ctx, m, func(err error) {
			switch {
			case err == nil:
				p.ledger.Confirm(p.pub, n)
			case !errors.Is(err, client.ErrClosed):
				p.complain(ctx, "client", unexpected(err.Error()))
			}
		})
		p.complain(ctx, "client", err)
	}
	p.complain(ctx, "client", c.Flush(ctx))
}

// pause waits for d. It reports false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
