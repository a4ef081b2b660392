package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// How consumers behave.
const (
	prefetch  = 50
	keep      = 20   // deliveries that may stay unacknowledged while others go on
	nackOne   = 100  // one of so many deliveries goes back to its queue
	rejectOne = 400  // one of so many deliveries goes to the dead-letter queue
	dropOne   = 4000 // one of so many deliveries ends the connection
	restOne   = 2000 // one of so many deliveries is followed by a pause
	maxDelay  = 100 * time.Millisecond
)

// consumer takes messages from a queue, or from its dead-letter queue, and does all that
// consumers do with them, in any order.
type consumer struct {
	*load
	q    int
	dead bool
	rng  *rand.Rand
	// condemned are the deliveries that this connection sent to the dead-letter queue and
	// that were not confirmed yet.
	condemned map[string]bool
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
	c.condemned = make(map[string]bool)
	for {
		e, err := s.next()
		if err != nil {
			return err
		}
		if e.reply != "" {
			c.settled(e)
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

// settle decides what becomes of a delivery. The ledger is told before the line leaves.
func (c *consumer) settle(s *session, id string) {
	switch {
	case c.dead:
		c.ledger.note(c.q, id, deadAckSent)
		fmt.Fprintf(s.w, "ack %s\n", id)
	case c.rng.IntN(nackOne) == 0:
		if delay := c.rng.Int64N(int64(maxDelay)); delay&1 == 0 {
			fmt.Fprintf(s.w, "nack %s delay %s\n", id, time.Duration(delay).Round(time.Millisecond)+time.Millisecond)
		} else {
			fmt.Fprintf(s.w, "nack %s\n", id)
		}
	case c.rng.IntN(rejectOne) == 0:
		c.ledger.note(c.q, id, rejectSent)
		c.condemned[id] = true
		fmt.Fprintf(s.w, "nack %s dead\n", id)
	default:
		c.ledger.note(c.q, id, ackSent)
		fmt.Fprintf(s.w, "ack %s\n", id)
	}
}

// settled notes a confirmation.
func (c *consumer) settled(e event) {
	switch {
	case e.reply == "NACK_CONFIRMED":
		if c.condemned[e.id] {
			delete(c.condemned, e.id)
			c.ledger.note(c.q, e.id, rejected)
		}
	case c.dead:
		c.ledger.note(c.q, e.id, deadAcked)
	default:
		c.ledger.note(c.q, e.id, acked)
	}
}

// drain takes everything that is left in a queue, acknowledges it, and returns when the
// broker says that nothing is there. Nobody else may use the queue.
func (c *consumer) drain(ctx context.Context) error {
	s, err := connect(ctx, c.host)
	if err != nil {
		return err
	}
	defer s.close()
	// A dead-letter queue may not have been needed yet.
	if err := s.expect("declare_queue "+c.name(), "Queue declared"); err != nil {
		return err
	}
	// A delivery that another connection held must be back at its place, for the order.
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
			c.settled(e)
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
			state := ackSent
			if c.dead {
				state = deadAckSent
			}
			c.ledger.note(c.q, e.id, state)
			fmt.Fprintf(s.w, "ack %s\n", e.id)
		}
	}
}

// ask returns how many messages wait in the queue, and how many are in consumers' hands.
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
