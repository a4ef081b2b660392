package text

import (
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
	e, err := CheckMessage(body)
	if err != nil {
		s.badMessage(v, "Invalid message format: ", err)
		return
	}
	g := s.collect(publishing, v)
	s.add(g, exchange, key, e)
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
		s.add(g, exchange, key, e)
	}
	s.flush()
}

// add puts one message into the group. Its strings are parts of the line, which does not
// change before the group is flushed.
func (s *Session) add(g *group, exchange, key []byte, e Envelope) {
	r := s.collected()
	r.publishes = append(r.publishes, engine.Publish{Message: sealmq.Message{
		Exchange: alias(exchange), Key: alias(key), ID: alias(e.ID), Body: e.Body,
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
		if results[i].Outcome != engine.Stored && results[i].Outcome != engine.Repeated {
			g.text = g.publishReplies(results)
			break
		}
	}
	g.resolve()
}

// publishReplies rewrites the group's replies, some of which are refusals.
func (g *group) publishReplies(results []engine.PublishResult) []byte {
	text := make([]byte, 0, len(g.text)+64)
	from := 0
	for i, end := range g.ends {
		line := g.text[from:end]
		from = end
		switch results[i].Outcome {
		case engine.Stored, engine.Repeated:
			text = append(text, line...)
		default:
			id := line[len(prefixAck) : len(line)-1]
			text = g.appendPublishError(text, id, results[i].Err)
		}
	}
	return text
}
