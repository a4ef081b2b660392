package enginetest

import (
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// releaseBugs concern returns that do not count, and extensions.
var releaseBugs = []bug{
	{name: "counts what is released", check: "release/what is released does not count", session: settlesOther(func(b *engine.Settlement) bool {
		b.Uncounted = false
		return true
	})},
	{name: "counts nothing that comes back", check: "release/what is released does not count", session: settlesOther(func(b *engine.Settlement) bool {
		b.Uncounted = b.Verdict == engine.Return
		return true
	})},
	{name: "hides that a release came back", check: "release/what is released does not count", session: func(s *brokenSession) {
		s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
			n := len(dst)
			dst, err := s.Session.Take(dst, max, maxBytes)
			for i := range dst[n:] {
				dst[n+i].Returned = false
			}
			return dst, err
		}
	}},
	{name: "releases at once", check: "release/a release with a delay", session: settlesOther(func(b *engine.Settlement) bool {
		if b.Uncounted {
			b.Delay = 0
		}
		return true
	})},
	{name: "forgets who released", check: "release/late ack of what was released", session: func(s *brokenSession) {
		over := make(map[sealmq.DeliveryTag]bool)
		s.settle = func(batch []engine.Settlement, done func(error)) {
			batch = slices.DeleteFunc(slices.Clone(batch), func(b engine.Settlement) bool { return over[b.Tag] })
			for _, b := range batch {
				over[b.Tag] = b.Uncounted
			}
			s.Session.Settle(batch, done)
		}
	}},
	{name: "lets anybody release", check: "release/a release by somebody else", engine: letAnybodyAck},
	{name: "goes on uncounted after a release", check: "release/only a release does not count", session: func(s *brokenSession) {
		var taken []sealmq.Delivery
		s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
			dst, err := s.Session.Take(dst, max, maxBytes)
			taken = append(taken, dst...)
			return dst, err
		}
		s.close = func() {
			for _, d := range taken {
				s.Session.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Return, Uncounted: true}}, func(error) {})
			}
			s.Session.Close(true)
		}
	}},
	{name: "counts releases at a restart", check: "release/what is released does not count after crash",
		disk: func(events []event) []event {
			events = slices.Clone(events)
			for i, e := range events {
				if r, ok := e.(returned); ok {
					r.attempts++
					events[i] = r
				}
			}
			return events
		}},
	{name: "loses releases at a restart", check: "release/what is released does not count after close", disk: without[returned]},
	{name: "never extends", check: "extend/the ack timeout starts again", session: settlesOther(func(b *engine.Settlement) bool {
		return b.Verdict != engine.Extend
	})},
	{name: "extends by a return", check: "extend/the ack timeout starts again", session: settlesOther(func(b *engine.Settlement) bool {
		if b.Verdict == engine.Extend {
			b.Verdict = engine.Return
		}
		return true
	})},
	{name: "extends all that is held", check: "extend/the ack timeout of one delivery", engine: extendAll},
	{name: "confirms what cannot be extended", check: "extend/only of what is held", session: func(s *brokenSession) {
		s.settle = func(batch []engine.Settlement, done func(error)) {
			s.Session.Settle(batch, func(error) { done(nil) })
		}
	}},
	{name: "lets anybody extend", check: "extend/only of what is held", engine: letAnybodyAck},
}

// settlesOther has settlements changed, or left out if change returns false.
func settlesOther(change func(*engine.Settlement) bool) func(*brokenSession) {
	return func(s *brokenSession) {
		s.settle = func(batch []engine.Settlement, done func(error)) {
			var changed []engine.Settlement
			for _, b := range batch {
				if change(&b) {
					changed = append(changed, b)
				}
			}
			s.Session.Settle(changed, done)
		}
	}
}

// extendAll has an extension of one delivery be one of all that the session fetched.
func extendAll(e engine.Engine, _ Config) engine.Engine {
	return &brokenEngine{Engine: e, session: func(cfg engine.SessionConfig) engine.Session {
		s := &brokenSession{Session: e.NewSession(cfg)}
		s.settle = func(batch []engine.Settlement, done func(error)) {
			if batch[0].Verdict == engine.Extend {
				for _, d := range s.fetched {
					batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: engine.Extend})
				}
			}
			s.Session.Settle(batch, done)
		}
		return s
	}}
}
