package text

import (
	"strconv"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
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
	for _, gone := range s.delivery.takeFreed() {
		delete(s.subscriptions, gone)
	}
	_, again := s.subscriptions[queue]
	if !again && len(s.subscriptions) >= s.limits.Subscriptions {
		s.answerError(v, &sealmq.Error{Code: sealmq.LimitReached,
			Message: "one connection can consume " + strconv.Itoa(s.limits.Subscriptions) + " queues"})
		return
	}
	c := s.open()
	if c == nil {
		return // closed: nobody reads the reply
	}
	if s.subscriptions == nil {
		s.subscriptions = make(map[string]struct{})
	}
	s.subscriptions[queue] = struct{}{}
	s.delivery.closeGate()
	s.ask(v, func(g *group) {
		g.opensGate = true
		c.Consume(queue, s.prefetch, func(err error) {
			if err != nil && !again {
				s.delivery.free(queue)
			}
			g.finish(replySubscribed, err)
		})
	})
}

// fetch hands out one message, which stays outstanding until it is settled or the
// connection ends (specification R28).
func (s *Session) fetch(v Verb, args []byte) {
	c := s.open()
	if c == nil {
		return
	}
	d, ok, err := s.fetchOne(c, string(args))
	switch {
	case sealmq.CodeOf(err) == sealmq.NoQueue, err == nil && !ok:
		s.reply(v, replyNoMessages)
	case err != nil:
		s.answerError(v, err)
	default:
		s.delivery.remember([]sealmq.Delivery{d}, c, s.now)
		g := s.collect(ready, v)
		g.text = appendMessage(g.text, &d)
		s.answerNow(v)
	}
}

func (s *Session) fetchOne(c *broker.Consumer, queue string) (d sealmq.Delivery, ok bool, err error) {
	for {
		if s.short() {
			return d, false, errNoMemory
		}
		if c.Unacked() >= s.limits.Unacked {
			return d, false, &sealmq.Error{Code: sealmq.LimitReached,
				Message: "this connection holds " + strconv.Itoa(s.limits.Unacked) + " unacknowledged messages"}
		}
		d, ok, err = c.Fetch(queue)
		if err != nil || !ok || canPrint(&d) {
			return d, ok, err
		}
		s.bury(c, &d)
	}
}

// setPrefetch is `prefetch <n>`: the credit of this connection's subscriptions, those
// to come included; 0 gives those that there are nothing more.
func (s *Session) setPrefetch(v Verb, args []byte) {
	n, err := strconv.Atoi(string(args))
	if err != nil || n < 0 || n > sealmq.MaxPrefetch {
		s.badArgument(v, "prefetch is not between 0 and "+strconv.Itoa(sealmq.MaxPrefetch))
		return
	}
	if n > 0 {
		s.prefetch = n
	}
	if c := s.delivery.consumer.Load(); c != nil {
		s.flush()
		if err := c.SetPrefetch(n); err != nil {
			s.answerError(v, err)
			return
		}
	}
	s.reply(v, prefixPrefetch+strconv.Itoa(n)+"\n")
}

// setMeta is `meta on|ends|off`.
func (s *Session) setMeta(v Verb, args []byte) {
	switch string(args) {
	case "on":
		s.meta.Store(metaOn)
		s.reply(v, replyMetaOn)
	case "ends":
		s.meta.Store(metaEnds)
		s.reply(v, replyMetaEnds)
	case "off":
		s.meta.Store(metaOff)
		s.reply(v, replyMetaOff)
	default:
		s.badArgument(v, "meta is on, ends or off")
	}
}
