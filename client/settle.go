package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

func (s *subscription) Ack(list ...sealmq.Delivery) error { return s.settle(kindAck, "", list) }

func (s *subscription) AckWait(ctx context.Context, list ...sealmq.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	all := newCall()
	var first error
	left := len(list)
	done := func(err error) { // runs on one goroutine, one after the other
		first = cmp.Or(first, err)
		if left--; left == 0 {
			all.finish(first)
		}
	}
	if err := s.settleAnd(kindAck, "", list, done); err != nil {
		return err
	}
	return all.wait(ctx)
}

func (s *subscription) Nack(delay time.Duration, list ...sealmq.Delivery) error {
	return s.giveBack(kindNack, delay, list)
}

func (s *subscription) Release(delay time.Duration, list ...sealmq.Delivery) error {
	return s.giveBack(kindRelease, delay, list)
}

func (s *subscription) giveBack(k kind, delay time.Duration, list []sealmq.Delivery) error {
	if delay < 0 || delay > sealmq.MaxDelay {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("delay is not between 0 and %v", sealmq.MaxDelay)}
	}
	rest := ""
	if delay > 0 {
		rest = " delay " + delay.String()
	}
	return s.settle(k, rest, list)
}

func (s *subscription) Dead(reason string, list ...sealmq.Delivery) error {
	return s.settle(kindNack, strings.TrimRight(" dead "+sealmq.OneLine(reason, sealmq.MaxNameBytes), " "), list)
}

func (s *subscription) Extend(list ...sealmq.Delivery) error {
	return s.settle(kindExtend, "", slices.Concat(list, s.waiting())) // one piece of output
}

// settleWords are the command words of the kinds that settle, and their confirmations.
var settleWords = [...]struct{ request, reply string }{
	kindAck:     {"ack ", "ACK_CONFIRMED "},
	kindNack:    {"nack ", "NACK_CONFIRMED "},
	kindRelease: {"release ", "RELEASE_CONFIRMED "},
	kindExtend:  {"extend ", "EXTEND_CONFIRMED "},
}

// settle adds settlements to what goes out. Without a connection the deliveries are back
// already, which is no error.
func (s *subscription) settle(k kind, rest string, list []sealmq.Delivery) error {
	if err := s.settleAnd(k, rest, list, nil); err != ErrInterrupted {
		return err
	}
	return nil
}

// settleAnd is settle with a function that gets each answer. It returns ErrInterrupted while
// there is no connection.
func (s *subscription) settleAnd(k kind, rest string, list []sealmq.Delivery, done func(error)) error {
	for i := range list {
		if err := sealmq.CheckName("message id", list[i].ID); err != nil {
			return err
		}
	}
	word := settleWords[k].request
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range list {
		for c.out.acks >= MaxPendingAcks && c.err == nil {
			if c.wait(c.life) != nil {
				return cmp.Or(c.err, ErrClosed)
			}
		}
		switch {
		case c.err != nil:
			return c.err
		case c.conn == nil:
			return ErrInterrupted
		}
		id := list[i].ID
		line := c.out.reserve(len(word) + len(id) + len(rest) + 1)
		line = append(append(append(append(line, word...), id...), rest...), '\n')
		c.out.push(line, entry{kind: k, id: id, done: done})
		c.issued++
	}
	c.kick()
	return nil
}

// settleReply takes the answer to a settlement. The caller holds mu.
func (c *Client) settleReply(line []byte) {
	out := c.out.pop()
	err := settleError(line, &out)
	switch {
	case err == nil && out.kind != kindExtend:
		c.stats.Acked++
	case err != nil && out.kind == kindExtend: // it was taken back, or the broker's engine cannot
		c.cfg.Log.Debug("ack timeout is not extended", "message_id", out.id, "err", err)
	case err != nil:
		c.cfg.Log.Warn("broker refused an acknowledgement", "message_id", out.id, "err", err)
	}
	c.popped++
	c.answer(&out, err)
}
