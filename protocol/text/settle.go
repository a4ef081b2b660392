package text

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	s.settle(v, prefixAckConfirmed, id, engine.Settlement{Verdict: engine.Ack})
}

func (s *Session) nack(v Verb, args []byte) {
	id, how := cut(args)
	verdict, why := nackVerdict(string(how))
	if why != "" {
		s.badArgument(v, why)
		return
	}
	s.settle(v, prefixNackConfirmed, id, verdict)
}

func nackVerdict(how string) (v engine.Settlement, why string) {
	word, rest, _ := strings.Cut(how, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "":
		return engine.Settlement{Verdict: engine.Return}, ""
	case "delay":
		d, why := parseDelay(rest)
		return engine.Settlement{Verdict: engine.Return, Delay: d}, why
	case "dead":
		if len(rest) > sealmq.MaxNameBytes || !oneLine(rest) {
			return v, "the reason is too long or not one line of text"
		}
		return engine.Settlement{Verdict: engine.Dead, Reason: rest}, ""
	}
	return v, "nack takes nothing, delay or dead after the message id"
}

func parseDelay(text string) (d time.Duration, why string) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, "the delay is not a duration such as 30s"
	case d < 0 || d > engine.MaxDelay:
		return 0, "the delay is not between 0s and " + engine.MaxDelay.String()
	}
	return d, ""
}

func (s *Session) release(v Verb, args []byte) {
	id, how := cut(args)
	verdict := engine.Settlement{Verdict: engine.Return, Uncounted: true}
	if word, rest, _ := strings.Cut(string(how), " "); word != "" {
		why := "release takes nothing or delay after the message id"
		if word == "delay" {
			verdict.Delay, why = parseDelay(strings.TrimSpace(rest))
		}
		if why != "" {
			s.badArgument(v, why)
			return
		}
	}
	s.settle(v, prefixReleased, id, verdict)
}

// extend makes a call of the broker for each command, because each has its own answer: the
// ledger does not know what was taken back.
func (s *Session) extend(v Verb, id []byte) {
	s.flush()
	s.settle(v, prefixExtended, id, engine.Settlement{Verdict: engine.Extend})
	s.flush()
}

// settle collects the settlements that a command means; like is one of them without its tag.
func (s *Session) settle(v Verb, confirmed string, id []byte, like engine.Settlement) {
	g := s.collect(settling, v)
	found, madeRoom := s.delivery.settleID(g, s.collected(), id, like)
	if madeRoom {
		s.delivery.ready.Store(true)
		s.answered = true // wakes at the end of the input
	}
	if !found && v == Extend {
		s.answerError(v, sealmq.ErrNotHeld)
		return
	}
	if !found && (len(id) > sealmq.MaxNameBytes || !oneLine(alias(id))) {
		// No message can have this id. It is not echoed, so that every reply is text.
		s.badArgument(v, "the message id is too long or not one line of text")
		return
	}
	g.text = append(append(append(g.text, confirmed...), id...), '\n')
	g.count++
}

func oneLine(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' // as broker.checkLine has it
	}) < 0
}

// settleDone is called by the broker. An ack that cannot be stored is not confirmed: the
// message may come again, and the peer may ack it again.
func (g *group) settleDone(err error) {
	defer g.s.contain()
	if w := g.s.delivery.settled(g.pending, err == nil && g.verb != Extend, g.start); w.n > 0 && g.verb == Ack {
		g.s.metrics.deliveryToAck.add(w.n, w.sinceDelivery)
		g.s.metrics.publishToAck.add(w.n, w.sincePublish)
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
