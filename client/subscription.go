package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/changes"
)

// subscription is the sealmq.Subscription of a client. It goes on over a lost connection. It
// ends with the client, with Close, or when its queue is deleted, if the broker is one that
// says so; of what was in hand then, nothing comes again.
type subscription struct {
	c     *Client
	queue string         // "" if it watches
	watch []WatchBinding // what it watches instead

	// Under Client.mu.
	prefetch int
	closing  bool
	waiter   *call // of the Consume that is not answered yet

	mu      sync.Mutex
	limit   int // the largest prefetch there was
	buf     []sealmq.Delivery
	head    int
	err     error
	changed changes.Signal // buf or err has something
}

// Consume subscribes to a queue; see sealmq.Source. A client consumes one queue because
// acknowledgements name message ids, and one id can be in several queues.
func (c *Client) Consume(ctx context.Context, queue string, prefetch int) (sealmq.Subscription, error) {
	if err := sealmq.CheckName("queue", queue); err != nil {
		return nil, err
	}
	if prefetch != 0 {
		if err := sealmq.CheckPrefetch(prefetch); err != nil {
			return nil, err
		}
	}
	s, err := c.open(ctx, &subscription{queue: queue, prefetch: prefetch})
	if err != nil {
		return nil, fmt.Errorf("consume %s: %w", queue, err)
	}
	return s, nil
}

// WatchBinding is an exchange with a key, or a pattern if it is a topic exchange.
type WatchBinding struct{ Exchange, Key string }

// Watch subscribes to copies of what exchanges get, without taking it from anybody. The broker
// keeps the copies in a temporary queue, of which the oldest go if they are not taken in time.
// The queue ends with the connection, so what comes while a lost connection is made again is
// missed. Deliveries must be acknowledged.
func (c *Client) Watch(ctx context.Context, list ...WatchBinding) (sealmq.Subscription, error) {
	for _, w := range list {
		if _, err := commandLine("watch", w.Exchange, w.Key); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, &sealmq.Error{Code: sealmq.BadArgument, Message: "nothing to watch is named"}
	}
	s, err := c.open(ctx, &subscription{watch: list})
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return s, nil
}

// open makes a subscription of what the caller has filled in.
func (c *Client) open(ctx context.Context, s *subscription) (sealmq.Subscription, error) {
	waiter := newCall()
	s.c, s.waiter, s.limit = c, waiter, cmp.Or(s.prefetch, sealmq.MaxPrefetch)
	if err := c.subscribe(s); err != nil {
		return nil, err
	}
	answered := false
	select {
	case <-waiter.ready:
		answered = true
	case <-ctx.Done():
		answered = waiter.arrived()
	case <-c.done:
		return nil, c.Err()
	}
	err := ctx.Err()
	if answered {
		err = waiter.err
	}
	if err == nil {
		return s, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sub = nil
	if !answered && c.conn != nil {
		// The broker may subscribe us yet; only a new connection is surely without it.
		c.conn.fail(ctx.Err())
	}
	return nil, err
}

func (c *Client) subscribe(s *subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case c.sub != nil:
		return &sealmq.Error{Code: sealmq.InUse, Message: "this client already consumes " + c.sub.queue}
	}
	c.sub = s
	if c.conn != nil { // else the next connection does it
		s.setup(&c.out)
		c.kick()
	}
	return nil
}

// setup adds the commands that make the subscription, if there is one, on a connection. The
// caller holds Client.mu.
func (s *subscription) setup(o *outbox) {
	if s == nil || s.closing || s.ended() != nil {
		return
	}
	meta := "meta ends\n"
	if s.c.cfg.Meta {
		meta = "meta on\n"
	}
	o.addLine(meta, entry{kind: kindSetup})
	if s.prefetch > 0 {
		o.addLine(prefetchLine(s.prefetch), entry{kind: kindSetup})
	}
	for i, w := range s.watch {
		e := entry{kind: kindSetup}
		if i == 0 {
			e.call = s.waiter
		}
		o.addLine("watch "+w.Exchange+" "+w.Key+"\n", e)
	}
	if s.queue != "" {
		o.addLine("consume "+s.queue+"\n", entry{kind: kindSetup, call: s.waiter})
	}
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
	c.deliver()
	c.sub.end(&sealmq.Error{Code: sealmq.NoQueue, Message: "Queue '" + gone.Queue + "' was deleted"})
}

func prefetchLine(n int) string { return "prefetch " + strconv.Itoa(n) + "\n" }

func (s *subscription) SetPrefetch(n int) error {
	if err := sealmq.CheckPrefetch(n); err != nil {
		return err
	}
	s.mu.Lock()
	s.limit = max(s.limit, n)
	s.mu.Unlock()
	return s.tellPrefetch(n)
}

// tellPrefetch tells the broker now, and on each new connection. 0 has it send nothing more,
// and ends the subscription with the connection.
func (s *subscription) tellPrefetch(n int) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case n > 0 && s.closing:
		return ErrClosed
	}
	s.prefetch, s.closing = n, s.closing || n == 0
	if c.conn != nil {
		c.out.addLine(prefetchLine(n), entry{kind: kindSetup})
		c.kick()
	}
	return nil
}

// waiting lists the deliveries that Next has not returned yet.
func (s *subscription) waiting() []sealmq.Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.buf[s.head:])
}

func (s *subscription) Close(ctx context.Context, unsettled ...sealmq.Delivery) error {
	if err := s.tellPrefetch(0); err != nil {
		return err
	}
	// What was on its way when the broker was told to stop is here once it has answered.
	if err := s.c.Ping(ctx); err != nil {
		return err
	}
	waiting := s.waiting()
	s.interrupt()
	s.end(ErrClosed)
	if err := errors.Join(s.Release(0, waiting...), s.Release(0, unsettled...)); err != nil {
		return err
	}
	return s.c.Flush(ctx)
}

// setupReply takes the answer to what the client sent by itself. The caller holds mu.
func (c *Client) setupReply(e *entry, line []byte) error {
	if e.id == verbWhoami {
		c.remember(cmp.Or(horizonOf(readWho(line)), c.dedup.horizon)) // an error tells nothing new
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
		if c.sub != nil && c.sub.waiter == e.call {
			c.sub.waiter = nil
		}
		e.call.finish(err)
	}
	return nil
}

func (s *subscription) Next(ctx context.Context, dst []sealmq.Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, errors.New("client: Next has no room")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.head == len(s.buf) {
		if s.err != nil {
			return 0, s.err
		}
		if err := s.changed.Wait(ctx, &s.mu); err != nil {
			return 0, err
		}
	}
	n := copy(dst, s.buf[s.head:])
	clear(s.buf[s.head : s.head+n])
	s.head += n
	if s.head == len(s.buf) {
		s.buf, s.head = s.buf[:0], 0
	}
	return n, nil
}

// add takes new deliveries over. What is over the prefetch was taken back by the broker
// (the oldest first, since all of a queue have the same ack timeout) and comes again, so the oldest go.
func (s *subscription) add(list []sealmq.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.changed.Notify()
}

// interrupt forgets what was not handed out: the broker delivers it again.
func (s *subscription) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buf)
	s.buf, s.head = s.buf[:0], 0
}

func (s *subscription) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = cmp.Or(s.err, err)
	s.changed.Notify()
}

func (s *subscription) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
