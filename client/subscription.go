package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/sealmq/sealmq"
)

// Subscription is the consuming side of a client: one queue. It goes on over a lost
// connection. It ends with the client, or with an error of code NoQueue when its queue is
// deleted, if the broker is one that says so; of what was in hand then, nothing comes again.
type Subscription struct {
	c     *Client
	queue string

	// Under Client.mu.
	prefetch int
	waiting  *call // of the Consume that is not answered yet

	mu    sync.Mutex
	limit int // the largest prefetch there was
	buf   []Delivery
	head  int
	err   error
	// ready has room for one signal that buf or err may have something.
	ready chan struct{}
}

// Consume subscribes to a queue; a missing one is created. prefetch is how many
// messages may be in this consumer's hands at a time; 0 leaves that to the queue. A client
// consumes one queue: acknowledgements name message ids, and one id can be in several queues.
func (c *Client) Consume(ctx context.Context, queue string, prefetch int) (*Subscription, error) {
	if err := sealmq.CheckName("queue", queue); err != nil {
		return nil, err
	}
	if prefetch != 0 {
		if err := checkPrefetch(prefetch); err != nil {
			return nil, err
		}
	}
	s := &Subscription{c: c, queue: queue, prefetch: prefetch, limit: prefetch, waiting: newCall(), ready: make(chan struct{}, 1)}
	if prefetch == 0 {
		s.limit = sealmq.MaxPrefetch
	}
	waiting := s.waiting
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return nil, c.err
	}
	if c.sub != nil {
		defer c.mu.Unlock()
		return nil, &sealmq.Error{Code: sealmq.InUse, Message: "this client already consumes " + c.sub.queue}
	}
	c.sub = s
	if c.conn != nil { // else the next connection does it
		s.setup(&c.out)
		c.kick()
	}
	c.mu.Unlock()

	var err error
	select {
	case <-waiting.ready:
		if err = waiting.err; err == nil {
			return s, nil
		}
	case <-ctx.Done():
		err = ctx.Err()
	case <-c.done:
		return nil, c.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sub = nil
	if ctx.Err() != nil && c.conn != nil {
		// The broker may subscribe us yet; only a new connection is surely without it.
		c.conn.fail(ctx.Err())
	}
	return nil, fmt.Errorf("consume %s: %w", queue, err)
}

// setup adds the commands that make the subscription on a connection. The caller holds
// Client.mu.
func (s *Subscription) setup(o *outbox) {
	if s.ended() != nil {
		return
	}
	add := func(line string, wait *call) {
		o.push(append(o.reserve(len(line)), line...), entry{kind: kindSetup, call: wait})
	}
	if s.c.cfg.Meta {
		add("meta on\n", nil)
	} else {
		add("meta ends\n", nil)
	}
	if s.prefetch > 0 {
		add(prefetchLine(s.prefetch), nil)
	}
	add("consume "+s.queue+"\n", s.waiting)
}

// queueEnded ends the subscription if it is the one whose queue was deleted. The caller
// holds mu.
func (c *Client) queueEnded(text []byte) {
	var gone struct {
		Queue string `json:"queue"`
	}
	if c.sub == nil || json.Unmarshal(text, &gone) != nil || gone.Queue != c.sub.queue {
		return
	}
	c.stats.Delivered += uint64(len(c.rd.pushes.list))
	c.rd.pushes.deliver() // what came before it in this read
	c.sub.end(&sealmq.Error{Code: sealmq.NoQueue, Message: "Queue '" + gone.Queue + "' was deleted"})
}

func checkPrefetch(n int) error {
	if n < 1 || n > sealmq.MaxPrefetch {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("prefetch is not between 1 and %d", sealmq.MaxPrefetch)}
	}
	return nil
}

func prefetchLine(n int) string { return "prefetch " + strconv.Itoa(n) + "\n" }

// SetPrefetch changes how many messages may be in this consumer's hands. It takes effect
// for what the broker hands out after the acknowledgements that follow it; what was
// handed out before stays.
func (s *Subscription) SetPrefetch(n int) error {
	if err := checkPrefetch(n); err != nil {
		return err
	}
	s.mu.Lock()
	s.limit = max(s.limit, n)
	s.mu.Unlock()
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	s.prefetch = n
	if c.conn != nil {
		line := prefetchLine(n)
		c.out.push(append(c.out.reserve(len(line)), line...), entry{kind: kindSetup})
		c.kick()
	}
	return nil
}

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

// Waiting lists the ids of the deliveries that Next has not returned yet.
func (s *Subscription) Waiting() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.buf[s.head:] {
		ids = append(ids, s.buf[s.head+i].ID)
	}
	return ids
}

// GiveBack has the broker send nothing more and releases what Next has not returned, and the
// messages with these ids. It is for the end of a consumer: what was only looked at comes no
// nearer to the queue's delivery limit. It returns when the broker has everything back,
// or with ctx's error.
func (s *Subscription) GiveBack(ctx context.Context, ids ...string) error {
	if err := s.pause(); err != nil {
		return err
	}
	// What was on its way when the broker was told to stop is here once it has answered.
	if err := s.c.Ping(ctx); err != nil {
		return err
	}
	waiting := s.Waiting()
	s.interrupt()
	for _, id := range append(waiting, ids...) {
		if err := s.Release(id, 0); err != nil {
			return err
		}
	}
	return s.c.Flush(ctx)
}

// setupReply takes the answer to what the client sent by itself. The caller holds mu.
func (c *Client) setupReply(e *entry, line []byte) error {
	if e.id == verbWhoami {
		c.remember(cmp.Or(readHorizon(line), c.dedup.horizon)) // an error tells nothing new
		return nil
	}
	err := replyError(line)
	switch {
	case err == nil:
	case e.call == nil && c.sub != nil && permanent(err):
		c.sub.end(err)
		return nil
	case e.call == nil:
		return err
	}
	if e.call != nil {
		if c.sub != nil && c.sub.waiting == e.call {
			c.sub.waiting = nil
		}
		e.call.finish(err)
	}
	return nil
}

// Queue is the name of the queue.
func (s *Subscription) Queue() string { return s.queue }

// Next waits for one delivery. After Close it returns an error that wraps ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Delivery, error) {
	var one [1]Delivery
	if _, err := s.NextBatch(ctx, one[:]); err != nil {
		return Delivery{}, err
	}
	return one[0], nil
}

// NextBatch waits until there is a delivery and fills dst with as many as there are.
// It returns their number, which is not 0 unless there is an error.
func (s *Subscription) NextBatch(ctx context.Context, dst []Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, errors.New("client: NextBatch has no room")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for {
		s.mu.Lock()
		n := copy(dst, s.buf[s.head:])
		clear(s.buf[s.head : s.head+n])
		s.head += n
		more := s.head < len(s.buf) || s.err != nil
		if s.head == len(s.buf) {
			s.buf, s.head = s.buf[:0], 0
		}
		err := s.err
		s.mu.Unlock()
		if more {
			s.signal() // for other callers
		}
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *Subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// add takes new deliveries over. What is over the prefetch was taken back by the broker
// (the oldest first, since all of a queue have the same ack timeout) and comes again, so the oldest go.
func (s *Subscription) add(list []Delivery) {
	s.mu.Lock()
	if s.err == nil {
		if s.head > 0 && len(s.buf)+len(list) > cap(s.buf) {
			n := copy(s.buf, s.buf[s.head:])
			clear(s.buf[n:])
			s.buf, s.head = s.buf[:n], 0
		}
		s.buf = append(s.buf, list...)
		if over := len(s.buf) - s.head - s.limit; over > 0 {
			clear(s.buf[s.head : s.head+over])
			s.head += over
		}
	}
	s.mu.Unlock()
	s.signal()
}

// interrupt forgets what was not handed out: the broker delivers it again.
func (s *Subscription) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buf)
	s.buf, s.head = s.buf[:0], 0
}

func (s *Subscription) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.signal()
}

func (s *Subscription) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
