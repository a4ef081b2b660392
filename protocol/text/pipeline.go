package text

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/protocol"
)

// What a session writes at once. A TLS record holds maxRecord bytes.
const (
	maxRecord    = 16 << 10
	outputBudget = 64 << 10
	// replyBudget leaves room for pushes when replies never end.
	replyBudget = 48 << 10
	// maxGroup bounds how many commands are handed to the broker in one call.
	maxGroup = 1024
	// groupBytes is about what a group takes besides its text.
	groupBytes = 256
	// ownBytes of replies may wait without being counted as memory, so that a connection
	// gets on, slowly, when there is none.
	ownBytes = 4 << 10
)

// kind says what a group's commands have in common.
type kind uint8

const (
	ready      kind = iota // answered without the broker
	publishing             // publish, or one publish_batch
	settling               // ack, or nack
	asking                 // any one other command that the broker answers later
)

// group is the replies to consecutive commands of one connection that are answered
// together. Groups leave in the order in which their commands came, each as soon as it
// is resolved and the ones before it have left.
//
// text is written before the commands are handed on, as if they all succeeded, so that
// success costs nothing when it arrives. Until it is resolved a group belongs to the
// broker's callback, afterwards to the goroutine in Output; before it is enqueued, to
// the goroutine in Input.
type group struct {
	s       *Session
	next    *group
	text    []byte
	count   int // replies
	kind    kind
	verb    Verb
	start   time.Time
	held    int // bytes of messages that wait to be stored
	counted int // bytes of text that the pipeline has counted

	asked     []asked // settling only: what is under way
	ends      []int   // publishing only: where the optimistic reply to each message ends in text
	batch     bool    // a publish_batch: one TLS record if it fits, and suffixes in errors
	coded     bool    // error lines have codes
	opensGate bool    // a consume: pushes wait until this reply is printed
	resolved  bool    // under pipeline.mu

	// The callbacks are made once for the life of the group, because a method value
	// allocates.
	onPublish func([]engine.PublishResult)
	onSettle  func(error)
}

var groups = sync.Pool{New: func() any {
	g := new(group)
	g.onPublish = g.publishDone
	g.onSettle = g.settleDone
	return g
}}

// Memory of a group that outgrew these is not kept for the next one.
const (
	keptText     = 32 << 10
	keptCommands = 2 * maxGroup
)

func (g *group) release() {
	*g = group{
		text: emptied(g.text, keptText), ends: emptied(g.ends, keptCommands), asked: emptied(g.asked, keptCommands),
		onPublish: g.onPublish, onSettle: g.onSettle,
	}
	groups.Put(g)
}

// emptied is s without elements, or nil if it holds more memory than most elements take.
func emptied[T any](s []T, most int) []T {
	if cap(s) > most {
		return nil
	}
	return s[:0]
}

// scratch is the memory that a run of commands is handed to the broker in. It is the
// session's only while the run is collected.
type scratch struct {
	requests    []engine.Publish
	settlements []engine.Settlement
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	clear(s.requests) // what they refer to
	clear(s.settlements)
	s.requests, s.settlements = emptied(s.requests, keptCommands), emptied(s.settlements, keptCommands)
	scratches.Put(s)
}

// pipeline is the ordered replies that have not been printed.
type pipeline struct {
	mu         sync.Mutex
	changed    sync.Cond // something was resolved or printed, or the session closed
	head, tail *group
	waiting    int // replies
	bytes      int // of their text
	charged    int // of these, what Memory was told of
	held       int // bytes of messages that wait to be stored
	unresolved int // groups
	closed     bool
}

// collect returns the group that the next command of this kind joins.
func (s *Session) collect(k kind, v Verb) *group {
	g := s.current
	if g != nil && g.kind == k && (k == ready || g.verb == v) && g.count < maxGroup && len(g.text) < s.groupText {
		return g
	}
	s.flush()
	g = groups.Get().(*group)
	g.s, g.kind, g.verb, g.start, g.coded = s, k, v, s.now, s.coded
	s.current = g
	return g
}

// flush hands on what is collected. After it every command so far has been decided in
// its place.
func (s *Session) flush() {
	g := s.current
	if g == nil {
		return
	}
	s.current = nil
	sc := s.scratch
	s.scratch = nil
	switch {
	case g.kind == publishing && len(sc.requests) > 0:
		s.enqueue(g, false)
		s.broker.Publish(s.id, sc.requests, g.onPublish)
	case g.kind == settling && sc != nil && len(sc.settlements) > 0:
		s.enqueue(g, false)
		s.delivery.settle(sc.settlements, g.onSettle)
	default:
		if g.kind == settling {
			s.metrics.answered(g.verb, g.count, 0)
		}
		s.enqueue(g, true)
		s.answered = true
	}
	if sc != nil {
		sc.release()
	}
}

// scratchpad returns the memory of the current run.
func (s *Session) scratchpad() *scratch {
	if s.scratch == nil {
		s.scratch = scratches.Get().(*scratch)
	}
	return s.scratch
}

// enqueue gives the group its place. Unless it is resolved, the broker's callback
// owns it from here on.
func (s *Session) enqueue(g *group, resolved bool) {
	p := &s.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tail == nil {
		p.head = g
	} else {
		p.tail.next = g
	}
	p.tail = g
	g.resolved, g.counted = resolved, groupBytes+len(g.text)
	if !resolved {
		p.unresolved++
		p.held += g.held
	}
	p.waiting += g.count
	p.bytes += g.counted
	p.charge(s.memory)
	s.full = p.over(s)
}

// ask runs a command that the broker answers later. start gets the group in which to
// put the reply and must arrange that resolve is called once.
func (s *Session) ask(v Verb, start func(g *group)) {
	g := s.collect(asking, v)
	s.current = nil
	g.count = 1
	s.enqueue(g, false)
	start(g)
}

// resolve makes the group's text its reply. The group must not be touched afterwards.
func (g *group) resolve() {
	s := g.s
	s.metrics.answered(g.verb, g.count, s.clock.Now().Sub(g.start))
	if s.pipeline.resolve(g, s.memory) {
		s.wake()
	}
}

// resolve reports whether the group is the next to leave.
func (p *pipeline) resolve(g *group, m *protocol.Memory) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.resolved = true
	p.unresolved--
	p.held -= g.held
	p.bytes += groupBytes + len(g.text) - g.counted
	g.counted = groupBytes + len(g.text)
	p.charge(m)
	p.changed.Broadcast()
	return p.head == g
}

// succeed and refuse resolve a group of one reply.
func (g *group) succeed(line string) {
	defer g.s.contain()
	g.text = append(g.text[:0], line...)
	g.resolve()
}

func (g *group) refuse(err error) { g.refuseAs(prefixError, err) }

func (g *group) refuseAs(classic string, err error) {
	defer g.s.contain()
	code, sentence := g.s.explain(g.verb, err)
	g.text = g.appendError(g.text[:0], classic, code, sentence)
	g.resolve()
}

// finish resolves a group of one reply with a literal or with an error.
func (g *group) finish(line string, err error) {
	if err != nil {
		g.refuse(err)
		return
	}
	g.succeed(line)
}

func (p *pipeline) over(s *Session) bool {
	l := &s.limits
	return p.waiting >= l.Waiting || p.bytes >= l.WaitingBytes || p.held >= l.UnconfirmedBytes ||
		p.charged > 0 && s.short()
}

func (p *pipeline) charge(m *protocol.Memory) {
	if charged := max(p.bytes-ownBytes, 0); charged != p.charged {
		m.Add(charged - p.charged)
		p.charged = charged
	}
}

// Ready implements protocol.Session: it blocks while more replies wait than the limits
// allow.
func (s *Session) Ready() bool {
	p := &s.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.over(s) && !p.closed {
		p.changed.Wait()
	}
	s.full = false
	return !p.closed
}

// barrier waits until the broker has answered every command so far, so that the next
// one sees what they did. It returns false once the session is closed.
func (s *Session) barrier() bool {
	s.flush()
	if s.answered {
		s.answered = false
		s.wake()
	}
	p := &s.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.unresolved > 0 && !p.closed {
		p.changed.Wait()
	}
	return !p.closed
}

// Output appends to dst what should be written next: replies, then at most about so many
// bytes of pushes, together about 64 KiB, but less if fewer pushes are asked for, because
// then memory is short: 4 KiB of replies if it is none. Nothing appended means that there is nothing
// now; Wake will be called, but not for pushes that were held back by asking for none.
//
// A reply to publish_batch is never cut by a multiple of 16 KiB from the start of dst
// if it fits between two, so that it leaves in one TLS record (specification R8).
//
// This protocol never ends a conversation by itself.
func (s *Session) Output(dst []byte, pushes int) (out []byte, end bool) {
	dst = s.appendReplies(dst, min(replyBudget, max(pushes, ownBytes)))
	return s.appendPushes(dst, min(pushes, outputBudget-len(dst))), false
}

func (s *Session) appendReplies(dst []byte, budget int) []byte {
	first, rest := s.pipeline.leaving(len(dst), budget, s.memory)
	for g := first; g != rest; {
		next := g.next
		dst = append(dst, g.text...)
		if g.opensGate {
			s.delivery.openGate()
		}
		g.release()
		g = next
	}
	return dst
}

// leaving takes out the groups from first to before rest, which go where size bytes are
// already.
func (p *pipeline) leaving(size, budget int, m *protocol.Memory) (first, rest *group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = p.head
	for g := p.head; g != nil && g.resolved && (size == 0 || size+len(g.text) <= budget); g = p.head {
		if g.batch && len(g.text) <= maxRecord && size%maxRecord+len(g.text) > maxRecord {
			break
		}
		size += len(g.text)
		p.waiting -= g.count
		p.bytes -= g.counted
		p.head = g.next
	}
	if p.head == nil {
		p.tail = nil
	}
	if first != p.head {
		p.charge(m)
		p.changed.Broadcast()
	}
	return first, p.head
}

// Drained reports whether every command so far has been answered and its reply handed
// out by Output.
func (s *Session) Drained() bool {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	return s.pipeline.head == nil
}

func (p *pipeline) close() {
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
}
