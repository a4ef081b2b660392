package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// The load. The last publisher uses package client.
const (
	publishers        = 4
	consumersPerQueue = 2
	deliveryLimit     = 10_000           // so that only consumers dead-letter messages
	ackTimeout        = 10 * time.Minute // so that only consumers return messages
)

// load is a set of clients that work until they are told to finish.
type load struct {
	host   *Host
	ledger *Ledger

	finish    chan struct{} // closed: publish nothing new
	consumers context.CancelFunc
	publish   sync.WaitGroup
	consume   sync.WaitGroup

	mu       sync.Mutex
	problems []string
}

// declare makes the queues and exchanges.
func (l *load) declare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := l.client(ctx)
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	defer c.Close()
	t := client.Topology{Exchanges: []client.Exchange{{Name: directExchange, Kind: "direct"}, {Name: fanoutExchange, Kind: "fanout"}}}
	for q, name := range queueNames {
		exchange := fanoutExchange
		if q == direct {
			exchange = directExchange
		}
		t.Queues = append(t.Queues, client.Queue{Name: name, Options: &sealmq.QueueOptions{DeliveryLimit: deliveryLimit, AckTimeout: ackTimeout}})
		t.Bindings = append(t.Bindings, client.Binding{Queue: name, Exchange: exchange, Key: routingKey})
	}
	if err := c.Declare(ctx, t); err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	return nil
}

func (l *load) client(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, client.Config{
		Addr: "127.0.0.1:1", Dial: l.host.Dial, TLS: l.host.tls, Window: window,
		BackoffMin: 5 * time.Millisecond, BackoffMax: 50 * time.Millisecond, DialTimeout: patience,
	})
}

// start starts the clients.
func (l *load) start(ctx context.Context, rng *rand.Rand) {
	l.finish = make(chan struct{})
	next := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())) }
	for pub := range publishers {
		p := &publisher{load: l, pub: pub, rng: next()}
		if pub == publishers-1 {
			l.publish.Go(func() { p.runClient(ctx) })
		} else {
			l.publish.Go(func() { p.run(ctx) })
		}
	}
	consuming, stop := context.WithCancel(ctx)
	l.consumers = stop
	for q := range queues {
		for range consumersPerQueue {
			c := &consumer{load: l, q: q, rng: next()}
			l.consume.Go(func() { c.run(consuming) })
		}
		c := &consumer{load: l, q: q, dead: true, rng: next()}
		l.consume.Go(func() { c.run(consuming) })
	}
}

func (l *load) finishing() bool {
	select {
	case <-l.finish:
		return true
	default:
		return false
	}
}

// complete lets the publishers finish, ends the consumers, drains the queues and the
// dead-letter queues, and checks the ledger.
func (l *load) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	close(l.finish)
	done := make(chan struct{})
	go func() { l.publish.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return errors.New("publishers did not get their confirms")
	}
	l.consumers()
	l.consume.Wait()
	pause(ctx, 2*maxDelay) // so that messages that were returned with a delay are due
	if err := l.drain(ctx); err != nil {
		return err
	}
	l.ledger.Check()
	return nil
}

// drain empties all queues.
func (l *load) drain(ctx context.Context) error {
	for _, isDead := range []bool{false, true} {
		for q := range queues {
			c := &consumer{load: l, q: q, dead: isDead}
			if err := c.drain(ctx); err != nil {
				return fmt.Errorf("drain %s: %w", c.name(), err)
			}
		}
	}
	return nil
}

// complain notes a wrong answer: an error that the death of a broker does not explain.
func (l *load) complain(ctx context.Context, who string, err error) {
	var u unexpected
	var refused *sealmq.Error
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &u), errors.As(err, &refused), isTimeout(err):
		l.mu.Lock()
		defer l.mu.Unlock()
		l.problems = append(l.problems, fmt.Sprintf("%s: %v", who, err))
	}
}

// isTimeout reports whether a running broker did not answer.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
