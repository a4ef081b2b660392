package redisqueue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// Times of consumers. What a dead one holds is taken by others after beatLife and beatEvery.
const (
	beatEvery   = 5 * time.Second
	beatLife    = 30 * time.Second
	forgetAfter = 10 * time.Minute // longer than any command of a consumer can be under way
	waitTime    = time.Second      // for something in an empty queue; Redis 5 knows whole seconds only
	closeTime   = 5 * time.Second
	runBytes    = 12
)

// consumer has a list of its own, also if a worker has several: a command of one that is lost, and
// executed late, puts its item where nobody lives, and not among what another one holds.
type consumer struct {
	q       *Queue
	name    string // the worker's, a colon, and the run
	worker  string
	run     string
	list    string
	turn    chan struct{} // whose turn it is to ask Redis for items; it has one place
	life    context.Context
	end     context.CancelFunc
	beating sync.WaitGroup

	mu     sync.Mutex
	spare  []string // was taken for a Take that had ended
	broken error    // an answer was lost, so nobody knows what is in the list
	closed bool
}

// ticket is an item's bytes. Two items may have the same.
type ticket struct{ body string }

// Consumer implements pipeline.Queue. What earlier consumers of the worker held, also in a
// process that was killed, is put back: so each process needs a name of its own.
func (q *Queue) Consumer(worker string) (pipeline.Consumer, error) {
	if worker == "" || len(worker) > 255 || strings.ContainsAny(worker, "\r\n") {
		return nil, &sealmq.Error{Code: sealmq.BadName, Message: "a worker needs a name of 1 to 255 bytes on one line"}
	}
	c := &consumer{q: q, worker: worker, run: rand.Text()[:runBytes], turn: make(chan struct{}, 1)}
	c.name = worker + ":" + c.run
	c.list = q.key("processing:" + c.name)
	c.life, c.end = context.WithCancel(context.Background())
	if err := q.beat(q.life, worker, c.run, "first"); err != nil {
		c.end()
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		c.end()
		return nil, coded(sealmq.ErrClosed)
	}
	q.consumers[c] = struct{}{}
	c.beating.Go(c.keepBeating)
	return c, nil
}

func (c *consumer) keepBeating() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = c.q.beat(c.life, c.worker, c.run, "") // the next one may succeed
		case <-c.life.Done():
			return
		}
	}
}

// Take implements pipeline.Consumer.
func (c *consumer) Take(ctx context.Context, max int) ([]pipeline.Taken, error) {
	for {
		select {
		case c.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.life.Done():
			return nil, sealmq.ErrClosed
		}
		bodies, err := c.takeNow(max)
		if err != nil || len(bodies) > 0 {
			<-c.turn
			return taken(bodies), err
		}
		waited := make(chan error, 1)
		go func() { // it outlives a ctx that ends, because what it takes must not be lost
			err := c.wait()
			<-c.turn
			waited <- err
		}()
		select {
		case err := <-waited:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.life.Done():
			return nil, sealmq.ErrClosed
		}
	}
}

// takeNow takes what is there. It does not end with the caller's context: the answer would be
// lost, and the items with it until the consumer is closed.
func (c *consumer) takeNow(most int) ([]string, error) {
	c.mu.Lock()
	bodies, err := c.spare, c.broken
	if c.closed {
		err = sealmq.ErrClosed
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	c.spare = nil
	c.mu.Unlock()
	if len(bodies) >= most {
		return bodies, nil
	}
	v, err := c.q.run(context.Background(), takeScript, []string{c.q.name, c.list, c.q.key("retry")}, most-len(bodies), maxCallBytes)
	if err != nil {
		return nil, c.lost(err)
	}
	list, _ := v.([]any)
	for _, b := range list {
		body, _ := b.(string)
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// wait waits for one item in an empty queue, for a second.
func (c *consumer) wait() error {
	var cmd *redis.StringCmd
	if s := c.q.server.Load(); s != nil && s.atLeast(6, 2) {
		cmd = c.q.rdb.BLMove(context.Background(), c.q.name, c.list, "RIGHT", "LEFT", waitTime)
	} else {
		cmd = c.q.rdb.BRPopLPush(context.Background(), c.q.name, c.list, waitTime)
	}
	body, err := cmd.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case redis.HasErrorPrefix(err, "OOM"):
		// Its memory is used up. The script can take items then; this command cannot.
		select {
		case <-time.After(waitTime):
		case <-c.life.Done():
		}
		return nil
	case err != nil:
		return c.lost(c.q.note(err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = append(c.spare, body)
	return nil
}

// lost ends the consumer's taking: its list may have items of which it has not heard.
func (c *consumer) lost(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = fmt.Errorf("take from the queue: %w", err)
	return c.broken
}

func taken(bodies []string) []pipeline.Taken {
	list := make([]pipeline.Taken, len(bodies))
	for i, body := range bodies {
		it, err := parse(body)
		list[i] = pipeline.Taken{Item: it, Err: err, Ticket: &ticket{body}}
	}
	return list
}

// errLarge is for what a foreign producer put in.
var errLarge = fmt.Errorf("%w: it is larger than %d bytes", pipeline.ErrMalformed, maxItem)

func parse(body string) (pipeline.Item, error) {
	if len(body) > maxItem {
		return pipeline.Item{}, errLarge
	}
	it, err := pipeline.ParseItem([]byte(body))
	if err != nil {
		return pipeline.Item{}, err
	}
	return it, nil
}

// Finish implements pipeline.Consumer.
func (c *consumer) Finish(ctx context.Context, finished []pipeline.Finished) error {
	if len(finished) == 0 {
		return nil
	}
	now := time.Now()
	var args, back []any
	for i := range finished {
		f := &finished[i]
		body := f.Ticket.(*ticket).body
		switch f.Verdict {
		case pipeline.Retry:
			args = append(args, body, "retry", tried(body, f.Reason, now.Add(f.After)), f.After.Milliseconds())
		case pipeline.Release: // the first one is put back last, and so comes first
			back = append([]any{body, "release", body, 0}, back...)
		case pipeline.Dead:
			args = append(args, body, "dead", deadEntry(body, f.Reason, c.worker, now), 0)
		default:
			args = append(args, body, "done", "", 0)
		}
	}
	args = append(args, back...)
	_, err := c.q.run(ctx, finishScript, []string{c.list, c.q.name, c.q.key("retry"), c.q.key("dead")}, args...)
	return err
}

// Close implements pipeline.Consumer. What it cannot give back because the server is away, others
// take when its heartbeat has ended; that is no error.
func (c *consumer) Close() error {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	if was {
		return nil
	}
	c.q.mu.Lock()
	delete(c.q.consumers, c)
	c.q.mu.Unlock()
	c.end()
	c.beating.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	forget := ""
	select {
	case c.turn <- struct{}{}: // nothing is under way, and nothing begins
		c.mu.Lock()
		if c.broken == nil {
			forget = "forget"
		}
		c.mu.Unlock()
	case <-ctx.Done():
		ctx, cancel = context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
	}
	_, err := c.q.run(ctx, leaveScript, []string{c.q.name, c.q.key("workers"), c.list, c.q.key("heartbeat:" + c.name)}, c.name, forget)
	if sealmq.CodeOf(err) == sealmq.Unavailable {
		return nil
	}
	return err
}
