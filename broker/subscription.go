package broker

import (
	"context"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// maxNextBytes bounds the bodies of one Next, apart from the last one.
const maxNextBytes = 4 << 20

// subscription takes messages when Next asks for them, so that nothing waits in between.
type subscription struct {
	conn     *connection
	consumer *Consumer
	// ready has room for one signal that Take may have something.
	ready chan struct{}

	// failed has room for an error that came with deliveries, for the next Next.
	failed chan error

	open context.Context // until it ends, at the latest with the connection; its cause says why
	end  context.CancelCauseFunc
}

func (c *connection) Consume(ctx context.Context, queue string, prefetch int) (sealmq.Subscription, error) {
	if prefetch != engine.QueuesOwn {
		if err := sealmq.CheckPrefetch(prefetch); err != nil {
			return nil, err
		}
	}
	s, err := c.subscribe()
	if err != nil {
		return nil, err
	}
	err = awaitError(ctx, c, func(done func(error)) {
		s.consumer.Consume(queue, engine.ConsumeOptions{Prefetch: prefetch}, done)
	})
	if err == nil {
		return s, nil
	}
	s.consumer.Close(false)
	s.end(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sub = nil
	return nil, err
}

func (c *connection) subscribe() (*subscription, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open.Err() != nil:
		return nil, sealmq.ErrClosed
	case c.sub != nil:
		return nil, &sealmq.Error{Code: sealmq.InUse, Message: "this connection already consumes a queue"}
	}
	s := &subscription{conn: c, ready: make(chan struct{}, 1), failed: make(chan error, 1)}
	s.open, s.end = context.WithCancelCause(c.open)
	s.consumer = c.broker.Open(c.caller, s.signal, func(_ sealmq.SubscriptionID, queue string, why error) {
		s.end(&sealmq.Error{Code: sealmq.CodeOf(why), Message: "Queue '" + queue + "' was deleted"})
	})
	c.sub = s
	return s, nil
}

func (s *subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *subscription) Next(ctx context.Context, dst []sealmq.Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, &sealmq.Error{Code: sealmq.BadArgument, Message: "there is no room for a delivery"}
	}
	for {
		select {
		case <-s.open.Done():
			return 0, context.Cause(s.open)
		case <-ctx.Done():
			return 0, ctx.Err()
		case err := <-s.failed:
			return 0, err
		default:
		}
		list, err := s.consumer.Take(dst[:0], len(dst), maxNextBytes)
		if len(list) > 0 {
			if err != nil {
				select {
				case s.failed <- err:
				default: // it is told already that something failed
				}
			}
			s.signal() // for other callers
			return len(list), nil
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-s.ready:
		case <-s.open.Done():
		case <-ctx.Done():
		}
	}
}

// settle hands over the same verdict on several deliveries.
func (s *subscription) settle(like engine.Settlement, list []sealmq.Delivery, done func(error)) error {
	if s.conn.open.Err() != nil {
		return sealmq.ErrClosed
	}
	if len(list) == 0 {
		done(nil)
		return nil
	}
	batch := make([]engine.Settlement, len(list))
	for i := range list {
		batch[i] = like
		batch[i].Tag = list[i].Tag
	}
	s.consumer.Settle(batch, done)
	return nil
}

func (s *subscription) settleLater(like engine.Settlement, list []sealmq.Delivery) error {
	return s.settle(like, list, func(err error) {
		log := s.conn.broker.log
		switch {
		case err == nil:
		case like.Verdict == engine.Extend: // it was taken back, or the engine cannot
			log.Debug("ack timeout is not extended", "client", s.conn.caller.ID, "err", err)
		default:
			log.Warn("settlement is refused", "client", s.conn.caller.ID, "err", err)
		}
	})
}

func (s *subscription) Ack(list ...sealmq.Delivery) error {
	return s.settleLater(engine.Settlement{Verdict: engine.Ack}, list)
}

func (s *subscription) AckWait(ctx context.Context, list ...sealmq.Delivery) error {
	return awaitError(ctx, s.conn, func(done func(error)) {
		if err := s.settle(engine.Settlement{Verdict: engine.Ack}, list, done); err != nil {
			done(err)
		}
	})
}

func (s *subscription) Nack(delay time.Duration, list ...sealmq.Delivery) error {
	return s.giveBack(engine.Settlement{Verdict: engine.Return, Delay: delay}, list)
}

func (s *subscription) Release(delay time.Duration, list ...sealmq.Delivery) error {
	return s.giveBack(engine.Settlement{Verdict: engine.Return, Delay: delay, Uncounted: true}, list)
}

func (s *subscription) giveBack(like engine.Settlement, list []sealmq.Delivery) error {
	if err := s.conn.broker.checkSettlement(&like); err != nil {
		return err
	}
	return s.settleLater(like, list)
}

func (s *subscription) Dead(reason string, list ...sealmq.Delivery) error {
	return s.settleLater(engine.Settlement{Verdict: engine.Dead, Reason: sealmq.OneLine(reason, sealmq.MaxNameBytes)}, list)
}

func (s *subscription) Extend(list ...sealmq.Delivery) error {
	return s.settleLater(engine.Settlement{Verdict: engine.Extend}, list)
}

func (s *subscription) SetPrefetch(n int) error {
	if err := sealmq.CheckPrefetch(n); err != nil {
		return err
	}
	s.conn.mu.Lock() // Close must stay the last
	defer s.conn.mu.Unlock()
	if err := context.Cause(s.open); err != nil {
		return err
	}
	return s.consumer.SetPrefetch(0, n)
}

func (s *subscription) Close(ctx context.Context, unsettled ...sealmq.Delivery) error {
	s.conn.mu.Lock()
	err := s.consumer.SetPrefetch(0, engine.Paused)
	s.end(sealmq.ErrClosed)
	s.conn.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.Release(0, unsettled...); err != nil {
		return err
	}
	return awaitError(ctx, s.conn, s.conn.broker.unchanged)
}
