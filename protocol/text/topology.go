package text

import (
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
)

// declareQueue without options matches whatever exists.
func (s *Session) declareQueue(v Verb, args []byte) {
	name, rest := cut(args)
	var options *sealmq.QueueOptions
	switch {
	case len(rest) == 0:
	case rest[0] == '{':
		o, err := sealmq.ParseQueueOptions(rest)
		if err != nil {
			s.answerError(v, err)
			return
		}
		options = &o
	default:
		name = args // a name with a space in it, which the broker refuses
	}
	s.ask(v, func(g *group) {
		s.broker.DeclareQueue(s.caller, string(name), options, func(err error) { g.finish(replyQueueDeclared, err) })
	})
}

func (s *Session) declareExchange(v Verb, args []byte) {
	name, kind := cut(args)
	s.ask(v, func(g *group) {
		s.broker.DeclareExchange(s.caller, string(name), broker.ExchangeKind(kind), func(err error) { g.finish(replyExchangeDeclared, err) })
	})
}

func (s *Session) deleteExchange(v Verb, args []byte) {
	s.ask(v, func(g *group) {
		s.broker.DeleteExchange(s.caller, string(args), func(err error) { g.finish(replyExchangeDeleted, err) })
	})
}

// bind serves unbind too.
func (s *Session) bind(v Verb, args []byte) {
	q, x, k, _ := cut3(args)
	queue, exchange, key := string(q), string(x), string(k)
	s.ask(v, func(g *group) {
		if v == Bind {
			s.broker.Bind(s.caller, queue, exchange, key, func(err error) { g.finish(replyQueueBound, err) })
			return
		}
		s.broker.Unbind(s.caller, queue, exchange, key, func(err error) { g.finish(replyQueueUnbound, err) })
	})
}

// removeMessages serves delete_queue and purge.
func (s *Session) removeMessages(v Verb, args []byte) {
	queue := string(args)
	s.ask(v, func(g *group) {
		if v == Purge {
			s.broker.PurgeQueue(s.caller, queue, g.finishCount(prefixQueuePurged))
			return
		}
		s.broker.DeleteQueue(s.caller, queue, 0, g.finishCount(prefixQueueDeleted))
	})
}

// move moves all messages if there is no number.
func (s *Session) move(v Verb, args []byte) {
	from, rest := cut(args)
	to, count := cut(rest)
	n, ok := optionalCount(count, 0)
	if !ok {
		s.badArgument(v, "the number of messages is not a whole number above zero")
		return
	}
	s.ask(v, func(g *group) {
		s.broker.Move(s.caller, string(from), string(to), n, g.finishCount(prefixMoved))
	})
}

// optionalCount reads a positive number that may be left out.
func optionalCount(arg []byte, otherwise int) (n int, ok bool) {
	if len(arg) == 0 {
		return otherwise, true
	}
	n, err := strconv.Atoi(string(arg))
	return n, err == nil && n > 0 && !strings.HasPrefix(string(arg), "+")
}

func (g *group) finishCount(prefix string) func(int, error) {
	return func(n int, err error) { g.finish(prefix+strconv.Itoa(n)+"\n", err) }
}
