package text

import (
	"bytes"
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
	case rest[0] != '{':
		s.badArgument(v, "what follows the queue is not a JSON object of options, and a name has no spaces")
		return
	default:
		o, err := sealmq.ParseQueueOptions(rest)
		if err != nil {
			s.answerError(v, err)
			return
		}
		options = &o
	}
	s.ask(v, func(g *group) {
		s.cfg.Broker.DeclareQueue(s.caller, string(name), options, g.finish)
	})
}

func (s *Session) changeQueue(v Verb, args []byte) {
	name, rest := cut(args)
	err := s.cfg.Broker.MayChangeQueue(s.caller, string(name))
	var o sealmq.QueueOptions
	if err == nil {
		o, err = sealmq.ParseQueueOptions(rest)
	}
	if err != nil {
		s.answerError(v, err)
		return
	}
	s.ask(v, func(g *group) { s.cfg.Broker.ChangeQueue(s.caller, string(name), o, g.finish) })
}

// pauseQueue serves resume_queue too.
func (s *Session) pauseQueue(v Verb, args []byte) {
	s.ask(v, func(g *group) { s.cfg.Broker.PauseQueue(s.caller, string(args), v == PauseQueue, g.finish) })
}

func (s *Session) declareExchange(v Verb, args []byte) {
	name, kind := cut(args)
	s.ask(v, func(g *group) {
		s.cfg.Broker.DeclareExchange(s.caller, string(name), broker.ExchangeKind(kind), g.finish)
	})
}

func (s *Session) deleteExchange(v Verb, args []byte) {
	s.ask(v, func(g *group) {
		s.cfg.Broker.DeleteExchange(s.caller, string(args), g.finish)
	})
}

// bind serves unbind too.
func (s *Session) bind(v Verb, args []byte) {
	q, x, k, _ := cut3(args)
	change := s.cfg.Broker.Bind
	if v == Unbind {
		change = s.cfg.Broker.Unbind
	}
	s.ask(v, func(g *group) { change(s.caller, string(q), string(x), string(k), g.finish) })
}

// removeMessages serves delete_queue and purge.
func (s *Session) removeMessages(v Verb, args []byte) {
	s.ask(v, func(g *group) {
		if v == Purge {
			s.cfg.Broker.PurgeQueue(s.caller, string(args), g.finishCount)
			return
		}
		s.cfg.Broker.DeleteQueue(s.caller, string(args), 0, g.finishCount)
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
		s.cfg.Broker.Move(s.caller, string(from), string(to), n, g.finishCount)
	})
}

// copy copies a page, so that one command takes no longer than one peek.
func (s *Session) copy(v Verb, args []byte) {
	from, rest := cut(args)
	to, rest := cut(rest)
	count, place := cut(rest)
	n, ok := optionalCount(count, sealmq.MaxPeek)
	var seq int64
	if !ok || n > sealmq.MaxPeek || !optionalNumber(place, &seq) {
		s.badArgument(v, "the number of messages is not between 1 and "+strconv.Itoa(sealmq.MaxPeek)+", or the place to begin at is no number")
		return
	}
	s.ask(v, func(g *group) {
		s.cfg.Broker.Copy(s.caller, string(from), string(to), uint64(seq), n, func(copied int, next uint64, err error) {
			g.finishWith(strconv.Itoa(copied)+" "+strconv.FormatUint(next, 10), err)
		})
	})
}

func (s *Session) moveMessages(v Verb, args []byte) {
	from, rest := cut(args)
	to, list := cut(rest)
	if n := bytes.Count(list, []byte{' '}) + 1; n > sealmq.MaxMoveIDs {
		s.badArgument(v, "more than "+strconv.Itoa(sealmq.MaxMoveIDs)+" message ids")
		return
	}
	ids := strings.Fields(string(list))
	s.ask(v, func(g *group) {
		s.cfg.Broker.MoveMessages(s.caller, string(from), string(to), ids, g.finishCount)
	})
}

// optionalCount reads a positive number that may be left out.
func optionalCount(arg []byte, otherwise int) (n int, ok bool) {
	v := int64(otherwise)
	ok = optionalNumber(arg, &v) && (v > 0 || len(arg) == 0)
	return int(v), ok
}
