package client

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// Ack says that the messages are done with and must not come again. It does not wait:
// acknowledgements gather and go out together, and Flush waits for their confirmations.
// One whose confirmation a lost connection swallowed may not have arrived; its message
// comes again then.
func (s *Subscription) Ack(ids ...string) error {
	for _, id := range ids {
		if err := s.settle(kindAck, id, "", nil); err != nil && err != ErrInterrupted {
			return err
		}
	}
	return nil
}

// AckWait acknowledges and waits until the broker has confirmed all of it: the messages
// never come again, not even after a crash. ErrInterrupted says that the connection was
// lost meanwhile, and that some may come again.
func (s *Subscription) AckWait(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	over := make(chan error, 1)
	var first error
	left := len(ids)
	done := func(err error) { // runs on one goroutine, one after the other
		if first == nil {
			first = err
		}
		if left--; left == 0 {
			over <- first
		}
	}
	for _, id := range ids {
		if err := s.settle(kindAck, id, "", done); err != nil {
			return err
		}
	}
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// MaxDelay is the longest delay of Nack and Release.
const MaxDelay = 24 * time.Hour

// Nack gives a message back to its place in the queue, to be delivered again after
// delay (0: at once). It counts towards the queue's delivery limit.
func (s *Subscription) Nack(id string, delay time.Duration) error {
	if err := checkDelay(delay); err != nil {
		return err
	}
	return s.nack(id, delayed(delay))
}

func checkDelay(delay time.Duration) error {
	if delay < 0 || delay > MaxDelay {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("delay is not between 0 and %v", MaxDelay)}
	}
	return nil
}

// delayed is the form of a delay in a command.
func delayed(delay time.Duration) string {
	if delay <= 0 {
		return ""
	}
	return " delay " + delay.String()
}

// Release gives a message back to its place in the queue, to be delivered again after
// delay (0: at once, perhaps to this consumer), as if it had not been delivered: that does
// not count towards the queue's delivery limit. It is for a message that was not tried,
// because the consumer stops or cannot work now. It does not wait; Flush does.
//
// A broker that cannot give a message back uncounted is asked for a Nack instead, which
// counts.
func (s *Subscription) Release(id string, delay time.Duration) error {
	if err := checkDelay(delay); err != nil {
		return err
	}
	if err := sealmq.CheckName("message id", id); err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomForAck(); err != nil {
		if err == ErrInterrupted { // it is back already
			return nil
		}
		return err
	}
	e := entry{kind: kindRelease, id: id, delay: delay}
	if c.older.noRelease {
		e.kind = kindNack
	}
	c.issued++
	c.pushSettle(e, delayed(delay))
	c.kick()
	return nil
}

// Extend says that work on these messages goes on: the ack timeout of each starts again.
// It is to be repeated well within the queue's ack timeout (sealmq.DefaultAckTimeout if
// the queue was not declared with another) for as long as the work takes. All messages of
// one call go out together. It does not wait, and it is no error if a message is not this
// consumer's any more, because its time was over or the connection was lost: it comes
// again, and an Ack tells.
//
// A broker that cannot extend lets the time run on; from its first answer on, Extend
// returns an error of code Unsupported.
func (s *Subscription) Extend(ids ...string) error {
	for _, id := range ids {
		if err := sealmq.CheckName("message id", id); err != nil {
			return err
		}
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if err := c.roomForAck(); err != nil {
			if err == ErrInterrupted {
				return nil
			}
			return err
		}
		if c.older.noExtend {
			return &sealmq.Error{Code: sealmq.Unsupported, Message: "the broker cannot extend an ack timeout"}
		}
		c.issued++
		c.pushSettle(entry{kind: kindExtend, id: id}, "")
	}
	c.kick()
	return nil
}

// Dead puts a message into the queue's dead-letter queue. reason is kept with it; it is
// cut after sealmq.MaxNameBytes bytes.
func (s *Subscription) Dead(id, reason string) error {
	return s.nack(id, strings.TrimRight(" dead "+oneLine(reason, sealmq.MaxNameBytes), " "))
}

// nack gives a message back. Without a connection it is back already.
func (s *Subscription) nack(id, rest string) error {
	if err := s.settle(kindNack, id, rest, nil); err != ErrInterrupted {
		return err
	}
	return nil
}

// settleWords are the command words of the kinds that settle, and their confirmations.
var settleWords = [...]struct{ request, reply string }{
	kindAck:     {"ack ", "ACK_CONFIRMED "},
	kindNack:    {"nack ", "NACK_CONFIRMED "},
	kindRelease: {"release ", "RELEASE_CONFIRMED "},
	kindExtend:  {"extend ", "EXTEND_CONFIRMED "},
}

// older is what the broker of a connection was found not to know.
type older struct {
	noRelease, noExtend bool
}

// settle adds one ack or nack to what goes out. It returns ErrInterrupted while there is
// no connection.
func (s *Subscription) settle(k kind, id, rest string, done func(error)) error {
	if err := sealmq.CheckName("message id", id); err != nil {
		return err
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.roomForAck(); err != nil {
		return err
	}
	c.issued++
	c.pushSettle(entry{kind: k, id: id, done: done}, rest)
	c.kick()
	return nil
}

// roomForAck waits until one more settlement may wait for its confirmation. It returns
// ErrInterrupted while there is no connection, because the delivery went with it. The
// caller holds mu.
func (c *Client) roomForAck() error {
	for c.out.acks >= MaxPendingAcks && c.err == nil {
		if err := c.wait(c.life); err != nil {
			return c.closedError(err)
		}
	}
	if c.err != nil {
		return c.err
	}
	if c.conn == nil {
		return ErrInterrupted
	}
	return nil
}

// pushSettle adds the line of a settlement. The caller holds mu.
func (c *Client) pushSettle(e entry, rest string) {
	word := settleWords[e.kind].request
	line := c.out.reserve(len(word) + len(e.id) + len(rest) + 1)
	line = append(append(append(append(line, word...), e.id...), rest...), '\n')
	c.out.push(line, e)
}

// settleReply takes the answer to a settlement. The caller holds mu.
func (c *Client) settleReply(line []byte) {
	out := c.out.pop()
	err := settleError(line, &out)
	code := sealmq.CodeOf(err)
	switch {
	case out.kind == kindRelease && code == sealmq.Unsupported:
		c.older.noRelease = true
		out.kind = kindNack
		c.pushSettle(out, delayed(out.delay)) // it is answered when the nack is
		c.kick()
		return
	case out.kind == kindExtend && code == sealmq.Unsupported:
		if !c.older.noExtend {
			c.cfg.Log.Warn("broker cannot extend an ack timeout", "err", err)
		}
		c.older.noExtend = true
	case out.kind == kindExtend && code == sealmq.NotHeld:
		c.cfg.Log.Debug("delivery was taken back", "message_id", out.id)
	case err != nil:
		c.cfg.Log.Warn("broker refused an acknowledgement", "message_id", out.id, "err", err)
	case out.kind != kindExtend:
		c.stats.Acked++
	}
	c.popped++
	c.answer(&out, err)
}
