package enginetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
)

// Model is an engine as the contract reads: maps and slices behind one mutex, searched
// from the front each time, over a disk that is a list of events in memory. It is the
// reference for other engines, and a quick engine for the tests of packages that use one.
// It has every ability.
type Model struct {
	cfg  Config
	disk *Disk

	mu       sync.Mutex
	state    *state
	sessions []*session
	unsynced []*entry // not visible yet
	synced   int      // events of the disk that are durable
	pending  []answer // in the order of the calls
	refusals []func() // of the call that is under way
	running  bool     // a goroutine runs answers
	drained  *sync.Cond
	made     func(name string, o sealmq.QueueOptions) // is told of queues for dead letters
	closed   bool
	crashed  bool
	loose    bool // what comes back waits behind what was never delivered
	failed   chan struct{}
	timer    clock.Timer
}

// answer is a done function that waits for the sync of the first events of the disk.
type answer struct {
	events int
	call   func(err error)
}

// NewModel returns a model over a disk of its own.
func NewModel(cfg Config) *Model { return NewDisk().open(cfg) }

func (d *Disk) open(cfg Config) *Model {
	cfg.Clock = cmp.Or(cfg.Clock, clock.System)
	cfg.DedupWindow = cmp.Or(cfg.DedupWindow, time.Hour)
	cfg.DedupMaxIDs = cmp.Or(cfg.DedupMaxIDs, 2_000_000)
	m := &Model{cfg: cfg, disk: d, state: newState(), failed: make(chan struct{})}
	m.drained = sync.NewCond(&m.mu)
	for _, e := range d.read(m) {
		e.apply(m.state)
		m.synced++
	}
	for _, q := range m.state.queues {
		for _, e := range q.entries {
			e.synced = true
		}
	}
	m.mu.Lock()
	m.end()
	return m
}

// now is the time of what is stored, in whole milliseconds.
func (m *Model) now() time.Time { return m.cfg.Clock.Now().Truncate(time.Millisecond) }

// write makes an event happen and appends it to the disk, not yet synced.
func (m *Model) write(e event) {
	m.disk.append(e)
	e.apply(m.state)
}

// answer calls done once everything written so far is synced, and after all earlier
// answers; err is nil, or says that it was lost.
func (m *Model) answer(done func(err error)) {
	m.pending = append(m.pending, answer{m.disk.len(), done})
}

// refuse calls done before the call returns.
func (m *Model) refuse(done func()) { m.refusals = append(m.refusals, done) }

// begin begins an operation: what time demanded since the last one happens first.
func (m *Model) begin() {
	m.mu.Lock()
	if !m.closed {
		m.tick()
	}
}

// end ends an operation: time-dependent things happen, what is possible is synced and
// answered. It is called with mu locked and unlocks it.
func (m *Model) end() {
	if !m.closed {
		m.tick()
	}
	refusals := m.refusals
	m.refusals = nil
	m.flush()
	for _, done := range refusals {
		done()
	}
}

// flush syncs, unless the disk is held, shows what became durable, and runs answers in
// their order outside the mutex, one goroutine at a time. It is called with mu locked
// and unlocks it.
func (m *Model) flush() {
	defer m.mu.Unlock()
	if m.running {
		return
	}
	m.running = true
	for {
		m.sync()
		run := m.answerable()
		if len(run) == 0 {
			break
		}
		synced := m.synced
		m.mu.Unlock()
		for _, a := range run {
			if a.events > synced {
				a.call(errStopped())
				continue
			}
			a.call(nil)
		}
		m.mu.Lock()
	}
	m.running = false
	m.drained.Broadcast()
}

// sync makes durable what was written and visible what was published.
func (m *Model) sync() {
	if m.crashed {
		return
	}
	if m.disk.isOff() {
		m.closed, m.crashed = true, true
		m.stopTimer()
		close(m.failed)
		return
	}
	n, ok := m.disk.sync()
	if !ok {
		return
	}
	m.synced = n
	if len(m.unsynced) == 0 {
		return
	}
	for _, e := range m.unsynced {
		e.synced = true
	}
	m.unsynced = nil
	m.notify()
}

// answerable takes the answers whose events are durable, or never will be.
func (m *Model) answerable() []answer {
	n := 0
	for n < len(m.pending) && (m.pending[n].events <= m.synced || m.crashed) {
		n++
	}
	run := m.pending[:n:n]
	m.pending = m.pending[n:]
	return run
}

func errStopped() error {
	return &sealmq.Error{Code: sealmq.Unavailable, Message: sealmq.ErrUnavailable.Message}
}

// DeclareQueue implements engine.Engine.
func (m *Model) DeclareQueue(name string, o sealmq.QueueOptions, compare engine.Fields, done func(q engine.QueueInfo, created bool, err error)) {
	m.begin()
	defer m.end()
	refuse := func(err error) { m.refuse(func() { done(engine.QueueInfo{}, false, err) }) }
	if m.closed {
		refuse(errStopped())
		return
	}
	q := m.state.queues[name]
	if q != nil && !compare.Match(q.options, o) {
		refuse(sealmq.ErrMismatch)
		return
	}
	created := q == nil
	if created {
		m.write(declared{strings.Clone(name), o.Normalize()})
		q = m.state.queues[name]
	}
	info := m.describe(q)
	m.answer(func(err error) {
		if err != nil {
			info, created = engine.QueueInfo{}, false
		}
		done(info, created, err)
	})
}

// DeleteQueue implements engine.Engine.
func (m *Model) DeleteQueue(name string, only engine.If, done func(removed int, err error)) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err == nil && (only&engine.IfUnused != 0 && m.describe(q).Consumers > 0 || only&engine.IfEmpty != 0 && len(q.entries) > 0) {
		err = &sealmq.Error{Code: sealmq.InUse, Message: "the queue is in use"}
	}
	if err != nil {
		m.refuse(func() { done(0, err) })
		return
	}
	n := len(q.entries)
	m.write(deleted{q.name, m.now()})
	for _, s := range m.sessions {
		s.forget(q)
	}
	m.answer(counted(n, done))
}

// PurgeQueue implements engine.Engine.
func (m *Model) PurgeQueue(name string, done func(removed int, err error)) {
	m.begin()
	defer m.end()
	q, err := m.lookUp(name)
	if err != nil {
		m.answer(func(error) { done(0, err) })
		return
	}
	waiting := q.waiting()
	for _, e := range waiting {
		m.write(gone{q.name, e.seq, m.now()})
	}
	m.answer(counted(len(waiting), done))
}

func counted(n int, done func(int, error)) func(error) {
	return func(err error) {
		if err != nil {
			done(0, err)
			return
		}
		done(n, nil)
	}
}

// lookUp finds a queue for an operation that needs one.
func (m *Model) lookUp(name string) (*queue, error) {
	if m.closed {
		return nil, errStopped()
	}
	if q := m.state.queues[name]; q != nil {
		return q, nil
	}
	return nil, sealmq.ErrNoQueue
}

// Queue implements engine.Engine.
func (m *Model) Queue(name string) (engine.QueueInfo, error) {
	m.begin()
	defer m.end()
	q := m.state.queues[name]
	if q == nil {
		return engine.QueueInfo{}, sealmq.ErrNoQueue
	}
	return m.describe(q), nil
}

// Queues implements engine.Engine.
func (m *Model) Queues() ([]engine.QueueInfo, error) {
	m.begin()
	defer m.end()
	list := []engine.QueueInfo{}
	for _, name := range m.state.names() {
		list = append(list, m.describe(m.state.queues[name]))
	}
	return list, nil
}

// ReportDeadQueues implements engine.Engine.
func (m *Model) ReportDeadQueues(made func(name string, o sealmq.QueueOptions)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = made
}

func (m *Model) describe(q *queue) engine.QueueInfo {
	info := q.totals
	info.Name, info.Options, info.Paused, info.Bytes = q.name, q.options, q.paused, q.bytes()
	info.Ready = len(q.waiting())
	info.Unacked = len(q.entries) - info.Ready
	front := q.front(m.now())
	if info.Delayed = info.Ready - len(front); len(front) > 0 {
		info.Oldest = front[0].entered.UTC()
	}
	for _, s := range m.sessions {
		for _, sub := range s.subs {
			if sub.queue == q {
				info.Consumers++
			}
		}
	}
	return info
}

// Publish implements engine.Engine.
func (m *Model) Publish(batch []engine.Publish, done func(results []engine.PublishResult)) (taken int) {
	m.begin()
	defer m.end()
	var results []engine.PublishResult
	for i := range batch {
		r, ok := m.publish(&batch[i])
		if !ok {
			break
		}
		results = append(results, r)
	}
	m.answer(func(err error) {
		for i := range results {
			if err != nil {
				results[i] = engine.PublishResult{Outcome: engine.Refused, Err: err}
			}
		}
		done(results)
	})
	return len(results)
}

// publish decides about one message; ok is false if one of its queues does not exist.
func (m *Model) publish(p *engine.Publish) (r engine.PublishResult, ok bool) {
	msg, digest := clone(p.Message), string(p.Message.Digest)
	msg.Digest = nil
	byID := msg.ID != "" && p.Repeat == engine.ByID
	if m.closed {
		return engine.PublishResult{Outcome: engine.Refused, Err: errStopped()}, true
	}
	if len(p.Queues) == 0 {
		return engine.PublishResult{Outcome: engine.Unrouted, Err: sealmq.ErrUnroutable}, true
	}
	if len(digest) > sealmq.MaxDigestBytes {
		return engine.PublishResult{Outcome: engine.Refused,
			Err: &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("the digest is longer than %d bytes", sealmq.MaxDigestBytes)}}, true
	}
	if byID {
		i := m.state.ids[scoped{p.Scope, msg.ID}]
		if i == nil {
			i = m.state.ids[scoped{id: msg.ID}]
		}
		switch {
		case i == nil:
		case i.same(&msg, digest):
			return engine.PublishResult{Outcome: engine.Repeated}, true
		default:
			return engine.PublishResult{Outcome: engine.Conflict, Err: sealmq.ErrDuplicate}, true
		}
	}
	if slices.ContainsFunc(p.Queues, func(name string) bool { return m.state.queues[name] == nil }) {
		return r, false
	}
	var into []*queue
	victims := make(map[*queue][]*entry)
	for _, name := range p.Queues {
		q := m.state.queues[name]
		var code sealmq.Code
		if victims[q], code = q.fits(&msg, m.now()); code != "" {
			q.totals.Refused++
			return engine.PublishResult{Outcome: engine.Refused, Queue: name,
				Err: &sealmq.Error{Code: code, Message: "refused by the queue"}}, true
		}
		into = append(into, q)
	}
	for _, name := range p.Copies {
		if q := m.state.queues[name]; q != nil {
			var code sealmq.Code
			if victims[q], code = q.fits(&msg, m.now()); code == "" {
				into = append(into, q)
			} else {
				q.totals.Refused++
			}
		}
	}
	m.store(stored{message: msg, scope: strings.Clone(p.Scope), digest: digest, byID: byID, at: m.now()}, into, victims)
	return engine.PublishResult{Outcome: engine.Stored}, true
}

func (m *Model) store(s stored, into []*queue, victims map[*queue][]*entry) {
	for _, q := range into {
		s.queues = append(s.queues, q.name)
		q.totals.Published++
		m.drop(q, victims[q])
	}
	m.write(s)
	for _, q := range into {
		m.unsynced = append(m.unsynced, q.entries[len(q.entries)-1])
	}
}

// drop removes messages at a limit.
func (m *Model) drop(q *queue, victims []*entry) {
	for _, v := range victims {
		m.write(gone{q.name, v.seq, m.now()})
		q.totals.Dropped++
	}
}

// Define implements engine.Engine.
func (m *Model) Define(batch []engine.Definition, done func(error)) {
	m.begin()
	defer m.end()
	if m.closed {
		m.answer(func(error) { done(errStopped()) })
		return
	}
	m.write(defined{cloneDefinitions(batch)})
	m.answer(done)
}

// Definitions implements engine.Engine.
func (m *Model) Definitions() []engine.Definition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.allDefinitions()
}

// Abilities implements engine.Engine.
func (m *Model) Abilities() engine.Abilities {
	return engine.Abilities{Guarantee: engine.Synced, Delay: true, Uncounted: true, Extend: true, Peek: true, Move: true, StrictRedelivery: true, LongDedup: true, Pause: true}
}

// Health implements engine.Engine.
func (m *Model) Health() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errStopped()
	}
	return nil
}

// Failed implements engine.Engine; only the power of its machine can fail.
func (m *Model) Failed() <-chan struct{} { return m.failed }

// Close implements engine.Engine. It waits until everything is answered, so not while
// the disk is held.
func (m *Model) Close() error {
	m.mu.Lock()
	if !m.closed {
		for _, s := range m.sessions {
			s.returnAll(true)
		}
		m.closed = true
	}
	m.stopTimer()
	for {
		m.flush()
		m.mu.Lock()
		if len(m.pending) == 0 && !m.running {
			m.mu.Unlock()
			return nil
		}
		m.drained.Wait()
	}
}

func (m *Model) stopTimer() {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
}
