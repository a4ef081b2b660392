package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// How consumers behave. On average, one in so many deliveries is treated in that way.
const (
	prefetch  = 50
	keep      = 20   // maximum number of deliveries that stay unacknowledged while others go on
	nackOne   = 100  // returned to its queue
	rejectOne = 400  // dead-lettered
	dropOne   = 4000 // the connection is closed
	restOne   = 2000 // followed by a pause
	maxDelay  = 100 * time.Millisecond
)

// consumer consumes from a queue or from its dead-letter queue. It acknowledges, returns
// and rejects messages in any order.
type consumer struct {
	*load
	q    int
	dead bool
	rng  *rand.Rand
	// sent are the settlements of this connection that are not confirmed yet. Replies come
	// in the order of the requests. A message that was returned may be here twice.
	sent []settlement
}

// settlement is a line that settles a delivery, with the meaning of its confirmation.
type settlement struct {
	id, reply string
	confirmed copyState
}

func (c *consumer) name() string {
	if c.dead {
		return queueNames[c.q] + ".dead"
	}
	return queueNames[c.q]
}

func (c *consumer) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, err := connect(ctx, c.host)
		if err != nil {
			continue
		}
		err = c.session(ctx, s)
		s.close()
		c.complain(ctx, "consumer of "+c.name(), err)
	}
}

func (c *consumer) session(ctx context.Context, s *session) error {
	if err := s.subscribe(c.name(), prefetch); err != nil {
		return err
	}
	var order Order
	var held []string
	c.sent = nil
	for {
		e, err := s.next()
		if err != nil {
			return err
		}
		if e.reply != "" {
			if err := c.settled(e); err != nil {
				return err
			}
			continue
		}
		c.deliver(&order, e)
		held = append(held, e.id)
		if c.rng.IntN(dropOne) == 0 {
			return nil
		}
		if c.rng.IntN(restOne) == 0 && !pause(ctx, time.Duration(c.rng.IntN(200))*time.Millisecond) {
			return nil
		}
		if s.r.Buffered() > 0 && len(held) < prefetch {
			continue
		}
		c.rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		rest := min(len(held), c.rng.IntN(keep))
		for _, id := range held[rest:] {
			c.settle(s, id)
		}
		held = held[:rest]
	}
}

func (c *consumer) deliver(o *Order, e event) {
	if c.dead {
		c.ledger.DeliverDead(c.q, e.id, e.body)
	} else {
		c.ledger.Deliver(c.q, o, e.id, e.body, e.attempt)
	}
}

// settle decides how to settle a delivery.
func (c *consumer) settle(s *session, id string) {
	switch {
	case c.dead:
		c.ack(s, id)
	case c.rng.IntN(nackOne) == 0:
		line := "nack " + id
		if delay := c.rng.Int64N(int64(maxDelay)); delay&1 == 0 {
			line += " delay " + (time.Duration(delay).Round(time.Millisecond) + time.Millisecond).String()
		}
		c.send(s, line, settlement{id, "NACK_CONFIRMED", 0}, 0)
	case c.rng.IntN(rejectOne) == 0:
		c.send(s, "nack "+id+" dead", settlement{id, "NACK_CONFIRMED", rejected}, rejectSent)
	default:
		c.ack(s, id)
	}
}

func (c *consumer) ack(s *session, id string) {
	if c.dead {
		c.send(s, "ack "+id, settlement{id, "ACK_CONFIRMED", deadAcked}, deadAckSent)
	} else {
		c.send(s, "ack "+id, settlement{id, "ACK_CONFIRMED", acked}, ackSent)
	}
}

// send notes the settlement in the ledger before it writes the line.
func (c *consumer) send(s *session, line string, what settlement, state copyState) {
	c.ledger.note(c.q, what.id, state)
	c.sent = append(c.sent, what)
	fmt.Fprintf(s.w, "%s\n", line)
}

// settled notes a confirmation.
func (c *consumer) settled(e event) error {
	if len(c.sent) == 0 || c.sent[0].id != e.id || c.sent[0].reply != e.reply {
		return unexpected(fmt.Sprintf("%s %s, when %v waited for a reply", e.reply, e.id, c.sent))
	}
	c.ledger.note(c.q, e.id, c.sent[0].confirmed)
	c.sent = c.sent[1:]
	return nil
}

// drain consumes and acknowledges everything in a queue, and returns when the broker says
// that the queue is empty. Nobody else may use the queue.
func (c *consumer) drain(ctx context.Context) error {
	s, err := connect(ctx, c.host)
	if err != nil {
		return err
	}
	defer s.close()
	// The dead-letter queue may not exist yet.
	if err := s.expect("declare_queue "+c.name(), "Queue declared"); err != nil {
		return err
	}
	// To check the order, wait until deliveries of other connections are back at their place.
	for left := -1; left != 0; {
		if left > 0 && !pause(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
		if _, left, err = c.ask(s); err != nil {
			return err
		}
	}
	if err := s.subscribe(c.name(), 500); err != nil {
		return err
	}
	order := Order{All: true}
	fmt.Fprintf(s.w, "queue %s\n", c.name())
	for {
		e, err := s.next()
		switch {
		case err != nil:
			return err
		case e.reply != "":
			if err := c.settled(e); err != nil {
				return err
			}
		case e.queue != "":
			if ready, unacked, err := counts(e.queue); err != nil || ready+unacked == 0 {
				return err
			}
			if s.r.Buffered() == 0 && !pause(ctx, time.Millisecond) {
				return ctx.Err()
			}
			fmt.Fprintf(s.w, "queue %s\n", c.name())
		default:
			c.deliver(&order, e)
			c.ack(s, e.id)
		}
	}
}

// ask returns how many messages of the queue wait, and how many are unacknowledged.
func (c *consumer) ask(s *session) (ready, unacked int, err error) {
	fmt.Fprintf(s.w, "queue %s\n", c.name())
	e, err := s.next()
	if err != nil {
		return 0, 0, err
	}
	return counts(e.queue)
}

func counts(queue string) (ready, unacked int, err error) {
	var info struct{ Ready, Unacked int }
	if err := json.Unmarshal([]byte(queue), &info); err != nil {
		return 0, 0, fmt.Errorf("description of a queue %q: %w", queue, err)
	}
	return info.Ready, info.Unacked, nil
}
