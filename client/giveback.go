package client

import (
	"context"
)

// pause tells the broker to send nothing more; a new connection would begin again.
func (s *Subscription) pause() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if c.conn != nil {
		line := prefetchLine(0)
		c.out.push(append(c.out.reserve(len(line)), line...), entry{kind: kindSetup})
		c.kick()
	}
	return nil
}

// GiveBack gives everything back that the broker has sent and that is not settled, so
// that it does not count as a delivery: what was only looked at, or waited its turn, comes no
// nearer to the queue's delivery limit. It ends the Receiver; call it before the Client is closed.
// It returns when the broker has taken everything back, or with ctx's error.
func (r *Receiver) GiveBack(ctx context.Context) error {
	return r.giveBack(ctx, r.unsettled)
}

func (r *Receiver) giveBack(ctx context.Context, ids func() []string) error {
	if err := r.sub.pause(); err != nil {
		return err
	}
	// What was on its way when the broker was told to stop is here once it has answered.
	if err := r.c.Ping(ctx); err != nil {
		return err
	}
	for _, id := range ids() {
		if err := r.sub.Release(id, 0); err != nil {
			return err
		}
	}
	return r.c.Flush(ctx)
}
