package enginetest

import (
	"slices"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// subscriptionBugs concern subscriptions, conditional deletion and fetches.
var subscriptionBugs = []bug{
	{name: "has one subscription a queue", check: "subscriptions/several on one queue", session: func(s *brokenSession) {
		subs := make(map[string]sealmq.SubscriptionID)
		s.consume = func(queue string, o engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID {
			if sub, ok := subs[queue]; ok {
				s.Session.SetPrefetch(sub, o.Prefetch)
				done(nil)
				return sub
			}
			subs[queue] = s.Session.Consume(queue, o, done)
			return subs[queue]
		}
	}},
	{name: "changes the prefetch of all", check: "subscriptions/each has its own prefetch",
		session: func(s *brokenSession) { s.all = true }},
	{name: "cancels nothing", check: "subscriptions/cancel", session: func(s *brokenSession) {
		s.cancel = func(_ sealmq.SubscriptionID, done func(error)) { done(nil) }
	}},
	{name: "gives back what a cancelled subscription holds", check: "subscriptions/cancel", session: func(s *brokenSession) {
		var taken []sealmq.Delivery
		s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
			dst, err := s.Session.Take(dst, max, maxBytes)
			taken = append(taken, dst...)
			return dst, err
		}
		s.cancel = func(sub sealmq.SubscriptionID, done func(error)) {
			for _, d := range taken {
				s.Session.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Return}}, func(error) {})
			}
			s.Session.Cancel(sub, done)
		}
	}},
	{name: "shares no credit", check: "subscriptions/credit is shared",
		session: func(s *brokenSession) { s.setCredit = func(int) int { return engine.NoLimit } }},
	{name: "takes no credit for no limit", check: "subscriptions/credit of none", session: func(s *brokenSession) {
		s.setCredit = func(n int) int {
			if n == 0 {
				return engine.NoLimit
			}
			return n
		}
	}},
	{name: "waits for an ack that is not due", check: "subscriptions/without acknowledgement", session: func(s *brokenSession) {
		s.consume = func(queue string, o engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID {
			return s.Session.Consume(queue, engine.ConsumeOptions{Prefetch: engine.NoLimit}, done)
		}
	}},
	{name: "holds what was fetched for good", check: "subscriptions/fetch without acknowledgement", session: func(s *brokenSession) {
		s.fetch = func(queue string, _ bool, done func(engine.Fetched, error)) { s.Session.Fetch(queue, false, done) }
	}},
	{name: "brings back what needed no ack", check: "subscriptions/what needs no acknowledgement is gone after crash", disk: without[gone]},
	{name: "fetches only what is synced", check: "sync/a fetch finds what was published before", engine: fetchSynced},
	{name: "drops into the dead-letter queue", check: "settle/dropped means gone", session: settlesOther(func(b *engine.Settlement) bool {
		if b.Verdict == engine.Drop {
			b.Verdict = engine.Dead
		}
		return true
	})},
	{name: "counts what is dropped as acked", check: "settle/dropped means gone", session: settlesOther(func(b *engine.Settlement) bool {
		if b.Verdict == engine.Drop {
			b.Verdict = engine.Ack
		}
		return true
	})},
	{name: "counts every end of a session", check: "release/closing a session need not count", session: closes(true)},
	{name: "counts no end of a session", check: "dead letters/every way back counts towards the delivery limit", session: closes(false)},
	{name: "deletes whatever is asked", check: "queues/delete on conditions", engine: func(e engine.Engine, _ Config) engine.Engine {
		return &brokenEngine{Engine: e, only: func(engine.If) engine.If { return 0 }}
	}},
	{name: "looks at one condition", check: "queues/delete on conditions", engine: func(e engine.Engine, _ Config) engine.Engine {
		return &brokenEngine{Engine: e, only: func(only engine.If) engine.If { return only & engine.IfEmpty }}
	}},
	{name: "compares all options", check: "queues/only the options that are given are compared", engine: compares(engine.AllFields)},
	{name: "compares no options", check: "queues/only the options that are given are compared", engine: compares(0)},
}

func closes(counted bool) func(*brokenSession) {
	return func(s *brokenSession) { s.close = func() { s.Session.Close(counted) } }
}

func compares(fields engine.Fields) func(engine.Engine, Config) engine.Engine {
	return func(e engine.Engine, _ Config) engine.Engine {
		return &brokenEngine{Engine: e, declare: func(name string, o sealmq.QueueOptions, _ engine.Fields, done func(engine.QueueInfo, bool, error)) {
			e.DeclareQueue(name, o, fields, done)
		}}
	}
}

func fetchSynced(e engine.Engine, _ Config) engine.Engine {
	return &brokenEngine{Engine: e, session: func(cfg engine.SessionConfig) engine.Session {
		s := &brokenSession{Session: e.NewSession(cfg)}
		s.fetch = func(queue string, noAck bool, done func(engine.Fetched, error)) {
			if list, err := e.(engine.Peeker).Peek(queue, 0, 1); err == nil && len(list) == 0 {
				done(engine.Fetched{}, nil)
				return
			}
			s.Session.Fetch(queue, noAck, done)
		}
		return s
	}}
}

// looseOpener opens models that give what comes back no place, and say so.
type looseOpener struct{ *Disk }

func (o looseOpener) Open(_ testing.TB, cfg Config) engine.Engine {
	m := o.open(cfg)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loose = true
	return loose{m}
}

type loose struct{ *Model }

func (l loose) Abilities() engine.Abilities {
	a := l.Model.Abilities()
	a.StrictRedelivery = false
	return a
}

// TestLooseModelConforms has the suite ask for no order of what comes back, unless the
// engine promises one.
func TestLooseModelConforms(t *testing.T) {
	Run(t, func(testing.TB) Opener { return looseOpener{NewDisk()} })
}

func allBugs() []bug { return slices.Concat(bugList, releaseBugs, subscriptionBugs) }
