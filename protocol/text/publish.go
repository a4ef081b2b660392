package text

import (
	"encoding/hex"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// publish collects messages: consecutive ones become one call of the broker.
func (s *Session) publish(v Verb, args []byte) {
	exchange, key, body, ok := cut3(args)
	if !ok {
		s.missing(v)
		return
	}
	s.publishOne(v, exchange, key, nil, body)
}

// publishOne collects a message that may have a digest.
func (s *Session) publishOne(v Verb, exchange, key, digest, body []byte) {
	e, err := CheckMessage(body)
	if err != nil {
		s.badMessage(v, "Invalid message format: ", err)
		return
	}
	s.add(s.collect(publishing, v), exchange, key, digest, e)
}

// suffixRepeated ends the reply to a publish_digest that was a repeat.
const suffixRepeated = " repeated\n"

// publishDigest is publish with a digest, which a repeat is recognised by. Its reply tells a
// repeat from the first one.
func (s *Session) publishDigest(v Verb, args []byte) {
	exchange, rest := cut(args)
	key, digest, body, _ := cut3(rest)
	sum := make([]byte, hex.DecodedLen(len(digest)))
	if _, err := hex.Decode(sum, digest); err != nil || len(digest) == 0 {
		s.badArgument(v, "the digest is not hexadecimal")
		return
	}
	s.publishOne(v, exchange, key, sum, body)
}

// publishBatch makes one call of a line, and its replies are one piece of output. If one
// element is malformed, nothing of the batch is stored.
func (s *Session) publishBatch(v Verb, args []byte) {
	exchange, key, body, ok := cut3(args)
	if !ok {
		s.missing(v)
		return
	}
	batch, err := CheckBatch(nil, body)
	if err != nil {
		s.badMessage(v, "Invalid batch format: ", err)
		return
	}
	if len(batch) == 0 {
		s.reply(v, "")
		return
	}
	if len(body) > uncountedBytes && s.memoryUsedUp() {
		s.answerError(v, errNoMemory)
		return
	}
	s.flush()
	g := s.collect(publishing, v)
	g.batch = true
	for _, e := range batch {
		s.add(g, exchange, key, nil, e)
	}
	s.flush()
}

// add puts one message into the group. Its strings are parts of the line, which does not
// change before the group is flushed.
func (s *Session) add(g *group, exchange, key, digest []byte, e Envelope) {
	r := s.collected()
	r.publishes = append(r.publishes, engine.Publish{Message: sealmq.Message{
		Exchange: alias(exchange), Key: alias(key), ID: alias(e.ID), Digest: digest, Body: e.Body,
	}})
	g.text = append(append(append(g.text, prefixAck...), e.ID...), '\n')
	g.ends = append(g.ends, len(g.text))
	g.count++
	g.unstored += len(e.Body)
}

func (s *Session) badMessage(v Verb, what string, err error) {
	s.cfg.Metrics.fault(faultBadMessage)
	s.fail(v, "", sealmq.BadArgument, what+err.Error())
}

// publishDone is called by the broker. Usually the text is right already.
func (g *group) publishDone(results []engine.PublishResult) {
	defer g.s.contain()
	for i := range results {
		if !g.expected(results[i].Outcome) {
			g.text = g.publishReplies(results)
			break
		}
	}
	g.resolve()
}

// expected reports whether the reply that was written in advance is right.
func (g *group) expected(o engine.Outcome) bool {
	return o == engine.Stored || o == engine.Repeated && g.verb != PublishDigest
}

// publishReplies rewrites the group's replies, some of which are not as expected.
func (g *group) publishReplies(results []engine.PublishResult) []byte {
	text := make([]byte, 0, len(g.text)+64)
	from := 0
	for i, end := range g.ends {
		line := g.text[from:end]
		from = end
		switch {
		case g.expected(results[i].Outcome):
			text = append(text, line...)
		case results[i].Outcome == engine.Repeated:
			text = append(append(text, line[:len(line)-1]...), suffixRepeated...)
		default:
			id := line[len(prefixAck) : len(line)-1]
			text = g.appendPublishError(text, id, results[i].Err)
		}
	}
	return text
}
