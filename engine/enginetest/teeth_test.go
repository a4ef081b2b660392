package enginetest

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

// bug breaks a model in one way.
type bug struct {
	name string
	// check is the test of the suite that must fail.
	check string
	// One of these is set: what stands before the engine, what stands before its sessions,
	// what a restart finds of the events, what is changed of the configuration.
	engine  func(e engine.Engine, cfg Config) engine.Engine
	session func(s *brokenSession)
	disk    func([]event) []event
	config  func(*Config)
}

// brokenOpener opens a model with a bug.
type brokenOpener struct {
	*Disk
	bug   bug
	again bool
}

func (o *brokenOpener) Open(tb testing.TB, cfg Config) engine.Engine {
	if o.again && o.bug.disk != nil {
		o.events = o.bug.disk(o.events)
	}
	o.again = true
	if o.bug.config != nil {
		o.bug.config(&cfg)
	}
	e := o.Disk.Open(tb, cfg)
	if o.bug.engine != nil {
		return o.bug.engine(e, cfg)
	}
	if o.bug.session != nil {
		return &brokenEngine{Engine: e, session: func(sc engine.SessionConfig) engine.Session {
			s := &brokenSession{Session: e.NewSession(sc), cfg: cfg}
			o.bug.session(s)
			return s
		}}
	}
	return e
}

func without[E event](events []event) []event {
	return slices.DeleteFunc(slices.Clone(events), func(e event) bool { _, ok := e.(E); return ok })
}

// options has every queue declared with other options than asked for.
func options(change func(*sealmq.QueueOptions)) func(engine.Engine, Config) engine.Engine {
	return func(e engine.Engine, _ Config) engine.Engine {
		return &brokenEngine{Engine: e, declare: func(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error)) {
			change(&o)
			e.DeclareQueue(name, o, compare, done)
		}}
	}
}

// digests has every digest replaced.
func digests(change func([]byte) []byte) func(engine.Engine, Config) engine.Engine {
	return func(e engine.Engine, _ Config) engine.Engine {
		return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
			batch = slices.Clone(batch)
			for i := range batch {
				batch[i].Message.Digest = change(batch[i].Message.Digest)
			}
			return e.Publish(batch, done)
		}}
	}
}

var bugList = []bug{
	{name: "confirms before the sync", check: "sync/nothing is answered before its sync",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
				results := make([]engine.PublishResult, len(batch))
				for i := range results {
					results[i].Outcome = engine.Stored
				}
				done(results)
				return e.Publish(batch, func([]engine.PublishResult) {})
			}}
		}},
	{name: "refuses late", check: "sync/a refusal does not wait for a sync",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, declare: func(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error)) {
				e.DeclareQueue(name, o, compare, func(q engine.QueueInfo, created bool, err error) {
					if err == nil {
						done(q, created, nil)
						return
					}
					e.Define(nil, func(error) { done(q, created, err) })
				})
			}}
		}},
	{name: "confirms acks before the sync", check: "sync/nothing is answered before its sync",
		session: func(s *brokenSession) {
			s.settle = func(batch []engine.Settlement, done func(error)) {
				s.Session.Settle(batch, func(error) {})
				done(nil)
			}
		}},
	{name: "delivers before the sync", check: "sync/nothing is delivered before its sync", engine: deliverEarly},
	{name: "answers twice", check: "definitions/in effect at once",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, define: func(batch []engine.Definition, done func(error)) {
				e.Define(batch, func(err error) { done(err); done(err) })
			}}
		}},
	{name: "never answers", check: "settle/acked means gone", session: func(s *brokenSession) {
		s.settle = func(batch []engine.Settlement, _ func(error)) { s.Session.Settle(batch, func(error) {}) }
	}},
	{name: "answers out of order", check: "publish/answers come in the order of the calls", engine: answerLate},
	{name: "loses acks at a restart", check: "durability/acked means gone after close", disk: without[gone]},
	{name: "loses what was synced last", check: "durability/messages keep content and order after crash",
		disk: func(events []event) []event { return events[:len(events)-1] }},
	{name: "loses definitions at a restart", check: "definitions/kept after crash", disk: without[defined]},
	{name: "loses delivery counts at a restart", check: "durability/delivery counts after close", disk: without[returned]},
	{name: "always peeks at the front", check: "abilities/peek goes on at a place",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, peek: func(uint64) uint64 { return 0 }}
		}},
	{name: "moves one id only", check: "abilities/move by ids",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, move: func(ids []string) []string { return ids[:min(1, len(ids))] }}
		}},
	{name: "counts no delays", check: "queues/description of delays and age",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, show: func(q *engine.QueueInfo) { q.Delayed = 0 }}
		}},
	{name: "takes what is in hand for the oldest", check: "queues/description of delays and age",
		engine: func(e engine.Engine, cfg Config) engine.Engine {
			return &brokenEngine{Engine: e, show: func(q *engine.QueueInfo) {
				if q.Unacked > 0 {
					q.Oldest = start
				}
			}}
		}},
	{name: "ends subscriptions silently", check: "queues/consumers of a deleted queue are told",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, session: func(cfg engine.SessionConfig) engine.Session {
				cfg.Ended = nil
				return e.NewSession(cfg)
			}}
		}},
	{name: "forgets a pause at a restart", check: "pause/a pause outlives a restart after crash", disk: without[paused]},
	{name: "forgets a change at a restart", check: "change/a change outlives a restart after crash", disk: without[redefined]},
	{name: "changes nothing", check: "change/what waits stays beyond a limit", engine: changing(func(o *sealmq.QueueOptions) { *o = sealmq.QueueOptions{} })},
	{name: "keeps its TTL", check: "change/a TTL ends what waits", engine: changing(func(o *sealmq.QueueOptions) { o.TTL = 0 })},
	{name: "reports no dead-letter queue", check: "dead letters/a dead-letter queue that the engine makes is reported",
		engine: func(e engine.Engine, _ Config) engine.Engine { return &brokenEngine{Engine: e, neverReport: true} }},
	{name: "never pauses", check: "pause/a paused queue delivers nothing and takes everything", engine: func(e engine.Engine, _ Config) engine.Engine { return &brokenEngine{Engine: e, neverPause: true} }},
	{name: "brings deleted queues back", check: "durability/purge and delete after crash", disk: without[deleted]},
	{name: "loses the order at a restart", check: "durability/messages keep content and order after close",
		disk: func(events []event) []event {
			events = slices.Clone(events)
			n := len(events)
			events[n-1], events[n-2] = events[n-2], events[n-1]
			return events
		}},
	{name: "loses ids at a restart", check: "dedup/an id is remembered after close",
		disk: func(events []event) []event {
			events = slices.Clone(events)
			for _, e := range events {
				if m, ok := e.(stored); ok {
					events = append(events, forgotten{scoped{m.scope, m.message.ID}})
				}
			}
			return events
		}},
	{name: "forgets an id with its message", check: "dedup/an id outlives its message",
		config: func(c *Config) { c.DedupWindow = -1 }},
	{name: "remembers ids forever", check: "dedup/an id is forgotten after its window",
		config: func(c *Config) { c.DedupWindow = 1000 * time.Hour }},
	{name: "remembers any number of ids", check: "dedup/remembered ids are bounded in number",
		config: func(c *Config) { c.DedupMaxIDs = 1_000_000 }},
	{name: "remembers what was refused", check: "dedup/a refused publish is not remembered", engine: rememberRefused},
	{name: "ignores the exchange of a repeat", check: "dedup/repeat and conflict",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
				batch = slices.Clone(batch)
				for i := range batch {
					batch[i].Message.Exchange = "x"
				}
				return e.Publish(batch, done)
			}}
		}},
	{name: "goes on behind a message without its queue", check: "publish/stops before a message without its queue",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
				taken := e.Publish(batch, done)
				if taken < len(batch) {
					e.Publish(batch[taken+1:], func([]engine.PublishResult) {})
				}
				return taken
			}}
		}},
	{name: "always recognises a repeat", check: "dedup/a message may be published again on purpose",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
				batch = slices.Clone(batch)
				for i := range batch {
					batch[i].Repeat = engine.ByID
				}
				return e.Publish(batch, done)
			}}
		}},
	{name: "ignores digests", check: "digest/a digest stands for the content after close",
		engine: digests(func([]byte) []byte { return nil })},
	{name: "has no limit for digests", check: "digest/a digest that is too long is refused",
		engine: digests(func(d []byte) []byte { return d[:min(len(d), sealmq.MaxDigestBytes)] })},
	{name: "loses the digest at a restart", check: "digest/a digest stands for the content after crash",
		disk: func(events []event) []event {
			events = slices.Clone(events)
			for i, e := range events {
				if m, ok := e.(stored); ok {
					m.digest = ""
					events[i] = m
				}
			}
			return events
		}},
	{name: "stores in some of the queues", check: "publish/all queues or none", engine: storePartly},
	{name: "keeps what belongs to the caller", check: "publish/what is handed in belongs to the caller again", engine: keepBuffers},
	{name: "has another clock", check: "time/ack timeout", config: stopClock},
	{name: "never expires", check: "time/ttl", config: stopClock},
	{name: "never ends a delay", check: "settle/delay", config: stopClock},
	{name: "counts the ack timeout from the delivery", check: "time/a working consumer is left in peace", session: returnAnyway},
	{name: "gives credit without end", check: "delivery/prefetch is a credit",
		session: func(s *brokenSession) { s.setPrefetch = func(int) int { return sealmq.MaxPrefetch } }},
	{name: "takes no credit for the queue's", check: "delivery/a paused subscription", session: func(s *brokenSession) {
		s.setPrefetch = func(n int) int { return max(n, engine.QueuesOwn) }
	}},
	{name: "takes more than asked for", check: "delivery/take is bounded", session: func(s *brokenSession) {
		s.take = func(dst []sealmq.Delivery, _, _ int) ([]sealmq.Delivery, error) {
			return s.Session.Take(dst, everything, everything)
		}
	}},
	{name: "has no delivery limit", check: "dead letters/delivery limit",
		engine: options(func(o *sealmq.QueueOptions) { o.DeliveryLimit = 1 << 30 })},
	{name: "has no max_messages", check: "limits/max_messages",
		engine: options(func(o *sealmq.QueueOptions) { o.MaxMessages = 0 })},
	{name: "has no max_bytes", check: "limits/max_bytes",
		engine: options(func(o *sealmq.QueueOptions) { o.MaxBytes = 0 })},
	{name: "has no max_line_bytes", check: "limits/max_line_bytes",
		engine: options(func(o *sealmq.QueueOptions) { o.MaxLineBytes = sealmq.MaxLineBytes })},
	{name: "never drops", check: "limits/drop_oldest by number",
		engine: options(func(o *sealmq.QueueOptions) { o.DropOldest = false })},
	{name: "forgets the reason", check: "dead letters/dead with a reason", session: func(s *brokenSession) {
		s.settle = func(batch []engine.Settlement, done func(error)) {
			batch = slices.Clone(batch)
			for i := range batch {
				batch[i].Reason = ""
			}
			s.Session.Settle(batch, done)
		}
	}},
	{name: "delivers the newest first", check: "delivery/first in, first out", session: func(s *brokenSession) {
		s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
			n := len(dst)
			dst, err := s.Session.Take(dst, max, maxBytes)
			slices.Reverse(dst[n:])
			return dst, err
		}
	}},
	{name: "puts what comes back last", check: "delivery/what comes back takes its place", session: func(s *brokenSession) {
		s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
			n := len(dst)
			dst, err := s.Session.Take(dst, max, maxBytes)
			slices.SortStableFunc(dst[n:], func(a, b sealmq.Delivery) int { return int(a.Attempt) - int(b.Attempt) })
			return dst, err
		}
	}},
	{name: "lets anybody ack", check: "settle/ack by somebody else", engine: letAnybodyAck},
	{name: "ignores late acks", check: "settle/late ack by the last holder", session: func(s *brokenSession) {
		over := make(map[sealmq.DeliveryTag]bool)
		s.settle = func(batch []engine.Settlement, done func(error)) {
			batch = slices.DeleteFunc(slices.Clone(batch), func(b engine.Settlement) bool { return over[b.Tag] })
			for _, b := range batch {
				over[b.Tag] = true
			}
			s.Session.Settle(batch, done)
		}
	}},
	{name: "does not notify", check: "delivery/a waiting session is notified",
		engine: func(e engine.Engine, _ Config) engine.Engine {
			return &brokenEngine{Engine: e, session: func(engine.SessionConfig) engine.Session {
				return e.NewSession(engine.SessionConfig{})
			}}
		}},
	{name: "keeps what a closed session held", check: "delivery/a closed session gives back in order",
		session: func(s *brokenSession) { s.close = func() {} }},
}

func stopClock(c *Config) { c.Clock = fakeclock.New(start) }

func deliverEarly(e engine.Engine, _ Config) engine.Engine {
	var early []sealmq.Delivery
	return &brokenEngine{Engine: e,
		publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
			early = append(early, sealmq.Delivery{Message: batch[0].Message})
			return e.Publish(batch, done)
		},
		session: func(cfg engine.SessionConfig) engine.Session {
			return &brokenSession{Session: e.NewSession(cfg), take: func(dst []sealmq.Delivery, _, _ int) ([]sealmq.Delivery, error) {
				return append(dst, early...), nil
			}}
		}}
}

func answerLate(e engine.Engine, _ Config) engine.Engine {
	var late func()
	return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
		if late == nil {
			late = func() { e.Publish(batch, done) }
			return len(batch)
		}
		defer func() { late(); late = nil }()
		return e.Publish(batch, done)
	}}
}

func rememberRefused(e engine.Engine, _ Config) engine.Engine {
	refused := make(map[string]bool)
	return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
		id := batch[0].Message.ID
		return e.Publish(batch, func(results []engine.PublishResult) {
			if len(results) > 0 && refused[id] {
				results[0] = engine.PublishResult{Outcome: engine.Repeated}
			}
			refused[id] = refused[id] || len(results) > 0 && results[0].Outcome == engine.Refused
			done(results)
		})
	}}
}

func storePartly(e engine.Engine, _ Config) engine.Engine {
	return &brokenEngine{Engine: e, publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
		var split []engine.Publish
		for _, r := range batch {
			for _, q := range r.Queues {
				split = append(split, engine.Publish{Message: r.Message, Queues: []string{q}})
				r.Message.ID = ""
			}
		}
		e.Publish(split, func(results []engine.PublishResult) {
			done(slices.SortedFunc(slices.Values(results), func(a, b engine.PublishResult) int {
				return int(b.Outcome) - int(a.Outcome)
			})[:len(batch)])
		})
		return len(batch)
	}}
}

func keepBuffers(e engine.Engine, _ Config) engine.Engine {
	var kept []string
	return &brokenEngine{Engine: e,
		publish: func(batch []engine.Publish, done func([]engine.PublishResult)) int {
			kept = append(kept, batch[0].Message.Key)
			return e.Publish(batch, done)
		},
		session: func(cfg engine.SessionConfig) engine.Session {
			s := &brokenSession{Session: e.NewSession(cfg)}
			s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
				dst, err := s.Session.Take(dst, max, maxBytes)
				for i := range dst {
					dst[i].Key = kept[i]
				}
				return dst, err
			}
			return s
		}}
}

// returnAnyway returns each delivery ten seconds after it was made.
func returnAnyway(s *brokenSession) {
	s.take = func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
		n := len(dst)
		dst, err := s.Session.Take(dst, max, maxBytes)
		for _, d := range dst[n:] {
			s.cfg.Clock.AfterFunc(10*time.Second, func() {
				s.Session.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Return}}, func(error) {})
			})
		}
		return dst, err
	}
}

func letAnybodyAck(e engine.Engine, _ Config) engine.Engine {
	var sessions []engine.Session
	return &brokenEngine{Engine: e, session: func(cfg engine.SessionConfig) engine.Session {
		s := &brokenSession{Session: e.NewSession(cfg)}
		sessions = append(sessions, s.Session)
		s.settle = func(batch []engine.Settlement, done func(error)) {
			for _, other := range sessions {
				other.Settle(batch, func(error) {})
			}
			s.Session.Settle(nil, done)
		}
		return s
	}}
}

// verdict is a testing.TB that notes whether the test that runs on it failed.
type verdict struct {
	testing.TB
	failed  atomic.Bool
	mu      sync.Mutex
	message []string
}

func (v *verdict) Name() string              { return "verdict" }
func (v *verdict) Failed() bool              { return v.failed.Load() }
func (v *verdict) Fail()                     { v.fail("failed") }
func (v *verdict) FailNow()                  { v.Fail(); runtime.Goexit() }
func (v *verdict) Log(...any)                {}
func (v *verdict) Helper()                   {}
func (v *verdict) Logf(string, ...any)       {}
func (v *verdict) Error(args ...any)         { v.fail(fmt.Sprint(args...)) }
func (v *verdict) Errorf(f string, a ...any) { v.fail(fmt.Sprintf(f, a...)) }
func (v *verdict) Fatal(args ...any)         { v.Error(args...); runtime.Goexit() }
func (v *verdict) Fatalf(f string, a ...any) { v.Errorf(f, a...); runtime.Goexit() }
func (v *verdict) Skip(...any)               { runtime.Goexit() }
func (v *verdict) Skipf(string, ...any)      { runtime.Goexit() }

func (v *verdict) fail(message string) {
	v.failed.Store(true)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.message = append(v.message, message)
}

// tried runs one check of the suite on its own and returns how it failed, if it did.
func tried(c check, opener Opener, patience time.Duration) (failed bool, how string) {
	v := new(verdict)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.try(v, opener, patience)
	}()
	<-done
	return v.failed.Load(), strings.Join(v.message, "; ")
}

// TestSuiteNoticesBugs has teeth: a suite that lets a broken engine pass is worth
// nothing.
func TestSuiteNoticesBugs(t *testing.T) {
	checks := make(map[string]check)
	for _, g := range suite() {
		for _, c := range g.checks {
			checks[g.name+"/"+c.name] = c
		}
	}
	for _, b := range allBugs() {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			c, ok := checks[b.check]
			if !ok {
				t.Fatalf("the suite has no test %q", b.check)
			}
			if failed, how := tried(c, NewDisk(), patience); failed {
				t.Fatalf("%s fails without the bug: %s", b.check, how)
			}
			failed, how := tried(c, &brokenOpener{Disk: NewDisk(), bug: b}, 200*time.Millisecond)
			if !failed {
				t.Fatalf("%s passes", b.check)
			}
			t.Log(how)
		})
	}
}

// TestCompareNoticesBugs does the same for the comparison.
func TestCompareNoticesBugs(t *testing.T) {
	// A bug is looked for until it is found. The seed is one that finds each soon.
	quick := map[string]string{"rapid.nofailfile": "true", "rapid.shrinktime": "0s", "rapid.checks": "5000", "rapid.seed": "4"}
	for name, value := range quick {
		f := flag.Lookup(name)
		before := f.Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		defer flag.Set(name, before)
	}
	for _, b := range allBugs() {
		switch b.name {
		case "loses acks at a restart", "loses delivery counts at a restart", "brings deleted queues back",
			"ignores the exchange of a repeat", "gives credit without end", "has no delivery limit",
			"has no max_messages", "has no max_bytes", "forgets the reason", "delivers the newest first",
			"puts what comes back last", "lets anybody ack", "ignores late acks", "counts what is released", "counts releases at a restart", "never extends", "keeps what a closed session held",
			"cancels nothing", "shares no credit", "waits for an ack that is not due", "counts every end of a session",
			"deletes whatever is asked", "drops into the dead-letter queue":
		default:
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			v := new(verdict)
			done := make(chan struct{})
			go func() {
				defer close(done)
				compare(v, 50*time.Millisecond, NewModelOpener, func(testing.TB) Opener { return &brokenOpener{Disk: NewDisk(), bug: b} })
			}()
			<-done
			if !v.failed.Load() {
				t.Error("no difference was found")
			}
		})
	}
}
