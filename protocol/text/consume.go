package text

import (
	"slices"
	"strconv"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// consume subscribes the connection. Pushes wait until its reply is printed.
func (s *Session) consume(v Verb, args []byte) {
	queue := string(args)
	// What is remembered of a name that the broker will refuse must be bounded as well.
	if len(queue) > sealmq.MaxNameBytes+len(sealmq.DeadSuffix) {
		s.answerError(v, &sealmq.Error{Code: sealmq.BadName,
			Message: "queue is longer than " + strconv.Itoa(sealmq.MaxNameBytes) + " bytes"})
		return
	}
	c := s.openConsumer()
	if c == nil {
		return // closed: nobody reads the reply
	}
	d := &s.delivery
	sub, listed, ok := d.reserve(queue, s.cfg.Limits.Subscriptions)
	if !ok {
		s.answerError(v, &sealmq.Error{Code: sealmq.LimitReached,
			Message: "one connection can consume " + strconv.Itoa(s.cfg.Limits.Subscriptions) + " queues"})
		return
	}
	d.holdPushes()
	s.ask(v, func(g *group) {
		g.resumesPushes = true
		if sub != 0 {
			g.finish(c.SetPrefetch(sub, s.prefetch))
			return
		}
		sub = c.Consume(queue, engine.ConsumeOptions{Prefetch: s.prefetch}, func(err error) {
			if err != nil && !listed {
				d.unreserve(queue)
			}
			g.finish(err)
		})
		d.subscribed(queue, sub)
	})
}

// watch subscribes the connection to copies of what an exchange gets.
func (s *Session) watch(v Verb, args []byte) {
	exchange, key := cut(args)
	c := s.openConsumer()
	if c == nil {
		return // closed: nobody reads the reply
	}
	s.delivery.holdPushes()
	s.ask(v, func(g *group) {
		g.resumesPushes = true
		c.Watch(string(exchange), string(key), g.finish)
	})
}

// fetch delivers one message, which stays outstanding until it is settled or the
// connection ends (specification R28).
func (s *Session) fetch(v Verb, args []byte) {
	c := s.openConsumer()
	if c == nil {
		return
	}
	f, err := s.fetchOne(c, string(args))
	switch {
	case sealmq.CodeOf(err) == sealmq.NoQueue, err == nil && !f.Found:
		s.reply(v, "No messages")
	case err != nil:
		s.answerError(v, err)
	default:
		s.delivery.remember([]sealmq.Delivery{f.Delivery}, c, s.now)
		g := s.collect(ready, v)
		g.text = appendMessage(g.text, &f.Delivery)
		s.answerNow(v)
	}
}

func (s *Session) fetchOne(c *broker.Consumer, queue string) (f engine.Fetched, err error) {
	for {
		if s.memoryUsedUp() {
			return f, errNoMemory
		}
		if c.Unacked() >= s.cfg.Limits.Unacked {
			return f, &sealmq.Error{Code: sealmq.LimitReached,
				Message: "this connection holds " + strconv.Itoa(s.cfg.Limits.Unacked) + " unacknowledged messages"}
		}
		f, err = s.fetchAny(c, queue)
		if err != nil || !f.Found || canPrint(&f.Delivery) {
			return f, err
		}
		s.moveDead(c, &f.Delivery)
	}
}

// fetchAny waits for the broker's answer, but not longer than the session is open.
func (s *Session) fetchAny(c *broker.Consumer, queue string) (engine.Fetched, error) {
	var (
		answered bool
		fetched  engine.Fetched
		failed   error
	)
	p := &s.pipeline
	c.Fetch(queue, false, func(f engine.Fetched, err error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		answered, fetched, failed = true, f, err
		p.changed.Broadcast()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	for !answered && !p.closed {
		p.changed.Wait()
	}
	if !answered {
		return engine.Fetched{}, sealmq.ErrUnavailable // nobody reads the reply
	}
	return fetched, failed
}

// setPrefetch sets the credit of this connection's subscriptions, present and future; 0
// pauses the present ones.
func (s *Session) setPrefetch(v Verb, args []byte) {
	n, err := strconv.Atoi(string(args))
	if err != nil || n < 0 || n > sealmq.MaxPrefetch {
		s.badArgument(v, "prefetch is not between 0 and "+strconv.Itoa(sealmq.MaxPrefetch))
		return
	}
	if n > 0 {
		s.prefetch = n
		s.asked.Store(int32(n))
	}
	if n == 1 {
		s.delivery.several.Store(false)
	}
	if c := s.delivery.consumer.Load(); c != nil {
		s.flush()
		credit := n
		if n == 0 {
			credit = engine.Paused
		}
		if err := c.SetPrefetch(0, credit); err != nil {
			s.answerError(v, err)
			return
		}
	}
	s.succeed(v, strconv.Itoa(n))
}

func (s *Session) setMeta(v Verb, args []byte) {
	which := slices.Index([]string{metaOff: "off", metaEnds: "ends", metaOn: "on"}, string(args))
	if which < 0 {
		s.badArgument(v, "meta is on, ends or off")
		return
	}
	s.meta.Store(int32(which))
	s.succeed(v, string(args))
}

// setCodes holds for the commands after it.
func (s *Session) setCodes(v Verb, args []byte) {
	on := string(args) == "on"
	if !on && string(args) != "off" {
		s.badArgument(v, "codes is on or off")
		return
	}
	s.succeed(v, string(args))
	s.flush() // so that no group has both forms
	s.coded = on
}
