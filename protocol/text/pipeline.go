package text

import (
	"strconv"
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
	// groupBytes is about the memory of a group without its text.
	groupBytes = 256
	// uncountedBytes of replies are not counted as memory, so that a connection makes slow
	// progress when there is none.
	uncountedBytes = 4 << 10
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
// text is written before the commands are handed to the broker, as if they all succeeded,
// so that success costs nothing when it arrives. A group belongs to the goroutine in Input
// until it is enqueued, then to the broker's callback until it is resolved, and then to the
// goroutine in Output.
type group struct {
	s        *Session
	next     *group
	text     []byte
	count    int // replies
	kind     kind
	verb     Verb
	start    time.Time
	unstored int // bytes of messages that wait to be stored
	counted  int // its part of pipeline.bytes

	pending       []pending // settling only: the deliveries that are being settled
	ends          []int     // publishing only: where the reply to each message ends in text
	batch         bool      // a publish_batch: one TLS record if it fits, and suffixes in errors
	coded         bool      // error lines have codes
	resumesPushes bool      // a consume, or see delivery.several: pushes wait until this reply is printed
	resolved      bool      // under pipeline.mu

	// The callbacks are made once in the life of a group, because a method value allocates.
	onPublish func([]engine.PublishResult)
	onSettle  func(error)
}

var groups = sync.Pool{New: func() any {
	g := new(group)
	g.onPublish = g.publishDone
	g.onSettle = g.settleDone
	return g
}}

// A group's slices are used again up to these sizes.
const (
	keptText     = 32 << 10
	keptCommands = 2 * maxGroup
)

func (g *group) release() {
	*g = group{
		text: emptied(g.text, keptText), ends: emptied(g.ends, keptCommands), pending: emptied(g.pending, keptCommands),
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

// requests are what the commands of the current group ask of the broker. A session has
// some only while it collects them: they are the broker's for the time of one call, and the
// group lives on until its replies have left.
type requests struct {
	publishes   []engine.Publish
	settlements []engine.Settlement
}

var requestPool = sync.Pool{New: func() any { return new(requests) }}

func (r *requests) release() {
	clear(r.publishes) // what they refer to
	clear(r.settlements)
	r.publishes, r.settlements = emptied(r.publishes, keptCommands), emptied(r.settlements, keptCommands)
	requestPool.Put(r)
}

// pipeline is the replies that were not handed out yet, in their order.
type pipeline struct {
	mu         sync.Mutex
	changed    sync.Cond // something was resolved or printed, or the session closed
	head, tail *group
	waiting    int // replies
	bytes      int // of their text, and groupBytes for each group
	charged    int // how many of these bytes protocol.Memory counts
	unstored   int // bytes of messages that wait to be stored
	unresolved int // groups
	closed     bool
}

// collect returns the group that the next command of this kind joins: the current one, or a
// new one after a flush.
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

// flush enqueues the current group and hands its requests to the broker.
func (s *Session) flush() {
	g := s.current
	if g == nil {
		return
	}
	s.current = nil
	r := s.requests
	s.requests = nil
	switch {
	case g.kind == publishing && len(r.publishes) > 0:
		s.enqueue(g, false)
		s.cfg.Broker.Publish(s.caller, r.publishes, g.onPublish)
	case g.kind == settling && r != nil && len(r.settlements) > 0:
		if !s.delivery.several.Load() {
			s.delivery.holdPushes()
			g.resumesPushes = true
		}
		s.enqueue(g, false)
		// There is a consumer, or there would be nothing to settle.
		s.delivery.consumer.Load().Settle(r.settlements, g.onSettle)
	default:
		if g.kind == settling {
			s.cfg.Metrics.answered(g.verb, g.count, 0)
		}
		s.enqueue(g, true)
		s.answered = true
	}
	if r != nil {
		r.release()
	}
}

// collected returns the requests of the current group, to add one.
func (s *Session) collected() *requests {
	if s.requests == nil {
		s.requests = requestPool.Get().(*requests)
	}
	return s.requests
}

// enqueue gives the group its place. From here on the broker's callback owns it, unless it
// is resolved.
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
		p.unstored += g.unstored
	}
	p.waiting += g.count
	p.bytes += g.counted
	p.charge(s.peer.Memory)
	s.full = p.over(s)
}

// ask runs a command that the broker answers later. start gets the group for the reply;
// finish must be called on it once.
func (s *Session) ask(v Verb, start func(g *group)) {
	g := s.collect(asking, v)
	s.current = nil
	g.count = 1
	s.enqueue(g, false)
	start(g)
}

// resolve makes the group's text its reply. The group must not be used afterwards.
func (g *group) resolve() {
	s := g.s
	s.cfg.Metrics.answered(g.verb, g.count, s.cfg.Clock.Now().Sub(g.start))
	if s.pipeline.resolve(g, s.peer.Memory) {
		s.peer.Wake()
	}
}

// resolve reports whether the group is the next to leave.
func (p *pipeline) resolve(g *group, m *protocol.Memory) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.resolved = true
	p.unresolved--
	p.unstored -= g.unstored
	p.bytes += groupBytes + len(g.text) - g.counted
	g.counted = groupBytes + len(g.text)
	p.charge(m)
	p.changed.Broadcast()
	return p.head == g
}

// finish resolves a group of one reply with the verb's own, or with an error line.
func (g *group) finish(err error) { g.finishWith("", err) }

func (g *group) finishCount(n int, err error) { g.finishWith(strconv.Itoa(n), err) }

// finishWith is finish with what follows the verb's reply.
func (g *group) finishWith(rest string, err error) {
	defer g.s.contain()
	if err != nil {
		code, sentence := g.s.explain(g.verb, err)
		g.text = g.appendError(g.text[:0], classic(g.verb), code, sentence)
	} else {
		g.text = append(append(append(g.text[:0], g.s.table[g.verb].reply...), rest...), '\n')
	}
	g.resolve()
}

func (p *pipeline) over(s *Session) bool {
	l := &s.cfg.Limits
	return p.waiting >= l.Waiting || p.bytes >= l.WaitingBytes || p.unstored >= l.UnconfirmedBytes ||
		p.charged > 0 && s.memoryUsedUp()
}

func (p *pipeline) charge(m *protocol.Memory) {
	if charged := max(p.bytes-uncountedBytes, 0); charged != p.charged {
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

// barrier waits until the broker has answered every command so far. It returns false once
// the session is closed.
func (s *Session) barrier() bool {
	s.flush()
	if s.answered {
		s.answered = false
		s.peer.Wake()
	}
	p := &s.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.unresolved > 0 && !p.closed {
		p.changed.Wait()
	}
	return !p.closed
}

// Output implements protocol.Session: replies, then pushes, together about 64 KiB. Fewer
// bytes for pushes mean that memory is short, and then there are fewer replies too. It
// never ends the conversation.
//
// A reply to publish_batch that fits in one TLS record leaves in one (specification R8):
// it does not cross a multiple of 16 KiB from the start of dst.
func (s *Session) Output(dst []byte, pushes int) (out []byte, end bool) {
	dst = s.appendReplies(dst, min(replyBudget, max(pushes, uncountedBytes)))
	return s.appendPushes(dst, min(pushes, outputBudget-len(dst))), false
}

func (s *Session) appendReplies(dst []byte, budget int) []byte {
	first, rest := s.pipeline.leaving(len(dst), budget, s.peer.Memory)
	for g := first; g != rest; {
		next := g.next
		dst = append(dst, g.text...)
		if g.resumesPushes {
			s.delivery.resumePushes()
		}
		g.release()
		g = next
	}
	return dst
}

// leaving takes out the groups from first to before rest, to follow size bytes that are
// already in the output.
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
