package text

import (
	"bytes"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// ack settles every outstanding delivery of an id on this connection. It is confirmed
// whether there is one or not (specification R26, R27). Consecutive acks become one call of
// the broker.
func (s *Session) ack(v Verb, id []byte) {
	if len(id) == 0 {
		s.missing(v)
		return
	}
	s.settle(v, id, engine.Settlement{Verdict: engine.Ack})
}

// nack serves release too: a nack that does not count as an attempt.
func (s *Session) nack(v Verb, args []byte) {
	id, how := cut(args)
	word, rest, _ := strings.Cut(string(how), " ")
	rest = strings.TrimSpace(rest)
	verdict := engine.Settlement{Verdict: engine.Return, Uncounted: v == Release}
	why := ""
	switch {
	case word == "":
	case word == "delay":
		verdict.Delay, why = parseDelay(rest)
	case v == Release:
		why = "release takes nothing or delay after the message id"
	case word == "dead":
		verdict = engine.Settlement{Verdict: engine.Dead, Reason: rest}
		if len(rest) > sealmq.MaxNameBytes || !oneLine(rest) {
			why = "the reason is too long or not one line of text"
		}
	default:
		why = "nack takes nothing, delay or dead after the message id"
	}
	if why != "" {
		s.badArgument(v, why)
		return
	}
	if verdict.Verdict == engine.Dead {
		s.flush() // it may be denied, and others must not get its answer
		defer s.flush()
	}
	s.settle(v, id, verdict)
}

func parseDelay(text string) (d time.Duration, why string) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, "the delay is not a duration such as 30s"
	case d < 0 || d > sealmq.MaxDelay:
		return 0, "the delay is not between 0s and " + sealmq.MaxDelay.String()
	}
	return d, ""
}

// extend makes a call of the broker for each command, because each has its own answer: the
// ledger does not know what was taken back.
func (s *Session) extend(v Verb, id []byte) {
	s.flush()
	s.settle(v, id, engine.Settlement{Verdict: engine.Extend})
	s.flush()
}

// settle collects the settlements that a command means; like is one of them without its tag.
func (s *Session) settle(v Verb, id []byte, like engine.Settlement) {
	g := s.collect(settling, v)
	found, madeRoom := s.delivery.settleID(g, s.collected(), id, like)
	if madeRoom {
		s.delivery.ready.Store(true)
		s.answered = true // wakes at the end of the input
	}
	if !found {
		switch {
		case bytes.IndexByte(id, ' ') >= 0:
			s.badArgument(v, s.table[v].word+" takes one message id, and nothing after it")
			return
		case v == Extend:
			s.answerError(v, sealmq.ErrNotHeld)
			return
		case len(id) > sealmq.MaxNameBytes || !oneLine(alias(id)):
			// No message can have this id. It is not echoed, so that every reply is text.
			s.badArgument(v, "the message id is too long or not one line of text")
			return
		}
	}
	g.text = append(append(append(g.text, s.table[v].reply...), id...), '\n')
	g.count++
}

func oneLine(s string) bool {
	return sealmq.CheckLine("", s, "") == nil
}

// settleDone is called by the broker. An ack that cannot be stored is not confirmed: the
// message may come again, and the peer may ack it again.
func (g *group) settleDone(err error) {
	defer g.s.contain()
	if w := g.s.delivery.settled(g.pending, err == nil && g.verb != Extend, g.start); w.n > 0 && g.verb == Ack {
		g.s.cfg.Metrics.deliveryToAck.add(w.n, w.sinceDelivery)
		g.s.cfg.Metrics.publishToAck.add(w.n, w.sincePublish)
	}
	if err != nil {
		code, sentence := g.s.explain(g.verb, err)
		line := g.appendError(nil, prefixError, code, sentence)
		g.text = g.text[:0]
		for range g.count {
			g.text = append(g.text, line...)
		}
	}
	g.resolve()
}
