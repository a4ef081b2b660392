package enginetest

import (
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// brokenEngine passes on what is not overridden.
type brokenEngine struct {
	engine.Engine
	declare func(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error))
	publish func(batch []engine.Publish, done func([]engine.PublishResult)) int
	define  func(batch []engine.Definition, done func(error))
	session func(cfg engine.SessionConfig) engine.Session
	only    func(engine.If) engine.If
	// peek changes where a Peek begins, move the ids of a MoveMessages, and show what Queue shows.
	peek func(from uint64) uint64
	move func(ids []string) []string
	show func(*engine.QueueInfo)
	// neverPause ignores a pause, and neverReport who wants to know of dead-letter queues.
	neverPause, neverReport bool
	// change changes the options of a ChangeQueue.
	change func(*sealmq.QueueOptions)
}

func (e *brokenEngine) ChangeQueue(name string, o sealmq.QueueOptions, done func(error)) {
	if e.change != nil {
		e.change(&o)
	}
	e.Engine.(engine.Changer).ChangeQueue(name, o, done)
}

// changing breaks ChangeQueue.
func changing(change func(*sealmq.QueueOptions)) func(engine.Engine, Config) engine.Engine {
	return func(e engine.Engine, _ Config) engine.Engine { return &brokenEngine{Engine: e, change: change} }
}

func (e *brokenEngine) ReportDeadQueues(made func(string, sealmq.QueueOptions)) {
	if !e.neverReport {
		e.Engine.ReportDeadQueues(made)
	}
}

func (e *brokenEngine) DeleteQueue(name string, only engine.If, done func(int, error)) {
	if e.only != nil {
		only = e.only(only)
	}
	e.Engine.DeleteQueue(name, only, done)
}

func (e *brokenEngine) Peek(queue string, from uint64, n int) ([]sealmq.Delivery, error) {
	if e.peek != nil {
		from = e.peek(from)
	}
	return e.Engine.(engine.Peeker).Peek(queue, from, n)
}

func (e *brokenEngine) PauseQueue(name string, paused bool, done func(error)) {
	e.Engine.(engine.Pauser).PauseQueue(name, paused && !e.neverPause, done)
}

func (e *brokenEngine) Move(from, to string, n int, done func(int, error)) {
	e.Engine.(engine.Mover).Move(from, to, n, done)
}

func (e *brokenEngine) MoveMessages(from, to string, ids []string, done func(int, error)) {
	if e.move != nil {
		ids = e.move(ids)
	}
	e.Engine.(engine.Mover).MoveMessages(from, to, ids, done)
}

func (e *brokenEngine) Queue(name string) (engine.QueueInfo, error) {
	q, err := e.Engine.Queue(name)
	if e.show != nil {
		e.show(&q)
	}
	return q, err
}

func (e *brokenEngine) Find(id, publisher string) (sealmq.Message, bool) {
	return e.Engine.(engine.Finder).Find(id, publisher)
}

func (e *brokenEngine) DeclareQueue(name string, o sealmq.QueueOptions, compare engine.Fields, done func(engine.QueueInfo, bool, error)) {
	if e.declare != nil {
		e.declare(name, o, compare, done)
		return
	}
	e.Engine.DeclareQueue(name, o, compare, done)
}

func (e *brokenEngine) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	if e.publish != nil {
		return e.publish(batch, done)
	}
	return e.Engine.Publish(batch, done)
}

func (e *brokenEngine) Define(batch []engine.Definition, done func(error)) {
	if e.define != nil {
		e.define(batch, done)
		return
	}
	e.Engine.Define(batch, done)
}

func (e *brokenEngine) NewSession(cfg engine.SessionConfig) engine.Session {
	if e.session != nil {
		return e.session(cfg)
	}
	return e.Engine.NewSession(cfg)
}

type brokenSession struct {
	engine.Session
	cfg     Config
	take    func(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error)
	settle  func(batch []engine.Settlement, done func(error))
	close   func()
	consume func(queue string, o engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID
	cancel  func(sub sealmq.SubscriptionID, done func(error))
	fetch   func(queue string, noAck bool, done func(engine.Fetched, error))
	// setPrefetch changes what Consume and SetPrefetch are asked for, setCredit what
	// SetCredit is, and all has SetPrefetch mean every subscription.
	setPrefetch, setCredit func(n int) int
	all                    bool
	// fetched is what Fetch has handed out.
	fetched []sealmq.Delivery
}

func (s *brokenSession) SetPrefetch(sub sealmq.SubscriptionID, n int) {
	if s.setPrefetch != nil {
		n = s.setPrefetch(n)
	}
	if s.all {
		sub = 0
	}
	s.Session.SetPrefetch(sub, n)
}

func (s *brokenSession) Consume(queue string, o engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID {
	if s.setPrefetch != nil {
		o.Prefetch = s.setPrefetch(o.Prefetch)
	}
	if s.consume != nil {
		return s.consume(queue, o, done)
	}
	return s.Session.Consume(queue, o, done)
}

func (s *brokenSession) Cancel(sub sealmq.SubscriptionID, done func(error)) {
	if s.cancel != nil {
		s.cancel(sub, done)
		return
	}
	s.Session.Cancel(sub, done)
}

func (s *brokenSession) SetCredit(n int) {
	if s.setCredit != nil {
		n = s.setCredit(n)
	}
	s.Session.SetCredit(n)
}

func (s *brokenSession) Fetch(queue string, noAck bool, done func(engine.Fetched, error)) {
	if s.fetch != nil {
		s.fetch(queue, noAck, done)
		return
	}
	s.Session.Fetch(queue, noAck, func(f engine.Fetched, err error) {
		if f.Found {
			s.fetched = append(s.fetched, f.Delivery)
		}
		done(f, err)
	})
}

func (s *brokenSession) Take(dst []sealmq.Delivery, max, maxBytes int) ([]sealmq.Delivery, error) {
	if s.take != nil {
		return s.take(dst, max, maxBytes)
	}
	return s.Session.Take(dst, max, maxBytes)
}

func (s *brokenSession) Settle(batch []engine.Settlement, done func(error)) {
	if s.settle != nil {
		s.settle(batch, done)
		return
	}
	s.Session.Settle(batch, done)
}

func (s *brokenSession) Close(counted bool) {
	if s.close != nil {
		s.close()
		return
	}
	s.Session.Close(counted)
}
